from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from backups.models import Plan, Repository, RetentionPolicy, Source, StoragePool
from jobs.models import Job
from servers.models import Server

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(repository: Repository) -> dict[str, Any]:
    source = Source.objects.create(name="home", server=repository.server, parameters={"paths": ["/home"]})
    return {"name": "home", "server": repository.server_id, "repository": repository.pk, "sources": [source.pk]}


@pytest.fixture
def other_repository(other_server: Server, pool: StoragePool) -> Repository:
    return Repository.objects.create(name="db-1", pool=pool, server=other_server, state="ready")


def fields(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 400
    found: dict[str, Any] = answer.json()["error"]["fields"]
    return found


# --- Adding -----------------------------------------------------------------------------------


def test_a_plan_is_added_with_what_is_usual(api_admin: APIClient, admin: User, sent: dict[str, Any]) -> None:
    answer = api_admin.post("/api/plans", sent)
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["enabled"], shown["compression"], shown["upload_kib_per_second"]) == (True, "lz4", 0)
    assert (shown["retention"], shown["last_job"], shown["last_good_at"]) == (None, None, None)
    entry = AuditEntry.objects.get(action="plan.added")
    assert (entry.user, entry.target) == (admin, "web-1/home")
    assert not Job.objects.exists()


def test_every_setting_is_kept(api_admin: APIClient, sent: dict[str, Any]) -> None:
    policy = RetentionPolicy.objects.create(name="Short")
    more = {"enabled": False, "compression": "auto,zstd,9", "upload_kib_per_second": 500, "retention": policy.pk}
    assert api_admin.post("/api/plans", {**sent, **more}).status_code == 201
    plan = Plan.objects.get()
    assert (plan.enabled, plan.compression, plan.upload_kib_per_second, plan.retention) == (
        False, "auto,zstd,9", 500, policy,
    )  # fmt: skip
    assert [source.pk for source in plan.sources.all()] == sent["sources"]


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"sources": []}, "sources", "This list may not be empty."),
        ({"sources": [999]}, "sources", "object does not exist"),
        ({"sources": "home"}, "sources", "This must be a list."),
        ({"sources": None}, "sources", "null"),
        ({"name": ""}, "name", "blank"),
        ({"name": "a b"}, "name", "Use letters"),
        ({"name": "x" * 61}, "name", "60 characters"),
        ({"compression": "brotli"}, "compression", "Enter none, lz4, zstd, zlib or lzma"),
        ({"compression": "zstd,99"}, "compression", "Enter none, lz4, zstd, zlib or lzma"),
        ({"upload_kib_per_second": -1}, "upload_kib_per_second", "greater than or equal to 0."),
        ({"upload_kib_per_second": "fast"}, "upload_kib_per_second", "This must be a whole number."),
        ({"retention": 999}, "retention", "object does not exist"),
        ({"repository": 999}, "repository", "object does not exist"),
        ({"repository": None}, "repository", "null"),
        ({"server": 999}, "server", "object does not exist"),
        ({"enabled": "perhaps"}, "enabled", "This must be true or false."),
    ],
)
def test_bad_input_is_refused_in_words_at_the_field(
    api_admin: APIClient, sent: dict[str, Any], changes: dict[str, Any], field: str, sentence: str
) -> None:
    found = fields(api_admin.post("/api/plans", {**sent, **changes}))
    assert set(found) == {field}
    assert sentence in str(found[field])
    assert not Plan.objects.exists()


@pytest.mark.parametrize("field", ["name", "server", "repository", "sources"])
def test_what_is_missing_is_named(api_admin: APIClient, sent: dict[str, Any], field: str) -> None:
    del sent[field]
    assert fields(api_admin.post("/api/plans", sent)) == {field: ["This field is required."]}


def test_the_repository_of_another_server_is_refused(
    api_admin: APIClient, sent: dict[str, Any], other_repository: Repository
) -> None:
    found = fields(api_admin.post("/api/plans", {**sent, "repository": other_repository.pk}))
    assert found == {"repository": ["This repository belongs to another server."]}


def test_a_source_of_another_server_is_refused(
    api_admin: APIClient, sent: dict[str, Any], other_source: Source
) -> None:
    found = fields(api_admin.post("/api/plans", {**sent, "sources": [*sent["sources"], other_source.pk]}))
    assert found == {"sources": ["A source belongs to another server."]}


def test_a_server_has_a_plan_of_one_name_once(api_admin: APIClient, sent: dict[str, Any]) -> None:
    assert api_admin.post("/api/plans", sent).status_code == 201
    assert "must make a unique set" in str(fields(api_admin.post("/api/plans", sent)))


# --- Changing ---------------------------------------------------------------------------------


def test_a_patch_changes_what_it_names(api_admin: APIClient, plan: Plan) -> None:
    assert api_admin.patch(f"/api/plans/{plan.pk}", {"enabled": False, "compression": "none"}).status_code == 200
    plan.refresh_from_db()
    assert (plan.enabled, plan.compression, plan.name, plan.sources.count()) == (False, "none", "files", 1)
    assert AuditEntry.objects.get(action="plan.changed").detail == {
        "before": {"enabled": True, "compression": "lz4"}, "after": {"enabled": False, "compression": "none"},
    }  # fmt: skip


def test_a_patch_cannot_send_it_to_a_strange_repository(
    api_admin: APIClient, plan: Plan, other_repository: Repository
) -> None:
    fields(api_admin.patch(f"/api/plans/{plan.pk}", {"repository": other_repository.pk}))
    plan.refresh_from_db()
    assert plan.repository != other_repository


def test_a_patch_cannot_leave_it_with_strange_sources(
    api_admin: APIClient, plan: Plan, other_source: Source, other_repository: Repository
) -> None:
    one = f"/api/plans/{plan.pk}"
    fields(api_admin.patch(one, {"sources": [other_source.pk]}))
    moved = {"server": other_repository.server_id, "repository": other_repository.pk}
    assert fields(api_admin.patch(one, moved)) == {"sources": ["A source belongs to another server."]}
    plan.refresh_from_db()
    assert plan.server != other_repository.server
    assert api_admin.patch(one, {**moved, "sources": [other_source.pk]}).status_code == 200


def test_what_jobs_keep_cannot_be_sent(api_admin: APIClient, plan: Plan) -> None:
    api_admin.patch(f"/api/plans/{plan.pk}", {"last_good_at": "2026-01-01T00:00:00Z", "last_job": None})
    plan.refresh_from_db()
    assert plan.last_good_at is None


# --- Deleting, reading, who -------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_plan_with_an_unfinished_job_is_not_deleted(api_admin: APIClient, plan: Plan, status: str) -> None:
    Job.objects.create(type="backup", plan=plan, status=status)
    answer = api_admin.delete(f"/api/plans/{plan.pk}")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == ("A job of this plan is still running or waiting. Cancel it first.")
    assert Plan.objects.exists()


def test_a_plan_is_deleted_and_audited(api_admin: APIClient, admin: User, plan: Plan) -> None:
    assert api_admin.delete(f"/api/plans/{plan.pk}").status_code == 204
    assert AuditEntry.objects.get(action="plan.deleted").user == admin


def test_only_who_manages_backups_changes_plans(
    api_operator: APIClient, api_viewer: APIClient, plan: Plan, sent: dict[str, Any]
) -> None:
    one = f"/api/plans/{plan.pk}"
    for client in (api_operator, api_viewer):
        assert client.post("/api/plans", sent).status_code == 403
        assert client.put(one, sent).status_code == 403
        assert client.patch(one, {"enabled": False}).status_code == 403
        assert client.delete(one).status_code == 403
        assert client.get(one).json()["name"] == "files"
    assert api_viewer.get("/api/plans/999").status_code == 404
    assert api_viewer.get("/api/plans?name=files").status_code == 400

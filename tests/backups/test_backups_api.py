"""Reading backups over the API; starting them is test_run_plan."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from backups.models import Plan
from jobs.models import Job
from servers.models import Server

pytestmark = pytest.mark.django_db


def backup(plan: Plan, *, days: int = 0, **changes: Any) -> Job:
    values = {"type": "backup", "plan": plan, "server": plan.server, "repository": plan.repository, **changes}
    job = Job.objects.create(**values)
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - timedelta(days=days))
    return job


def listed(client: APIClient, query: str = "", *, path: str = "/api/backups") -> list[str]:
    answer = client.get(f"{path}{query}")
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


# --- The list ---------------------------------------------------------------------------------


def test_backups_are_listed_newest_first_and_nothing_else(api_viewer: APIClient, plan: Plan) -> None:
    old, new = backup(plan, days=1), backup(plan)
    Job.objects.create(type="server_test", server=plan.server)
    assert listed(api_viewer) == [str(new.pk), str(old.pk)]


def test_filters_choose(api_viewer: APIClient, plan: Plan, second_plan: Plan) -> None:
    one = backup(plan, days=3, status="failed", error="No disk in sight.")
    two = backup(second_plan, days=1, status="completed")
    three = backup(plan, status="running")
    day = quote((timezone.now() - timedelta(days=2)).isoformat())
    for query, expected in (
        (f"?plan={plan.pk}", [three, one]), (f"?server={plan.server_id}", [three, two, one]), ("?server=999", []),
        (f"?repository={plan.repository_id}", [three, two, one]), ("?status=failed", [one]),
        ("?status=failed&status=running", [three, one]), (f"?since={day}", [three, two]), (f"?until={day}", [one]),
        ("?search=DISK", [one]), (f"?plan={plan.pk}&status=completed", []),
    ):  # fmt: skip
        assert listed(api_viewer, query) == [str(job.pk) for job in expected], query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("since=soon", "since"),
        ("plan=x", "plan"),
        ("paln=1", "paln"),
        ("type=backup", "type"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(api_viewer: APIClient, query: str, field: str) -> None:
    answer = api_viewer.get(f"/api/backups?{query}")
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}


# --- One --------------------------------------------------------------------------------------


def test_a_backup_names_the_archive_that_it_made(api_viewer: APIClient, plan: Plan) -> None:
    job = backup(plan, status="completed", result={"archive": 7, "files": 3}, warnings=2)
    shown = api_viewer.get(f"/api/backups/{job.pk}").json()
    assert (shown["id"], shown["status"], shown["archive"], shown["warnings"]) == (str(job.pk), "completed", 7, 2)
    assert (shown["server"], shown["plan"], shown["repository"]) == (plan.server_id, plan.pk, plan.repository_id)


@pytest.mark.parametrize("result", [None, {}, [], "odd"])
def test_without_one_it_names_none(api_viewer: APIClient, plan: Plan, result: Any) -> None:
    job = backup(plan, result=result)
    assert api_viewer.get(f"/api/backups/{job.pk}").json()["archive"] is None


def test_another_kind_of_job_is_no_backup(api_viewer: APIClient, server: Server) -> None:
    job = Job.objects.create(type="server_test", server=server)
    assert api_viewer.get(f"/api/backups/{job.pk}").status_code == 404


def test_what_is_not_there_is_404(api_viewer: APIClient, db: None) -> None:
    assert api_viewer.get(f"/api/backups/{uuid4()}").status_code == 404
    assert api_viewer.get("/api/backups/7").status_code == 404


def test_a_backup_is_neither_changed_nor_deleted_here(api_admin: APIClient, plan: Plan) -> None:
    job = backup(plan)
    for method in ("put", "patch", "delete"):
        assert getattr(api_admin, method)(f"/api/backups/{job.pk}", {}).status_code == 405


# --- Of one server ----------------------------------------------------------------------------


def test_a_servers_backups_are_its_own(api_viewer: APIClient, plan: Plan, other_server: Server) -> None:
    job = backup(plan)
    assert listed(api_viewer, path=f"/api/servers/{plan.server_id}/backups") == [str(job.pk)]
    assert listed(api_viewer, path=f"/api/servers/{other_server.pk}/backups") == []
    assert listed(api_viewer, "?status=failed", path=f"/api/servers/{plan.server_id}/backups") == []


def test_backups_of_no_server_are_404(api_viewer: APIClient, db: None) -> None:
    assert api_viewer.get("/api/servers/999/backups").status_code == 404
    assert api_viewer.post("/api/servers/999/backups").status_code == 405


def test_who_has_no_role_sees_none(django_user_model: type[User], plan: Plan) -> None:
    job = backup(plan)
    client = APIClient()
    client.force_authenticate(django_user_model.objects.create_user("nobody"))
    for path in ("/api/backups", f"/api/backups/{job.pk}", f"/api/servers/{plan.server_id}/backups"):
        assert client.get(path).status_code == 403

"""GET /api/jobs, /api/jobs/running and /api/jobs/{id}: lists, filters, one job."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from backups.models import Plan
from jobs.models import Job
from tests.jobs.conftest import row

FIELDS = {
    "id", "type", "status", "priority", "trigger", "subject", "server", "repository", "plan", "user", "payload",
    "result", "progress", "warnings", "error", "cause", "advice", "created_at", "started_at", "completed_at",
    "cancel_requested_at", "attempts", "max_attempts", "not_before", "waits_for", "log_lines",
}  # fmt: skip


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [job["id"] for job in answer.json()["results"]]


# --- One job --------------------------------------------------------------------------------------


def test_a_job_is_shown_as_the_contract_says(api_viewer: APIClient, plan: Plan, operator: User) -> None:
    now = timezone.now().replace(microsecond=0)
    job = row(
        type="backup", status="completed", server=plan.server, repository=plan.repository, plan=plan, user=operator,
        created_at=now, started_at=now, completed_at=now, result={"files": 3}, payload={"depth": 1}, warnings=2,
    )  # fmt: skip
    shown = api_viewer.get(f"/api/jobs/{job.pk}").json()
    assert set(shown) == FIELDS
    assert (shown["id"], shown["type"], shown["status"]) == (str(job.pk), "backup", "completed")
    assert (shown["server"], shown["plan"], shown["user"]) == (plan.server.pk, plan.pk, "otto")
    assert (shown["result"], shown["payload"], shown["warnings"]) == ({"files": 3}, {"depth": 1}, 2)
    assert shown["created_at"] == now.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_job_of_nobody_has_no_user(api_viewer: APIClient) -> None:
    assert api_viewer.get(f"/api/jobs/{row().pk}").json()["user"] is None


def test_what_is_internal_is_not_shown(api_viewer: APIClient) -> None:
    shown = api_viewer.get(f"/api/jobs/{row(worker='web:1', holds='repository:7').pk}").json()
    assert not {"worker", "holds", "heartbeat_at"} & set(shown)


@pytest.mark.parametrize("pk", ["00000000-0000-4000-8000-000000000000", "7", "x", "running/x"])
def test_what_does_not_exist_is_404(api_viewer: APIClient, pk: str) -> None:
    answer = api_viewer.get(f"/api/jobs/{pk}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


# --- The list -------------------------------------------------------------------------------------


def test_the_newest_stands_first(api_viewer: APIClient) -> None:
    now = timezone.now()
    old, new = (row(created_at=now - timedelta(hours=hours)) for hours in (2, 1))
    assert ids(api_viewer.get("/api/jobs")) == [str(new.pk), str(old.pk)]


def test_it_is_cut_into_pages_and_links_them(api_viewer: APIClient) -> None:
    Job.objects.bulk_create(Job(type="probe") for _ in range(120))
    seen, path = [], "/api/jobs"
    while path:
        answer = api_viewer.get(path).json()
        seen += [job["id"] for job in answer["results"]]
        assert len(answer["results"]) <= 50
        path = answer["next"]
    assert len(seen) == len(set(seen)) == 120


@pytest.mark.parametrize(("asked", "got"), [("7", 7), ("500", 500)])
def test_the_size_of_a_page_has_bounds(api_viewer: APIClient, asked: str, got: int) -> None:
    Job.objects.bulk_create(Job(type="probe") for _ in range(510))
    answer = api_viewer.get("/api/jobs", {"page_size": asked})
    assert len(ids(answer)) == got


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("status=failed", 1), ("status=failed&status=completed", 2), ("type=backup", 2), ("type=nothing", 0),
        ("trigger=schedule", 1), ("trigger=schedule&trigger=user", 3), ("type=backup&status=failed", 1),
        ("server=999999", 0), ("plan=999999", 0), ("repository=999999", 0),
        ("since=2020-01-01T00:00:00Z", 3), ("until=2020-01-01T00:00:00Z", 0), ("since=2020-01-01", 3),
    ],
)  # fmt: skip
def test_it_can_be_filtered(api_viewer: APIClient, query: str, number: int) -> None:
    row(type="backup", status="failed")
    row(type="backup", status="completed", trigger="schedule")
    row(type="restore", status="cancelled")
    assert len(ids(api_viewer.get(f"/api/jobs?{query}"))) == number


def test_it_can_be_filtered_by_scope(api_viewer: APIClient, plan: Plan) -> None:
    job = row(server=plan.server, plan=plan, repository=plan.repository)
    row()
    for query in ({"server": plan.server.pk}, {"plan": plan.pk}, {"repository": plan.repository.pk}):
        assert ids(api_viewer.get("/api/jobs", query)) == [str(job.pk)]


@pytest.mark.parametrize("name", ["stauts", "Status", "status__in", "user", "search", "limit", "offset"])
def test_a_filter_that_does_not_exist_is_refused(api_viewer: APIClient, name: str) -> None:
    row()
    answer = api_viewer.get("/api/jobs", {name: "failed"})
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {name: ["There is no such filter here."]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "odd"), ("status", ""), ("server", "x"), ("server", "NaN"), ("server", "Infinity"),
        ("server", "-1"), ("server", ""),
        ("since", "yesterday"), ("until", "2026-13-01T00:00:00Z"), ("type", "\0"), ("trigger", "fate"),
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_refused_with_the_filter_named(
    api_viewer: APIClient, name: str, value: str
) -> None:
    answer = api_viewer.get("/api/jobs", {name: value})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [name]


@pytest.mark.parametrize(
    "query",
    [
        "server=1e49", "server=99999999999999999999999999", "plan=1e30", "since=0001-01-01T00:00:00%2B23:00",
        "until=9999-12-31T23:59:59-23:00", f"type={'x' * 10_000}", "type=%ED%A0%80", "type=%FF",
    ],
)  # fmt: skip
def test_values_beyond_all_measure_are_no_mistake_of_ours(api_viewer: APIClient, query: str) -> None:
    row()
    answer = api_viewer.get(f"/api/jobs?{query}")
    assert answer.status_code in (200, 400)
    assert answer.status_code == 400 or answer.json()["results"] == []


def test_it_asks_the_database_as_often_for_fifty_as_for_one(
    api_viewer: APIClient, plan: Plan, operator: User, django_assert_max_num_queries: Any
) -> None:
    Job.objects.bulk_create(
        Job(type="backup", server=plan.server, repository=plan.repository, plan=plan, user=operator) for _ in range(60)
    )
    with django_assert_max_num_queries(6):
        assert len(ids(api_viewer.get("/api/jobs"))) == 50


def test_whoever_may_not_see_jobs_is_refused(api_viewer: APIClient, viewer: User) -> None:
    viewer.groups.set([Group.objects.create(name="nobody")])
    job = row()
    for path in ("/api/jobs", "/api/jobs/running", f"/api/jobs/{job.pk}", f"/api/jobs/{job.pk}/log"):
        answer = api_viewer.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied"), path


# --- What runs ------------------------------------------------------------------------------------


def test_running_jobs_are_one_answer_the_longest_first(api_viewer: APIClient) -> None:
    now = timezone.now()
    new = row(status="running", started_at=now, created_at=now - timedelta(days=2))
    old = row(status="running", started_at=now - timedelta(hours=1))
    row(status="pending")
    row(status="completed")
    answer = api_viewer.get("/api/jobs/running")
    assert ids(answer) == [str(old.pk), str(new.pk)]
    assert (answer.json()["count"], answer.json()["next"], answer.json()["previous"]) == (2, None, None)


def test_running_jobs_show_their_progress(api_viewer: APIClient) -> None:
    row(status="running", started_at=timezone.now(), progress={"percent": 42})
    assert api_viewer.get("/api/jobs/running").json()["results"][0]["progress"] == {"percent": 42}


def test_running_jobs_are_not_cut_into_pages(api_viewer: APIClient) -> None:
    Job.objects.bulk_create(Job(type="probe", status="running", started_at=timezone.now()) for _ in range(120))
    assert len(ids(api_viewer.get("/api/jobs/running"))) == 120

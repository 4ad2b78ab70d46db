"""GET /api/jobs/{id}/log and GET /api/logs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from rest_framework.test import APIClient

from accounts.models import User
from jobs.models import Job, LogLine
from jobs.viewsets import LINES
from servers.models import Server
from tests.jobs.conftest import row

AT = datetime(2026, 1, 15, 12, 30, 5, tzinfo=UTC)


def write(job: Job, *messages: str, level: int = 20, at: datetime = AT) -> None:
    first = job.lines.count() + 1
    LogLine.objects.bulk_create(
        LogLine(job=job, server=job.server, number=number, at=at, level=level, message=message)
        for number, message in enumerate(messages, first)
    )


# --- Of one job -----------------------------------------------------------------------------------


def test_a_line_is_shown_with_number_time_level_and_message(api_viewer: APIClient, server: Server) -> None:
    job = row(server=server)
    write(job, "hello", level=30)
    assert api_viewer.get(f"/api/jobs/{job.pk}/log").json() == [
        {
            "id": LogLine.objects.get().pk, "job": str(job.pk), "server": server.pk, "number": 1, "attempt": 1,
            "at": "2026-01-15T12:30:05Z", "level": "warning", "message": "hello",
        }
    ]  # fmt: skip


def numbers(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.content
    return [line["number"] for line in answer.json()]


def test_a_program_reads_on_from_where_it_was(api_viewer: APIClient) -> None:
    job = row()
    write(job, *(["x"] * 5))
    assert numbers(api_viewer.get(f"/api/jobs/{job.pk}/log?after=3")) == [4, 5]
    assert numbers(api_viewer.get(f"/api/jobs/{job.pk}/log?after=5")) == []


def test_a_long_log_comes_in_parts(api_viewer: APIClient) -> None:
    job = row()
    write(job, *(["x"] * (LINES + 2)))
    assert numbers(api_viewer.get(f"/api/jobs/{job.pk}/log")) == list(range(1, LINES + 1))
    assert numbers(api_viewer.get(f"/api/jobs/{job.pk}/log?after={LINES}")) == [LINES + 1, LINES + 2]


def test_lines_of_other_jobs_are_not_among_them(api_viewer: APIClient) -> None:
    job, other = row(), row()
    write(job, "mine")
    write(other, "theirs")
    assert [line["message"] for line in api_viewer.get(f"/api/jobs/{job.pk}/log").json()] == ["mine"]


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "9" * 10, "²", "1e3", " 1"])
def test_a_cursor_that_is_none_is_refused(api_viewer: APIClient, after: str) -> None:
    answer = api_viewer.get(f"/api/jobs/{row().pk}/log", {"after": after})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == ["after"]


def test_reading_a_log_costs_a_fixed_number_of_queries(
    api_viewer: APIClient, django_assert_max_num_queries: Any
) -> None:
    job = row()
    write(job, *(["x"] * 500))
    with django_assert_max_num_queries(5):
        assert len(numbers(api_viewer.get(f"/api/jobs/{job.pk}/log"))) == 500


def test_a_log_of_no_job_is_404_and_cannot_be_written(api_viewer: APIClient) -> None:
    assert api_viewer.get("/api/jobs/00000000-0000-4000-8000-000000000000/log").status_code == 404
    assert api_viewer.post(f"/api/jobs/{row().pk}/log", {}).status_code == 405


# --- Of all jobs ----------------------------------------------------------------------------------


def messages(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [line["message"] for line in answer.json()["results"]]


@pytest.fixture
def lines(server: Server) -> tuple[Job, Job]:
    """Two jobs, and a line of each level."""
    first, second = row(server=server), row()
    write(first, "debug one", level=10)
    write(first, "info two", level=20)
    write(second, "warning three", level=30, at=AT + timedelta(hours=1))
    write(second, "error four", level=40, at=AT + timedelta(hours=2))
    return first, second


def test_the_newest_line_stands_first(api_viewer: APIClient, lines: tuple[Job, Job]) -> None:
    assert messages(api_viewer.get("/api/logs")) == ["error four", "warning three", "info two", "debug one"]


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("level=debug", 4), ("level=info", 3), ("level=warning", 2), ("level=error", 1), ("search=two", 1),
        ("search=TWO", 1), ("search=r", 2), ("search=nothing", 0), ("search=%25", 0), ("search=_", 0),
        ("since=2026-01-15T13:30:05Z", 2), ("level=warning&search=four", 1), ("server=999999", 0),
    ],
)  # fmt: skip
def test_lines_can_be_filtered(api_viewer: APIClient, lines: tuple[Job, Job], query: str, number: int) -> None:
    assert len(messages(api_viewer.get(f"/api/logs?{query}"))) == number


def test_lines_can_be_filtered_by_job_and_server(api_viewer: APIClient, lines: tuple[Job, Job], server: Server) -> None:
    assert messages(api_viewer.get("/api/logs", {"job": str(lines[1].pk)})) == ["error four", "warning three"]
    assert messages(api_viewer.get("/api/logs", {"server": server.pk})) == ["info two", "debug one"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("level", "loud"), ("level", "30"), ("job", "7"), ("since", "x"), ("search", "\0"), ("server", "x")],
)
def test_a_value_that_makes_no_sense_is_refused(api_viewer: APIClient, name: str, value: str) -> None:
    answer = api_viewer.get("/api/logs", {name: value})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [name]


@pytest.mark.parametrize("name", ["levle", "until", "message", "after"])
def test_a_filter_that_does_not_exist_is_refused(api_viewer: APIClient, name: str) -> None:
    assert api_viewer.get("/api/logs", {name: "x"}).json()["error"]["fields"] == {
        name: ["There is no such filter here."]
    }


def test_the_list_is_cut_into_pages(api_viewer: APIClient) -> None:
    write(row(), *(f"line {number}" for number in range(60)))
    first = api_viewer.get("/api/logs")
    assert len(messages(first)) == 50
    assert messages(api_viewer.get(first.json()["next"]))[-1] == "line 0"


def test_hostile_lines_are_only_text(api_viewer: APIClient) -> None:
    write(row(), "<script>alert(1)</script>", 'quote " and \\ and \u2028')
    answer = api_viewer.get("/api/logs")
    assert answer["Content-Type"] == "application/json"
    assert messages(answer) == ['quote " and \\ and \u2028', "<script>alert(1)</script>"]


def test_whoever_may_not_read_logs_is_refused(api_viewer: APIClient, viewer: User) -> None:
    group = Group.objects.create(name="watchers")
    group.permissions.add(Permission.objects.get(codename="backup.view"))
    viewer.groups.set([group])
    assert api_viewer.get("/api/logs").status_code == 403
    assert APIClient().get("/api/logs").status_code == 401


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_lines_cannot_be_written(api_admin: APIClient, method: str) -> None:
    assert getattr(api_admin, method)("/api/logs", {}).status_code == 405

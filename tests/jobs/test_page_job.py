"""The page of one job, and the live part that it asks for."""

import re
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone

from accounts.models import User
from backups.models import Plan
from jobs import views
from jobs.models import Job, LogLine
from tests.jobs.conftest import row

HOSTILE = "<script>alert('x')</script>"
ODD_LINES = [
    HOSTILE,
    "<img src=x onerror=alert(1)>",
    "&amp;",
    "</li></ol>",
    "{{ 7|add:7 }}",
    "\x1b[31mred\x07",
    "\r\nx",
]


def with_lines(count: int, *, first: int = 1, **values: Any) -> Job:
    job = row(log_lines=first + count - 1, **values)
    write(job, *range(first, first + count))
    return job


def write(job: Job, *numbers: int, message: str = "line", level: int = 20) -> None:
    at = datetime(2026, 1, 15, 12, 30, 5, tzinfo=UTC)
    LogLine.objects.bulk_create(
        LogLine(job=job, number=number, at=at, level=level, message=f"{message} {number}") for number in numbers
    )


def numbers_in(answer: Any) -> list[int]:
    return [int(number) for number in re.findall(r'data-line="(\d+)"', answer.content.decode())]


def live(client: Client, job: Job, after: Any) -> Any:
    return client.get(f"/jobs/{job.pk}/live", {"after": after})


# --- The page -------------------------------------------------------------------------------------


def test_it_shows_state_scope_and_log(as_viewer: Client, plan: Plan, operator: User) -> None:
    job = with_lines(
        3, type="backup", status="completed", server=plan.server, plan=plan, repository=plan.repository, user=operator,
        started_at=timezone.now(), completed_at=timezone.now(), result={"files": 1234, "original": 5_000_000},
    )  # fmt: skip
    answer = as_viewer.get(f"/jobs/{job.pk}")
    html = answer.content.decode()
    assert "Backup of web-1, plan files" in html
    assert "Started by otto." in html
    assert "1,234" in html
    assert "5.0 MB" in html
    assert numbers_in(answer) == [1, 2, 3]


@pytest.mark.parametrize("status", Job.Status)
def test_it_shows_every_state(as_viewer: Client, status: Job.Status) -> None:
    job = row(status=status, started_at=timezone.now(), completed_at=timezone.now())
    html = as_viewer.get(f"/jobs/{job.pk}").content.decode()
    assert str(status.label) in html
    assert ("data-ended" in html) == (status in Job.FINAL)


def test_a_failure_stands_on_top_with_its_advice(as_viewer: Client) -> None:
    job = row(status="failed", error="Somebody pulled the plug.", advice="Plug it in.")
    html = as_viewer.get(f"/jobs/{job.pk}").content.decode()
    assert "Somebody pulled the plug." in html
    assert "Plug it in." in html


def test_a_job_that_waits_says_for_what(as_viewer: Client, plan: Plan) -> None:
    row(type="backup", status="running", holds="repository:7", plan=plan, server=plan.server)
    job = row(waits_for="repository:7")
    html = as_viewer.get(f"/jobs/{job.pk}").content.decode()
    assert "Waiting for “Backup of web-1, plan files” to end" in html


def test_everything_hostile_is_shown_as_text(as_viewer: Client) -> None:
    job = row(
        type=HOSTILE, status="running", error=HOSTILE, advice=HOSTILE,
        progress={
            "path": HOSTILE, "step": HOSTILE, "phases": [{"name": HOSTILE, "at": timezone.now().isoformat()}],
        },
        result={"suspicion": HOSTILE, "unreadable_paths": [[HOSTILE, HOSTILE]], "directory": HOSTILE},
    )  # fmt: skip
    write(job, 1, message=HOSTILE)
    for path in (f"/jobs/{job.pk}", f"/jobs/{job.pk}/live?after=0"):
        html = as_viewer.get(path).content.decode()
        assert "<script>alert" not in html, path
        assert "alert(&#x27;x&#x27;)" in html, path


@pytest.mark.parametrize("text", ODD_LINES)
def test_a_hostile_line_stays_one_line_of_text(as_viewer: Client, text: str) -> None:
    job = row()
    LogLine.objects.create(job=job, number=1, at=timezone.now(), message=text)
    write(job, 2)
    answer = live(as_viewer, job, 0)
    html = answer.content.decode()
    assert numbers_in(answer) == [1, 2]
    assert html.count("<li") == html.count("</li>") == 2
    assert "<img" not in html


def test_a_long_log_opens_at_its_end(as_viewer: Client) -> None:
    job = with_lines(views.LINES_AT_FIRST + 200)
    answer = as_viewer.get(f"/jobs/{job.pk}")
    assert numbers_in(answer) == list(range(201, views.LINES_AT_FIRST + 201))
    assert "200 lines were left out" not in answer.content.decode()


def test_lines_that_came_while_the_page_was_made_are_asked_for_next(as_viewer: Client) -> None:
    job = with_lines(views.LINES_AT_FIRST + 5)
    Job.objects.update(log_lines=views.LINES_AT_FIRST)
    answer = as_viewer.get(f"/jobs/{job.pk}")
    assert numbers_in(answer)[-1] == views.LINES_AT_FIRST
    assert "data-more" in answer.content.decode()


def test_what_does_not_exist_is_404(as_viewer: Client, client: Client) -> None:
    nobody = uuid.uuid4()
    for path in (
        f"/jobs/{nobody}",
        f"/jobs/{nobody}/live",
        f"/jobs/{nobody}/log",
        "/jobs/x",
        "/jobs/7",
        "/jobs/x/live",
    ):
        assert as_viewer.get(path).status_code == 404, path


@pytest.mark.parametrize("page", ["", "/live", "/toast"])
def test_other_methods_and_other_people_are_refused(as_viewer: Client, viewer: User, client: Client, page: str) -> None:
    path = f"/jobs/{row().pk}{page}"
    assert as_viewer.post(path).status_code == 405
    assert client.get(path)["Location"].startswith("/login")
    viewer.groups.set([Group.objects.create(name="nobody")])
    assert as_viewer.get(path).status_code == 403


def test_whoever_may_not_read_logs_sees_the_job_without_its_lines(as_viewer: Client, viewer: User) -> None:
    group = Group.objects.create(name="watchers")
    group.permissions.add(Permission.objects.get(codename="backup.view"))
    viewer.groups.set([group])
    job = with_lines(3, status="running")
    assert numbers_in(as_viewer.get(f"/jobs/{job.pk}")) == []
    assert numbers_in(live(as_viewer, job, 0)) == []
    assert as_viewer.get(f"/jobs/{job.pk}/log").status_code == 403


@pytest.mark.parametrize(("role", "cancels"), [("viewer", False), ("operator", True), ("admin", True)])
def test_buttons_are_for_those_who_may(role: str, cancels: bool, request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue(f"as_{role}")
    running, ended = row(type="backup", status="running"), row(type="backup", status="failed")
    assert (f"/jobs/{running.pk}/cancel" in client.get(f"/jobs/{running.pk}").content.decode()) == cancels
    assert (f"/jobs/{ended.pk}/retry" in client.get(f"/jobs/{ended.pk}").content.decode()) == cancels


# --- The live part --------------------------------------------------------------------------------


def test_only_what_came_after_the_cursor_is_sent(as_viewer: Client) -> None:
    job = with_lines(5, status="running")
    answer = live(as_viewer, job, 3)
    assert numbers_in(answer) == [4, 5]
    assert "HX-Trigger" not in answer
    assert "<html" not in answer.content.decode()


def test_with_nothing_new_only_the_state_is_sent(as_viewer: Client) -> None:
    job = with_lines(5, status="running")
    html = live(as_viewer, job, 5).content.decode()
    assert "hx-partial" not in html
    assert "Running for" in html


def test_much_at_once_is_sent_in_parts(as_viewer: Client) -> None:
    job = with_lines(views.LINES_AT_ONCE + 3, status="running")
    first = live(as_viewer, job, 0)
    assert numbers_in(first) == list(range(1, views.LINES_AT_ONCE + 1))
    assert first["HX-Trigger"] == "more"
    assert "data-more" in first.content.decode()
    second = live(as_viewer, job, views.LINES_AT_ONCE)
    assert numbers_in(second) == [501, 502, 503]
    assert "HX-Trigger" not in second


def test_what_the_cap_left_out_is_told(as_viewer: Client) -> None:
    job = row(status="running", log_lines=100)
    write(job, 1, 2, 50, 52)
    html = live(as_viewer, job, 0).content.decode()
    assert "47 lines were left out here." in html
    assert "One line was left out here." in html
    assert html.count("left out") == 2


def test_a_gap_at_the_cursor_is_told_too(as_viewer: Client) -> None:
    job = row(status="running", log_lines=100)
    write(job, 90)
    assert "79 lines were left out here." in live(as_viewer, job, 10).content.decode()


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "9" * 10, "²", "0x1", "' OR 1=1", "\0"])
def test_a_cursor_that_is_none_starts_at_the_beginning(as_viewer: Client, after: str) -> None:
    job = with_lines(2, status="running")
    assert numbers_in(live(as_viewer, job, after)) == [1, 2]


def test_a_cursor_beyond_the_end_gets_nothing(as_viewer: Client) -> None:
    assert numbers_in(live(as_viewer, with_lines(2), 999_999_999)) == []


def test_the_lines_of_other_jobs_are_not_sent(as_viewer: Client) -> None:
    with_lines(5)
    assert numbers_in(live(as_viewer, with_lines(2), 0)) == [1, 2]


def test_the_end_is_told(as_viewer: Client) -> None:
    job = row(status="completed", started_at=timezone.now(), completed_at=timezone.now())
    assert "data-ended" in live(as_viewer, job, 0).content.decode()


def test_a_poll_costs_a_fixed_number_of_queries(
    as_viewer: Client, plan: Plan, django_assert_max_num_queries: Any
) -> None:
    job = with_lines(400, status="running", server=plan.server, plan=plan, repository=plan.repository)
    as_viewer.get("/jobs")
    with django_assert_max_num_queries(6):
        live(as_viewer, job, 0)

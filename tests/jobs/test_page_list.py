"""The page /jobs and the strip of running jobs under every page."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from accounts.models import User
from backups.models import Plan
from jobs.models import Job
from tests.jobs.conftest import Probe, row

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
HOSTILE = "<script>alert(1)</script>"


def shown(answer: Any) -> list[Job]:
    return list(answer.context["page"].rows)


def test_it_lists_jobs_newest_first(as_viewer: Client) -> None:
    now = timezone.now()
    old, new, middle = (row(created_at=now - timedelta(hours=hours), status="completed") for hours in (3, 1, 2))
    assert shown(as_viewer.get("/jobs")) == [new, middle, old]


def test_it_says_what_runs_and_waits(as_viewer: Client) -> None:
    waiting, running, _ = row(), row(status="running"), row(status="completed")
    answer = as_viewer.get("/jobs")
    assert set(answer.context["unfinished"]) == {waiting, running}
    assert "2 jobs are running or waiting." in answer.content.decode()


def test_an_old_job_that_runs_is_shown_whatever_the_pages_hide(as_viewer: Client) -> None:
    running = row(status="running", created_at=timezone.now() - timedelta(days=9))
    Job.objects.bulk_create(Job(type="probe", status="completed") for _ in range(60))
    answer = as_viewer.get("/jobs")
    assert running not in shown(answer)
    assert answer.context["unfinished"] == [running]


def test_it_is_cut_into_pages(as_viewer: Client) -> None:
    Job.objects.bulk_create(Job(type="probe", status="completed") for _ in range(60))
    assert len(shown(as_viewer.get("/jobs"))) == 50
    first = as_viewer.get("/jobs")
    older = as_viewer.get("/jobs", {"cursor": first.context["page"].older.text})
    assert len(shown(older)) == 10
    assert older.context["page"].older is None
    newer = as_viewer.get("/jobs", {"cursor": older.context["page"].newer.text})
    assert shown(newer) == shown(first)


@pytest.mark.parametrize("cursor", ["0", "x", "", "9" * 30, "b2xkZXJ-eA"])
def test_a_cursor_that_is_none_shows_the_newest(as_viewer: Client, cursor: str) -> None:
    job = row(status="completed")
    assert shown(as_viewer.get("/jobs", {"cursor": cursor})) == [job]


def test_a_server_is_asked_for_by_its_name(as_viewer: Client, plan: Plan) -> None:
    """Red without `by_name`: a name is no number, and would find nothing."""
    mine, _other = row(server=plan.server, status="completed"), row(status="completed")
    for asked in (plan.server.name, str(plan.server.pk)):
        answer = as_viewer.get("/jobs", {"server": asked})
        assert shown(answer) == [mine]
        assert answer.context["server_name"] == plan.server.name


def test_a_server_that_there_is_not_finds_nothing_and_says_so(as_viewer: Client) -> None:
    row(status="completed")
    answer = as_viewer.get("/jobs", {"server": "nowhere"})
    assert shown(answer) == []
    assert "Enter a whole number" not in answer.content.decode()
    assert "There is no server of this name." in answer.content.decode()


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("", 3), ("status=failed", 1), ("status=failed&status=completed", 2), ("type=backup", 2), ("type=other", 0),
        ("status=&type=", 3), ("trigger=schedule", 1), ("type=backup&status=failed", 1),
    ],
)  # fmt: skip
def test_it_can_be_filtered(as_viewer: Client, query: str, number: int) -> None:
    row(type="backup", status="failed")
    row(type="backup", status="completed", trigger="schedule")
    row(type="restore", status="cancelled")
    assert len(shown(as_viewer.get(f"/jobs?{query}"))) == number


def test_it_can_be_filtered_by_server_plan_repository_and_time(as_viewer: Client, plan: Plan) -> None:
    job = row(server=plan.server, plan=plan, repository=plan.repository, status="completed")
    row(status="completed", created_at=timezone.now() - timedelta(days=2))
    yesterday = (timezone.now() - timedelta(days=1)).isoformat()
    for query in (
        {"server": plan.server.pk}, {"plan": plan.pk}, {"repository": plan.repository.pk}, {"since": yesterday},
    ):  # fmt: skip
        assert shown(as_viewer.get("/jobs", query)) == [job], query
    assert len(shown(as_viewer.get("/jobs", {"until": yesterday}))) == 1


@pytest.mark.parametrize("query", ["status=odd", "server=x", "since=yesterday", "type=%00"])
def test_a_filter_that_makes_no_sense_finds_nothing_and_is_told(as_viewer: Client, query: str) -> None:
    """A tired person would take a list of everything for what they asked for."""
    row(status="completed")
    answer = as_viewer.get(f"/jobs?{query}")
    assert (answer.status_code, shown(answer)) == (200, [])
    assert 'role="alert"' in answer.content.decode()


def test_what_is_no_filter_is_left_out(as_viewer: Client) -> None:
    job = row(status="completed")
    assert shown(as_viewer.get("/jobs?job_type=1&nothing=2")) == [job]


def test_a_live_page_gets_only_its_live_part(as_viewer: Client) -> None:
    row(status="completed")
    html = as_viewer.get("/jobs", headers=PARTIAL).content.decode()
    assert "<html" not in html
    assert "All jobs" in html


def test_an_empty_list_says_so(as_viewer: Client) -> None:
    html = as_viewer.get("/jobs").content.decode()
    assert "No job yet" in html
    assert "Nothing is running or waiting." in html


def test_every_type_can_be_chosen(as_viewer: Client, probe: type[Probe]) -> None:
    assert '<option value="probe">Probe</option>' in as_viewer.get("/jobs").content.decode()


def test_hostile_text_is_shown_as_text(as_viewer: Client) -> None:
    row(status="failed", error=HOSTILE, type=HOSTILE)
    row(status="running", progress={"path": HOSTILE, "step": HOSTILE, "percent": HOSTILE, "phases": []})
    html = as_viewer.get("/jobs", {"type": ""}).content.decode()
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


def test_a_job_of_a_type_that_is_gone_is_still_listed(as_viewer: Client) -> None:
    row(type="from_the_past", status="completed")
    assert "from_the_past" in as_viewer.get("/jobs").content.decode()


def test_it_asks_the_database_as_often_for_fifty_as_for_one(
    as_viewer: Client, plan: Plan, operator: User, django_assert_max_num_queries: Any
) -> None:
    Job.objects.bulk_create(
        Job(type="backup", status=status, server=plan.server, repository=plan.repository, plan=plan, user=operator)
        for status in ("completed", "failed", "running", "pending") * 15
    )
    with django_assert_max_num_queries(12):
        as_viewer.get("/jobs")


def test_whoever_may_not_see_jobs_is_refused(as_viewer: Client, viewer: User, client: Client) -> None:
    viewer.groups.set([Group.objects.create(name="nobody")])
    assert as_viewer.get("/jobs").status_code == 403
    assert as_viewer.get("/jobs/strip").status_code == 403
    assert client.get("/jobs")["Location"].startswith("/login")


@pytest.mark.parametrize("path", ["/jobs", "/jobs/strip"])
def test_other_methods_are_refused(as_viewer: Client, path: str) -> None:
    assert as_viewer.post(path).status_code == 405
    assert as_viewer.delete(path).status_code == 405


# --- The strip ------------------------------------------------------------------------------------


def test_the_strip_shows_running_jobs_with_their_progress(as_viewer: Client, plan: Plan) -> None:
    job = row(type="backup", status="running", server=plan.server, progress={"percent": 42, "original": 1_500_000})
    row(status="pending")
    html = as_viewer.get("/jobs/strip").content.decode()
    assert f"/jobs/{job.pk}" in html
    assert 'value="42"' in html
    assert "1.5 MB" in html
    assert html.count("<a ") == 1


def test_the_strip_is_empty_when_nothing_runs(as_viewer: Client) -> None:
    assert as_viewer.get("/jobs/strip").content.strip() == b""


def test_the_strip_shows_five_at_most(as_viewer: Client) -> None:
    Job.objects.bulk_create(Job(type="probe", status="running") for _ in range(20))
    assert as_viewer.get("/jobs/strip").content.decode().count("<a ") == 5


def test_of_many_that_wait_some_are_shown_and_all_are_counted(as_viewer: Client) -> None:
    """Red with the number of those shown: a page that says 25 where 30 wait."""
    Job.objects.bulk_create(Job(type="probe") for _ in range(30))
    page = as_viewer.get("/jobs").content.decode()
    assert "30 jobs are running or waiting." in page
    assert "25 of 30" in page

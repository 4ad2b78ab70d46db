"""Old jobs and old logs: deleted after the days that the settings say, but never what somebody still needs."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from backups.models import Plan
from jobs import periodic
from jobs.models import Job, LogLine
from jobs.periodic import forget
from tests.jobs.conftest import row

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _days(live: Any) -> None:
    live(JOB_KEEP_DAYS=365, LOG_KEEP_DAYS=90)


def old(days: float, *, lines: int = 1, **values: Any) -> Job:
    at = timezone.now() - timedelta(days=days)
    values = {"status": "completed", "created_at": at, "completed_at": at, "log_lines": lines, **values}
    job = row(**values)
    LogLine.objects.bulk_create(LogLine(job=job, number=n, at=at, message="x") for n in range(1, lines + 1))
    return job


def left() -> set[Any]:
    return set(Job.objects.values_list("pk", flat=True))


def test_a_job_that_is_too_old_goes_with_its_log() -> None:
    old(366, lines=3)
    young = old(364)
    forget()
    assert left() == {young.pk}


def test_the_newest_of_its_kind_stays_however_old() -> None:
    newest = old(4000, subject="plan:1")
    other = old(5000, subject="plan:2")
    failed = old(5000, subject="plan:1", status="failed")
    old(4001, subject="plan:1")
    forget()
    assert left() == {newest.pk, other.pk, failed.pk}


def test_the_last_job_of_a_plan_stays_also_when_a_cancelled_one_came_after_it(plan: Plan) -> None:
    last = old(900, type="backup", subject=f"plan:{plan.pk}", plan=plan)
    old(800, type="backup", subject=f"plan:{plan.pk}", plan=plan, status="cancelled")
    Plan.objects.update(last_job=last)
    forget()
    plan.refresh_from_db()
    assert plan.last_job == last


@pytest.mark.parametrize("status", ["pending", "running"])
def test_what_has_not_ended_stays(status: str) -> None:
    job = old(900, status=status, completed_at=None)
    old(1)
    forget()
    assert job.pk in left()
    assert job.lines.count() == 1


def test_a_log_goes_before_its_job() -> None:
    job, young = old(91, lines=3), old(89, lines=2)
    forget()
    assert (job.lines.count(), young.lines.count(), left()) == (0, 2, {job.pk, young.pk})


def test_a_log_stays_whole_until_its_job_has_been_over_for_long_enough() -> None:
    job = old(91, lines=2, completed_at=timezone.now() - timedelta(days=89))
    forget()
    assert job.lines.count() == 2


def test_zero_days_mean_for_ever(live: Any) -> None:
    live(JOB_KEEP_DAYS=0, LOG_KEEP_DAYS=0)
    old(9000, lines=2)
    old(8000)
    forget()
    assert (Job.objects.count(), LogLine.objects.count()) == (2, 3)


def test_many_go_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "LINES_AT_ONCE", 7)
    monkeypatch.setattr(periodic, "JOBS_AT_ONCE", 2)
    for days in range(400, 412):
        old(days, lines=5)
    young = old(1, lines=5)
    forget()
    assert left() == {young.pk}
    assert LogLine.objects.count() == 5


def test_no_batch_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any) -> None:
    for _ in range(30):
        old(100, lines=100)
    monkeypatch.setattr(periodic, "LINES_AT_ONCE", 500)
    with django_assert_max_num_queries(20):  # seven reads of lines, six deletes, one look for old jobs
        forget()
    assert LogLine.objects.count() == 0


def test_a_round_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "FORGET_SECONDS", 0.0)
    old(400)
    old(399)
    forget()
    assert Job.objects.count() == 2


def test_a_later_round_goes_on_where_an_earlier_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    for days in range(400, 410):
        old(days)
    monkeypatch.setattr(periodic, "JOBS_AT_ONCE", 3)
    ticks = iter([0.0, 0.0, 99.0])
    monkeypatch.setattr("jobs.periodic.time.monotonic", lambda: next(ticks))
    assert periodic.forget_jobs(timezone.now() - timedelta(days=365), 1.0) == 6
    monkeypatch.undo()
    assert periodic.forget_jobs(timezone.now() - timedelta(days=365), time.monotonic() + 60) == 3

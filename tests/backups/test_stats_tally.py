"""Backups counted by the hour: as they end, each once, and anew from the jobs."""

import threading
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from backups import stats, tally
from backups.models import BackupHour, Plan
from backups.runners.create import RunBackup
from jobs.errors import Failure
from jobs.models import Job
from jobs.runner import cancel, end
from tests.conftest import run_now

NOW = datetime(2026, 3, 2, 12, 20, tzinfo=UTC)


def backup(plan: Plan, **values: Any) -> Job:
    made: dict[str, Any] = {
        "type": "backup", "subject": f"plan:{plan.pk}", "plan": plan, "server": plan.server,
        "repository": plan.repository, "status": "running", "attempts": 1, "created_at": NOW,
    }  # fmt: skip
    return Job.objects.create(**(made | values))


def counted() -> list[tuple[datetime, int, int, int, int]]:
    return list(BackupHour.objects.values_list("began_at", "completed", "suspicious", "failed", "cancelled"))


# --- As they end ----------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("outcome", "numbers"),
    [
        ({"status": "completed", "result": {"suspicion": ""}}, (1, 0, 0, 0)),
        ({"status": "completed", "result": {"suspicion": "The archive is empty."}}, (1, 1, 0, 0)),
        ({"status": "completed", "result": None}, (1, 0, 0, 0)),
        ({"status": "failed", "error": "No disk."}, (0, 0, 1, 0)),
        ({"status": "failed", "error": "No.", "result": {"suspicion": "Odd."}}, (0, 0, 1, 0)),
        ({"status": "cancelled"}, (0, 0, 0, 1)),
    ],
)
def test_every_end_counts_as_what_it_is(plan: Plan, outcome: dict[str, Any], numbers: tuple[int, ...]) -> None:
    assert end(backup(plan), **outcome)
    assert counted() == [(datetime(2026, 3, 2, 12, tzinfo=UTC), *numbers)]


@pytest.mark.django_db
def test_a_backup_counts_when_it_was_asked_for_not_when_it_ended(plan: Plan) -> None:
    end(backup(plan, created_at=NOW - timedelta(hours=30)), status=Job.Status.COMPLETED)
    end(backup(plan, created_at=NOW - timedelta(hours=30, minutes=20)), status=Job.Status.COMPLETED)
    assert counted() == [(datetime(2026, 3, 1, 6, tzinfo=UTC), 2, 0, 0, 0)]


@pytest.mark.django_db
def test_a_job_that_ended_before_does_not_count_twice(plan: Plan) -> None:
    job = backup(plan)
    again = Job.objects.get(pk=job.pk)
    assert end(job, status=Job.Status.COMPLETED)
    assert not end(again, status=Job.Status.FAILED, error="Too late.")
    assert [row[1:] for row in counted()] == [(1, 0, 0, 0)]


@pytest.mark.django_db
def test_an_attempt_that_another_one_follows_does_not_count(plan: Plan) -> None:
    job = backup(plan, max_attempts=2)
    assert end(job, may_pass=True, status=Job.Status.FAILED, error="Away.")
    assert counted() == []


@pytest.mark.django_db
def test_one_that_was_cancelled_before_it_began_counts_too(plan: Plan) -> None:
    assert cancel(backup(plan, status="pending", attempts=0))
    assert [row[1:] for row in counted()] == [(0, 0, 0, 1)]


@pytest.mark.django_db
def test_a_backup_whose_plan_was_deleted_meanwhile_counts(plan: Plan) -> None:
    job = backup(plan)
    Job.objects.update(plan=None)
    end(Job.objects.get(pk=job.pk), status=Job.Status.FAILED, error="It is gone.")
    assert [row[1:] for row in counted()] == [(0, 0, 1, 0)]


@pytest.mark.django_db
@pytest.mark.usefixtures("one_thread")
def test_a_backup_that_really_runs_and_fails_counts(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: RunBackup) -> dict[str, Any]:
        raise Failure("No disk.")

    monkeypatch.setattr(RunBackup, "run", run)
    run_now(RunBackup.enqueue(plan))
    assert [row[1:] for row in counted()] == [(0, 0, 1, 0)]


@pytest.mark.django_db(transaction=True)
def test_none_is_lost_where_many_end_at_once(plan: Plan) -> None:
    jobs = [backup(plan) for _ in range(8)]
    gate = threading.Barrier(len(jobs))

    def finish(job: Job) -> None:
        try:
            gate.wait(30)
            tally.count(Job.objects.get(pk=job.pk))
        finally:
            connections.close_all()

    Job.objects.update(status="completed")
    threads = [threading.Thread(target=finish, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [row[1:] for row in counted()] == [(8, 0, 0, 0)]


# --- Anew -----------------------------------------------------------------------------------------


@pytest.fixture
def history(plan: Plan) -> list[tuple[datetime, int, int, int, int]]:
    """Jobs that nobody has counted, and what the counts should be."""
    for status, result, ago in [
        ("completed", {"suspicion": ""}, 0), ("completed", {"suspicion": "Odd."}, 0), ("completed", None, 0),
        ("failed", {"suspicion": "Odd."}, 0), ("failed", None, 90), ("cancelled", None, 90), ("running", None, 90),
        ("pending", None, 0),
    ]:  # fmt: skip
        backup(plan, status=status, result=result, created_at=NOW - timedelta(minutes=ago))
    backup(plan, type="prune", status="completed")
    return [
        (datetime(2026, 3, 2, 10, tzinfo=UTC), 0, 0, 1, 1),
        (datetime(2026, 3, 2, 12, tzinfo=UTC), 3, 1, 1, 0),
    ]


@pytest.mark.django_db
def test_counts_are_made_anew_from_the_jobs(history: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    BackupHour.objects.create(began_at=NOW, completed=1000)  # nonsense
    call_command("count_backups")
    assert counted() == history
    assert capsys.readouterr().out == "Counted the backups of 2 hours.\n"


@pytest.mark.django_db
def test_the_migration_counts_what_there_was_before_it(history: list[Any]) -> None:
    import_module("backups.migrations.0006_stats").count(apps, None)
    assert counted() == history


@pytest.mark.django_db
def test_counting_anew_finds_what_was_counted_as_it_ended(plan: Plan) -> None:
    for hours, status in enumerate((Job.Status.COMPLETED, Job.Status.FAILED, Job.Status.CANCELLED)):
        end(backup(plan, created_at=NOW - timedelta(hours=hours)), status=status)
    before = counted()
    tally.rebuild()
    assert counted() == before


# --- Rates ----------------------------------------------------------------------------------------


def rates_of(*hours: tuple[float, int, int, int, int]) -> list[float | None]:
    now = timezone.now()
    for ago, completed, suspicious, failed, cancelled in hours:
        began_at = (now - timedelta(hours=ago)).replace(minute=0, second=0, microsecond=0)
        BackupHour.objects.create(
            began_at=began_at, completed=completed, suspicious=suspicious, failed=failed, cancelled=cancelled
        )
    return [rate.success_rate for rate in stats.rates(now)]


@pytest.mark.django_db
def test_without_a_backup_there_is_no_rate() -> None:
    assert rates_of() == [None, None, None]


@pytest.mark.django_db
def test_only_cancelled_ones_make_no_rate() -> None:
    assert rates_of((1, 0, 0, 0, 5)) == [None, None, None]


@pytest.mark.django_db
def test_a_rate_is_of_those_that_ended_by_themselves() -> None:
    assert rates_of((1, 3, 0, 1, 4)) == [0.75, 0.75, 0.75]


@pytest.mark.django_db
def test_a_suspicious_backup_is_no_success() -> None:
    assert rates_of((1, 4, 1, 0, 0)) == [0.75, 0.75, 0.75]


@pytest.mark.django_db
def test_all_failed_is_none_of_a_hundred_not_nothing() -> None:
    assert rates_of((1, 0, 0, 2, 0)) == [0.0, 0.0, 0.0]


@pytest.mark.django_db
def test_each_rate_has_its_own_days() -> None:
    found = rates_of((1, 1, 0, 0, 0), (26, 0, 0, 1, 0), (24 * 8, 0, 0, 2, 0), (24 * 31, 0, 0, 100, 0))
    assert found == [1.0, 0.5, 0.25]

"""Changes of a job's state: each counts only while what it builds on is still true."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from jobs.models import Job
from servers.models import Server
from tests.jobs.conftest import row, running

pytestmark = pytest.mark.django_db


def superseded() -> tuple[Job, Job]:
    """One job twice: as an old run still has it in memory, and as the row is now, in its second run."""
    old = running()
    Job.objects.filter(pk=old.pk).update(status="pending")
    new = Job.objects.get(pk=old.pk)
    new.claim("web:2", holds=None)
    return old, new


def test_a_beat_stores_changes_with_a_fresh_heartbeat() -> None:
    job = running()
    Job.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=5))
    assert job.beat(log_lines=7, progress={"files": 3}) == (True, None)
    job.refresh_from_db()
    assert (job.log_lines, job.progress) == (7, {"files": 3})
    assert job.heartbeat_at and timezone.now() - job.heartbeat_at < timedelta(minutes=1)


def test_a_beat_tells_when_a_cancel_was_asked_for() -> None:
    job = running()
    Job.objects.get(pk=job.pk).request_cancel()
    still_mine, asked_at = job.beat()
    assert still_mine
    assert asked_at == Job.objects.get(pk=job.pk).cancel_requested_at is not None


def test_a_beat_of_a_superseded_run_does_nothing() -> None:
    old, new = superseded()
    assert old.beat(log_lines=99) == (False, None)
    new.refresh_from_db()
    assert new.log_lines == 0


def test_the_end_of_a_superseded_run_does_nothing() -> None:
    old, new = superseded()
    assert old.finish(Job.Status.FAILED, error="old news") is False
    new.refresh_from_db()
    assert (new.status, new.error, new.worker) == ("running", "", "web:2")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_has_ended_neither_beats_nor_ends_again(status: str) -> None:
    job = running()
    job.finish(Job.Status(status))
    assert job.beat(log_lines=5) == (False, None)
    assert job.finish(Job.Status.FAILED, error="again") is False
    job.refresh_from_db()
    assert (job.status, job.error, job.log_lines) == (status, "", 0)


def test_the_end_frees_the_hold_and_forgets_the_cancel() -> None:
    job = row()
    job.claim("web:1", holds="repository:7")
    job.request_cancel()
    assert job.finish(Job.Status.COMPLETED, result={"files": 3}, warnings=2)
    job.refresh_from_db()
    assert (job.status, job.holds, job.cancel_requested_at) == ("completed", None, None)
    assert (job.result, job.warnings) == ({"files": 3}, 2)
    assert job.completed_at and job.started_at and job.completed_at >= job.started_at


# --- Cancel -------------------------------------------------------------------------------------


def test_a_pending_job_is_cancelled_at_once() -> None:
    job = row(waits_for="repository:7")
    assert job.request_cancel() is True
    job.refresh_from_db()
    assert (job.status, job.waits_for, job.started_at) == ("cancelled", "", None)
    assert job.completed_at is not None
    assert not job.claim("web:1", holds=None)


def test_a_running_job_gets_a_mark_and_runs_on() -> None:
    job = running()
    assert job.request_cancel() is True
    job.refresh_from_db()
    assert (job.status, job.completed_at) == ("running", None)
    assert job.cancel_requested_at is not None


def test_asking_again_keeps_the_first_mark() -> None:
    job = running()
    job.request_cancel()
    first = Job.objects.get(pk=job.pk).cancel_requested_at
    assert job.request_cancel() is True
    assert Job.objects.get(pk=job.pk).cancel_requested_at == first


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_has_ended_is_not_cancelled(status: str) -> None:
    job = row(status=status)
    assert job.request_cancel() is False
    job.refresh_from_db()
    assert (job.status, job.cancel_requested_at) == (status, None)


def test_a_cancel_goes_by_the_row_and_not_by_what_is_in_memory() -> None:
    job = row()
    Job.objects.get(pk=job.pk).claim("web:1", holds=None)
    assert job.status == "pending"
    assert job.request_cancel()
    job.refresh_from_db()
    assert (job.status, job.cancel_requested_at is not None) == ("running", True)


# --- What a job says of itself --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "default.normal"),
        ({"priority": Job.Priority.HIGH}, "default.high"),
        ({"priority": Job.Priority.LOW, "place": "cellar"}, "cellar.low"),
    ],
)
def test_the_queue_is_named_by_place_and_priority(values: dict[str, Any], name: str) -> None:
    assert Job(type="probe", **values).queue == name


def test_the_time_it_took_is_known_from_its_start() -> None:
    now = timezone.now()
    assert Job().seconds is None
    assert Job(started_at=now - timedelta(seconds=90), completed_at=now).seconds == 90
    assert (Job(started_at=now - timedelta(seconds=90)).seconds or 0) >= 90


def test_who_waits_for_nothing_has_no_holder() -> None:
    assert Job(waits_for="").holder is None
    assert Job(waits_for="repository:7").holder is None


def test_jobs_go_with_their_server(server: Server) -> None:
    job = row(server=server)
    job.lines.create(number=1, at=timezone.now(), message="x")
    server.delete()
    assert not Job.objects.exists()

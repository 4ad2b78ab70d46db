"""Job.claim: one worker per job, one job per hold."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.db import OperationalError, connection
from django.utils import timezone

from jobs.models import Job
from jobs.runner import perform
from servers.models import Server
from tests.conftest import run_now
from tests.jobs.conftest import Probe, raising, row, rung

HOLD = "repository:7"
THREADS = 6


def at_once(*claims: Callable[[], bool]) -> list[bool]:
    """Let every claim start at the same moment, each in a thread with a connection of its own."""
    start, answers = threading.Barrier(len(claims)), []

    def one(claim: Callable[[], bool]) -> None:
        try:
            start.wait()
            answers.append(claim())
        except OperationalError:  # MariaDB may end one of two transactions that wait for each other
            answers.append(False)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(claim,)) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.django_db
def test_a_claimed_job_runs() -> None:
    job, before = row(), timezone.now()
    assert job.claim("web:1", holds=HOLD) is True
    assert (job.status, job.worker, job.holds, job.waits_for) == ("running", "web:1", HOLD, "")
    assert job.started_at == job.heartbeat_at is not None
    assert job.started_at and job.started_at >= before.replace(microsecond=0)


@pytest.mark.django_db
def test_every_claim_counts_as_an_attempt_and_forgets_the_progress_of_the_last() -> None:
    job = row(progress={"percent": 99})
    job.claim("web:1", holds=None)
    assert (job.attempts, job.progress) == (1, {})
    Job.objects.filter(pk=job.pk).update(status="pending")
    job.claim("web:2", holds=None)
    assert job.attempts == 2


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["running", "completed", "failed", "cancelled"])
def test_only_a_pending_job_can_be_claimed(status: str) -> None:
    job = row(status=status)
    assert job.claim("web:1", holds=HOLD) is False
    assert (job.status, job.attempts, job.holds) == (status, 0, None)


@pytest.mark.django_db
def test_a_second_worker_does_not_get_the_job() -> None:
    job = row()
    assert Job.objects.get(pk=job.pk).claim("web:1", holds=None)
    assert not job.claim("web:2", holds=None)
    assert (job.worker, job.attempts) == ("web:1", 1)


@pytest.mark.django_db
def test_a_second_job_for_the_same_hold_waits_and_says_for_what() -> None:
    first, second = row(), row()
    assert first.claim("web:1", holds=HOLD)
    assert not second.claim("web:2", holds=HOLD)
    second.refresh_from_db()
    assert (second.status, second.waits_for, second.holds, second.attempts) == ("pending", HOLD, None, 0)
    assert second.holder == first


@pytest.mark.django_db
def test_jobs_with_other_holds_or_none_do_not_wait() -> None:
    jobs = [(row(), HOLD), (row(), "repository:8"), (row(), None), (row(), None)]
    assert all(job.claim("web:1", holds=hold) for job, hold in jobs)


@pytest.mark.django_db
def test_a_hold_is_free_once_its_job_has_ended() -> None:
    first, second = row(), row()
    first.claim("web:1", holds=HOLD)
    second.claim("web:1", holds=HOLD)
    first.finish(Job.Status.COMPLETED)
    assert second.claim("web:1", holds=HOLD)
    assert (second.holds, second.waits_for) == (HOLD, "")


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_at_once_one_gets_the_job() -> None:
    pk = row().pk
    claims = [lambda number=number: Job.objects.get(pk=pk).claim(f"web:{number}", holds=None) for number in range(6)]
    assert sorted(at_once(*claims)) == [False] * 5 + [True]
    assert Job.objects.get(pk=pk).attempts == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_jobs_for_one_hold_at_once_one_runs() -> None:
    jobs = [row() for _ in range(THREADS)]
    answers = at_once(*[lambda job=job: job.claim("web:1", holds=HOLD) for job in jobs])
    assert sorted(answers) == [False] * (THREADS - 1) + [True]
    assert Job.objects.running().get().holds == HOLD
    assert Job.objects.pending().count() == THREADS - 1


# --- What perform makes of it -----------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_next_one_is_rung_when_the_holder_ends(probe: type[Probe], server: Server, bell: redis.Redis) -> None:
    probe.hold = HOLD
    first, second, third = (row(subject=f"server:{server.pk}", server=server) for _ in range(3))
    waited: list[Job] = []

    def act(runner: Any) -> dict[str, Any]:
        for job in (third, second):
            perform(str(job.pk))
            job.refresh_from_db()
        waited.extend([second, third])
        assert rung() == {}
        return {}

    probe.act = act
    assert run_now(first).status == "completed"
    assert [(job.status, job.waits_for) for job in waited] == [("pending", HOLD)] * 2
    assert rung() == {"default.normal": [str(second.pk)]}  # who waited longest


@pytest.mark.django_db(transaction=True)
def test_the_next_one_is_rung_also_when_the_holder_fails(probe: type[Probe], server: Server, bell: redis.Redis) -> None:
    probe.hold = HOLD
    probe.act = raising(RuntimeError("boom"))
    second = row(waits_for=HOLD)
    assert run_now(row(subject=f"server:{server.pk}")).status == "failed"
    assert rung() == {"default.normal": [str(second.pk)]}


@pytest.mark.django_db(transaction=True)
def test_an_urgent_one_goes_before_one_that_waited_longer(
    probe: type[Probe], server: Server, bell: redis.Redis
) -> None:
    probe.hold = HOLD
    row(waits_for=HOLD)
    urgent = row(waits_for=HOLD, priority=Job.Priority.HIGH)
    run_now(row(subject=f"server:{server.pk}"))
    assert rung() == {"default.high": [str(urgent.pk)]}


@pytest.mark.django_db
def test_a_ring_for_a_job_that_runs_or_has_ended_does_nothing(probe: type[Probe]) -> None:
    probe.act = raising(AssertionError("It must not run."))
    for status in ("running", "completed", "failed", "cancelled"):
        assert run_now(row(status=status)).status == status


@pytest.mark.django_db
def test_a_ring_for_a_job_that_was_deleted_does_nothing() -> None:
    perform("00000000-0000-4000-8000-000000000000")

"""Workers that are killed, frozen and stopped in mid-job, and two schedulers at once; each a real process."""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from jobs import queue
from jobs.models import Job
from jobs.periodic import LOST_AFTER, reap
from jobs.runner import try_now
from phpborg.embedded import wait_until
from tests.faults.conftest import PATIENCE_SECONDS, Start, is_gone, let, log_of, says, wait_for, with_pid

pytestmark = pytest.mark.e2e

Slow = Callable[..., Job]


def long_silent(job: Job) -> None:
    """Time passes: the process is gone, or frozen, and nobody else writes the heartbeat."""
    Job.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - LOST_AFTER - timedelta(seconds=1))


def test_a_worker_killed_in_mid_job_loses_an_attempt_and_the_next_one_completes(start: Start, slow: Slow) -> None:
    """Without `reap` the job runs for ever and holds what it holds; without `put_back` it fails at once."""
    worker, job = start("worker"), slow(hold="repository:1", max_attempts=2)
    wait_for(job, "running")
    worker.kill()
    pid = with_pid(job, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), seconds=PATIENCE_SECONDS, what="The end of the process")
    assert reap() == 0  # nobody knows yet
    long_silent(job)
    assert reap() == 1
    job.refresh_from_db()
    assert (job.status, job.attempts, job.holds, job.started_at) == ("pending", 1, None, None)
    assert job.error.startswith("The worker disappeared")
    assert job.not_before
    assert job.not_before > timezone.now()
    start("worker")
    assert try_now(job)
    wait_for(job, "running", attempt=2)
    let(job, "end-2")
    wait_for(job, "completed")
    assert (job.attempts, job.result, job.error, job.cause) == (2, {"attempt": 2}, "", "")
    assert log_of(job, 1) == [
        "Attempt 1 has begun.",
        f"The worker disappeared ({os.uname().nodename}:{pid}): nothing was heard of it for 90 seconds.",
        "This may pass: attempt 2 of 2 follows in 60 seconds, unless somebody cancels the job.",
    ]
    assert log_of(job, 2) == ["Attempt 2 has begun."]


def test_without_attempts_left_it_fails_in_words(start: Start, slow: Slow) -> None:
    """Without `reap` it runs for ever."""
    worker, job = start("worker"), slow()
    wait_for(job, "running")
    worker.kill()
    with_pid(job, signal.SIGKILL)
    long_silent(job)
    assert reap() == 1
    job.refresh_from_db()
    assert (job.status, job.cause, bool(job.advice)) == ("failed", "internal", True)


def test_a_frozen_run_that_wakes_up_writes_nothing_into_the_attempt_after_it(start: Start, slow: Slow) -> None:
    """Without `attempts` in `_this_run` the old run ends the new one, with its own result, and frees its hold."""
    start("worker")
    job = slow(hold="repository:1", max_attempts=2)
    frozen = with_pid(wait_for(job, "running"), signal.SIGSTOP)
    try:
        long_silent(job)
        assert reap() == 1
        start("worker")
        assert try_now(job)
        wait_for(job, "running", attempt=2)
        let(job, "end-1")
    finally:
        os.kill(frozen, signal.SIGCONT)
    wait_until(lambda: is_gone(frozen), seconds=PATIENCE_SECONDS, what="The end of the frozen run")
    job.refresh_from_db()
    assert (job.status, job.attempts, job.holds, job.result) == ("running", 2, "repository:1", None)
    let(job, "end-2")
    wait_for(job, "completed")
    assert (job.result, job.attempts) == ({"attempt": 2}, 2)
    numbers = list(job.lines.order_by("number").values_list("number", "attempt"))
    assert [number for number, _ in numbers] == list(range(1, len(numbers) + 1))
    assert [attempt for _, attempt in numbers] == sorted(attempt for _, attempt in numbers)


def test_a_process_that_the_system_kills_is_noticed_at_once_and_its_worker_goes_on(start: Start, slow: Slow) -> None:
    """Without `work_horse_killed_handler` the job stands still until the reaper comes, a minute and a half later."""
    worker, job = start("worker"), slow(max_attempts=2)
    with_pid(wait_for(job, "running"), signal.SIGKILL)
    wait_for(job, "pending", attempt=1)
    assert job.error.endswith("its process was killed.")
    assert try_now(job)
    wait_for(job, "running", attempt=2)
    let(job, "end-2")
    wait_for(job, "completed")
    assert worker.is_alive


def test_an_attempt_that_fails_with_what_may_pass_is_followed_by_the_next(start: Start, slow: Slow) -> None:
    """Without `may_pass` in `end` it fails; without `due` in `claim` nobody waits for the pause."""
    start("worker", JOB_RETRY_SECONDS="3600,0")
    job = slow(hold="repository:1", max_attempts=3)
    let(wait_for(job, "running"), "fail-1")
    wait_for(job, "pending", attempt=1)
    assert (job.error, job.holds, job.warnings, job.completed_at) == ("Something shook.", None, 0, None)
    assert job.not_before
    assert job.not_before > timezone.now() + timedelta(minutes=50)
    queue.ring(job)  # a bell that comes too early
    other = slow(hold="repository:1")
    let(wait_for(other, "running"), "end-1")
    wait_for(other, "completed")
    job.refresh_from_db()
    assert (job.status, job.attempts) == ("pending", 1)
    let(job, "fail-2")
    assert try_now(job)
    wait_for(job, "pending", attempt=2)
    let(job, "end-3")
    assert queue.ring_forgotten(timedelta(0)) == 1  # as the scheduler does; the second pause is none
    wait_for(job, "completed")
    assert (job.attempts, job.error, job.advice) == (3, "", "")


def test_a_worker_that_is_asked_to_stop_ends_its_job_first_and_takes_no_other(start: Start, slow: Slow) -> None:
    """Without rq's handler of SIGTERM the worker ends at once, and what supervises it ends the job with it."""
    worker, first = start("worker"), slow()
    wait_for(first, "running")
    second = slow()
    worker.terminate()
    seen = first.log_lines
    wait_for(first, "running")
    wait_until(lambda: has_more_lines(first, seen), seconds=PATIENCE_SECONDS, what="Its log")
    assert worker.is_alive
    let(first, "end-1")
    wait_for(first, "completed")
    assert worker.process
    assert worker.process.wait(PATIENCE_SECONDS) == 0
    second.refresh_from_db()
    assert (second.status, second.attempts) == ("pending", 0)


def has_more_lines(job: Job, count: int) -> bool:
    job.refresh_from_db()
    return job.log_lines > count


def test_two_schedulers_put_a_lost_job_back_once(start: Start, slow: Slow) -> None:
    """Without `reap` it stays with its dead worker. tests/jobs/test_reap.py plays two in the same moment."""
    job = slow(max_attempts=3)
    assert job.claim("web:1", holds="repository:1")
    long_silent(job)
    schedulers = [start("scheduler", JOB_RETRY_SECONDS="0") for _ in range(2)]
    wait_for(job, "pending")
    assert queue.scheduler_is_alive()
    schedulers[0].kill()
    start("worker")
    let(job, "end-2")
    wait_for(job, "completed")
    assert job.attempts == 2
    assert sum("disappeared" in line for line in log_of(job, 1)) == 1
    assert schedulers[1].is_alive


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DATABASE_URL", "sqlite:////nowhere/phpborg.sqlite3", "The database cannot be used"),
        ("DATABASE_URL", "mysql://phpborg@127.0.0.1:1/phpborg", "The database cannot be used"),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "Redis cannot be used"),
    ],
)
def test_a_worker_that_cannot_start_says_why(start: Start, variable: str, value: str, sentence: str) -> None:
    """Without the handlers in the command it ends with a traceback."""
    worker = start("worker", **{variable: value})
    assert worker.process
    assert worker.process.wait(PATIENCE_SECONDS) == 1
    assert says(worker, f"CommandError: {sentence} (")
    assert not says(worker, "Traceback")


def test_urgent_jobs_go_first(start: Start, slow: Slow, tmp_path: Path) -> None:
    """With the queues in another order the low one would be first: it has waited longest."""
    names = [Job.Priority.LOW, Job.Priority.NORMAL, Job.Priority.HIGH]
    jobs = [slow(priority=priority) for priority in names]
    for job in jobs:
        let(job, "end-1")
    worker = start("worker", "--burst")
    assert worker.process
    assert worker.process.wait(PATIENCE_SECONDS) == 0
    done = Job.objects.filter(status="completed").order_by("started_at").values_list("priority", flat=True)
    assert list(done) == sorted(names)


def test_one_that_waits_for_an_hour_goes_before_urgent_ones(start: Start, slow: Slow) -> None:
    """Without `ring_patient` whatever is always asked for first would keep the rest waiting for ever."""
    patient, other, urgent = slow(priority=Job.Priority.LOW), slow(priority=Job.Priority.LOW), slow(priority=0)
    for job in (patient, other, urgent):
        let(job, "end-1")
    ages = {patient: timedelta(hours=3), other: timedelta(hours=2)}
    for job, age in ages.items():
        Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - age)
    assert [queue.ring_patient(), queue.ring_patient()] == [1, 0]
    worker = start("worker", "--burst")
    assert worker.process
    assert worker.process.wait(PATIENCE_SECONDS) == 0
    done = Job.objects.filter(status="completed").order_by("started_at")
    assert list(done) == [patient, urgent, other]
    assert {job.attempts for job in done} == {1}

"""Work that comes round again: any app's `periodic.py` and `maintenance.py` register their own with `@every`."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError, connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from accounts import idempotency
from accounts.sessions import SessionStore
from jobs import live, queue
from jobs.config import config
from jobs.errors import Cause
from jobs.log import JobLog
from jobs.models import Job, JobEvent, JobQuerySet, LogLine
from jobs.runner import end, next_attempt, worker_name

logger = logging.getLogger(__name__)

LOST_AFTER = timedelta(seconds=90)
SECOND_LOOK_SECONDS = 10.0  # a living job's pulse comes back sooner, whatever the database was doing
ADVICE = "If the machine was not restarted, look into the worker's log. Then run the job again."
FORGET_SECONDS = 10.0
EVENTS_KEPT = timedelta(days=7)  # a program that was away for longer asks for the lists
LINES_AT_ONCE = 1_000
JOBS_AT_ONCE = 20  # a job may have JOB_LOG_LINES of log


@dataclass(frozen=True)
class Periodic:
    seconds: float
    run: Callable[[], object]

    @property
    def name(self) -> str:
        return f"{self.run.__module__}.{self.run.__name__}"


registry: list[Periodic] = []
at_start: list[Callable[[], object]] = []  # what a worker does before its first job
in_between: list[Callable[[], object]] = []  # what it does between two jobs, about every minute


def every(*, seconds: float) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Run the decorated function about every `seconds`; it must be harmless to run twice at once."""

    def register(run: Callable[[], object]) -> Callable[[], object]:
        registry.append(Periodic(seconds, run))
        return run

    return register


def first_of_all(run: Callable[[], object]) -> Callable[[], object]:
    """Run the decorated function when a worker starts, on its machine; others may be at work there."""
    at_start.append(run)
    return run


def meanwhile(run: Callable[[], object]) -> Callable[[], object]:
    """Run the decorated function in every worker about every minute: for what must go on without a scheduler."""
    in_between.append(run)
    return run


def go_on() -> None:
    """What goes wrong in one of them must not keep the worker from its jobs."""
    try:
        for run in in_between:
            try:
                run()
            except Exception:
                logger.exception("%s.%s failed between two jobs.", run.__module__, run.__name__)
    finally:
        connection.close()  # the next job's process must not inherit it


def begin() -> None:
    """What went wrong in one of them must not keep the worker from its jobs."""
    for run in at_start:
        try:
            run()
        except Exception:
            logger.exception("%s.%s failed at the worker's start.", run.__module__, run.__name__)


@every(seconds=20)
def ring_forgotten() -> None:
    if rung := queue.ring_forgotten():
        logger.info("Rang again for %d waiting jobs.", rung)


@every(seconds=20)
def ring_patient() -> None:
    queue.ring_patient()


# --- Jobs whose worker is gone ----------------------------------------------------------------


@every(seconds=15)
def reap() -> int:
    """End running jobs whose worker has not been heard of, or put them back; returns how many.

    Looks twice: after an outage of the database every job is silent, and those that live say so within seconds.
    """
    silent = list(_silent()[:500])
    if silent:
        time.sleep(SECOND_LOOK_SECONDS)
    seen_before = {job.pk: job.heartbeat_at for job in silent}
    sentence = f"nothing was heard of it for {LOST_AFTER.seconds} seconds."
    again = _silent().filter(pk__in=seen_before)
    return sum(lose(job, sentence) for job in again if job.heartbeat_at == seen_before[job.pk])


def _silent() -> JobQuerySet:
    return Job.objects.running().filter(heartbeat_at__lt=timezone.now() - LOST_AFTER)


def reap_process(pid: int) -> None:
    """End the job of a process of this machine that was killed, or put it back, without waiting for its silence."""
    try:
        for job in Job.objects.running().filter(worker=worker_name(pid)):
            lose(job, "its process was killed.")
    except DatabaseError as error:
        logger.warning("The job of process %d is left to the scheduler, the database is away: %s", pid, error)
    finally:
        connection.close()  # the next job's process must not inherit it


def lose(job: Job, why: str) -> bool:
    """Say that the worker of `job` is gone; False if it has moved since `job` was read."""
    hold, sentence = job.holds, f"The worker disappeared ({job.worker}): {why}"
    with transaction.atomic():
        silent = Job.objects.running().filter(pk=job.pk, attempts=job.attempts, heartbeat_at=job.heartbeat_at)
        if not silent.select_for_update().exists():
            return False
        _write(job, sentence)
        end(job, may_pass=True, status=Job.Status.FAILED, error=sentence, cause=Cause.INTERNAL, advice=ADVICE)
    logger.error("Job %s (%s) lost its worker %s.", job.pk, job.type, job.worker)
    live.announce(job, job.status)
    if hold:
        queue.ring_next(hold)
    return True


def _write(job: Job, sentence: str) -> None:
    """The last words of an attempt that can say no more."""
    log = JobLog(Job.objects.get(pk=job.pk))
    log.error(sentence)
    if job.may_be_tried_again:
        log.info(next_attempt(job))
    log.flush()


# --- What is kept -----------------------------------------------------------------------------


@every(seconds=3600)
def forget_sessions() -> None:
    SessionStore.clear_expired()


@every(seconds=3600)
def forget() -> None:
    """Delete ended jobs, and the logs of others, that are older than the settings say.

    Not the newest of their kind: what was the last outcome of each thing stays known for ever. A round is short,
    because the rest of the periodic work waits for it; what it leaves is for the next one.
    """
    deadline = time.monotonic() + FORGET_SECONDS
    now = timezone.now()
    if config.LOG_KEEP_DAYS:
        forget_logs(now - timedelta(days=config.LOG_KEEP_DAYS), deadline)
    if config.JOB_KEEP_DAYS:
        forget_jobs(now - timedelta(days=config.JOB_KEEP_DAYS), deadline)
    forget_events(now - EVENTS_KEPT, deadline)


@every(seconds=3600)
def forget_answers() -> None:
    """What was answered to an Idempotency-Key is kept for a day; `accounts` knows no periodic work of its own."""
    idempotency.forget()


def forget_logs(before: datetime, deadline: float) -> int:
    """Delete the logs of jobs that ended before `before`; returns how many lines.

    Lines are numbered as they are written, so the oldest come first and the first young one ends the search.
    """
    deleted, cursor = 0, 0
    while time.monotonic() < deadline:
        lines = list(
            LogLine.objects.filter(pk__gt=cursor)
            .order_by("pk")
            .values_list("pk", "at", "job__completed_at")[:LINES_AT_ONCE]
        )
        old = [pk for pk, _, completed_at in lines if completed_at and completed_at < before]
        deleted += LogLine.objects.filter(pk__in=old).delete()[0]
        if not lines or lines[-1][1] >= before:
            break
        cursor = lines[-1][0]
    return deleted


def forget_events(before: datetime, deadline: float) -> int:
    """Delete what the streams of the API know of before `before`; returns how many. The oldest come first."""
    deleted = 0
    while time.monotonic() < deadline:
        oldest = JobEvent.objects.order_by("pk").values_list("pk", "at")[:LINES_AT_ONCE]
        old = [pk for pk, at in oldest if at < before]
        if not old:
            break
        deleted += JobEvent.objects.filter(pk__in=old).delete()[0]
    return deleted


def forget_jobs(before: datetime, deadline: float) -> int:
    """Delete jobs that ended before `before`, with their logs, if a newer one ended the same way; returns how many."""
    newer = Job.objects.filter(
        type=OuterRef("type"), subject=OuterRef("subject"), status=OuterRef("status"),
        created_at__gt=OuterRef("created_at"),
    )  # fmt: skip
    # `created_at` has an index.
    old = Job.objects.filter(Exists(newer), status__in=Job.FINAL, completed_at__lt=before, created_at__lt=before)
    deleted = 0
    while time.monotonic() < deadline and (batch := list(old.values_list("pk", flat=True)[:JOBS_AT_ONCE])):
        LogLine.objects.filter(job__in=batch).delete()
        JobEvent.objects.filter(job__in=batch).delete()
        Job.objects.filter(pk__in=batch).delete()
        deleted += len(batch)
    return deleted

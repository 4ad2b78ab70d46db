"""rq, which rings the workers. What is rung for stands in the database; a lost ring is rung again."""

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast

import django_rq
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from redis import Redis, RedisError
from redis.client import Pipeline
from rq import Queue, Worker, worker_registration
from rq.executions import Execution
from rq.job import Job as Message
from rq.worker import BaseWorker

from jobs.models import Job

logger = logging.getLogger(__name__)

NO_TIMEOUT = -1  # rq's own would kill in mid-backup; jobs.runner has limits that end a job properly
UUID_LENGTH = 36
RUNG_AT_ONCE = 1_000
WORKER_TTL_SECONDS = 60
WORKER_SEEN_WITHIN = timedelta(seconds=150)
PATIENCE = timedelta(hours=1)  # whoever has waited longer goes before the urgent ones, one at a time
SCHEDULER_KEY = "phpborg:scheduler"
BORGS_KEY = "phpborg:borgs"
SCHEDULER_SEEN_WITHIN_SECONDS = 60
MEANWHILE_SECONDS = 60


def ring(*jobs: Job) -> None:
    """Call workers for `jobs` once the transaction is committed. If Redis is away, the scheduler will."""
    transaction.on_commit(lambda: _ring(*jobs))


def _ring(*jobs: Job, queue: str = "") -> None:
    """In one go, each in its own queue, or urgently at the front of `queue`."""
    try:
        with connection().pipeline() as pipeline:
            for job in jobs:
                queue_named(queue or job.queue).enqueue_call(
                    "jobs.runner.perform", args=(str(job.pk),), timeout=NO_TIMEOUT, at_front=bool(queue),
                    # A name of its own for each message: rq forgets the one that has just been answered by its name.
                    job_id=f"{job.pk}-{secrets.token_hex(4)}",
                    result_ttl=0, failure_ttl=0, description=f"{job.type} {job.pk}", pipeline=pipeline,
                )  # fmt: skip
            pipeline.execute()
    except (RedisError, OSError) as error:
        for job in jobs:
            logger.warning("Job %s waits for the scheduler to ring again, Redis is away: %s", job.pk, error)


def rung_in(queue: Queue) -> list[str]:
    """The ids of the jobs for which a message waits in `queue`. Raises RedisError."""
    return [name[:UUID_LENGTH] for name in queue.job_ids]


def queue_named(name: str) -> Queue:
    return django_rq.get_queue(
        name if name in settings.RQ_QUEUES else default_queue(), connection=connection(), commit_mode="auto"
    )


def default_queue() -> str:
    return next(iter(settings.RQ_QUEUES))


@cache  # a client takes 3 ms to make; it outlives outages of its Redis, forks, and serves all threads
def connection() -> Redis:
    """To the Redis that all queues are in. Its commands raise RedisError."""
    return django_rq.get_connection(default_queue())


def ring_next(hold: str) -> None:
    """Ring for the job that has waited longest for `hold`."""
    waiting = Job.objects.due().filter(waits_for=hold).order_by("priority", "created_at").first()
    if waiting:
        ring(waiting)


def ring_forgotten(older_than: timedelta = timedelta(seconds=20)) -> int:
    """Ring for due jobs that Redis does not know (any more); returns how many. Raises RedisError."""
    ready = list(_ready().filter(created_at__lt=timezone.now() - older_than).values_list("pk", flat=True))
    if not ready:
        return 0
    known = {job_id for name in settings.RQ_QUEUES for job_id in rung_in(queue_named(name))}
    forgotten = [pk for pk in ready if str(pk) not in known][:RUNG_AT_ONCE]
    ring(*Job.objects.filter(pk__in=forgotten).order_by("created_at"))
    return len(forgotten)


def ring_patient() -> int:
    """Ring urgently for the one of each place that has waited longest beyond PATIENCE; returns for how many.

    Urgent work must not starve the rest; one at a time, so that urgent work waits for no more than that.
    Ringing twice is harmless: the row decides. Raises RedisError.
    """
    rung = 0
    for place in settings.WORKER_PLACES:
        patient = _ready().filter(place=place, created_at__lt=timezone.now() - PATIENCE)
        oldest = patient.exclude(priority=Job.Priority.HIGH).first()
        urgent = f"{place}.high"
        if oldest and str(oldest.pk) not in rung_in(queue_named(urgent)):
            _ring(oldest, queue=urgent)
            rung += 1
    return rung


def _ready() -> QuerySet[Job]:
    """Due jobs for which a worker could start now, oldest first."""
    held = Job.objects.running().exclude(holds=None).values("holds")
    return Job.objects.due().exclude(waits_for__in=held).order_by("created_at")


# --- Who is alive -----------------------------------------------------------------------------


def live_workers() -> list[str]:
    """The names of the workers that were heard of lately. Raises RedisError."""
    return [worker.name for worker in _live()]


def _live() -> list[BaseWorker]:
    now = datetime.now(UTC)
    workers = Worker.all(connection=connection())
    return [w for w in workers if w.last_heartbeat and now - w.last_heartbeat < WORKER_SEEN_WITHIN]


def note_borg(machine: str, version: str) -> None:
    """What borg the workers on `machine` have, as one says when it starts."""
    with _outage_survived("it cannot say which borg it has"):
        connection().hset(BORGS_KEY, machine, version)


def borgs_of_workers() -> dict[str, str]:
    """The same, by the machines on which one is alive. Raises RedisError."""
    machines = {worker.hostname for worker in _live()}
    said: dict[Any, Any] = connection().hgetall(BORGS_KEY)
    return {name: version.decode() for machine, version in said.items() if (name := machine.decode()) in machines}


def scheduler_beats() -> None:
    connection().set(SCHEDULER_KEY, timezone.now().isoformat(), ex=SCHEDULER_SEEN_WITHIN_SECONDS)


def scheduler_is_alive() -> bool:
    return bool(connection().exists(SCHEDULER_KEY))


# --- The worker process -----------------------------------------------------------------------


class PatientWorker(Worker):
    """An rq worker that outlives an outage of its Redis: the running job goes on, and it comes back for the next.

    rq's own ends when Redis answers nothing between two jobs or while one runs, and what supervises it
    (systemd, a container) would then end the running job with it.
    """

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def execute_job(self, job: Message, queue: Queue) -> None:
        with _outage_survived("it could not note what it does"):
            super().execute_job(job, queue)

    def maintain_heartbeats(self, job: Message, execution: Execution) -> None:
        with _outage_survived("the running job goes on"):
            super().maintain_heartbeats(job, execution)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        with _outage_survived("it cannot say that it lives"):
            super().heartbeat(timeout, pipeline)
            if pipeline is None and not self.connection.hexists(self.key, "birth"):
                self._introduce_itself()

    def _introduce_itself(self) -> None:
        """A Redis that was emptied knows us no more."""
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize())
            worker_registration.register(self, pipeline)
            pipeline.execute()

    def set_state(self, *args: Any, **kwargs: Any) -> None:
        with _outage_survived("it cannot say what it does"):
            super().set_state(*args, **kwargs)

    def set_shutdown_requested_date(self) -> None:
        with _outage_survived("it stops all the same"):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]

    def run_maintenance_tasks(self) -> None:
        with _outage_survived("tidying waits"):
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        self.meanwhile()

    def register_death(self) -> None:
        with _outage_survived("it leaves without a word"):
            super().register_death()  # type: ignore[no-untyped-call]

    def check_for_suspension(self, burst: bool) -> None:
        """Nobody suspends our workers: not worth asking Redis before every job."""


@contextmanager
def _outage_survived(consequence: str) -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        logger.warning("Redis is away, %s: %s", consequence, error)


def work(
    places: list[str],
    *,
    burst: bool,
    log_level: str,
    lost: Callable[[int], object],
    meanwhile: Callable[[], object],
) -> None:
    """Serve the queues of `places`, urgent ones first, until SIGTERM; the running job ends first.

    `lost` is told the pid of a job's process that was killed, by the system for want of memory, say.
    `meanwhile` is done between two jobs, about every minute.
    Raises RedisError when Redis is away at the start; later it is waited for.
    """
    names = [name for level in ("high", "normal", "low") for place in places for name in [f"{place}.{level}"]]
    worker = django_rq.get_worker(
        *names, worker_ttl=WORKER_TTL_SECONDS, serializer="rq.serializers.JSONSerializer",
        worker_class=PatientWorker, log_job_description=True,
        work_horse_killed_handler=lambda _message, pid, *_: lost(pid), maintenance_interval=MEANWHILE_SECONDS,
    )  # fmt: skip
    cast("PatientWorker", worker).meanwhile = meanwhile
    worker.work(burst=burst, logging_level=log_level)

"""rq, which rings the workers. What is rung for stands in the database; a lost ring is rung again."""

import logging
from datetime import UTC, datetime, timedelta

import django_rq
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from redis import Redis, RedisError
from rq import Queue, Worker

from jobs.models import Job

logger = logging.getLogger(__name__)

NO_TIMEOUT = -1  # rq's own would kill in mid-backup; jobs.runner has limits that end a job properly
WORKER_TTL_SECONDS = 60
WORKER_SEEN_WITHIN = timedelta(seconds=150)
SCHEDULER_KEY = "phpborg:scheduler"
SCHEDULER_SEEN_WITHIN_SECONDS = 60


def ring(job: Job) -> None:
    """Call a worker for `job` once the transaction is committed. If Redis is away, the scheduler will."""
    transaction.on_commit(lambda: _ring(job))


def _ring(job: Job) -> None:
    try:
        queue_named(job.queue).enqueue_call(
            "jobs.runner.perform", args=(str(job.pk),), job_id=str(job.pk), timeout=NO_TIMEOUT,
            result_ttl=0, failure_ttl=0, description=f"{job.type} {job.pk}",
        )  # fmt: skip
    except (RedisError, OSError) as error:
        logger.warning("Job %s waits for the scheduler to ring again, Redis is away: %s", job.pk, error)


def queue_named(name: str) -> Queue:
    return django_rq.get_queue(name if name in settings.RQ_QUEUES else default_queue())


def default_queue() -> str:
    return next(iter(settings.RQ_QUEUES))


def connection() -> Redis:
    """To the Redis that all queues are in. Its commands raise RedisError."""
    return django_rq.get_connection(default_queue())


def ring_next(hold: str) -> None:
    """Ring for the job that has waited longest for `hold`."""
    waiting = Job.objects.pending().filter(waits_for=hold).order_by("priority", "created_at").first()
    if waiting:
        ring(waiting)


def ring_forgotten(older_than: timedelta = timedelta(seconds=20)) -> int:
    """Ring for pending jobs that Redis does not know (any more); returns how many. Raises RedisError."""
    known: set[str] = set()
    for name in settings.RQ_QUEUES:
        known.update(queue_named(name).job_ids)
    held = set(Job.objects.running().exclude(holds=None).values_list("holds", flat=True))
    rung = 0
    for job in Job.objects.pending().filter(created_at__lt=timezone.now() - older_than).order_by("created_at")[:1000]:
        if str(job.pk) not in known and job.waits_for not in held:
            ring(job)
            rung += 1
    return rung


# --- Who is alive -----------------------------------------------------------------------------


def live_workers() -> list[str]:
    """The names of the workers that were heard of lately. Raises RedisError."""
    now = datetime.now(UTC)
    workers = Worker.all(connection=connection())
    return [w.name for w in workers if w.last_heartbeat and now - w.last_heartbeat < WORKER_SEEN_WITHIN]


def scheduler_beats() -> None:
    connection().set(SCHEDULER_KEY, timezone.now().isoformat(), ex=SCHEDULER_SEEN_WITHIN_SECONDS)


def scheduler_is_alive() -> bool:
    return bool(connection().exists(SCHEDULER_KEY))


# --- The worker process -----------------------------------------------------------------------


def work(places: list[str], *, burst: bool, log_level: str) -> None:
    """Serve the queues of `places`, urgent ones first, until SIGTERM; the running job ends first."""
    names = [name for level in ("high", "normal", "low") for place in places for name in [f"{place}.{level}"]]
    worker = django_rq.get_worker(
        *names, worker_ttl=WORKER_TTL_SECONDS, serializer="rq.serializers.JSONSerializer",
        log_job_description=True,
    )  # fmt: skip
    worker.work(burst=burst, logging_level=log_level)

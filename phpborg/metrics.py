"""`/metrics` for Prometheus: what the database and Redis say at this moment, whichever web process is asked.

Nothing is counted in a process: several of them, or a restart, change no number.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Q
from django.db.models.fields.json import KeyTransform
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_GET
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from redis import RedisError

from accounts import audit
from backups import stats
from backups.models import Plan, Repository, StoragePool
from jobs import queue
from jobs.models import Job

NEVER = 0  # when a good archive was taken that there has not been: as old as can be
Measured = tuple[tuple[str, ...], float | None]  # values of the labels; None: nobody knows


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """For who sends METRICS_TOKEN, or asks from an address of METRICS_ALLOWED; with neither set it is not there."""
    if not (knows_token(request) or is_near(request)):
        if settings.METRICS_TOKEN:
            return HttpResponse(status=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
        raise Http404
    registry = CollectorRegistry()
    registry.register(Fleet())
    try:
        text = generate_latest(registry)
    except DatabaseError:
        return HttpResponse("The database is away.\n", status=503, content_type="text/plain")
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def knows_token(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    is_right = constant_time_compare(token.strip(), settings.METRICS_TOKEN)
    return is_right and scheme.lower() == "bearer" and settings.METRICS_TOKEN != ""


def is_near(request: HttpRequest) -> bool:
    """Whether the caller's address, told by a proxy only if it is one of TRUSTED_PROXIES, is among those allowed."""
    try:
        address = ip_address(audit.address_of(request) or "")
    except ValueError:  # a Unix socket has none
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in settings.METRICS_ALLOWED)


class Fleet:
    """Asks when it is scraped: four queries, however many plans there are, and Redis."""

    def collect(self) -> Iterator[Metric]:
        now = timezone.now()
        yield from plans(now)
        yield from jobs(now)
        yield from pools()
        yield from repositories()
        yield from bell(now)


def family(name: str, what: str, labels: Iterable[str], measured: Iterable[Measured]) -> Metric:
    """A gauge of `phpborg_`; the library escapes what stands in the labels."""
    gauge = GaugeMetricFamily(f"phpborg_{name}", what, labels=list(labels))
    for values, number in measured:
        if number is not None:
            gauge.add_metric(values, number)
    return gauge


def single(name: str, what: str, number: float | None) -> Metric:
    return family(name, what, (), [((), number)])


class LastRun(NamedTuple):
    server: str
    plan: str
    good_at: datetime | None
    began_at: datetime | None
    ended_at: datetime | None
    original: float | None  # bytes; None: it made no archive
    added: float | None

    @property
    def seconds(self) -> float | None:
        return (self.ended_at - self.began_at).total_seconds() if self.began_at and self.ended_at else None


def plans(now: datetime) -> Iterator[Metric]:
    """Only plans that should run: one that is paused, or whose server is switched off, would alarm for ever."""
    rows = Plan.objects.filter(enabled=True, server__enabled=True).values_list(
        "server__name", "name", "last_good_at", "last_job__started_at", "last_job__completed_at",
        KeyTransform("original", "last_job__result"), KeyTransform("deduplicated", "last_job__result"),
    )  # fmt: skip
    runs = [LastRun(*row) for row in rows.order_by("server__name", "name")]

    def of_each(name: str, what: str, number: Callable[[LastRun], float | None]) -> Metric:
        return family(f"plan_{name}", what, ("server", "plan"), (((r.server, r.plan), number(r)) for r in runs))

    yield of_each(
        "last_good_backup_timestamp_seconds", "When the newest good archive was taken; 0: there is none.",
        lambda run: run.good_at.timestamp() if run.good_at else NEVER,
    )  # fmt: skip
    yield of_each(
        "last_good_backup_age_seconds", "How old that archive is; +Inf: there is none.",
        lambda run: (now - run.good_at).total_seconds() if run.good_at else math.inf,
    )  # fmt: skip
    yield of_each("last_backup_duration_seconds", "How long the last backup ran, well or not.", lambda run: run.seconds)
    yield of_each(
        "last_backup_original_bytes", "What the last backup read; absent when it made no archive.",
        lambda run: run.original,
    )  # fmt: skip
    yield of_each("last_backup_added_bytes", "What it added to the repository.", lambda run: run.added)


def jobs(now: datetime) -> Iterator[Metric]:
    counts = stats.jobs_of(Job.objects.all(), now)
    ended = {status: counts.pop(status) for status in sorted(Job.FINAL)}
    yield family("jobs", "Jobs that wait or run now.", ("status",), (((s,), n) for s, n in counts.items()))
    what = "Jobs that were made in the last 24 hours and have ended."
    yield family("jobs_last_day", what, ("status",), (((s,), n) for s, n in ended.items()))


def pools() -> Iterator[Metric]:
    found = list(StoragePool.objects.order_by("name").values_list("name", "free_bytes", "total_bytes"))
    for number, name in enumerate(("free", "total"), 1):
        what = f"{name.capitalize()} bytes of a storage pool, as of the last look; absent when it could not be told."
        yield family(f"pool_{name}_bytes", what, ("pool",), (((row[0],), row[number]) for row in found))


def repositories() -> Iterator[Metric]:
    found = Repository.objects.aggregate(
        all=Count("pk"), damaged=Count("pk", filter=~Q(damage="")), frozen=Count("pk", filter=~Q(frozen=""))
    )
    yield single("repositories", "All repositories.", found["all"])
    yield single("repositories_damaged", "Those in which a check found damage.", found["damaged"])
    yield single("repositories_frozen", "Those that wait for somebody to look.", found["frozen"])


def bell(now: datetime) -> Iterator[Metric]:
    """What Redis knows; all of it absent, but that Redis is away, when it is."""
    try:
        waiting = [((name,), float(queue.queue_named(name).count)) for name in settings.RQ_QUEUES]
        workers = len(queue.live_workers())
        beat = queue.connection().get(queue.SCHEDULER_KEY)
    except (RedisError, OSError):
        yield single("redis_up", "Whether Redis answers.", 0)
        return
    yield single("redis_up", "Whether Redis answers.", 1)
    yield family("queue_length", "Messages that ring for a job, by queue.", ("queue",), waiting)
    yield single("workers_alive", "Workers that were heard of lately.", workers)
    yield single("scheduler_up", "Whether a scheduler was heard of in the last minute.", beat is not None)
    lag = (now - datetime.fromisoformat(beat.decode())).total_seconds() if isinstance(beat, bytes) else None
    yield single("scheduler_lag_seconds", "How long ago a scheduler was heard of.", lag)

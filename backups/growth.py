"""How what is stored grows: one row for each pool and day, and how long there will be room."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import linear_regression

from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from backups.models import Repository, StorageDay, StoragePool

LOOK_BACK = timedelta(days=30)
LEAST_DAYS = 3  # that are known; with fewer nobody foresees anything
FURTHEST = timedelta(days=10 * 365)
KEPT = timedelta(days=3 * 366)
SIZES = ("original_bytes", "compressed_bytes", "deduplicated_bytes")


def note() -> int:
    """Write down what each pool holds today, in the place of what was written down before; returns how many."""
    today = timezone.now().date()
    held = Repository.objects.order_by().values("pool").annotate(**{f"{name}_sum": Sum(name) for name in SIZES})
    sums = {row.pop("pool"): {name: int(row[f"{name}_sum"]) for name in SIZES} for row in held}
    rows = [
        StorageDay(pool=pool, day=today, used_bytes=used(pool), **sums.get(pool.pk, {}))
        for pool in StoragePool.objects.all()
    ]
    can_name = connection.features.supports_update_conflicts_with_target
    StorageDay.objects.bulk_create(
        rows, update_conflicts=True, update_fields=[*SIZES, "used_bytes"],
        unique_fields=["pool", "day"] if can_name else None,
    )  # fmt: skip
    StorageDay.objects.filter(day__lt=today - KEPT).delete()
    return len(rows)


def used(pool: StoragePool) -> int | None:
    if pool.total_bytes is None or pool.free_bytes is None:
        return None
    return pool.total_bytes - pool.free_bytes


@dataclass(frozen=True)
class StoredDay:
    """All pools together, on one day."""

    day: date
    original: int
    compressed: int
    deduplicated: int


def history(days: int) -> list[StoredDay]:
    """The last `days`, oldest first, today last; without those before anything was written down."""
    since = timezone.now().date() - timedelta(days=days - 1)
    sums = {f"{name}_sum": Coalesce(Sum(name), 0) for name in SIZES}
    rows = StorageDay.objects.filter(day__gte=since).order_by("day").values("day").annotate(**sums)
    return [StoredDay(day, *map(int, sizes)) for day, *sizes in rows.values_list("day", *sums)]


@dataclass(frozen=True)
class Forecast:
    """Of a pool: what it gains a day, and when it will be full at that pace; None: not within ten years."""

    bytes_a_day: float
    full_on: date | None


def forecasts(pools: Iterable[StoragePool]) -> dict[int, Forecast]:
    """By the pool's id, from its last thirty days by least squares; without those of which too little is known."""
    today = timezone.now().date()
    known = StorageDay.objects.filter(pool__in=pools, day__gte=today - LOOK_BACK, used_bytes__isnull=False)
    points: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for pool, day, used_bytes in known.values_list("pool", "day", "used_bytes"):
        points[pool].append(((day - today).days, used_bytes or 0))
    return {
        pool.pk: _foreseen(pool.free_bytes, points[pool.pk], today)
        for pool in pools
        if pool.free_bytes is not None and len(points[pool.pk]) >= LEAST_DAYS
    }


def _foreseen(free_bytes: int, points: Sequence[tuple[int, int]], today: date) -> Forecast:
    slope, _ = linear_regression(*zip(*points, strict=True))
    left = free_bytes / slope if slope > 0 else None
    return Forecast(slope, today + timedelta(days=left) if left is not None and left <= FURTHEST.days else None)

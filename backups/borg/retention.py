"""Which archives stay: the meaning of borg's own `prune`, decided by us.

Borg 1.2 and 1.4 do the same (helpers/misc.py, prune_within and prune_split). Each rule walks from
the newest archive to the oldest and takes the first that it meets of each period, unless a rule
before it took that one already; it ends when it has as many as it may keep. A rule that has come
to the end with fewer also keeps the oldest archive of all, so that a young plan keeps its first.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Generic, TypeVar

Id = TypeVar("Id", bound=Hashable)

HOURS = {"H": 1, "d": 24, "w": 7 * 24, "m": 31 * 24, "y": 365 * 24}  # a month has 31 days, a year 365, as in borg
# In borg's order: what an earlier rule keeps does not count for a later one. `keep_last` is its `secondly`.
# Each tells two times of the same period by the same value; ISO weeks begin with Mondays, as day 1 of all did.
PERIODS: dict[str, Callable[[datetime], Hashable]] = {
    "last": lambda time: (time.toordinal(), time.hour, time.minute, time.second),
    "hourly": lambda time: (time.toordinal(), time.hour),
    "daily": lambda time: time.toordinal(),
    "weekly": lambda time: (time.toordinal() - 1) // 7,
    "monthly": lambda time: (time.year, time.month),
    "yearly": lambda time: time.year,
}


@dataclass(frozen=True)
class Rules:
    """Borg's `--keep-...`; 0 and "": that rule keeps none."""

    keep_within: str = ""  # as "2d"
    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0

    @property
    def keep_nothing(self) -> bool:
        return not any(getattr(self, rule.name) for rule in fields(self))

    def of(self, period: str) -> int:
        number: int = getattr(self, f"keep_{period}")
        return number


@dataclass(frozen=True)
class Dated(Generic[Id]):
    """An archive, as far as retention is concerned. The time is by our own clock, never the server's."""

    id: Id
    taken_at: datetime


@dataclass(frozen=True)
class Reason:
    """The rule that keeps an archive, and that it is the how-manieth that this rule keeps."""

    rule: str  # within, or a key of PERIODS
    number: int
    oldest: bool = False  # only because the rule has not found as many as it may keep

    def __str__(self) -> str:
        return f"{self.rule}{'[oldest]' if self.oldest else ''} #{self.number}"


def interval(text: str) -> timedelta:
    """What "2d" means to borg. Raises ValueError."""
    number, unit = text[:-1], text[-1:]
    if unit not in HOURS or not number.isdecimal() or int(number) < 1:
        raise ValueError(f"“{text}” is no interval: a number with H, d, w, m or y is.")
    return timedelta(hours=int(number) * HOURS[unit])


def retain(archives: Iterable[Dated[Id]], rules: Rules, *, now: datetime, zone: tzinfo = UTC) -> dict[Id, Reason]:
    """The archives that stay, each with the rule that keeps it; what is not in it may go.

    Of two of the same instant, the later in `archives` counts as the newer. Raises ValueError for rules
    that keep nothing: borg refuses them too.
    """
    if rules.keep_nothing:
        raise ValueError("These rules keep nothing.")
    newest_first = sorted(archives, key=lambda archive: archive.taken_at)[::-1]
    kept: dict[Id, Reason] = {}
    if rules.keep_within:
        span = interval(rules.keep_within)
        within = [archive.id for archive in newest_first if now - archive.taken_at < span]
        kept = {archive_id: Reason("within", number) for number, archive_id in enumerate(within, 1)}
    local = [archive.taken_at.astimezone(zone) for archive in newest_first]
    for rule in PERIODS:
        if most := rules.of(rule):
            _keep_one_of_each(newest_first, local, rule, most=most, kept=kept)
    return kept


def _keep_one_of_each(
    newest_first: Sequence[Dated[Id]], local: Sequence[datetime], rule: str, *, most: int, kept: dict[Id, Reason],
) -> None:  # fmt: skip
    """Add to `kept` what `rule` keeps: the newest archive of each of the `most` newest periods."""
    period_of, taken = PERIODS[rule], 0
    before: Hashable = None
    for archive, time in zip(newest_first, local, strict=True):
        period = period_of(time)
        if period == before:
            continue
        before = period
        if archive.id not in kept:
            taken += 1
            kept[archive.id] = Reason(rule, taken)
            if taken == most:
                return
    if newest_first and newest_first[-1].id not in kept:
        kept[newest_first[-1].id] = Reason(rule, taken + 1, oldest=True)

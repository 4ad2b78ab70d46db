"""When plans run: cron expressions and plain words, in a time zone, around blackout windows.

A schedule is a fixed set of moments: what runs next after a moment does not depend on who asks, or when. All moments
are in UTC; the clock on the wall of the plan's time zone is only asked what it shows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from django.utils.dates import WEEKDAYS
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

if TYPE_CHECKING:
    from backups.models import Plan

FIELDS = ("schedule", "time_zone", "blackout", "spread_seconds")  # of a plan
RUNS_SHOWN = 5
MOST_SPREAD_SECONDS = 6 * 3600
GRACE = timedelta(hours=1)  # this long after a run fell due there may still be no archive
WEEK_MINUTES = 7 * 24 * 60
MOST_WINDOWS = 50
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_HOUR = set(range(24))
ANY_TIME = datetime(2000, 1, 1)  # noqa: DTZ001  # asked whether an expression fires at all, in no time zone

WRONG_FIELD = {
    "Bad minute": gettext_lazy("The first field is the minute: 0 to 59, or as 0,30 or 0-29 or */15."),
    "Bad hour": gettext_lazy("The second field is the hour: 0 to 23, or as 2,14 or 8-18 or */4."),
    "Bad day-of-month": gettext_lazy("The third field is the day of the month: 1 to 31, or L for the last one."),
    "Bad month": gettext_lazy("The fourth field is the month: 1 to 12, or jan to dec."),
    "Bad day-of-week": gettext_lazy("The fifth field is the day of the week: 0 (Sunday) to 7, or sun to sat."),
}

Window = tuple[int, int]  # minutes since Monday 0:00, from and to; the end may lie in the week after


class InvalidSchedule(ValueError):
    """The sentence says what is wrong."""


# --- Cron expressions -------------------------------------------------------------------------


def checked_cron(text: str) -> str:
    """The expression with single spaces. Raises InvalidSchedule."""
    fields = text.split()
    if len(fields) == 6:
        raise InvalidSchedule(_("Nothing is scheduled by the second: leave out the field in front."))
    if len(fields) != 5:
        raise InvalidSchedule(
            _("A cron expression has five fields: minute, hour, day of the month, month, day of the week.")
        )
    try:
        fires = any(CronSim(" ".join(fields), ANY_TIME))
    except CronSimError as error:
        raise InvalidSchedule(_what_is_wrong(fields, str(error))) from error
    if not fires:
        raise InvalidSchedule(_("This never comes: no month that it names has such a day."))
    return " ".join(fields)


def _what_is_wrong(fields: list[str], error: str) -> str:
    minute, hour, day, _month, weekday = fields
    if error == "Bad day-of-month":
        try:
            CronSim(f"{minute} {hour} {day} * {weekday}", ANY_TIME)
        except CronSimError:
            pass
        else:
            return _("This never comes: no month that it names has such a day.")
    return str(WRONG_FIELD[error])


def _as_we_mean_it(cron: str) -> str:
    """The expression in the form that makes cronsim treat a change of the clock as we want it.

    One that names hours means the clock on the wall: a time that is skipped comes as soon as the clock has jumped, one
    that comes twice counts once. One that does not name hours means real time: every hour that passes. To cronsim, as
    to Debian's cron, a star at the beginning of the minute or the hour is the mark of the latter.
    """
    minute, hour, *days = cron.split()
    if CronSim(cron, ANY_TIME).hours == EVERY_HOUR:
        return " ".join([minute, "*", *days])
    return " ".join([re.sub(r"\A\*", "0-59", minute), re.sub(r"\A\*", "0-23", hour), *days])


# --- Blackout windows -------------------------------------------------------------------------

WINDOW = re.compile(r"(?:(?P<days>[a-z, -]+) )?(?P<begin>[0-9:]{4,5}) ?[-–] ?(?P<end>[0-9:]{4,5})")
TIME = re.compile(r"([01]?[0-9]|2[0-4]):([0-5][0-9])")


def windows_of(text: str) -> tuple[Window, ...]:
    """Windows, one per line, as “mon-fri 08:00-18:00” or “22:00-02:00”, in order and apart. Raises InvalidSchedule."""
    lines = [" ".join(line.lower().split()) for line in text.splitlines() if line.strip()]
    if len(lines) > MOST_WINDOWS:
        raise InvalidSchedule(_("These are more than %(most)d windows.") % {"most": MOST_WINDOWS})
    joined = _joined([window for line in lines for window in _windows_in(line)])
    if sum(end - begin for begin, end in joined) == WEEK_MINUTES:
        raise InvalidSchedule(_("The windows leave no time at all: nothing would ever run."))
    return joined


def _windows_in(line: str) -> list[Window]:
    found = WINDOW.fullmatch(line)
    begin, end = (_minutes(found["begin"]), _minutes(found["end"])) if found else (None, None)
    days = _days(found["days"]) if found else []
    if not days or begin is None or end is None or begin == 24 * 60:
        sentence = _("“%(line)s” is no window: write “mon-fri 08:00-18:00”, “sat,sun 00:00-24:00” or “22:00-02:00”.")
        raise InvalidSchedule(sentence % {"line": line[:60]})
    if begin == end:
        sentence = _("“%(line)s” ends when it begins. A whole day is 00:00-24:00.")
        raise InvalidSchedule(sentence % {"line": line[:60]})
    lasts = (end - begin) % (24 * 60) or 24 * 60
    return [(day * 24 * 60 + begin, day * 24 * 60 + begin + lasts) for day in days]


def _minutes(text: str) -> int | None:
    found = TIME.fullmatch(text)
    minutes = int(found[1]) * 60 + int(found[2]) if found else 24 * 60 + 1
    return minutes if minutes <= 24 * 60 else None


def _days(text: str | None) -> list[int]:
    """The days by their numbers, Monday is 0; none if a word is no day."""
    days: list[int] = []
    for term in (text or "mon-sun").replace(" ", "").split(","):
        first, _dash, last = term.partition("-")
        last = last or first
        if first not in DAYS or last not in DAYS or term.endswith("-"):
            return []
        begin = DAYS.index(first)
        days += [day % 7 for day in range(begin, begin + (DAYS.index(last) - begin) % 7 + 1)]
    return days


def _joined(windows: list[Window]) -> tuple[Window, ...]:
    """The same minutes of the week in windows that do not touch each other."""
    within = [(begin, min(end, WEEK_MINUTES)) for begin, end in windows]
    over = [(0, end - WEEK_MINUTES) for _begin, end in windows if end > WEEK_MINUTES]
    joined: list[Window] = []
    for begin, end in sorted(within + over):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    if len(joined) > 1 and joined[0][0] == 0 and joined[-1][1] == WEEK_MINUTES:
        joined[-1] = joined[-1][0], WEEK_MINUTES + joined.pop(0)[1]
    return tuple(joined)


# --- A schedule -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    cron: str  # as cronsim is to read it
    zone: ZoneInfo
    windows: tuple[Window, ...] = ()
    spread: timedelta = timedelta(0)
    share: float = 0.0  # of the spread, between 0 and 1: how much later than others this one starts

    @classmethod
    def parse(
        cls, cron: str, time_zone: str, blackout: str = "", *, spread_seconds: int = 0, seed: object = ""
    ) -> Self:
        """From the fields of a plan; `seed` tells it from others. Raises InvalidSchedule."""
        cron, zone, windows = _read(cron, time_zone, blackout)
        return cls(cron, zone, windows, timedelta(seconds=spread_seconds), share_of(seed))

    def runs(self, after: datetime) -> Iterator[datetime]:
        """Every start after `after`, in order."""
        for moment, following in pairwise(self._moments(self._early_enough_for(after))):
            later = moment + self.share * min(self.spread, (following - moment) / 2)
            start = moment if self._window_around(later) else later.replace(microsecond=0)
            if start > after:
                yield start

    def out_of_blackout(self, moment: datetime) -> datetime:
        """`moment`, or the end of the window that it lies in."""
        while window := self._window_around(moment):
            # Of an end that comes twice, or not at all, the first that is still ahead.
            moment = min(end for end in self._shown(window[1]) if end > moment)
        return moment

    def _moments(self, after: datetime) -> Iterator[datetime]:
        """When the expression fires, or the window ends that it fires in."""
        while (moment := self._next_by_the_clock(after)) is not None:
            after = self.out_of_blackout(moment)
            yield after

    def _next_by_the_clock(self, after: datetime) -> datetime | None:
        # Where the clock shows an hour for the second time, this may be before `after`; `runs` leaves it out.
        return _fires_next(self.cron, self.zone, after.astimezone(UTC).replace(second=0, microsecond=0))

    def _early_enough_for(self, after: datetime) -> datetime:
        """From where to count so that nothing is missed that a spread or a window moves beyond `after`."""
        since = after.astimezone(UTC) - self.spread
        window = self._window_around(since)
        return min(self._shown(window[0])) - timedelta(seconds=1) if window else since

    def _window_around(self, moment: datetime) -> tuple[datetime, datetime] | None:
        """From when to when, on the clock on the wall, no run may start at `moment`."""
        if not self.windows:
            return None
        shown = moment.astimezone(self.zone).replace(tzinfo=None)
        monday = datetime.combine(shown.date() - timedelta(days=shown.weekday()), time())
        for week in (monday, monday - timedelta(days=7)):
            for begin, end in self.windows:
                window = week + timedelta(minutes=begin), week + timedelta(minutes=end)
                if window[0] <= shown < window[1]:
                    return window
        return None

    def _shown(self, wall: datetime) -> list[datetime]:
        """When the clock on the wall shows that: twice the same but when it is put back (or jumps over it)."""
        return [wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)]


@lru_cache(maxsize=1000)  # most plans say the same
def _read(cron: str, time_zone: str, blackout: str) -> tuple[str, ZoneInfo, tuple[Window, ...]]:
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, OSError, ValueError) as error:  # no such zone; a folder of zones; no name at all
        raise InvalidSchedule(_("There is no time zone “%(value)s”.") % {"value": time_zone[:60]}) from error
    return _as_we_mean_it(checked_cron(cron)), zone, windows_of(blackout)


@lru_cache(maxsize=20_000)  # most plans fire with others, and every list of them asks again: 0.2 ms each
def _fires_next(cron: str, zone: ZoneInfo, minute: datetime) -> datetime | None:
    """When the expression fires next after a full minute, which is all that it looks at."""
    run = next(CronSim(cron, minute.astimezone(zone)), None)
    return run.astimezone(UTC) if run else None


def share_of(seed: object) -> float:
    """A number between 0 and 1 that is always the same for `seed`."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:6]) / 2**48


# --- Plain words ------------------------------------------------------------------------------


class Repeat(StrEnum):
    NEVER = "never"
    HOURLY = "hourly"
    HOURS = "hours"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    CRON = "cron"


LAST_DAY = "L"
EVERY_HOURS = (2, 3, 4, 6, 8, 12)
CRON_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
WORDS: dict[Repeat, str | Promise] = {
    Repeat.HOURLY: gettext_lazy("every hour at :%(minute)02d"),
    Repeat.HOURS: gettext_lazy("every %(hours)d hours at :%(minute)02d"),
    Repeat.DAILY: gettext_lazy("daily at %(time)s"),
    Repeat.WEEKLY: gettext_lazy("weekly on %(weekday)s at %(time)s"),
    Repeat.MONTHLY: gettext_lazy("monthly on day %(day)s at %(time)s"),
}
CRON = {
    Repeat.HOURLY: "{minute} * * * *",
    Repeat.HOURS: "{minute} */{hours} * * *",
    Repeat.DAILY: "{minute} {hour} * * *",
    Repeat.WEEKLY: "{minute} {hour} * * {weekday}",
    Repeat.MONTHLY: "{minute} {hour} {day} * *",
}


def _weekday(text: str) -> int:
    return CRON_DAYS.index(text) if text in CRON_DAYS else int(text) % 7


PARTS: dict[str, tuple[str, Callable[[str], int | str]]] = {
    "minute": ("[0-5]?[0-9]", int),
    "hour": ("[01]?[0-9]|2[0-3]", int),
    "hours": ("|".join(map(str, EVERY_HOURS)), int),
    "weekday": ("|".join(["[0-7]", *CRON_DAYS]), _weekday),
    "day": ("[1-9]|1[0-9]|2[0-8]|l", str.upper),
}
PATTERNS = {
    repeat: re.compile(
        re.sub(r"\{(\w+)\}", lambda name: f"(?P<{name[1]}>{PARTS[name[1]][0]})", cron.replace("*", r"\*"))
    )
    for repeat, cron in CRON.items()
}


@dataclass(frozen=True)
class Plain:
    """A schedule in plain words. Which of the others count depends on `repeat`."""

    repeat: Repeat
    minute: int = 0
    hour: int = 0
    hours: int = 4
    weekday: int = 1  # 0 is Sunday, as in cron
    day: str = "1"  # of the month, 1 to 28, or LAST_DAY

    @classmethod
    @lru_cache(maxsize=1000)
    def read(cls, cron: str) -> Self | None:
        """The plain words for a cron expression, if there are any."""
        expression = " ".join(cron.lower().split())
        for repeat, pattern in PATTERNS.items():
            if found := pattern.fullmatch(expression):
                values: dict[str, Any] = {name: PARTS[name][1](text) for name, text in found.groupdict().items()}
                return cls(repeat, **values)
        return None

    @property
    def cron(self) -> str:
        return CRON[self.repeat].format(**asdict(self))

    def __str__(self) -> str:
        if self.repeat == Repeat.HOURS and not self.minute:
            return _("every %(hours)d hours") % {"hours": self.hours}
        clock = f"{self.hour:02d}:{self.minute:02d}"
        if self.repeat == Repeat.MONTHLY and self.day == LAST_DAY:
            return _("monthly on the last day at %(time)s") % {"time": clock}
        names = {"time": clock, "weekday": WEEKDAYS[(self.weekday - 1) % 7]}
        return str(WORDS[self.repeat]) % {**asdict(self), **names}


def words(cron: str) -> str:
    """A cron expression as people say it, where there are plain words for it."""
    return str(Plain.read(cron) or cron) if cron else _("only by hand")


# --- Of a plan --------------------------------------------------------------------------------


def of(plan: Plan) -> Schedule | None:
    """None: it runs by hand only. Raises InvalidSchedule."""
    if not plan.schedule:
        return None
    return Schedule.parse(
        plan.schedule, plan.time_zone, plan.blackout, spread_seconds=plan.spread_seconds, seed=plan.pk
    )


def next_run(plan: Plan, after: datetime) -> datetime | None:
    """When it runs next by itself; None: never."""
    schedule = of(plan) if plan.enabled else None
    return next(schedule.runs(after), None) if schedule else None


def upcoming(plan: Plan, count: int = RUNS_SHOWN) -> list[datetime]:
    """The next runs, beginning with the one that is stored; none if the row makes no sense (any more)."""
    try:
        schedule = of(plan)
    except InvalidSchedule:
        return []
    if schedule is None or plan.next_run_at is None:
        return []
    return [plan.next_run_at, *islice(schedule.runs(plan.next_run_at), count - 1)]


def owed_since(plan: Plan, now: datetime) -> datetime | None:
    """When the oldest run fell due that no good archive has answered yet."""
    for due_at in (plan.due_at, plan.next_run_at):
        if due_at and due_at <= now and (plan.last_good_at is None or plan.last_good_at < due_at):
            return due_at
    return None


def overdue_since(plan: Plan, now: datetime) -> datetime | None:
    """The same, when that is too long ago: an hour more than the last job took. Reads `plan.last_job`."""
    if not (plan.enabled and plan.schedule):
        return None
    owed = owed_since(plan, now)
    took = timedelta(seconds=(plan.last_job and plan.last_job.seconds) or 0)
    return owed if owed and owed < now - GRACE - took else None

"""When plans run: pure functions, so the tests are about moments and sentences."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backups import schedule
from backups.models import Plan
from backups.schedule import InvalidSchedule, Plain, Repeat, Schedule, checked_cron, share_of, windows_of, words

DAY = timedelta(days=1)
patiently = hypothesis_settings(deadline=None, max_examples=50)


def starts(cron: str, zone: str, after: str, count: int, blackout: str = "") -> list[str]:
    """The next starts after `after` (UTC), as the clock in `zone` shows them."""
    found = islice(Schedule.parse(cron, zone, blackout).runs(utc(after)), count)
    return [f"{run.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M %Z}" for run in found]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- Cron expressions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cron",
    [
        "* * * * *", "0 2 * * *", "*/15 8-18 * * mon-fri", "0 0 L * *", "0 0 29 2 *", "0 0 31 * *", "0 3 * * 5L",
        "0 3 * * mon#1", "0 0 1 1 *", "0 0 LW * *", "0 0 29 2 */7", "0 0 31 4 mon", "0,30 1-3,5 * jan,jul 7",
    ],
)  # fmt: skip
def test_what_cron_can_say_is_taken(cron: str) -> None:
    assert checked_cron(f"  {cron.replace(' ', '   ')}\t") == cron


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("0 0 30 2 *", "This never comes: no month that it names has such a day."),
        ("0 0 31 4,6,9,11 *", "This never comes"),
        ("0 0 30,31 feb *", "This never comes"),
        ("0 0 30 2 */2", "This never comes"),
        ("0 0 2 * * *", "Nothing is scheduled by the second: leave out the field in front."),
        ("", "A cron expression has five fields"),
        ("@daily", "A cron expression has five fields"),
        ("0 2 * *", "A cron expression has five fields"),
        ("0 2 * * * * *", "A cron expression has five fields"),
        ("60 2 * * *", "The first field is the minute"),
        ("x 2 * * *", "The first field is the minute"),
        ("*/0 2 * * *", "The first field is the minute"),
        ("5-1 2 * * *", "The first field is the minute"),
        ("0 24 * * *", "The second field is the hour"),
        ("0 -1 * * *", "The second field is the hour"),
        ("0 2 0 * *", "The third field is the day of the month"),
        ("0 2 32 * *", "The third field is the day of the month"),
        ("0 2 32 2 *", "The third field is the day of the month"),
        ("0 2 * 13 *", "The fourth field is the month"),
        ("0 2 * * 8", "The fifth field is the day of the week"),
        ("0 2 * * someday", "The fifth field is the day of the week"),
        ("0 2 * * mon#6", "The fifth field is the day of the week"),
        ("٠ ٢ * * *", "The first field is the minute"),
    ],
)
def test_what_is_no_cron_expression_is_refused_in_words(cron: str, sentence: str) -> None:
    with pytest.raises(InvalidSchedule) as error:
        checked_cron(cron)
    assert sentence in str(error.value)


@patiently
@given(st.lists(st.text("0123456789*/,-#Lmonfriw", min_size=1, max_size=6), min_size=5, max_size=5))
@example(["0", "0", "L,1/2", "*", "5L/2"])
@example(["0", "0", "1", "1", "1#1/2"])
def test_whatever_is_typed_is_taken_or_refused_and_what_is_taken_runs(fields: list[str]) -> None:
    try:
        cron = checked_cron(" ".join(fields))
    except InvalidSchedule:
        return
    assert next(Schedule.parse(cron, "Europe/Berlin").runs(utc("2026-03-01")))


@pytest.mark.parametrize("zone", ["Mars/Base", "", "Europe", "../../etc/passwd", "/etc/localtime", "x" * 300, "a\0b"])
def test_a_time_zone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(InvalidSchedule, match="There is no time zone"):
        Schedule.parse("0 2 * * *", zone)


# --- When the clock is changed ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "cron", "after", "found"),
    [
        # What is skipped runs when the clock has jumped; the day after it is as always.
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00",
         ["2026-03-29 03:00 CEST", "2026-03-30 02:30 CEST", "2026-03-31 02:30 CEST"]),
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00", ["2026-03-08 03:00 EDT", "2026-03-09 02:30 EDT"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00", ["2026-10-04 02:30 +11", "2026-10-05 02:15 +11"]),
        ("Africa/Cairo", "0 0 * * *", "2026-04-23T12:00", ["2026-04-24 01:00 EEST", "2026-04-25 00:00 EEST"]),
        # Two runs that would begin at the same moment are one.
        ("Europe/Berlin", "0 2,3 * * *", "2026-03-28T12:00",
         ["2026-03-29 03:00 CEST", "2026-03-30 02:00 CEST", "2026-03-30 03:00 CEST"]),
        ("Europe/Berlin", "*/15 2 * * *", "2026-03-28T12:00", ["2026-03-29 03:00 CEST", "2026-03-30 02:00 CEST"]),
        # What comes twice runs once, the first time.
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00", ["2026-10-25 02:30 CEST", "2026-10-26 02:30 CET"]),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00", ["2026-11-01 01:30 EDT", "2026-11-02 01:30 EST"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T00:00", ["2026-04-05 01:45 +11", "2026-04-06 01:45 +1030"]),
        # Also when one asks between the first time and the second.
        ("Europe/Berlin", "0,45 2 * * *", "2026-10-25T01:05", ["2026-10-26 02:00 CET", "2026-10-26 02:45 CET"]),
        # Every few hours: by the clock on the wall, none left out and none twice.
        ("Europe/Berlin", "0 */2 * * *", "2026-03-28T22:30",
         ["2026-03-29 00:00 CET", "2026-03-29 03:00 CEST", "2026-03-29 04:00 CEST"]),
        ("Europe/Berlin", "0 */2 * * *", "2026-10-24T21:30",
         ["2026-10-25 00:00 CEST", "2026-10-25 02:00 CEST", "2026-10-25 04:00 CET"]),
        ("Australia/Lord_Howe", "0 */4 * * *", "2026-10-03T12:59",
         ["2026-10-04 00:00 +1030", "2026-10-04 04:00 +11", "2026-10-04 08:00 +11"]),
        ("Australia/Lord_Howe", "*/15 3 * * *", "2026-10-03T15:00",
         ["2026-10-04 03:00 +11", "2026-10-04 03:15 +11", "2026-10-04 03:30 +11"]),
        # Every hour: every hour that really passes.
        ("Europe/Berlin", "15 * * * *", "2026-03-29T00:00", ["2026-03-29 01:15 CET", "2026-03-29 03:15 CEST"]),
        ("Europe/Berlin", "15 * * * *", "2026-10-25T00:00",
         ["2026-10-25 02:15 CEST", "2026-10-25 02:15 CET", "2026-10-25 03:15 CET"]),
        ("America/New_York", "0 */1 * * *", "2026-11-01T04:30",
         ["2026-11-01 01:00 EDT", "2026-11-01 01:00 EST", "2026-11-01 02:00 EST"]),
        ("America/New_York", "0 0-23 * * *", "2026-11-01T04:30",
         ["2026-11-01 01:00 EDT", "2026-11-01 01:00 EST", "2026-11-01 02:00 EST"]),
        ("Africa/Cairo", "0 * * * fri", "2026-04-23T12:00", ["2026-04-24 01:00 EEST", "2026-04-24 02:00 EEST"]),
    ],
)  # fmt: skip
def test_once_never_twice_never_skipped(zone: str, cron: str, after: str, found: list[str]) -> None:
    assert starts(cron, zone, after, len(found)) == found


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago", "UTC"]
CHANGES = {
    "Europe/Berlin": ["2026-03-29", "2026-10-25"],
    "America/New_York": ["2026-03-08", "2026-11-01"],
    "Australia/Lord_Howe": ["2026-04-05", "2026-10-04"],
    "Africa/Cairo": ["2026-04-24", "2026-10-30"],
    "America/Santiago": ["2026-04-05", "2026-09-06"],
    "UTC": ["2026-03-29"],
}  # fmt: skip
minutes, hours = (st.sets(st.integers(0, most), min_size=1, max_size=5) for most in (59, 23))
changes = st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days])


def listed(values: set[int]) -> str:
    return ",".join(map(str, sorted(values)))


def wall_minutes(day: str) -> Iterator[datetime]:
    """Every minute of the day before, the day and the day after, as a calendar has them."""
    first = datetime.fromisoformat(day) - DAY
    return (first + timedelta(minutes=minute) for minute in range(3 * 24 * 60))


def first_moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the clock shows `wall` for the first time; if it never does, when it has jumped over it."""
    while (moment := wall.replace(tzinfo=zone).astimezone(UTC)).astimezone(zone).replace(tzinfo=None) != wall:
        wall += timedelta(minutes=1)
    return moment


@patiently
@given(minutes, hours, changes)
def test_named_hours_run_once_for_each_time_that_the_calendar_has(
    minutes: set[int], hours: set[int], change: tuple[str, str]
) -> None:
    zone = ZoneInfo(change[0])
    wanted = {
        first_moment(wall, zone) for wall in wall_minutes(change[1]) if wall.minute in minutes and wall.hour in hours
    }
    found = Schedule.parse(f"{listed(minutes)} {listed(hours)} * * *", zone.key).runs(
        min(wanted) - timedelta(seconds=1)
    )
    assert list(islice(found, len(wanted))) == sorted(wanted)


@patiently
@given(minutes, changes)
def test_an_hourly_schedule_shows_its_minute_and_never_waits_much_longer(
    minutes: set[int], change: tuple[str, str]
) -> None:
    zone = ZoneInfo(change[0])
    begin = (datetime.fromisoformat(change[1]) - DAY).replace(tzinfo=UTC)
    found = list(islice(Schedule.parse(f"{listed(minutes)} * * * *", zone.key).runs(begin), 72 * len(minutes)))
    assert all(run.astimezone(zone).minute in minutes for run in found)
    assert all(run < following <= run + timedelta(minutes=90) for run, following in pairwise(found))


# --- The calendar -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "after", "found"),
    [
        ("0 2 31 * *", "2026-01-01", ["01-31", "03-31", "05-31", "07-31", "08-31", "10-31", "12-31", "01-31"]),
        ("0 2 L * *", "2027-12-31", ["12-31", "01-31", "02-29", "03-31", "04-30"]),
        ("0 2 29 2 *", "2026-01-01", ["02-29", "02-29"]),
        ("0 2 1 1 *", "2026-01-02", ["01-01", "01-01"]),
        ("0 2 * * mon#1", "2026-01-06", ["02-02", "03-02"]),
        ("0 2 13 * fri", "2026-01-10", ["01-13", "01-16", "01-23"]),  # as cron has it: the day, or the weekday
    ],
)
def test_days_of_the_calendar(cron: str, after: str, found: list[str]) -> None:
    assert [start[5:10] for start in starts(cron, "UTC", after, len(found))] == found


def test_a_leap_day_is_waited_for_over_a_century_without_one() -> None:
    assert starts("0 2 29 2 *", "Europe/Berlin", "2096-03-01", 2) == ["2104-02-29 02:00 CET", "2108-02-29 02:00 CET"]


# --- Blackout windows -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("", ()),
        (" \n\r\n ", ()),
        ("mon 08:00-18:00", ((480, 1080),)),
        ("MON 8:00 – 18:00", ((480, 1080),)),
        ("mon,wed 00:00-01:00", ((0, 60), (2880, 2940))),
        ("mon, wed-thu 00:00-01:00", ((0, 60), (2880, 2940), (4320, 4380))),
        ("sat-sun 00:00-24:00", ((7200, 10080),)),
        ("sun-mon 12:00-13:00", ((720, 780), (9360, 9420))),
        ("mon 22:00-02:00", ((1320, 1560),)),
        ("sun 22:00-02:00", ((10020 - 60, 10080 + 120),)),
        ("mon 08:00-12:00\nmon 11:00-13:00\nmon 13:00-14:00", ((480, 840),)),
        ("sun 22:00-24:00\nmon 00:00-01:00", ((9960, 10140),)),
    ],
)
def test_windows_are_read(text: str, windows: tuple[tuple[int, int], ...]) -> None:
    assert windows_of(text) == windows


@pytest.mark.parametrize("line", ["22:00-02:00", "mon-sun 22:00-02:00"])
def test_without_a_day_a_window_is_every_day_s(line: str) -> None:
    assert [end - begin for begin, end in windows_of(line)] == [240] * 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("00:00-24:00", "The windows leave no time at all: nothing would ever run."),
        ("mon-fri 00:00-24:00\nsat,sun 00:00-24:00", "The windows leave no time at all"),
        ("06:00-20:00\n20:00-06:00", "The windows leave no time at all"),
        ("08:00-08:00", "“08:00-08:00” ends when it begins. A whole day is 00:00-24:00."),
        ("mon-fri", "“mon-fri” is no window: write “mon-fri 08:00-18:00”, “sat,sun 00:00-24:00” or “22:00-02:00”."),
        ("08:00-18:00\nworkdays 08:00-18:00", "“workdays 08:00-18:00” is no window"),
        ("8-18", "is no window"),
        ("08:00-25:00", "is no window"),
        ("08:00-24:01", "is no window"),
        ("24:00-08:00", "is no window"),
        ("08:60-09:00", "is no window"),
        ("mon- 08:00-09:00", "is no window"),
        ("-mon 08:00-09:00", "is no window"),
        ("mon,,tue 08:00-09:00", "is no window"),
        ("mon08:00-09:00", "is no window"),
        ("08:00-09:00 mon", "is no window"),
        ("mon 08:00-09:00-10:00", "is no window"),
        ("x" * 5000, "x" * 60 + "”"),
        ("08:00-09:00\n" * 51, "These are more than 50 windows."),
    ],
)
def test_windows_that_cannot_be_are_refused_in_words(text: str, sentence: str) -> None:
    with pytest.raises(InvalidSchedule) as error:
        windows_of(text)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("cron", "zone", "blackout", "after", "found"),
    [
        # Many within one window are one, at its end.
        ("0 * * * *", "UTC", "mon-fri 08:00-18:00", "2026-03-02T06:30",
         ["2026-03-02 07:00 UTC", "2026-03-02 18:00 UTC", "2026-03-02 19:00 UTC"]),
        # The end itself is free, the begin is not.
        ("0 8,18 * * *", "UTC", "08:00-18:00", "2026-03-02T07:00", ["2026-03-02 18:00 UTC", "2026-03-03 18:00 UTC"]),
        # What the window has kept back is not forgotten when one asks within it.
        ("0 10 * * *", "UTC", "08:00-18:00", "2026-03-02T12:00", ["2026-03-02 18:00 UTC", "2026-03-03 18:00 UTC"]),
        # Over midnight, over the end of the week.
        ("0 23 * * *", "UTC", "22:00-02:00", "2026-03-02T12:00", ["2026-03-03 02:00 UTC", "2026-03-04 02:00 UTC"]),
        ("0 1 * * mon", "UTC", "sun 22:00-02:00", "2026-03-08T12:00", ["2026-03-09 02:00 UTC", "2026-03-16 02:00 UTC"]),
        # By the clock on the wall: ends that are skipped, and that come twice.
        ("0 1 * * *", "Europe/Berlin", "00:00-02:30", "2026-03-28T12:00",
         ["2026-03-29 03:30 CEST", "2026-03-30 02:30 CEST"]),
        ("0 1 * * *", "Europe/Berlin", "00:00-02:30", "2026-10-24T12:00",
         ["2026-10-25 02:30 CEST", "2026-10-26 02:30 CET"]),
        ("20 * * * *", "Europe/Berlin", "02:00-02:30", "2026-10-25T00:30",
         ["2026-10-25 02:30 CET", "2026-10-25 03:20 CET"]),
        # One minute in the week is enough.
        ("* * * * *", "UTC", "mon-sat 00:00-24:00\nsun 00:00-23:59", "2026-03-02T12:00",
         ["2026-03-08 23:59 UTC", "2026-03-15 23:59 UTC"]),
    ],
)  # fmt: skip
def test_a_run_that_falls_into_a_window_starts_at_its_end_once(
    cron: str, zone: str, blackout: str, after: str, found: list[str]
) -> None:
    assert starts(cron, zone, after, len(found), blackout) == found


# --- The spread -------------------------------------------------------------------------------


def test_the_share_of_a_plan_is_always_the_same_and_all_shares_fill_the_spread() -> None:
    shares = [share_of(pk) for pk in range(1000)]
    assert shares == [share_of(pk) for pk in range(1000)]
    assert [sum(number / 10 <= share < (number + 1) / 10 for share in shares) > 60 for number in range(10)] == [
        True
    ] * 10
    assert share_of(7) == pytest.approx(0.4727, abs=0.0001)  # another process, another machine, another year


def test_a_thousand_plans_do_not_start_in_one_second() -> None:
    two = utc("2026-03-02T02:00")
    first = [
        next(Schedule.parse("0 2 * * *", "UTC", spread_seconds=600, seed=pk).runs(utc("2026-03-02")))
        for pk in range(1000)
    ]
    assert all(two <= start < two + timedelta(seconds=600) for start in first)
    assert len(set(first)) > 400


def test_the_spread_takes_at_most_half_of_the_way_to_the_next_run() -> None:
    late = Schedule("*/10 * * * *", ZoneInfo("UTC"), spread=timedelta(hours=6), share=0.999999)
    assert [f"{run:%H:%M:%S}" for run in islice(late.runs(utc("2026-03-02")), 2)] == ["00:04:59", "00:14:59"]


def test_the_spread_does_not_push_a_run_into_a_window() -> None:
    late = Schedule("58 7 * * *", ZoneInfo("UTC"), windows_of("08:00-18:00"), timedelta(minutes=10), share=0.9)
    assert next(late.runs(utc("2026-03-02"))) == utc("2026-03-02T07:58")


def test_the_end_of_a_window_is_spread_too() -> None:
    late = Schedule("0 9 * * *", ZoneInfo("UTC"), windows_of("08:00-18:00"), timedelta(minutes=10), share=0.5)
    assert next(late.runs(utc("2026-03-02"))) == utc("2026-03-02T18:05")


# --- What is true of every schedule ------------------------------------------------------------

clock = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59))
days = st.sampled_from(["", "mon-fri ", "sun ", "sat,sun ", "fri-mon "])
lines = st.lists(st.builds("{}{}-{}".format, days, clock, clock), max_size=3)
crons = st.sampled_from(
    ["0 2 * * *", "*/15 * * * *", "0 */4 * * *", "30 1-3 * * *", "5 8 L * *", "0 9 * * mon", "0,20 0,12 1,15 * *"]
)
moments = st.integers(0, 365 * 24 * 3600).map(lambda seconds: utc("2026-01-01") + timedelta(seconds=seconds))


@patiently
@given(crons, st.sampled_from(ZONES), lines, st.integers(0, 6 * 3600), st.integers(1, 9), moments, st.integers(0, 100))
def test_runs_are_a_fixed_set_outside_every_window(
    cron: str, zone: str, lines: list[str], spread: int, seed: int, after: datetime, part: int
) -> None:
    try:
        one = Schedule.parse(cron, zone, "\n".join(lines), spread_seconds=spread, seed=seed)
    except InvalidSchedule:
        return
    found = list(islice(one.runs(after), 5))
    assert all(run < following for run, following in pairwise([after, *found]))
    assert all(one.out_of_blackout(run) == run for run in found)
    between = after + (found[-1] - after) * part / 100
    later = [run for run in found if run > between]
    assert list(islice(one.runs(between), len(later))) == later


# --- Plain words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("", "only by hand"),
        ("15 * * * *", "every hour at :15"),
        ("0 * * * *", "every hour at :00"),
        ("0 */4 * * *", "every 4 hours"),
        ("5 */12 * * *", "every 12 hours at :05"),
        ("0 2 * * *", "daily at 02:00"),
        ("00  02 * *  *", "daily at 02:00"),
        ("5 14 * * 1", "weekly on Monday at 14:05"),
        ("0 2 * * 0", "weekly on Sunday at 02:00"),
        ("0 2 * * 7", "weekly on Sunday at 02:00"),
        ("0 2 * * SAT", "weekly on Saturday at 02:00"),
        ("0 2 1 * *", "monthly on day 1 at 02:00"),
        ("0 2 28 * *", "monthly on day 28 at 02:00"),
        ("0 2 L * *", "monthly on the last day at 02:00"),
        ("0 2 29 * *", "0 2 29 * *"),
        ("0 */5 * * *", "0 */5 * * *"),
        ("*/15 * * * *", "*/15 * * * *"),
        ("0 2 * * mon-fri", "0 2 * * mon-fri"),
        ("0 2 1 1 *", "0 2 1 1 *"),
        ("<b>", "<b>"),
    ],
)
def test_a_schedule_in_words(cron: str, sentence: str) -> None:
    assert words(cron) == sentence


plain = st.one_of(
    st.builds(Plain, st.just(Repeat.HOURLY), minute=st.integers(0, 59)),
    st.builds(Plain, st.just(Repeat.HOURS), minute=st.integers(0, 59), hours=st.sampled_from(schedule.EVERY_HOURS)),
    st.builds(Plain, st.just(Repeat.DAILY), minute=st.integers(0, 59), hour=st.integers(0, 23)),
    st.builds(
        Plain, st.just(Repeat.WEEKLY), minute=st.integers(0, 59), hour=st.integers(0, 23), weekday=st.integers(0, 6)
    ),
    st.builds(
        Plain, st.just(Repeat.MONTHLY), minute=st.integers(0, 59), hour=st.integers(0, 23),
        day=st.sampled_from([*map(str, range(1, 29)), "L"]),
    ),
)  # fmt: skip


@patiently
@given(plain)
def test_plain_words_become_cron_and_come_back(plain: Plain) -> None:
    assert checked_cron(plain.cron) == plain.cron
    assert Plain.read(plain.cron) == plain


# --- Overdue ----------------------------------------------------------------------------------

NOW = utc("2026-03-02T12:00")


def stored(**changes: Any) -> Plan:
    """A plan as the row says, without a database."""
    values: dict[str, Any] = {
        "pk": 1, "enabled": True, "schedule": "0 2 * * *", "time_zone": "UTC", "blackout": "", "spread_seconds": 0,
        "next_run_at": NOW + DAY, "due_at": NOW - timedelta(hours=10), "last_good_at": None, "last_job": None,
    }  # fmt: skip
    return cast("Plan", SimpleNamespace(**(values | changes)))


@pytest.mark.parametrize(
    ("changes", "hours"),
    [
        ({}, 10),
        ({"last_good_at": NOW - timedelta(hours=11)}, 10),
        ({"last_good_at": NOW - timedelta(hours=9)}, None),
        ({"due_at": None}, None),
        ({"due_at": NOW - timedelta(minutes=59)}, None),
        ({"due_at": NOW - timedelta(minutes=61)}, 61 / 60),
        ({"enabled": False}, None),
        ({"schedule": ""}, None),
        # Nobody has started what was due: the scheduler is dead.
        ({"due_at": None, "next_run_at": NOW - timedelta(hours=2)}, 2),
        ({"due_at": NOW - DAY, "next_run_at": NOW - timedelta(hours=2), "last_good_at": NOW - timedelta(hours=23)}, 2),
        ({"due_at": NOW - DAY, "next_run_at": NOW - timedelta(hours=2)}, 24),
        ({"due_at": None, "next_run_at": None}, None),
        # A backup that takes long is given as long as the last one took.
        ({"due_at": NOW - timedelta(hours=3), "last_job": SimpleNamespace(seconds=3 * 3600)}, None),
        ({"due_at": NOW - timedelta(hours=5), "last_job": SimpleNamespace(seconds=3 * 3600)}, 5),
        ({"last_job": SimpleNamespace(seconds=None)}, 10),
    ],
)  # fmt: skip
def test_overdue_is_a_run_that_fell_due_and_no_good_archive_since(changes: dict[str, Any], hours: float | None) -> None:
    found = schedule.overdue_since(stored(**changes), NOW)
    assert found == (None if hours is None else NOW - timedelta(hours=hours))


def test_the_next_run_of_a_plan() -> None:
    assert schedule.next_run(stored(), NOW) == utc("2026-03-03T02:00")
    assert schedule.next_run(stored(enabled=False), NOW) is None
    assert schedule.next_run(stored(schedule=""), NOW) is None


def test_the_runs_that_are_shown_begin_with_the_stored_one() -> None:
    late = NOW + timedelta(minutes=7)
    assert schedule.upcoming(stored(next_run_at=late), 3) == [late, utc("2026-03-03T02:00"), utc("2026-03-04T02:00")]
    assert schedule.upcoming(stored(next_run_at=None)) == []
    assert schedule.upcoming(stored(schedule="")) == []

"""What stays, decided by us: borg's own meaning, proven against borg's own `prune --dry-run`."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from backups.borg.retention import PERIODS, Dated, Rules, interval, retain

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)  # a Sunday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def at(*times: datetime) -> list[Dated[int]]:
    return [Dated(number, time) for number, time in enumerate(times)]


def kept(times: list[datetime], now: datetime = NOW, zone: str = "UTC", **rules: Any) -> dict[int, str]:
    """Why each stays, by its place in `times`."""
    found = retain(at(*times), Rules(**rules), now=now, zone=ZoneInfo(zone))
    return {number: str(reason) for number, reason in found.items()}


# --- By hand ----------------------------------------------------------------------------------


def test_the_newest_of_each_day_stays() -> None:
    times = [NOW - DAY - HOUR, NOW - DAY, NOW - HOUR, NOW]
    assert kept(times, keep_daily=2) == {3: "daily #1", 1: "daily #2"}


def test_what_an_earlier_rule_keeps_does_not_count_for_a_later_one() -> None:
    sundays = [NOW - weeks * 7 * DAY for weeks in range(4, -1, -1)]
    assert kept(sundays, keep_daily=1, keep_weekly=2) == {4: "daily #1", 3: "weekly #1", 2: "weekly #2"}


def test_a_young_plan_keeps_its_first_archive() -> None:
    times = [NOW - 2 * HOUR, NOW - HOUR, NOW]
    assert kept(times, keep_daily=7) == {2: "daily #1", 0: "daily[oldest] #2"}


def test_all_within_the_floor_stay_whatever_the_other_rules_say() -> None:
    times = [NOW - 49 * HOUR, NOW - 48 * HOUR, NOW - 47 * HOUR, NOW]
    assert kept(times, keep_within="2d") == {3: "within #1", 2: "within #2"}


@pytest.mark.parametrize(
    ("text", "hours"), [("1H", 1), ("2d", 48), ("1w", 168), ("1m", 744), ("1y", 8760), ("99999y", 99999 * 8760)]
)
def test_intervals_are_borgs(text: str, hours: int) -> None:
    assert interval(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "d", "0d", "-1d", "2", "2D", "2 d", "1.5d", "1M"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no interval"):
        interval(text)


def test_an_interval_longer_than_time_keeps_everything() -> None:
    assert len(kept([datetime(1970, 1, 1, tzinfo=UTC), NOW], keep_within="99999y")) == 2


def test_days_are_those_of_the_time_zone() -> None:
    times = [datetime(2026, 3, 1, 23, 30, tzinfo=UTC), datetime(2026, 3, 2, 0, 30, tzinfo=UTC)]  # one night in Paris
    assert kept(times, keep_daily=2) == {1: "daily #1", 0: "daily #2"}
    assert kept(times, keep_daily=1, zone="Europe/Paris") == {1: "daily #1"}
    assert kept([times[0] - DAY, *times], keep_daily=2, zone="Europe/Paris") == {2: "daily #1", 0: "daily #2"}


def test_the_hour_that_comes_twice_is_one() -> None:
    twice = [datetime(2026, 10, 25, hour, 15, tzinfo=UTC) for hour in (0, 1)]  # 2:15 in Paris, both
    assert kept([NOW, *twice], keep_hourly=2, zone="Europe/Paris") == {2: "hourly #1", 0: "hourly #2"}


def test_an_archive_from_the_future_is_within_the_floor() -> None:
    assert kept([NOW + 400 * DAY, NOW - 9 * DAY], keep_within="1d") == {0: "within #1"}


def test_of_two_of_the_same_instant_the_later_one_counts() -> None:
    assert kept([NOW, NOW], keep_last=1) == {1: "last #1"}


def test_nothing_from_nothing() -> None:
    assert kept([], keep_daily=7) == {}


def test_rules_that_keep_nothing_are_refused() -> None:
    assert Rules().keep_nothing
    assert not Rules(keep_within="1H").keep_nothing
    with pytest.raises(ValueError, match="keep nothing"):
        kept([NOW])


# --- What must hold for every history ---------------------------------------------------------

ZONES = ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
numbers = st.sampled_from([0, 0, 1, 2, 3, 5, 8, 30])
some_rules = st.builds(
    Rules,
    keep_within=st.sampled_from(["", "", "1H", "7H", "2d", "1w", "1m", "1y"]),
    **{f"keep_{period}": numbers for period in PERIODS},
).filter(lambda rules: not rules.keep_nothing)


@st.composite
def some_history(draw: Any) -> list[datetime]:
    """Starts of backups, oldest first: from several a minute to one a season, with gaps; they end about now."""
    gaps = st.one_of(
        st.integers(1, 120),
        st.integers(1, 12).map(lambda hours: hours * 3600),
        st.integers(1, 100).map(lambda days: days * 86_400),
        st.integers(1, 200 * 86_400),
    )
    steady = st.tuples(st.integers(1, 60), gaps).map(lambda run: [run[1]] * run[0])
    pauses = [gap for run in draw(st.lists(st.one_of(steady, gaps.map(lambda gap: [gap])), max_size=8)) for gap in run]
    time = NOW - timedelta(seconds=draw(st.integers(-86_400, 3 * 86_400)), microseconds=draw(st.integers(0, 999_999)))
    times = [time]
    for pause in pauses:
        times.append(times[-1] - timedelta(seconds=pause))
    return times[::-1]


def names_kept(times: list[datetime], rules: Rules, *, now: datetime, zone: ZoneInfo) -> list[datetime]:
    found = retain([Dated(time, time) for time in times], rules, now=now, zone=zone)
    return [time for time in times if time in found]


@given(some_history(), some_rules, st.sampled_from(ZONES))
def test_a_second_look_finds_nothing_more_to_delete(times: list[datetime], rules: Rules, zone: str) -> None:
    once = names_kept(times, rules, now=NOW, zone=ZoneInfo(zone))
    assert names_kept(once, rules, now=NOW, zone=ZoneInfo(zone)) == once


@given(some_history(), some_rules, st.sampled_from(ZONES))
def test_the_newest_stays_unless_only_the_floor_counts(times: list[datetime], rules: Rules, zone: str) -> None:
    once = names_kept(times, rules, now=NOW, zone=ZoneInfo(zone))
    assert times[-1] in once or rules == Rules(keep_within=rules.keep_within)


@given(some_history(), some_rules, st.sampled_from(ZONES))
@how(max_examples=100)
def test_deleting_after_each_backup_leaves_what_deleting_once_leaves(
    times: list[datetime], rules: Rules, zone: str
) -> None:
    """The simulator rests on it."""
    there: list[datetime] = []
    for time in times:
        there = names_kept([*there, time], rules, now=time, zone=ZoneInfo(zone))
    assert there == names_kept(times, rules, now=times[-1], zone=ZoneInfo(zone))


@given(some_history(), some_rules, st.sampled_from(ZONES), st.data())
def test_what_is_pinned_changes_nothing_for_the_others(
    times: list[datetime], rules: Rules, zone: str, data: st.DataObject
) -> None:
    """Pinned archives count as borg would count them; they only do not go."""
    pinned = set(data.draw(st.lists(st.sampled_from(times), max_size=5)))
    there: list[datetime] = []
    for time in times:
        there.append(time)
        chosen = set(names_kept(there, rules, now=time, zone=ZoneInfo(zone)))
        there = [time for time in there if time in chosen | pinned]
    expected = names_kept(times, rules, now=times[-1], zone=ZoneInfo(zone))
    assert sorted(chosen) == expected


# --- Beside a real borg -----------------------------------------------------------------------


class BorgPrune:
    """Borg's own answers: tests/borg/borg_prune.py in borg's own Python."""

    def __init__(self, process: subprocess.Popen[str], binary: Path, location: Path) -> None:
        self._process = process
        self.binary = binary
        self.location = location

    def keeps(
        self, times: list[datetime], rules: Rules, *, now: datetime = NOW, zone: str = "UTC"
    ) -> dict[datetime, str]:
        """What `prune --dry-run` would keep of archives of these times, and by which rule."""
        names = {f"{number:05}": time for number, time in enumerate(times)}
        question = {
            "archives": [[name, f"{time:%Y-%m-%dT%H:%M:%S.%f}"] for name, time in names.items()],
            "now": now.replace(tzinfo=None).isoformat(), "zone": zone, "rules": flags(rules),
        }  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["code"] == 0
        return {names[name]: why.replace("secondly", "last") for name, why in answer["kept"].items()}


def flags(rules: Rules) -> list[str]:
    within = [f"--keep-within={rules.keep_within}"] if rules.keep_within else []
    return within + [f"--keep-{period}={number}" for period in PERIODS if (number := rules.of(period))]


@pytest.fixture(scope="module", params=["1.2", "1.4"])
def borg(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BorgPrune]:
    python = Path(settings.BASE_DIR) / ".borg" / request.param / "bin" / "python"
    folder = tmp_path_factory.mktemp("prune")
    command = [python, Path(__file__).with_name("borg_prune.py"), folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield BorgPrune(process, python.with_name("borg"), folder / "repository")


def ours(times: list[datetime], rules: Rules, *, now: datetime = NOW, zone: str = "UTC") -> dict[datetime, str]:
    found = retain([Dated(time, time) for time in times], rules, now=now, zone=ZoneInfo(zone))
    return {time: str(reason) for time, reason in found.items()}


@pytest.mark.e2e
@given(times=some_history(), rules=some_rules, zone=st.sampled_from(ZONES))
@how(max_examples=40)
def test_borg_keeps_the_same_for_the_same_reasons(
    borg: BorgPrune, times: list[datetime], rules: Rules, zone: str
) -> None:
    assert ours(times, rules, zone=zone) == borg.keeps(times, rules, zone=zone)


YEAR_RULES = Rules(keep_within="2d", keep_last=3, keep_daily=7, keep_weekly=4, keep_monthly=12)


@pytest.fixture(scope="module")
def year() -> list[tuple[datetime, list[datetime], list[datetime]]]:
    """Hourly backups, retention after each: now, what was there before it and what it left; some points of the year."""
    first, points = datetime(2025, 3, 1, 0, 7, 30, 123456, tzinfo=UTC), []
    there: list[datetime] = []
    for hour in range(365 * 24 + 1):
        now = first + hour * HOUR
        before = [*there, now]
        there = names_kept(before, YEAR_RULES, now=now, zone=ZoneInfo("Europe/Paris"))
        if hour % (45 * 24 + 5) == 7 or hour == 365 * 24:
            points.append((now, before, there))
    return points


@pytest.mark.e2e
def test_a_year_of_a_plan_keeps_exactly_what_borg_would(
    borg: BorgPrune, year: list[tuple[datetime, list[datetime], list[datetime]]]
) -> None:
    """Borg is asked of what was there, and of all backups that there ever were."""
    assert len(year) == 10
    for now, before, left in year:
        found = borg.keeps(before, YEAR_RULES, now=now, zone="Europe/Paris")
        assert ours(before, YEAR_RULES, now=now, zone="Europe/Paris") == found
        assert left == sorted(found)
    now, _, left = year[-1]
    made = [now - hour * HOUR for hour in range(365 * 24, -1, -1)]
    assert left == sorted(borg.keeps(made, YEAR_RULES, now=now, zone="Europe/Paris"))


@pytest.mark.e2e
def test_the_command_line_says_the_same(borg: BorgPrune) -> None:
    """Proves the script that asks borg from inside: the same repository, asked as anybody would."""
    times = [NOW - number * DAY for number in range(40, 0, -1)]
    rules = Rules(keep_daily=3, keep_weekly=2, keep_monthly=5)
    kept_inside = borg.keeps(times, rules)
    env = {
        "BORG_BASE_DIR": str(borg.location.parent), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "TZ": "UTC",
    }  # fmt: skip
    command: list[str | Path] = [borg.binary, "prune", "--dry-run", "--list", *flags(rules), borg.location]
    said = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stderr
    lines = [line for line in said.splitlines() if line.startswith("Keeping archive (rule: ")]
    shown = {times[int(line.split()[5])]: line.split("rule: ")[1].split(")")[0] for line in lines}
    assert shown == kept_inside == ours(times, rules)

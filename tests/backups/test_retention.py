"""What of a plan's archives stays and what would go, and how it will look."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from backups.borg.retention import Rules
from backups.models import Archive, Plan, Repository, RetentionPolicy
from backups.retention import announce, announced, decide, foresee, objection, rules_of, runs_of
from jobs.models import Job
from tests.conftest import make_archive

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def policy(plan: Plan, **rules: Any) -> RetentionPolicy:
    """The plan's only rules."""
    nothing = dict.fromkeys(("keep_daily", "keep_weekly", "keep_monthly"), 0)
    made = RetentionPolicy.objects.create(name="test", **({"keep_within": "", **nothing} | rules))
    plan.retention = made
    plan.save(update_fields=["retention"])
    return made


def days(plan: Plan, count: int, **changes: Any) -> list[Archive]:
    """One archive a day, the newest first."""
    return [make_archive(plan, start=NOW - n * DAY, name=f"{plan.name}-{n}", **changes) for n in range(count)]


def stays(plan: Plan, now: datetime = NOW) -> dict[str, str]:
    return {kept.archive.name: str(kept) for kept in decide(plan, now=now).kept}


def goes(plan: Plan, now: datetime = NOW) -> list[str]:
    return [archive.name for archive in decide(plan, now=now).going]


# --- Deciding ---------------------------------------------------------------------------------


def test_the_rules_decide_and_say_why(plan: Plan) -> None:
    policy(plan, keep_daily=2)
    days(plan, 4)
    assert stays(plan) == {"files-0": "daily #1", "files-1": "daily #2"}
    assert goes(plan) == ["files-2", "files-3"]


def test_every_rule_of_the_policy_counts() -> None:
    values: dict[str, Any] = {
        "keep_within": "3d", "keep_last": 1, "keep_hourly": 2, "keep_daily": 3, "keep_weekly": 4, "keep_monthly": 5,
        "keep_yearly": 6,
    }  # fmt: skip
    assert rules_of(RetentionPolicy(name="x", **values)) == Rules(**values)


def test_without_a_policy_everything_stays(plan: Plan) -> None:
    days(plan, 3)
    assert set(stays(plan).values()) == {"no rule"}
    assert goes(plan) == []


def test_a_policy_that_keeps_nothing_deletes_nothing(plan: Plan) -> None:
    policy(plan)
    days(plan, 3)
    assert set(stays(plan).values()) == {"no rule"}
    assert goes(plan) == []


def test_two_plans_in_one_repository_never_decide_over_each_other(plan: Plan, second_plan: Plan) -> None:
    second_plan.retention = policy(plan, keep_last=1)
    days(plan, 3)
    days(second_plan, 3)
    assert (goes(plan), goes(second_plan)) == (["files-1", "files-2"], ["home-1", "home-2"])
    assert set(stays(plan)) == {"files-0"}


def test_archives_in_another_repository_are_left_alone_and_not_counted(plan: Plan) -> None:
    policy(plan, keep_last=1)
    days(plan, 2)
    other = Repository.objects.create(name="old", pool=plan.repository.pool, server=plan.server, state="ready")
    make_archive(plan, name="old", repository=other, start=NOW + DAY)
    assert stays(plan) == {"old": "elsewhere", "files-0": "last #1"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"suspicion": "The archive is empty."}, "suspicious"), ({"quarantine": "Not ours."}, "quarantined"),
        ({"vanished_at": NOW}, "vanished"),
    ],
)  # fmt: skip
def test_what_is_odd_stays_and_takes_no_place(plan: Plan, change: dict[str, Any], why: str) -> None:
    policy(plan, keep_last=1)
    days(plan, 2)
    make_archive(plan, name="odd", start=NOW + DAY, **change)
    assert stays(plan) == {"odd": why, "files-0": "last #1"}
    assert goes(plan) == ["files-1"]


def test_a_flood_of_empty_archives_costs_no_good_one(plan: Plan) -> None:
    policy(plan, keep_daily=3)
    good = days(plan, 3)
    for number in range(50):
        make_archive(plan, name=f"empty-{number}", start=NOW + number * DAY, suspicion="The archive is empty.")
    assert goes(plan, NOW + 50 * DAY) == []
    assert {archive.name for archive in good} <= set(stays(plan))


def test_a_pinned_archive_stays_and_changes_nothing_for_the_others(plan: Plan) -> None:
    policy(plan, keep_daily=2)
    days(plan, 4)
    before = goes(plan)
    Archive.objects.filter(name__in=["files-1", "files-3"]).update(pinned=True)
    assert stays(plan) == {"files-0": "daily #1", "files-1": "daily #2", "files-3": "pinned"}
    assert goes(plan) == [name for name in before if name != "files-3"]


def test_the_last_good_archive_stays_whatever_the_rules_say(plan: Plan) -> None:
    policy(plan, keep_within="1d")
    days(plan, 3)
    make_archive(plan, name="bad", start=NOW + DAY, suspicion="Odd.")
    assert stays(plan, NOW + 9 * DAY) == {"bad": "suspicious", "files-0": "last good"}


def test_an_archive_that_a_job_reads_stays(plan: Plan) -> None:
    policy(plan, keep_last=1)
    _, used, indexed = days(plan, 3)
    Job.objects.create(type="restore", subject=f"archive:{used.pk}", repository=plan.repository)
    Job.objects.create(type="index", subject=f"archive:{indexed.pk}", repository=plan.repository)
    assert stays(plan) == {"files-0": "last #1", "files-1": "in use"}
    Job.objects.update(status="completed")
    assert goes(plan) == ["files-1", "files-2"]


def test_our_clock_counts_not_what_the_server_says(plan: Plan) -> None:
    policy(plan, keep_daily=2)
    days(plan, 3)
    make_archive(plan, name="liar", start=datetime(2099, 1, 1, tzinfo=UTC), taken_at=NOW - 9 * DAY)
    assert goes(plan) == ["files-2", "liar"]


def test_days_are_those_of_the_plans_time_zone(plan: Plan) -> None:
    policy(plan, keep_daily=7)
    for hour in (20, 21, 23):  # in Paris, in summer: before midnight, after, and an hour that stays the newest
        make_archive(plan, name=f"at-{hour}", start=datetime(2026, 3, 30, hour, 30, tzinfo=UTC))
    make_archive(plan, name="oldest", start=NOW - 9 * DAY)
    assert "at-21" not in stays(plan)
    plan.time_zone = "Europe/Paris"
    assert set(stays(plan)) == {"at-23", "at-21", "oldest"}


def test_more_than_the_policy_allows_is_too_many(plan: Plan) -> None:
    rules = policy(plan, keep_last=1, most_deletions=2)
    days(plan, 3)
    assert not decide(plan).too_many
    rules.most_deletions = 1
    assert decide(plan).too_many


def test_it_asks_few_questions(plan: Plan, django_assert_max_num_queries: Any) -> None:
    policy(plan, keep_daily=3)
    days(plan, 30)
    with django_assert_max_num_queries(3):
        decide(plan)


# --- When nothing may go ----------------------------------------------------------------------


def test_with_a_policy_and_a_good_newest_archive_there_is_no_objection(plan: Plan) -> None:
    policy(plan, keep_daily=1)
    days(plan, 2)
    assert objection(plan) == ""


def test_each_objection_is_a_sentence(plan: Plan) -> None:
    assert objection(plan) == "The plan files has no retention policy: everything is kept."
    rules = policy(plan)
    assert objection(plan) == "The retention policy test keeps nothing, so nothing is deleted."
    rules.keep_daily = 3
    assert objection(plan) == "The plan files has no good archive yet."
    days(plan, 1, suspicion="Odd.")
    assert objection(plan) == "The plan files has no good archive yet."


@pytest.mark.parametrize("change", [{"suspicion": "Odd."}, {"quarantine": "Odd."}, {"vanished_at": NOW}])
def test_while_the_newest_archive_is_odd_nothing_may_go(plan: Plan, change: dict[str, Any]) -> None:
    policy(plan, keep_daily=3)
    days(plan, 2)
    make_archive(plan, start=NOW + DAY, **change)
    assert objection(plan).startswith("The newest archive of the plan files is suspicious")


# --- What we set out to delete ----------------------------------------------------------------


def test_what_a_job_set_out_to_delete_is_known_whatever_became_of_it(plan: Plan) -> None:
    job = Job.objects.create(type="prune", repository=plan.repository)
    archives = days(plan, 2)
    announce(job, archives)
    assert announced(plan.repository) == {archive.borg_id for archive in archives}
    Job.objects.filter(pk=job.pk).update(result={"deleted": ["files-0"]})
    assert announced(plan.repository) == set()


# --- How it will look -------------------------------------------------------------------------


def by_hand(plan: Plan, runs: list[datetime]) -> list[str]:
    """The same the long way: each run makes an archive, and retention follows."""
    for number, run in enumerate(runs):
        make_archive(plan, name=f"run-{number}", borg_id=f"{number:064x}"[::-1], start=run)
        for archive in decide(plan, now=run).going:
            archive.delete()
    return [str(archive.taken_at) for archive in plan.archives.order_by("-taken_at")]


def test_the_outlook_is_what_retention_will_leave(plan: Plan) -> None:
    policy(plan, keep_within="2d", keep_daily=5, keep_weekly=3, keep_monthly=2)
    days(plan, 20)
    runs = [NOW + number * DAY / 2 for number in range(1, 60)]
    foreseen = foresee(plan, decide(plan, now=NOW), runs, now=NOW)[0]
    runs = [run for run in runs if run <= NOW + timedelta(days=30)]
    assert [str(time) for time in foreseen.times] == by_hand(plan, runs)


def test_the_outlook_counts_what_stays_whatever_happens(plan: Plan) -> None:
    policy(plan, keep_last=2)
    days(plan, 3)
    Archive.objects.filter(name="files-2").update(pinned=True)
    make_archive(plan, start=NOW - DAY, suspicion="Odd.")
    month = foresee(plan, decide(plan, now=NOW), [NOW + DAY], now=NOW)[0]
    assert (len(month.times), month.others, month.count) == (2, 2, 4)


def test_runs_beyond_the_year_are_not_asked_for(plan: Plan) -> None:
    policy(plan, keep_yearly=9)
    outlooks = foresee(plan, decide(plan, now=NOW), runs_of(plan, NOW), now=NOW)
    assert [outlook.months for outlook in outlooks] == [1, 3, 12]
    assert outlooks[-1].times[0] == NOW + timedelta(days=365)


def test_a_schedule_too_dense_for_a_year_is_followed_as_far_as_it_goes(plan: Plan) -> None:
    policy(plan, keep_last=3)
    plan.schedule = "* * * * *"
    outlooks = foresee(plan, decide(plan, now=NOW), runs_of(plan, NOW), now=NOW)
    assert [len(outlook.times) for outlook in outlooks] == [3, 3, 3]
    assert outlooks[0].until == outlooks[-1].times[0] < NOW + timedelta(days=30)


def test_the_plans_own_schedule_is_followed(plan: Plan) -> None:
    policy(plan, keep_daily=400)
    plan.schedule, plan.spread_seconds = "0 4 * * mon", 0
    year = foresee(plan, decide(plan, now=NOW), runs_of(plan, NOW), now=NOW)[-1]
    assert year.count == 52
    assert {(time.weekday(), time.hour) for time in year.times} == {(0, 4)}


def test_without_a_policy_there_is_nothing_to_foresee(plan: Plan) -> None:
    assert foresee(plan, decide(plan), runs_of(plan, NOW), now=NOW) == []


def test_now_is_asked_once(plan: Plan) -> None:
    policy(plan, keep_within="1H")
    make_archive(plan, start=timezone.now())
    assert list(stays(plan, timezone.now()).values()) == ["within #1"]

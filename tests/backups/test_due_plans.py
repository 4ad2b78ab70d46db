"""Plans whose time has come: each run once, none lost, whoever else looks at the same time."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups import periodic
from backups.models import Plan, Repository
from backups.periodic import MISSED_AFTER, reschedule, start_due_plans
from backups.runners.create import RunBackup
from jobs.models import Job
from servers.models import Server

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon, and stays so."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)


@pytest.fixture
def due(plan: Plan) -> Plan:
    """A plan for every hour at :58, which fell due two minutes ago."""
    return changed(plan, schedule="58 * * * *", spread_seconds=0, next_run_at=NOW - timedelta(minutes=2))


def changed(plan: Plan, **changes: Any) -> Plan:
    Plan.objects.filter(pk=plan.pk).update(**changes)
    plan.refresh_from_db()
    return plan


def times(plan: Plan) -> tuple[datetime | None, datetime | None]:
    """(next run, since when one is due), as the row says."""
    plan.refresh_from_db()
    return plan.next_run_at, plan.due_at


# --- When it starts ---------------------------------------------------------------------------


def test_a_plan_that_is_due_starts_once(due: Plan) -> None:
    assert start_due_plans() == 1
    job = Job.objects.get()
    assert (job.type, job.plan, job.trigger, job.user) == ("backup", due, "schedule", None)
    assert times(due) == (NOW + timedelta(minutes=58), NOW - timedelta(minutes=2))
    Job.objects.update(status="completed")
    assert start_due_plans() == 0
    assert Job.objects.count() == 1


def test_a_plan_is_due_to_the_second(due: Plan) -> None:
    changed(due, next_run_at=NOW + timedelta(seconds=1))
    assert start_due_plans() == 0
    changed(due, next_run_at=NOW)
    assert start_due_plans() == 1


@pytest.mark.parametrize(
    "changes", [{"enabled": False}, {"server__enabled": False}, {"next_run_at": None}, {"schedule": ""}]
)
def test_what_is_switched_off_does_not_start(due: Plan, changes: dict[str, Any]) -> None:
    if "server__enabled" in changes:
        Server.objects.update(enabled=False)
    else:
        changed(due, **changes)
    before = times(due)
    assert start_due_plans() == 0
    assert times(due) == before
    assert not Job.objects.exists()


@pytest.mark.parametrize("away", [timedelta(hours=3), timedelta(days=40)])
def test_runs_that_were_missed_happen_once_and_soon(due: Plan, away: timedelta) -> None:
    changed(due, next_run_at=NOW - away)
    assert start_due_plans() == 1
    assert times(due) == (NOW + timedelta(minutes=58), NOW - away)
    Job.objects.update(status="completed")
    assert start_due_plans() == 0


def test_a_server_that_was_switched_off_is_caught_up_on(due: Plan) -> None:
    Server.objects.update(enabled=False)
    changed(due, next_run_at=NOW - DAY)
    assert start_due_plans() == 0
    Server.objects.update(enabled=True)
    assert start_due_plans() == 1


def test_a_missed_run_waits_for_the_end_of_a_blackout_window(due: Plan) -> None:
    changed(due, next_run_at=NOW - 5 * DAY, schedule="0 6 * * *", blackout="08:00-18:00")
    assert start_due_plans() == 0
    assert times(due) == (NOW + timedelta(hours=6), NOW - 5 * DAY)
    assert not Job.objects.exists()


def test_a_missed_run_is_made_up_for_by_one_that_waits_for_the_same_end(due: Plan) -> None:
    changed(due, next_run_at=NOW - DAY, schedule="0 9 * * *", blackout="08:00-18:00", spread_seconds=3600)
    assert start_due_plans() == 0
    following = times(due)[0]
    assert following is not None
    assert NOW + timedelta(hours=6) < following < NOW + timedelta(hours=7)


def test_a_run_that_is_only_seconds_late_is_not_kept_back_by_a_window(due: Plan) -> None:
    changed(due, next_run_at=NOW - MISSED_AFTER, blackout="11:59-18:00")
    assert start_due_plans() == 1


# --- What stands in the way -------------------------------------------------------------------


def test_a_run_that_is_due_while_the_last_one_runs_counts(due: Plan, caplog: pytest.LogCaptureFixture) -> None:
    began = NOW - timedelta(hours=2)
    RunBackup.enqueue(due)
    Job.objects.update(status="running", created_at=began)
    assert start_due_plans() == 0
    assert Job.objects.count() == 1
    assert times(due) == (NOW + timedelta(minutes=58), began)  # its archive will be younger than that
    assert not caplog.records


def test_a_run_is_not_counted_for_less_than_is_owed(due: Plan) -> None:
    long_ago = NOW - 3 * DAY
    changed(due, due_at=long_ago)
    RunBackup.enqueue(due)
    start_due_plans()
    assert times(due)[1] == long_ago


def test_what_is_refused_is_logged_and_stops_nobody(
    due: Plan, second_plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    new = Repository.objects.create(name="new", pool=due.repository.pool, server=due.server)
    changed(second_plan, schedule="0 * * * *", spread_seconds=0, next_run_at=NOW - DAY, repository=new)
    assert start_due_plans() == 1
    assert Job.objects.get().plan == due
    assert times(second_plan) == (NOW + timedelta(hours=1), NOW - DAY)  # its turn is over, and it is still owed
    assert "The plan home of web-1 was due, but: The repository new is still being made." in caplog.text


def test_one_broken_plan_stops_nobody_and_stays_due(
    due: Plan, second_plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    changed(second_plan, schedule="0 2 * * *", time_zone="Mars/Base", next_run_at=NOW - DAY)
    assert start_due_plans() == 1
    assert times(second_plan) == (NOW - DAY, None)
    assert "The plan home of web-1 was not started" in caplog.text
    assert "There is no time zone “Mars/Base”." in caplog.text


def test_a_scheduler_that_dies_in_the_middle_has_not_taken_the_run(due: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise OperationalError("server has gone away")

    with monkeypatch.context() as context:
        context.setattr(RunBackup, "enqueue_all", dies)
        with pytest.raises(OperationalError):
            start_due_plans()
    assert times(due) == (NOW - timedelta(minutes=2), None)
    assert start_due_plans() == 1


def test_what_goes_wrong_with_one_is_undone_for_it_alone(
    due: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is met in the middle, when others are taken already."""
    others = [another(due, f"p{number}") for number in range(5)]
    bad, scope = others[2], RunBackup.scope

    def breaks(subject: Plan) -> dict[str, Any]:
        if subject == bad:
            raise RuntimeError("boom")
        return scope(subject)

    monkeypatch.setattr(RunBackup, "scope", breaks)
    assert start_due_plans() == 5
    assert set(Job.objects.values_list("plan", flat=True)) == {due.pk, *(plan.pk for plan in others)} - {bad.pk}
    assert times(bad) == (NOW - timedelta(minutes=2), None)
    assert [record.getMessage() for record in caplog.records] == [
        "The plan p2 of web-1 was not started; it will be tried again."
    ]


def test_the_oldest_run_that_nothing_answered_stays_owed(due: Plan) -> None:
    first = NOW - 2 * DAY
    changed(due, due_at=first, last_good_at=first - timedelta(hours=1))
    start_due_plans()
    assert times(due)[1] == first
    Job.objects.update(status="failed")
    changed(due, next_run_at=NOW, last_good_at=first + timedelta(hours=1))
    start_due_plans()
    assert times(due)[1] == NOW


# --- Several schedulers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"next_run_at": NOW + DAY}, {"enabled": False}, {"schedule": "0 4 * * *"}, {"blackout": "11:00-13:00"},
        {"time_zone": "Europe/Paris"}, {"spread_seconds": 60},
    ],
)  # fmt: skip
def test_what_has_changed_since_it_was_read_is_left_alone(due: Plan, meanwhile: dict[str, Any]) -> None:
    read = Plan.objects.with_scope().get(pk=due.pk)
    changed(due, **meanwhile)
    before = times(due)
    assert not periodic._start([read], NOW)
    assert times(due) == before
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_schedulers_at_once_start_each_plan_once(due: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have read the plans before either takes one. They take some at a time."""
    monkeypatch.setattr(periodic, "AT_ONCE", 3)
    plans = [due, *(another(due, f"p{number}") for number in range(9))]
    both_have_read = threading.Barrier(2, timeout=30)
    start, met = periodic._start, threading.local()
    started: list[int] = []

    def after_both(plans: list[Plan], now: datetime) -> int:
        if not getattr(met, "both", False):
            both_have_read.wait()
            met.both = True
        return start(plans, now)

    def at_once_completed(plans: list[Plan], **_: Any) -> list[Job]:
        started.extend(plan.pk for plan in plans)  # in place of jobs, of which a second is refused while one waits
        return [Job() for _ in plans]

    def scheduler() -> None:
        try:
            start_due_plans()
        finally:
            connections.close_all()

    monkeypatch.setattr(periodic, "_start", after_both)
    monkeypatch.setattr(RunBackup, "enqueue_all", at_once_completed)
    threads = [threading.Thread(target=scheduler) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert sorted(started) == sorted(plan.pk for plan in plans)


def another(plan: Plan, name: str, **changes: Any) -> Plan:
    values = {
        "server": plan.server, "repository": plan.repository, "schedule": plan.schedule,
        "next_run_at": plan.next_run_at,
    }  # fmt: skip
    return Plan.objects.create(name=name, **(values | changes))


# --- What it costs ----------------------------------------------------------------------------


def test_a_round_starts_the_longest_waiting_and_no_more_than_its_bound(
    due: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        another(due, f"p{number}", next_run_at=NOW - DAY * (number + 1))
    monkeypatch.setattr(periodic, "MOST_PER_ROUND", 4)
    assert start_due_plans() == 4
    assert {job.plan.name for job in Job.objects.all() if job.plan} == {"p4", "p3", "p2", "p1"}
    assert start_due_plans() == 2


def test_an_idle_round_is_one_query_however_many_plans_there_are(
    due: Plan, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    changed(due, next_run_at=NOW + DAY)
    for number in range(20):
        another(due, f"p{number}")
    with django_assert_num_queries(1):
        assert start_due_plans() == 0


def test_each_further_plan_takes_one_more_query(due: Plan) -> None:
    """The UPDATE that makes the run ours."""

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            start_due_plans()
        return len(captured)

    for_one = queries()
    for number in range(21):
        another(due, f"p{number}")
    assert queries() == for_one + 20


def test_a_transaction_ends_after_some_plans(due: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody else who writes waits for long."""
    for number in range(6):
        another(due, f"p{number}")
    together: list[int] = []
    enqueue_all = RunBackup.enqueue_all

    def counted(plans: list[Plan], **values: Any) -> list[Any]:
        together.append(len(plans))
        return enqueue_all(plans, **values)

    monkeypatch.setattr(periodic, "AT_ONCE", 3)
    monkeypatch.setattr(RunBackup, "enqueue_all", counted)
    assert start_due_plans() == 7
    assert together == [3, 3, 1]


# --- After a change of the plan ---------------------------------------------------------------


def test_a_plan_is_rescheduled_from_now_on(plan: Plan) -> None:
    changed(plan, schedule="0 2 * * *", spread_seconds=0)
    reschedule(plan)
    assert plan.next_run_at == times(plan)[0] == NOW + timedelta(hours=14)


@pytest.mark.parametrize("changes", [{"enabled": False}, {"schedule": ""}])
def test_a_plan_without_a_schedule_or_paused_has_no_next_run(due: Plan, changes: dict[str, Any]) -> None:
    reschedule(changed(due, **changes))
    assert due.next_run_at is times(due)[0] is None


def test_a_run_that_is_due_is_not_lost_by_a_change(due: Plan) -> None:
    reschedule(changed(due, schedule="0 4 * * *"))
    assert due.next_run_at == times(due)[0] == NOW - timedelta(minutes=2)
    assert start_due_plans() == 1
    assert times(due)[0] == NOW + timedelta(hours=16)


def test_a_plan_that_is_enabled_again_does_not_catch_up(due: Plan) -> None:
    reschedule(changed(due, enabled=False))
    reschedule(changed(due, enabled=True))
    assert due.next_run_at == NOW + timedelta(minutes=58)

"""How well a plan, and a server, is protected."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups import health
from backups.health import Health, State
from backups.models import Plan, Repository
from jobs.models import Job
from servers.models import Server
from tests.conftest import make_archive
from tests.servers.conftest import OTHER_HOST_KEY

pytestmark = pytest.mark.django_db


def ended(plan: Plan, *, good: bool = True, **changes: Any) -> Plan:
    """`plan` after a backup that ended so."""
    job = Job.objects.create(**{"type": "backup", "plan": plan, "status": "completed", "result": {}, **changes})
    Plan.objects.filter(pk=plan.pk).update(last_job=job, last_good_at=timezone.now() if good else None)
    return plan_again(plan)


def plan_again(plan: Plan) -> Plan:
    found: Plan = Plan.objects.with_scope().get(pk=plan.pk)
    return found


def server_again(server: Server) -> Server:
    return Server.objects.prefetch_related("plans__last_job").get(pk=server.pk)


# --- Of a plan --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "good", "state", "reason"),
    [
        ({}, True, State.PROTECTED, ""),
        ({"result": None}, True, State.PROTECTED, ""),
        ({"warnings": 2}, True, State.ATTENTION, "The last backup has warnings: some files could not be saved."),
        ({"result": {"suspicion": "The archive is empty."}}, True, State.ATTENTION, "The archive is empty."),
        ({"result": {"suspicion": "The archive is empty."}}, False, State.ATTENTION, "The archive is empty."),
        ({"result": {"suspicion": "Odd."}, "warnings": 1}, True, State.ATTENTION, "Odd."),
        ({}, False, State.AT_RISK, "There is no good archive yet."),
        ({"status": "failed", "error": "No disk."}, True, State.AT_RISK, "No disk."),
        ({"status": "failed", "error": "No disk.", "result": None}, False, State.AT_RISK, "No disk."),
        (
            {"status": "failed", "error": "No.", "warnings": 3, "result": {"suspicion": "Odd."}},
            True, State.AT_RISK, "No.",
        ),
    ],
)  # fmt: skip
def test_a_plan_is_judged_by_its_last_job_and_its_last_good_archive(
    plan: Plan, changes: dict[str, Any], good: bool, state: State, reason: str
) -> None:
    found = health.of_plan(ended(plan, good=good, **changes))
    assert (found.state, found.reason, found.plan) == (state, reason, plan)
    assert (found.last_good_at is not None) == good


def test_a_plan_that_has_not_run_is_unknown(plan: Plan) -> None:
    assert health.of_plan(plan_again(plan)) == Health(State.UNKNOWN, "It has not run yet.", None, plan)


def test_a_paused_plan_is_unknown_whatever_it_did_before(plan: Plan) -> None:
    ended(plan)
    Plan.objects.update(enabled=False)
    found = health.of_plan(plan_again(plan))
    assert (found.state, found.reason) == (State.UNKNOWN, "The plan is paused.")


def test_a_plan_whose_run_was_due_is_at_risk_until_a_good_archive_comes(plan: Plan) -> None:
    sentence = "No good backup since the run that was due 2\xa0hours ago."
    due_at = timezone.now() - timedelta(hours=2, minutes=1)
    Plan.objects.update(schedule="0 2 * * *", due_at=due_at)
    assert health.of_plan(plan_again(plan)) == Health(State.AT_RISK, sentence, None, plan)
    ended(plan)
    assert health.of_plan(plan_again(plan)).state == State.PROTECTED
    ended(plan, good=False, result={"suspicion": "Odd."})
    assert health.of_plan(plan_again(plan)).reason == f"{sentence} Odd."
    ended(plan, good=False, status="failed", error="No disk.")
    assert health.of_plan(plan_again(plan)).reason == "No disk."


def test_a_plan_that_nobody_starts_is_at_risk(plan: Plan) -> None:
    ended(plan)
    Plan.objects.update(
        schedule="0 2 * * *", next_run_at=timezone.now() - timedelta(days=1, minutes=1),
        last_good_at=timezone.now() - timedelta(days=2),
    )  # fmt: skip
    found = health.of_plan(plan_again(plan))
    assert (found.state, found.reason) == (
        State.AT_RISK, "No good backup since the run that was due 1\xa0day ago.",
    )  # fmt: skip


def test_a_plan_of_a_server_that_is_switched_off_is_unknown(plan: Plan) -> None:
    Plan.objects.update(schedule="0 2 * * *", due_at=timezone.now() - timedelta(days=1))
    Server.objects.update(enabled=False)
    assert health.of_plan(plan_again(plan)).reason == "The server is switched off."


# --- Of a server ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({"enabled": False}, State.UNKNOWN, "The server is switched off."),
        ({"host_key": "", "host_key_seen": ""}, State.UNKNOWN, "Its host key is not confirmed yet."),
        ({"host_key": ""}, State.UNKNOWN, "Its host key is not confirmed yet."),
        ({"host_key_seen": OTHER_HOST_KEY}, State.AT_RISK,
         "Its host key has changed: nothing runs until somebody has looked at it."),
        ({"host_key_seen": ""}, State.PROTECTED, ""),
        ({}, State.PROTECTED, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_server_itself_comes_first(
    plan: Plan, changes: dict[str, Any], state: State, reason: str
) -> None:
    ended(plan)
    Server.objects.update(**changes)
    found = health.of_server(server_again(plan.server))
    assert (found.state, found.reason) == (state, reason)


def test_a_server_without_a_plan_is_unknown(server: Server) -> None:
    assert health.of_server(server_again(server)).reason == "No plan saves anything of it yet."


def test_a_server_is_as_well_as_its_worst_plan(plan: Plan, second_plan: Plan) -> None:
    ended(plan)
    assert health.of_server(server_again(plan.server)).state == State.UNKNOWN
    ended(second_plan, warnings=1)
    assert health.of_server(server_again(plan.server)).state == State.ATTENTION
    ended(plan, status="failed", error="No disk.")
    found = health.of_server(server_again(plan.server))
    assert (found.state, found.reason, found.plan) == (State.AT_RISK, "No disk.", plan)


def test_its_last_good_backup_is_the_newest_of_all_plans(plan: Plan, second_plan: Plan) -> None:
    now = timezone.now()
    ended(plan)
    ended(second_plan)
    Plan.objects.filter(pk=plan.pk).update(last_good_at=now - timedelta(days=2))
    Plan.objects.filter(pk=second_plan.pk).update(last_good_at=now - timedelta(days=1))
    assert health.of_server(server_again(plan.server)).last_good_at == now - timedelta(days=1)


@pytest.mark.parametrize(
    ("state", "needs"),
    [
        (State.AT_RISK, True), (State.ATTENTION, True), (State.RUNNING, False), (State.UNKNOWN, False),
        (State.PROTECTED, False),
    ],
)  # fmt: skip
def test_only_some_states_need_somebody(state: State, needs: bool) -> None:
    assert Health(state).needs_somebody is needs
    assert Health(state).label == state.value.replace("-", " ")
    assert state in health.WORST_FIRST


def test_many_servers_take_as_many_queries_as_few(
    plan: Plan, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ended(plan)
    for number in range(20):
        other = Server.objects.create(name=f"s{number}", address="192.0.2.1", host_key="x", host_key_seen="x")
        Plan.objects.create(name="p", server=other, repository=Repository.objects.get(), last_job=Job.objects.get())
    servers = list(Server.objects.all())
    with django_assert_num_queries(1):
        states = health.of_servers(servers)
    assert len(states) == 21


# --- On the pages -----------------------------------------------------------------------------


def test_the_list_of_servers_says_why(as_viewer: Client, plan: Plan) -> None:
    ended(plan, status="failed", error="No <disk>.")
    html = as_viewer.get("/servers").getvalue().decode()
    assert "state-at-risk" in html
    assert "No &lt;disk&gt;." in html


def test_the_page_of_a_server_leads_to_what_helps(as_admin: Client, server: Server, plan: Plan) -> None:
    failed = ended(plan, status="failed", error="No disk.")
    assert f"/jobs/{failed.last_job_id}" in as_admin.get(f"/servers/{server.pk}").getvalue().decode()
    Server.objects.update(host_key_seen=OTHER_HOST_KEY)
    html = as_admin.get(f"/servers/{server.pk}").getvalue().decode()
    assert "Look at the host key" in html


def test_a_damaged_repository_puts_its_plans_at_risk_and_a_frozen_one_wants_attention(plan: Plan) -> None:
    archive = make_archive(plan)
    job = Job.objects.create(type="backup", status="completed", plan=plan, result={"archive": archive.pk})
    Plan.objects.update(last_job=job, last_good_at=archive.taken_at)
    Repository.objects.update(frozen="An archive is gone.")
    plan = Plan.objects.with_scope().get()
    assert (health.of_plan(plan).state, health.of_plan(plan).reason) == (
        State.ATTENTION, "Its repository is frozen: An archive is gone.",
    )  # fmt: skip
    Repository.objects.update(damage="The check found damage: a byte.")
    plan = Plan.objects.with_scope().get()
    assert (health.of_plan(plan).state, health.of_plan(plan).reason) == (
        State.AT_RISK, "The check found damage: a byte.",
    )  # fmt: skip

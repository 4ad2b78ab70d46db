"""Health by state as the database counts it is the health that pages show, whatever a plan has been through."""

import itertools
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone

from backups import health, stats, tally
from backups.health import State
from backups.models import Plan, Repository
from jobs.models import Job
from jobs.runner import end
from servers.models import Server
from tests.conftest import HOST_KEY, make_archive
from tests.servers.conftest import OTHER_HOST_KEY

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


def many(repository: Repository, wanted: list[dict[str, Any]]) -> None:
    """A server, a repository and a plan for each, with the last job that it names."""
    servers = Server.objects.bulk_create(
        Server(name=f"s{n}", address="192.0.2.1", host_key=HOST_KEY, **one.get("server", {}))
        for n, one in enumerate(wanted)
    )
    repositories = Repository.objects.bulk_create(
        Repository(name=f"s{n}", pool=repository.pool, server=servers[n], state="ready", **one.get("repository", {}))
        for n, one in enumerate(wanted)
    )
    jobs = [Job(type="backup", **one["job"]) if one.get("job") else None for one in wanted]
    Job.objects.bulk_create([job for job in jobs if job])
    Plan.objects.bulk_create(
        Plan(name="p", server=servers[n], repository=repositories[n], **last(jobs[n]), **one["plan"])
        for n, one in enumerate(wanted)
        if one["plan"] is not None
    )


def last(job: Job | None) -> dict[str, Any]:
    """What a plan keeps of it."""
    return tally.kept_of(job) if job else {}


def the_two_agree(now: datetime) -> dict[State, int]:
    servers = Server.objects.all()
    told = health.of_servers(servers)
    ranks = stats.ranks_of(now, servers.count())
    protected = stats.RANK[State.PROTECTED]
    assert [one for pk, one in told.items() if stats.RANK[one.state] != ranks.get(pk, protected)] == []
    assert set(ranks) <= set(told)
    assert {type(rank) for rank in ranks.values()} <= {int}
    counts = stats.health_of(servers.count(), now)
    assert counts == {state: [one.state for one in told.values()].count(state) for state in State}
    return counts


def test_the_database_judges_as_the_pages_do(repository: Repository, now: datetime) -> None:
    jobs: list[dict[str, Any] | None] = [
        None,
        {"status": "completed", "result": {"suspicion": ""}},
        {"status": "completed", "result": None, "warnings": 2},
        {"status": "completed", "result": {"suspicion": "Odd."}},
        {"status": "completed", "result": {}, "started_at": now - 5 * HOUR, "completed_at": now - HOUR},
        {"status": "failed", "error": "No.", "result": {"suspicion": "Odd."}},
    ]
    plans: list[dict[str, Any]] = [
        {"last_good_at": good_at, "schedule": schedule, "due_at": due_at, "next_run_at": next_run_at}
        for good_at in (None, now - 8 * HOUR)
        for schedule in ("", "0 2 * * *")
        for due_at in (None, now - 9 * HOUR, now - 3 * HOUR, now - HOUR / 2)
        for next_run_at in (now + HOUR, now - 2 * HOUR)
    ]
    repositories: list[dict[str, Any]] = [{}, {"damage": "A byte."}, {"frozen": "One is gone."}]
    wanted = [
        {"job": job, "plan": plan, "repository": kept}
        for job, plan, kept in itertools.product(jobs, plans, repositories)
        if not kept or plan["due_at"] is None
    ]
    proofs: list[dict[str, Any]] = [
        {"job": job, "plan": {"last_good_at": good_at, "enabled": enabled, **proof}, "repository": kept}
        for job, good_at, enabled, kept in itertools.product(jobs, (None, now - HOUR), (True, False), repositories)
        for proof in (
            {"proof_failed": "Odd."}, {"proof_overdue_at": now - HOUR}, {"proof_overdue_at": now + HOUR},
            {"proof_failed": "Odd.", "proof_overdue_at": now - HOUR},
        )
    ]  # fmt: skip
    others: list[dict[str, Any]] = [{"plan": {"enabled": False}}, {"plan": {"enabled": False}, "job": jobs[5]}]
    many(repository, wanted + proofs + others)
    counts = the_two_agree(now)
    assert all(counts[state] for state in State if state != State.RUNNING)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"enabled": False}, {"host_key": ""}, {"host_key_seen": HOST_KEY}, {"host_key_seen": OTHER_HOST_KEY},
        {"host_key": "", "host_key_seen": OTHER_HOST_KEY}, {"enabled": False, "host_key_seen": OTHER_HOST_KEY},
    ],
)  # fmt: skip
@pytest.mark.parametrize("plan", [None, {}, {"last_good_at": timezone.now()}, {"proof_failed": "Odd."}])
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_what_is_wrong_with_the_server_itself_comes_first(
    repository: Repository, now: datetime, changes: dict[str, Any], plan: dict[str, Any] | None, status: str
) -> None:
    """Red when the worse of both counts: one that is switched off needs nobody, whatever its plans say."""
    Server.objects.filter(pk=repository.server_id).update(enabled=False)
    many(repository, [{"server": {}, "plan": plan, "job": {"status": status, "result": {}} if plan else None}])
    Server.objects.filter(name="s0").update(**changes)
    the_two_agree(now)


def test_a_server_is_as_well_as_its_worst_plan(plan: Plan, second_plan: Plan, now: datetime) -> None:
    good, bad = (Job.objects.create(type="backup", status=status, error="x") for status in ("completed", "failed"))
    Plan.objects.update(**last(good), last_good_at=now)
    assert the_two_agree(now)[State.PROTECTED] == 1
    Plan.objects.filter(pk=second_plan.pk).update(**last(bad))
    assert the_two_agree(now)[State.AT_RISK] == 1


@pytest.mark.parametrize(
    "outcome",
    [
        {"status": "completed", "result": {"suspicion": ""}},
        {"status": "completed", "result": {}, "warnings": 3},
        {"status": "completed", "result": {"suspicion": "Odd."}, "warnings": 3},
        {"status": "failed", "error": "No disk."},
        {"status": "cancelled"},
    ],
)
def test_the_end_of_a_backup_is_kept_for_it(plan: Plan, now: datetime, outcome: dict[str, Any]) -> None:
    Plan.objects.update(schedule="0 2 * * *", due_at=now - 3 * HOUR)
    make_archive(plan, start=now - 5 * HOUR)
    job = Job.objects.create(
        type="backup", subject=f"plan:{plan.pk}", plan=plan, server=plan.server, repository=plan.repository,
        status="running", attempts=1, started_at=now - 4 * HOUR,
    )  # fmt: skip
    assert end(job, **outcome)
    the_two_agree(now)


def test_what_is_kept_is_made_anew_and_the_migration_makes_it_first(repository: Repository, now: datetime) -> None:
    jobs: list[dict[str, Any]] = [
        {"status": "completed", "result": {"suspicion": ""}}, {"status": "completed", "warnings": 1},
        {"status": "completed", "result": {"suspicion": "Odd."}}, {"status": "failed", "error": "No."},
        {"status": "completed", "result": {}, "started_at": now - 5 * HOUR, "completed_at": now - HOUR},
    ]  # fmt: skip
    many(repository, [{"job": job, "plan": {"last_good_at": now}} for job in jobs])
    kept = Plan.objects.order_by("pk").values_list("last_outcome", "last_took")
    before = list(kept)
    assert [outcome for outcome, _ in before] == ["good", "warnings", "suspicious", "failed", "good"]
    for make in (tally.rebuild, lambda: import_module("backups.migrations.0006_stats").look_at_last(apps, None)):
        Plan.objects.update(last_outcome="", last_took=timedelta(0))
        make()
        assert list(kept.all()) == before


def test_what_a_plan_keeps_ranks_as_everything_does() -> None:
    kept = {rank.name: rank.value for rank in Plan.Rank if rank != Plan.Rank.BY_THE_CLOCK}
    assert kept == {state.name: rank for state, rank in stats.RANK.items() if state != State.RUNNING}

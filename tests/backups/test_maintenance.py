"""What falls due without anybody asking."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from backups import maintenance
from backups.maintenance import check_repositories, compact_repositories, compare_repositories, knock
from backups.models import Plan, Repository
from backups.runners.create import RunBackup
from backups.runners.knock import KnockServer
from jobs.models import Job
from servers.models import Server
from servers.ssh.transport import Unreachable
from tests.conftest import run_now
from tests.fakes import FakeMachine

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]

NOW = timezone.now


def days(number: float) -> Any:
    return NOW() - timedelta(days=number)


def started() -> list[tuple[str, dict[str, Any]]]:
    return [(job.type, job.payload) for job in Job.objects.order_by("created_at")]


@pytest.mark.parametrize(
    ("repository_has", "depths"),
    [
        ({"checked_at": days(8)}, ["full"]),
        ({"checked_at": days(6)}, []),
        ({"checked_at": None, "created_at": days(8)}, ["full"]),
        ({"checked_at": None, "created_at": days(6)}, []),
        ({"checked_at": days(8), "check_days": 0}, []),
        ({"checked_at": days(8), "check_days": 30}, []),
        ({"checked_at": days(8), "verify_days": 90, "verified_at": days(91)}, ["data"]),
        ({"checked_at": days(1), "verify_days": 90, "verified_at": days(89)}, []),
        ({"checked_at": days(8), "damage": "A byte."}, []),
        ({"checked_at": days(8), "state": "creating"}, []),
    ],
)
def test_a_check_falls_due(repository: Repository, repository_has: dict[str, Any], depths: list[str]) -> None:
    Repository.objects.update(**repository_has)
    assert check_repositories() == len(depths)
    assert started() == [("check", {"depth": depth}) for depth in depths]


def test_each_repository_has_its_own_number_of_days(plan: Plan) -> None:
    first = plan.repository
    Repository.objects.update(checked_at=days(10), check_days=30)
    second = Repository.objects.create(
        name="b", pool=first.pool, server=first.server, state="ready", checked_at=days(10)
    )
    assert check_repositories() == 1
    assert Job.objects.get().repository == second


def test_what_was_tried_lately_is_left_alone(repository: Repository) -> None:
    Repository.objects.update(checked_at=days(8))
    assert check_repositories() == 1
    assert check_repositories() == 0  # it waits
    Job.objects.update(status="failed")
    assert check_repositories() == 0  # it failed a moment ago
    Job.objects.update(created_at=NOW() - timedelta(hours=13))
    assert check_repositories() == 1


@pytest.mark.parametrize(("ago", "depths"), [(1, ["full"]), (29, ["full"]), (31, ["data"])])
def test_a_check_of_all_data_that_was_stopped_begins_anew_only_after_its_days(
    repository: Repository, ago: int, depths: list[str]
) -> None:
    """It would be stopped again, and keep the backups waiting day after day; the quick check comes all the same."""
    Repository.objects.update(checked_at=days(8), verify_days=30, verified_at=None, created_at=days(90))
    stopped = Job.objects.create(
        type="check", repository=repository, subject=f"repository:{repository.pk}", status="completed",
        payload={"depth": "data"}, result={"depth": "data", "stopped": True},
    )  # fmt: skip
    Job.objects.update(created_at=days(ago))
    check_repositories()
    assert [job.payload["depth"] for job in Job.objects.exclude(pk=stopped.pk)] == depths


def test_one_round_starts_a_bounded_number(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "AT_ONCE", 2)
    first = plan.repository
    for number in range(3):
        Repository.objects.create(name=f"r{number}", pool=first.pool, server=first.server, state="ready")
    Repository.objects.update(checked_at=days(8))
    assert [check_repositories() for _ in range(3)] == [2, 2, 0]


@pytest.mark.parametrize(
    ("repository_has", "count"),
    [
        ({"deleted_at": days(4), "checked_at": days(1)}, 1),
        ({"deleted_at": days(2), "checked_at": days(1)}, 0),
        ({"deleted_at": days(4), "checked_at": days(5)}, 0),
        ({"deleted_at": days(4), "checked_at": None}, 0),
        ({"deleted_at": None, "checked_at": days(1)}, 0),
        ({"deleted_at": days(4), "checked_at": days(1), "damage": "A byte."}, 0),
        ({"deleted_at": days(4), "checked_at": days(1), "frozen": "Odd."}, 0),
    ],
)
def test_compaction_waits_for_some_days_and_a_good_check(
    repository: Repository, repository_has: dict[str, Any], count: int
) -> None:
    Repository.objects.update(**repository_has)
    assert compact_repositories() == count
    assert started() == [("compact", {})] * count


@pytest.mark.parametrize(("compared_at", "count"), [(days(2), 1), (days(0.5), 0)])
def test_every_repository_is_looked_at_once_a_day(repository: Repository, compared_at: Any, count: int) -> None:
    Repository.objects.update(compared_at=compared_at)
    assert compare_repositories() == count


@pytest.mark.parametrize("round_of", [check_repositories, compact_repositories, compare_repositories, knock])
def test_an_idle_round_asks_little(
    repository: Repository, round_of: Callable[[], int], django_assert_max_num_queries: Any
) -> None:
    Repository.objects.update(checked_at=NOW(), compared_at=NOW())
    with django_assert_max_num_queries(6):
        assert round_of() == 0


# --- A server that was away ------------------------------------------------------------------------


def fails_because_of(plan: Plan, cause: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Plan:
    Plan.objects.update(**{"schedule": "0 2 * * *", **changes})
    job = RunBackup.enqueue(Plan.objects.get())
    Job.objects.filter(pk=job.pk).update(status="failed", cause=cause, error="No answer.")
    RunBackup.ended(Job.objects.get(pk=job.pk))
    plan.refresh_from_db()
    return plan


def test_a_missed_backup_runs_when_the_server_answers_again(
    plan: Plan, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fails_because_of(plan, "network", monkeypatch).awaits_server
    assert knock() == 1
    assert knock() == 0
    job = run_now(Job.objects.get(type=KnockServer.type))
    (backup,) = Job.objects.filter(type="backup", status="pending")
    assert job.result == {"answers": True, "started": [str(backup.pk)]}
    assert (backup.trigger, backup.plan) == ("schedule", plan)


def test_a_server_that_is_still_away_is_asked_again_later(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_because_of(plan, "network", monkeypatch)

    def nobody(_: Server) -> None:
        raise Unreachable("192.0.2.7 does not answer on port 22.")

    monkeypatch.setattr(Server, "connect", nobody)
    knock()
    job = run_now(Job.objects.get(type=KnockServer.type))
    assert (job.status, job.result) == ("completed", {"answers": False})
    assert not Job.objects.filter(type="backup", status="pending").exists()
    assert knock() == 0
    Job.objects.filter(type=KnockServer.type).update(created_at=NOW() - timedelta(minutes=5))
    assert knock() == 1


@pytest.mark.parametrize(("cause", "changes"), [("disk", {}), ("network", {"schedule": ""})])
def test_only_a_scheduled_plan_whose_server_was_away_is_waited_for(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, cause: str, changes: dict[str, Any]
) -> None:
    assert not fails_because_of(plan, cause, monkeypatch, **changes).awaits_server


def test_a_backup_that_ran_is_waited_for_no_more(plan: Plan) -> None:
    Plan.objects.update(awaits_server=True, schedule="0 2 * * *")
    job = RunBackup.enqueue(plan)
    Job.objects.filter(pk=job.pk).update(status="completed")
    RunBackup.ended(Job.objects.get(pk=job.pk))
    plan.refresh_from_db()
    assert not plan.awaits_server

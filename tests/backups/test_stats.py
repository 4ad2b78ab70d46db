"""GET /api/stats/dashboard, /api/stats/server/{id} and /api/stats/efficiency."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from backups import tally
from backups.models import Archive, BackupHour, Plan, Repository, Source, StoragePool
from jobs.models import Job
from servers.models import Server
from tests.conftest import HOST_KEY, make_archive

pytestmark = pytest.mark.django_db

SIZES = {"original", "compressed", "deduplicated", "compression", "deduplication", "saved_share"}


def asked(client: APIClient, path: str) -> dict[str, Any]:
    answer = client.get(f"/api/stats/{path}")
    assert answer.status_code == 200, answer.content
    data: dict[str, Any] = answer.json()
    return data


def measured(repository: Repository, original: int, compressed: int, deduplicated: int) -> None:
    Repository.objects.filter(pk=repository.pk).update(
        original_bytes=original, compressed_bytes=compressed, deduplicated_bytes=deduplicated,
        measured_at=timezone.now(),
    )  # fmt: skip


def backup(plan: Plan, **values: Any) -> Job:
    made: dict[str, Any] = {
        "type": "backup", "plan": plan, "server": plan.server, "repository": plan.repository, "status": "completed",
        "subject": f"plan:{plan.pk}",
    }  # fmt: skip
    return Job.objects.create(**(made | values))


def another(number: int, pool: StoragePool) -> Plan:
    """A server with all that belongs to one."""
    server = Server.objects.create(name=f"s{number}", address="192.0.2.1", host_key=HOST_KEY, host_key_seen=HOST_KEY)
    repository = Repository.objects.create(name=f"s{number}", pool=pool, server=server, state="ready")
    measured(repository, 1000 * number, 500 * number, 100 * number)
    plan = Plan.objects.create(name="files", server=server, repository=repository, next_run_at=timezone.now())
    plan.sources.add(Source.objects.create(name="etc", server=server, parameters={"paths": ["/etc"]}))
    job = backup(plan, result={"suspicion": ""}, started_at=timezone.now(), completed_at=timezone.now())
    archive = make_archive(plan, job=job)
    Plan.objects.filter(pk=plan.pk).update(**tally.kept_of(job), last_good_at=archive.taken_at)
    return plan


# --- The dashboard --------------------------------------------------------------------------------


def test_an_empty_site_has_zeros_and_no_rates(api_viewer: APIClient) -> None:
    shown = asked(api_viewer, "dashboard")
    assert [shown[name] for name in ("servers", "plans", "repositories", "archives")] == [0, 0, 0, 0]
    assert shown["health"] == {"protected": 0, "attention": 0, "at_risk": 0, "unknown": 0}
    assert shown["stored"] == {
        "original": 0, "compressed": 0, "deduplicated": 0, "compression": None, "deduplication": None,
        "saved_share": None,
    }  # fmt: skip
    assert [(rate["days"], rate["success_rate"]) for rate in shown["backups"]] == [(1, None), (7, None), (30, None)]
    assert (shown["pools"], shown["next_runs"]) == ([], [])


def test_the_dashboard_counts_what_there_is(api_viewer: APIClient, plan: Plan, pool: StoragePool) -> None:
    another(1, pool)
    make_archive(plan)
    backup(plan, status="failed", error="No disk.")
    Repository.objects.filter(pk=plan.repository_id).update(frozen="One is gone.")
    shown = asked(api_viewer, "dashboard")
    assert [shown[name] for name in ("servers", "plans", "repositories", "archives")] == [2, 2, 2, 2]
    assert (shown["repositories_damaged"], shown["repositories_frozen"]) == (0, 1)
    assert shown["health"] == {"protected": 1, "attention": 0, "at_risk": 0, "unknown": 1}


def test_sizes_are_those_of_all_repositories(api_viewer: APIClient, repository: Repository, pool: StoragePool) -> None:
    measured(repository, 2**60, 2**59, 2**57)  # more than 64 bits together, were there many
    another(1, pool)
    stored = asked(api_viewer, "dashboard")["stored"]
    assert (stored["original"], stored["compressed"], stored["deduplicated"]) == (
        2**60 + 1000, 2**59 + 500, 2**57 + 100,
    )  # fmt: skip
    assert stored["compression"] == pytest.approx(2)
    assert stored["deduplication"] == pytest.approx(4)
    assert stored["saved_share"] == pytest.approx(0.875)


def test_jobs_are_counted_by_status_those_that_ended_for_a_day(api_viewer: APIClient, plan: Plan) -> None:
    now = timezone.now()
    for status, hours, priority in [
        ("pending", 0, 10), ("pending", 300, 20), ("running", 300, 0), ("completed", 1, 0), ("completed", 2, 20),
        ("completed", 25, 10), ("failed", 23, 10), ("failed", 24.1, 10), ("cancelled", 3, 10),
    ]:  # fmt: skip
        backup(plan, status=status, priority=priority, created_at=now - timedelta(hours=hours))
    assert asked(api_viewer, "dashboard")["jobs"] == {
        "pending": 2, "running": 1, "completed": 2, "failed": 1, "cancelled": 1,
    }  # fmt: skip


def test_rates_are_of_what_was_counted(api_viewer: APIClient) -> None:
    began_at = timezone.now().replace(minute=0, second=0, microsecond=0)
    BackupHour.objects.create(began_at=began_at, completed=3, failed=1, cancelled=7, suspicious=1)
    day = asked(api_viewer, "dashboard")["backups"][0]
    assert day == {
        "days": 1, "completed": 3, "suspicious": 1, "failed": 1, "cancelled": 7, "success_rate": 0.5,
    }  # fmt: skip


def test_pools_are_listed_the_fullest_first(api_viewer: APIClient, pool: StoragePool) -> None:
    now = timezone.now()
    StoragePool.objects.create(name="full", path="/srv/full", free_bytes=5, total_bytes=10, checked_at=now)
    StoragePool.objects.create(name="large", path="/srv/large", free_bytes=50, total_bytes=90, checked_at=now)
    StoragePool.objects.create(name="gone", path="/srv/gone", free_bytes=7, checked_at=now, problem="It is away.")
    pools = asked(api_viewer, "dashboard")["pools"]
    assert [(shown["name"], shown["state"], shown["free_bytes"], shown["total_bytes"]) for shown in pools] == [
        ("full", "protected", 5, 10), ("gone", "at-risk", 7, None), ("large", "protected", 50, 90),
        ("disk", "unknown", None, None),
    ]  # fmt: skip


def test_next_runs_are_those_of_plans_that_run(api_viewer: APIClient, plan: Plan, second_plan: Plan) -> None:
    now = timezone.now().replace(microsecond=0)
    Plan.objects.filter(pk=plan.pk).update(next_run_at=now + timedelta(hours=2))
    Plan.objects.filter(pk=second_plan.pk).update(next_run_at=now + timedelta(hours=1))
    for name in ("paused", "by-hand"):
        Plan.objects.create(
            name=name, server=plan.server, repository=plan.repository, enabled=name != "paused",
            next_run_at=now if name == "paused" else None,
        )  # fmt: skip
    runs = asked(api_viewer, "dashboard")["next_runs"]
    assert [(run["id"], run["server"], run["name"]) for run in runs] == [
        (second_plan.pk, plan.server.pk, "home"), (plan.pk, plan.server.pk, "files"),
    ]  # fmt: skip
    Server.objects.update(enabled=False)
    assert asked(api_viewer, "dashboard")["next_runs"] == []


# --- One server -----------------------------------------------------------------------------------


def test_a_server_has_its_own_numbers_and_no_others(api_viewer: APIClient, plan: Plan, pool: StoragePool) -> None:
    another(1, pool)
    now = timezone.now().replace(microsecond=0)
    measured(plan.repository, 800, 400, 100)
    Plan.objects.filter(pk=plan.pk).update(next_run_at=now)
    oldest = make_archive(plan, start=now - timedelta(days=3))
    make_archive(plan, start=now - timedelta(days=2))
    newest = make_archive(plan, start=now - timedelta(days=1))
    shown = asked(api_viewer, f"server/{plan.server.pk}")
    assert (shown["id"], shown["name"], shown["state"], shown["archives"]) == (plan.server.pk, "web-1", "unknown", 3)
    assert (shown["oldest_archive_at"], shown["newest_archive_at"]) == tuple(
        f"{archive.start:%Y-%m-%dT%H:%M:%SZ}" for archive in (oldest, newest)
    )
    assert shown["stored"]["original"] == 800
    assert [(one["name"], one["sizes"]["deduplicated"]) for one in shown["repositories"]] == [("web-1", 100)]
    assert [(one["id"], one["name"], one["state"], one["next_run_at"]) for one in shown["plans"]] == [
        (plan.pk, "files", "unknown", f"{now:%Y-%m-%dT%H:%M:%SZ}")
    ]
    assert set(shown["stored"]) == set(shown["repositories"][0]["sizes"]) == SIZES


def test_a_server_without_anything_has_thirty_empty_days(api_viewer: APIClient, server: Server) -> None:
    shown = asked(api_viewer, f"server/{server.pk}")
    assert (shown["archives"], shown["newest_archive_at"], shown["oldest_archive_at"]) == (0, None, None)
    assert len(shown["days"]) == 30
    assert {day["success_rate"] for day in shown["days"]} == {None}
    assert [day["day"] for day in shown["days"]] == sorted(day["day"] for day in shown["days"])
    assert shown["days"][-1]["day"] == f"{timezone.now():%Y-%m-%d}"


def test_the_days_of_a_server_tell_how_its_backups_ended(
    api_viewer: APIClient, plan: Plan, pool: StoragePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = timezone.now().replace(hour=12, minute=0)
    monkeypatch.setattr(timezone, "now", lambda: noon)

    def ended(status: str, *, days: int, seconds: int = 60, **result: Any) -> None:
        began = noon - timedelta(days=days, hours=1)
        backup(
            plan, status=status, created_at=began, started_at=began, completed_at=began + timedelta(seconds=seconds),
            result=result or None,
        )  # fmt: skip

    ended("completed", days=0, deduplicated=10, suspicion="")
    ended("completed", days=1, deduplicated=100, suspicion="", seconds=30 * 3600)  # it counts when it was asked for
    ended("completed", days=1, deduplicated=5, suspicion="Odd.")
    ended("failed", days=1)
    ended("cancelled", days=1)
    ended("completed", days=29, deduplicated=1, suspicion="")
    ended("completed", days=30, deduplicated=1000, suspicion="")
    backup(plan, type="prune")
    backup(plan, status="running")
    backup(another(1, pool), result={"deduplicated": 10**6})
    days = asked(api_viewer, f"server/{plan.server.pk}")["days"]
    some = [day for day in days if day["success_rate"] is not None]
    assert [(day["completed"], day["failed"], day["added_bytes"]) for day in some] == [
        (1, 0, 1), (2, 1, 105), (1, 0, 10),
    ]  # fmt: skip
    assert days[-2] == {
        "day": f"{noon - timedelta(days=1):%Y-%m-%d}", "completed": 2, "suspicious": 1, "failed": 1, "cancelled": 1,
        "success_rate": pytest.approx(1 / 3), "added_bytes": 105, "duration": 30 * 3600 + 180.0,
    }  # fmt: skip


def test_a_server_that_there_is_not_is_404(api_viewer: APIClient) -> None:
    answer = api_viewer.get("/api/stats/server/7")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_server_that_one_may_not_see_is_404(api_viewer: APIClient, viewer: User, plan: Plan) -> None:
    only_backups = Group.objects.create(name="only backups")
    only_backups.permissions.add(DjangoPermission.objects.get(codename="backup.view"))
    viewer.groups.set([only_backups])
    assert api_viewer.get(f"/api/stats/server/{plan.server.pk}").status_code == 404
    shown = asked(api_viewer, "dashboard")
    assert (shown["servers"], sum(shown["health"].values()), shown["plans"]) == (0, 0, 1)


# --- Efficiency -----------------------------------------------------------------------------------


def test_efficiency_is_told_by_repository_and_in_total(
    api_viewer: APIClient, repository: Repository, pool: StoragePool
) -> None:
    another(1, pool)
    measured(repository, 3000, 1500, 500)
    shown = asked(api_viewer, "efficiency")
    assert set(shown) == {"count", "next", "previous", "total", "results"}
    assert [one["name"] for one in shown["results"]] == ["web-1", "s1"]  # the largest on disk first
    sizes = shown["results"][0]["sizes"]
    assert (sizes["compression"], sizes["deduplication"]) == (2.0, 3.0)
    assert sizes["saved_share"] == pytest.approx(5 / 6)
    assert (shown["total"]["original"], shown["total"]["compressed"], shown["total"]["deduplicated"]) == (
        4000, 2000, 600,
    )  # fmt: skip


def test_a_repository_with_nothing_in_it_has_no_ratios(api_viewer: APIClient, repository: Repository) -> None:
    sizes = asked(api_viewer, "efficiency")["results"][0]["sizes"]
    assert (sizes["original"], sizes["compression"], sizes["deduplication"], sizes["saved_share"]) == (
        0, None, None, None,
    )  # fmt: skip


def test_efficiency_is_paged_and_its_total_is_of_every_page(api_viewer: APIClient, pool: StoragePool) -> None:
    for number in range(1, 4):
        another(number, pool)
    first = asked(api_viewer, "efficiency?page_size=2")
    last = asked(api_viewer, "efficiency?page_size=2&page=2")
    assert (first["count"], first["previous"], last["next"]) == (3, None, None)
    assert first["next"].endswith("/api/stats/efficiency?page=2&page_size=2")
    assert [one["name"] for one in first["results"] + last["results"]] == ["s3", "s2", "s1"]
    assert first["total"] == last["total"] == asked(api_viewer, "efficiency")["total"]
    assert api_viewer.get("/api/stats/efficiency?page=3&page_size=2").status_code == 404


# --- All of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["dashboard", "server", "efficiency"])
def test_what_is_no_filter_is_refused(api_viewer: APIClient, server: Server, path: str) -> None:
    answer = api_viewer.get(f"/api/stats/{path}{f'/{server.pk}' if path == 'server' else ''}?sever=7")
    assert (answer.status_code, answer.json()["error"]["fields"]) == (400, {"sever": ["There is no such filter here."]})


@pytest.mark.parametrize(("path", "most"), [("dashboard", 12), ("server", 9), ("efficiency", 7)])
def test_many_servers_take_as_many_queries_as_one(
    api_viewer: APIClient, plan: Plan, pool: StoragePool, path: str, most: int
) -> None:
    full = f"server/{plan.server.pk}" if path == "server" else path

    def queries() -> list[dict[str, str]]:
        with CaptureQueriesContext(connection) as caught:
            asked(api_viewer, full)
        return caught.captured_queries

    make_archive(plan)
    backup(plan, started_at=timezone.now(), completed_at=timezone.now())
    few = queries()
    for number in range(20):
        another(number, pool)
        Plan.objects.create(name=f"p{number}", server=plan.server, repository=plan.repository)
        Repository.objects.create(name=f"r{number}", server=plan.server, pool=pool)
        backup(plan, started_at=timezone.now(), completed_at=timezone.now(), result={"deduplicated": 1})
        make_archive(plan)
    many = queries()
    assert len(many) == len(few) <= most, [query["sql"] for query in many]
    assert Archive.objects.count() == 41

"""The page /statistics, and the rows of days on other pages."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from backups import stats
from backups.models import BackupHour, Plan, Repository, StorageDay
from servers.models import Server
from tests.conftest import make_archive


@pytest.mark.parametrize(
    ("numbers", "mark"),
    [({}, "none"), ({"completed": 2}, "good"), ({"completed": 2, "failed": 1}, "some"), ({"failed": 1}, "bad"),
     ({"completed": 1, "suspicious": 1}, "bad"), ({"completed": 2, "suspicious": 1}, "some"),
     ({"cancelled": 1}, "none"), ({"completed": 19, "failed": 1}, "few"), ({"completed": 18, "failed": 1}, "some")],
)  # fmt: skip
def test_a_day_has_one_of_four_marks(numbers: dict[str, int], mark: str) -> None:
    assert stats.Outcome(**numbers).mark == mark


def test_days_of_all_add_up_their_hours(db: None) -> None:
    now = datetime(2026, 11, 26, 23, 30, tzinfo=UTC)
    for hours, completed in ((0, 1), (23, 2), (24, 4), (100, 8)):
        BackupHour.objects.create(
            began_at=now.replace(minute=0) - timedelta(hours=hours), completed=completed, failed=1
        )
    days = stats.days_of_all(now, 3)
    assert [(day.day.day, day.completed, day.failed) for day in days] == [(24, 0, 0), (25, 4, 1), (26, 3, 2)]


def test_the_dashboard_has_a_square_for_each_day_that_leads_to_its_backups(as_viewer: Client, server: Server) -> None:
    BackupHour.objects.create(began_at=timezone.now().replace(minute=0, second=0, microsecond=0), failed=1)
    page = as_viewer.get("/").content.decode()
    assert page.count("day day-none") == 29
    assert page.count("day day-bad") == 1
    today = timezone.now().astimezone(UTC).date()
    link = f"/jobs?type=backup&amp;since={today}T00:00:00Z&amp;until={today + timedelta(days=1)}T00:00:00Z"
    assert link in page
    assert as_viewer.get(link.replace("&amp;", "&")).context["filter"].is_valid()


def test_a_server_has_its_own_days(as_viewer: Client, plan: Plan) -> None:
    page = as_viewer.get(f"/servers/{plan.server.pk}").content.decode()
    assert page.count("day day-none") == 30
    assert f"&amp;server={plan.server.pk}" in page


def test_it_has_numbers_for_every_picture(as_viewer: Client, plan: Plan) -> None:
    make_archive(plan, deduplicated_bytes=7_000_000)
    Plan.objects.update(last_took=timedelta(seconds=90))
    Repository.objects.update(original_bytes=9_000_000_000, compressed_bytes=10**9, deduplicated_bytes=10**9)
    today = timezone.now().date()
    StorageDay.objects.create(pool=plan.repository.pool, day=today - timedelta(days=1), original_bytes=1)
    StorageDay.objects.create(pool=plan.repository.pool, day=today, original_bytes=2_000_000)
    page = as_viewer.get("/statistics").content.decode()
    for table in ("days", "storage", "servers", "durations"):
        assert f'data-table="{table}"' in page
        assert f'id="{table}"' in page
    for text in ("9.0 GB of data take 1.0 GB on disk: 89 % is spared.", "+7.0 MB", "1 min 30 s", 'data-value="90.0"'):
        assert text in page


def test_in_french_bytes_are_octets_for_charts_too(as_viewer: Client, viewer: User, plan: Plan) -> None:
    """Red with units that are not translated."""
    Repository.objects.update(original_bytes=9_000_000_000, compressed_bytes=10**9, deduplicated_bytes=10**9)
    viewer.language = "fr"
    viewer.save()
    page = as_viewer.get("/statistics").content.decode()
    assert "9,0 Go" in page
    assert 'data-units="o ko Mo Go To Po"' in page


def test_before_anything_is_stored_it_says_so(as_viewer: Client) -> None:
    page = as_viewer.get("/statistics").content.decode()
    assert "Nothing is stored yet." in page
    assert "come back tomorrow" in page


def test_servers_share_what_their_repositories_take_and_the_rest_is_one(
    as_viewer: Client, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "REPOSITORIES_SHOWN", 2)
    pool = plan.repository.pool
    for name, size in (("b", 30), ("c", 20), ("d", 5)):
        Repository.objects.create(name=name, server=plan.server, pool=pool, deduplicated_bytes=size)
    context = as_viewer.get("/statistics").context
    assert (context["servers"], context["others"]) == ([(plan.server, 50)], 5)


def test_ten_servers_take_as_many_queries_as_one(as_viewer: Client, plan: Plan) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            as_viewer.get("/statistics")
        return len(found)

    make_archive(plan)
    queries()  # the first one also reads the live settings
    few = queries()
    for number in range(9):
        server = Server.objects.create(name=f"s{number}", address="10.0.0.1")
        repository = Repository.objects.create(
            name=f"r{number}", server=server, pool=plan.repository.pool, deduplicated_bytes=5
        )
        make_archive(Plan.objects.create(name="p", server=server, repository=repository))
    assert queries() == few <= 15

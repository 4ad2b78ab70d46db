"""Orders of lists, deep pages, and lists as CSV."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import lists
from accounts.lists import as_csv, in_batches, is_csv, ordered
from backups.models import Plan, Repository
from jobs.config import config
from servers.models import Server


def text_of(response: Any) -> str:
    async def read() -> bytes:
        return b"".join([piece async for piece in response])

    assert isinstance(response, StreamingHttpResponse)
    return async_to_sync(read)().decode()


def rows_of(response: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text_of(response).removeprefix("\ufeff"))))


@pytest.fixture
def three(db: None) -> list[Server]:
    return [Server.objects.create(name=name, address=f"10.0.0.{n}") for n, name in enumerate(("c", "a", "b"), 1)]


@pytest.mark.parametrize(
    ("asked", "names"),
    [("name", "abc"), ("-name", "cba"), ("address", "cab"), ("port", "cab"), ("-port", "bac"), ("x", "abc"),
     ("private_key_encrypted", "abc"), ("--name", "abc"), ("", "abc")],
)  # fmt: skip
def test_a_list_is_ordered_by_what_it_lets_order_and_nothing_else(three: list[Server], asked: str, names: str) -> None:
    request = RequestFactory().get("/", {"ordering": asked})
    found = ordered(Server.objects.order_by("name"), request, "name", "address", "port")
    assert "".join(server.name for server in found) == names


def test_all_of_a_list_comes_in_batches_in_its_order(three: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "ROWS_AT_ONCE", 2)
    found = [[server.name for server in batch] for batch in in_batches(Server.objects.order_by("-name"))]
    assert found == [["c", "b"], ["a"]]


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_nothing(value: str) -> None:
    """Red without FORMULA: a server called so would be a formula in whoever's table. So would what is no text yet."""
    named = Server(name=value)
    assert rows_of(as_csv("x", iter([[value, named, -1, -1.5]]))) == [[f"'{value}", f"'{value}", "-1", "-1.5"]]


def test_cells_of_every_kind() -> None:
    at = datetime(2026, 11, 26, 12, tzinfo=UTC)
    with timezone.override("Europe/Paris"):
        response = as_csv("jobs of web", iter([['é, "x"\n', None, True, 1.5, at]]))
    assert rows_of(response) == [['é, "x"\n', "", "True", "1.5", "2026-11-26T13:00:00+01:00"]]
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="phpborg-jobs-of-web-')


def test_it_is_read_while_it_is_sent() -> None:
    read: list[int] = []

    def rows() -> Any:
        for number in range(lists.ROWS_AT_ONCE * 3):
            read.append(number)
            yield [number]

    async def first_two(response: Any) -> None:
        pieces = aiter(response)
        await anext(pieces)
        await anext(pieces)

    async_to_sync(first_two)(as_csv("x", rows()))
    assert len(read) == lists.ROWS_AT_ONCE


@pytest.mark.parametrize("path", ["/servers", "/plans", "/archives", "/repositories", "/jobs", "/logs"])
def test_every_list_is_a_table_for_spreadsheets_too(as_viewer: Client, archive: Any, path: str) -> None:
    from jobs.models import Job, LogLine

    job = Job.objects.create(type="backup", server=archive.server, plan=archive.plan, repository=archive.repository)
    LogLine.objects.create(job=job, server=archive.server, number=1, at=timezone.now(), message="hello")
    head, *rows = rows_of(as_viewer.get(path, {"format": "csv"}))
    assert len(rows) == 1
    assert len(rows[0]) == len(head) >= 6
    assert 'href="?format=csv"' in as_viewer.get(path).content.decode()


@pytest.mark.parametrize("path", ["/servers", "/plans", "/archives", "/repositories"])
def test_a_long_table_takes_as_many_queries_as_a_short_one(as_viewer: Client, plan: Any, path: str) -> None:
    from tests.conftest import make_archive

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            rows_of(as_viewer.get(path, {"format": "csv"}))
        return len(found)

    make_archive(plan)
    config.read()  # as nearly always somebody has done within the last second
    short = queries()
    for _ in range(5):
        make_archive(plan)
        Server.objects.create(name=f"s{_}", address="10.0.0.9")
    assert queries() == short


def test_only_who_asks_for_csv_gets_it() -> None:
    assert [is_csv(RequestFactory().get("/", {"format": each})) for each in ("csv", "json", "")] == [True, False, False]


# --- How many there are -----------------------------------------------------------------------


def test_very_many_are_not_counted_at_each_page(three: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """Red without the memory: a second query counts them again."""
    monkeypatch.setattr(lists, "MANY", 2)
    all_of_them = Server.objects.order_by("name")
    with CaptureQueriesContext(connection) as first:
        assert lists.Deep(all_of_them, 2).count == 3
    with CaptureQueriesContext(connection) as second:
        assert lists.Deep(all_of_them, 2).count == 3
    assert (len(first), len(second)) == (1, 0)
    Server.objects.create(name="d", address="10.0.0.4")
    assert lists.Deep(all_of_them.filter(name__gt="b"), 2).count == 2, "Another question has another answer."


def test_few_are_counted_each_time(three: list[Server]) -> None:
    """Red when all counts are remembered."""
    assert lists.Deep(Server.objects.order_by("name"), 2).count == 3
    three[0].delete()
    assert lists.Deep(Server.objects.order_by("name"), 2).count == 2


def test_what_cannot_be_there_is_not_asked_for(db: None) -> None:
    assert lists.Deep(Server.objects.filter(pk__in=[]).order_by("name"), 2).count == 0


def test_a_search_asks_once_for_its_keys(three: list[Server]) -> None:
    found = lists.Searched(Server.objects.filter(name__contains="").order_by("name"), 2)
    with CaptureQueriesContext(connection) as asked:
        assert [server.name for server in found.get_page("2").object_list] == ["c"]
    assert (found.count, len(asked)) == (3, 2)


# --- Rows in the order of whose they are ------------------------------------------------------


@pytest.fixture
def plans_of_some(three: list[Server], repository: Repository) -> QuerySet[Plan]:
    """Of servers with many, with one and with none; their names are in another order than their ids."""
    Server.objects.create(name="A-none", address="10.0.0.5")
    for server, number in ((three[2], 1), (three[0], 7), (repository.server, 2), (three[1], 12)):
        Plan.objects.bulk_create(
            Plan(name=f"p{(n * 5) % number:02}", server=server, repository=repository) for n in range(number)
        )
    return Plan.objects.order_by("server__name", "name")


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 22, 50])
def test_each_page_has_what_comes_next(plans_of_some: QuerySet[Plan], size: int) -> None:
    """Red when a page leaves out nothing, or too much, of its first server; or takes one server's in any order."""
    pages = lists.ByOwner(plans_of_some, size)
    shown = [[plan.full_name for plan in pages.get_page(number).object_list] for number in pages.page_range]
    names = sorted((plan.server.name, plan.name) for plan in plans_of_some)
    expected = [f"{server}/{plan}" for server, plan in names]
    assert shown == [expected[first : first + size] for first in range(0, len(expected), size)]


def test_few_are_sorted_for_a_page(plans_of_some: QuerySet[Plan]) -> None:
    """Red when all are: MariaDB needs 35 ms for ten thousand."""
    pages = lists.ByOwner(plans_of_some, 14)
    assert pages.count == 22
    with CaptureQueriesContext(connection) as asked:
        assert len(pages.get_page(1)) == 14
    whose, sorted_ones, _ = (query["sql"] for query in asked)
    assert " IN (" in sorted_ones
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{whose}")
        way = str(cursor.fetchall())
    assert "TEMP B-TREE" not in way
    assert "filesort" not in way


def test_no_rows_make_an_empty_page(db: None) -> None:
    assert list(lists.ByOwner(Plan.objects.order_by("server__name", "name"), 5).get_page(1).object_list) == []

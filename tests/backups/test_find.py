"""Find a file: patterns, versions, pages, and what somebody may see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from backups import catalog
from backups.borg.results import Entry
from backups.catalog import finding
from backups.catalog.finding import Pattern, Place
from backups.models import Archive, Plan, Repository
from servers.models import Server
from tests.backups.replay import entry
from tests.conftest import make_archive

DAY = datetime(2026, 3, 1, tzinfo=UTC)


pytestmark = pytest.mark.django_db


# --- Patterns ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "fits", "not_"),
    [
        ("report", ["report.pdf", "a/Annual-REPORT", "report/"], ["report/a", "rep/ort"]),
        ("nginx/def", ["etc/nginx/default", "x/NGINX/def"], ["etc/nginx/sites/default", "nginx/d"]),
        ("/etc/ho", ["etc/hosts", "etc/home"], ["srv/etc/hosts", "etc/x/hosts"]),
        ("*.php", ["a/index.PHP", "x.php"], ["x.php5", "x.php/a"]),
        ("log-??.gz", ["log-01.gz"], ["log-1.gz", "xlog-01.gz", "log-/1.gz"]),
        ("/home/*/mail", ["home/eva/mail"], ["home/eva/old/mail", "x/home/eva/mail"]),
        ("/home/**/mail", ["home/eva/old/mail"], ["home/eva/mails"]),
        ("50%_done", ["50%_done.txt"], ["50x_done", "50% done"]),
        ("a.b", ["xa.bx"], ["axb"]), ("été", ["ÉTÉ.txt", "été"], ["ete"]),
        (r"back\slash", [r"back\slash"], ["backslash"]),
        ("[ab].txt", ["[ab].txt"], ["a.txt"]), ("  hosts/  ", ["etc/hosts"], []),
    ],
)  # fmt: skip
def test_a_pattern_fits(pattern: str, fits: list[str], not_: list[str]) -> None:
    archive = Archive(repository_id=7, borg_id="ab" * 32, name="a")
    catalog.build(archive, [entry(path.encode()) for path in (*fits, *not_)])
    found = finding.find(Pattern(pattern), [7], since=Place(), before=None, limit=100)
    assert {hit.text for hit in found.hits} == {"/" + path.rstrip("/") for path in fits}


@pytest.mark.parametrize("pattern", ["", "*", "a", "**/*", "??", "/", "...", "x\0yz", "a*"])
def test_what_fits_nearly_everything_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        Pattern(pattern)


# --- Versions ---------------------------------------------------------------------------------


def taken(plan: Plan, day: int, *entries: Entry) -> Archive:
    when = DAY + timedelta(days=day)
    archive = make_archive(plan, start=when, borg_id=f"{plan.pk:032x}{day:032x}", name=f"{plan}-{day}")
    catalog.build(archive, entries)
    return archive


@pytest.fixture
def archives(plan: Plan) -> list[Archive]:
    """A file that changes on the third day, gets another owner on the fourth, and is lost on the fifth."""
    old, new = (entry(b"home/eva/Thesis.odt", size=size, user="eva") for size in (10, 12))
    other = entry(b"home/eva/Thesis.odt", size=12, user="root")
    return [taken(plan, day, *entries) for day, entries in enumerate([[old], [old], [new], [other], []], 1)]


@pytest.fixture
def elsewhere(plan: Plan) -> Plan:
    """A plan of another server, into another repository."""
    server = Server.objects.create(name="db-1", address="192.0.2.7")
    repository = Repository.objects.create(name="db-1", server=server, pool=plan.repository.pool, state="ready")
    return Plan.objects.create(name="home", server=server, repository=repository)


def found(client: APIClient, **query: Any) -> Any:
    answer = client.get("/api/files", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_file_has_a_line_of_versions(api_viewer: APIClient, plan: Plan, archives: list[Archive]) -> None:
    (file,) = found(api_viewer, search="thesis")["results"]
    assert (file["path"], file["server"]) == ("/home/eva/Thesis.odt", plan.server_id)
    rows = [
        (row["archive"], row["first_archive"], row["archives"], row["size"], row["owner"], row["differs"])
        for row in file["versions"]
    ]
    one, two, three, four, _ = [archive.pk for archive in archives]
    assert rows == [
        (four, four, 1, 12, "root", False), (three, three, 1, 12, "eva", True), (two, one, 2, 10, "eva", None),
    ]  # fmt: skip


def test_the_last_version_before_a_mishap(api_viewer: APIClient, archives: list[Archive]) -> None:
    (file,) = found(api_viewer, search="thesis", before=(DAY + timedelta(days=2, hours=1)).isoformat())["results"]
    assert [(row["archive"], row["size"]) for row in file["versions"]] == [(archives[1].pk, 10)]
    assert found(api_viewer, search="thesis", before=DAY.isoformat())["results"] == []


def test_it_is_found_behind_any_number_of_later_ones(
    api_viewer: APIClient, archives: list[Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without the limit in the query: later versions would take the places that there are."""
    monkeypatch.setattr(finding, "MOST_VERSIONS", 1)
    (file,) = found(api_viewer, search="thesis", before=(DAY + timedelta(days=2, hours=1)).isoformat())["results"]
    assert [row["archive"] for row in file["versions"]] == [archives[1].pk]


def test_what_it_found_can_be_restored_by_its_number(api_viewer: APIClient, archives: list[Archive]) -> None:
    (file,) = found(api_viewer, search="thesis")["results"]
    for row in file["versions"]:
        with catalog.Catalog(Archive.objects.get(pk=row["archive"])) as listing:
            item = listing.item(row["entry"])
            assert item
            assert listing.path(item) == b"home/eva/Thesis.odt"
            assert item.size == row["size"]


def test_an_archive_that_is_gone_is_not_found(api_viewer: APIClient, archives: list[Archive]) -> None:
    catalog.drop(archives[2])
    archives[3].delete()  # struck off our record, and its listing not yet dropped
    (file,) = found(api_viewer, search="thesis")["results"]
    assert [row["archive"] for row in file["versions"]] == [archives[1].pk]


def test_only_of_one_server(api_viewer: APIClient, elsewhere: Plan, archives: list[Archive]) -> None:
    taken(elsewhere, 1, entry(b"thesis-of-somebody-else"))
    both = found(api_viewer, search="thesis")["results"]
    assert {file["path"] for file in both} == {"/home/eva/Thesis.odt", "/thesis-of-somebody-else"}
    (other,) = found(api_viewer, search="thesis", server=elsewhere.server_id)["results"]
    assert (other["server"], other["repository"]) == (elsewhere.server_id, elsewhere.repository_id)
    assert found(api_viewer, search="thesis", server=999)["results"] == []


def test_long_lists_go_on(api_viewer: APIClient, plan: Plan) -> None:
    taken(plan, 1, *(entry(b"d/file-%03d" % number) for number in range(25)))
    seen: list[str] = []
    page = found(api_viewer, search="file-", page_size=10)
    while True:
        seen += [file["path"] for file in page["results"]]
        if page["next"] is None:
            break
        page = api_viewer.get(page["next"]).json()
    assert seen == [f"/d/file-{number:03d}" for number in range(25)]


def test_it_looks_at_so_much_and_says_where_it_goes_on(
    api_viewer: APIClient, elsewhere: Plan, archives: list[Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "MOST_LOOKED_AT", 1)
    taken(elsewhere, 1, entry(b"d/needle"))
    page = found(api_viewer, search="needle")
    assert page["results"] == []
    assert [file["path"] for file in api_viewer.get(page["next"]).json()["results"]] == ["/d/needle"]


def test_opening_a_file_costs_too_and_is_bounded(
    api_viewer: APIClient, elsewhere: Plan, archives: list[Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without NAMES_OF_OPENING: ten thousand small repositories would all be opened for one page."""
    monkeypatch.setattr(finding, "MOST_LOOKED_AT", finding.NAMES_OF_OPENING)
    taken(elsewhere, 1, entry(b"d/needle"))
    page = found(api_viewer, search="needle")
    assert (page["results"], bool(page["next"])) == ([], True)


def test_repositories_without_a_listing_are_told(api_viewer: APIClient, plan: Plan) -> None:
    assert found(api_viewer, search="anything") == {"next": None, "unread": 1, "results": []}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "search"), ("search=*", "search"), ("search=ab&server=x", "server"), ("search=ab&before=noon", "before"),
        ("search=ab&cursor=x", "cursor"), ("search=ab&page_size=101", "page_size"), ("search=ab&serach=x", "serach"),
        ("search=ab&cursor=" + quote("OTk5fjk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"), "cursor"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(api_viewer: APIClient, query: str, field: str) -> None:
    answer = api_viewer.get(f"/api/files?{query}")
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}


def test_however_much_there_is_the_database_is_asked_as_often(
    api_viewer: APIClient, plan: Plan, django_assert_num_queries: Any
) -> None:
    for day in range(1, 12):
        taken(plan, day, *(entry(b"d/file-%03d" % number, size=day) for number in range(30)))
    api_viewer.get("/api/files?search=file")
    with django_assert_num_queries(5):
        assert len(found(api_viewer, search="file")["results"]) == 30


# --- The page ---------------------------------------------------------------------------------


def test_the_page_shows_versions_and_what_to_do(as_operator: Client, archives: list[Archive]) -> None:
    html = as_operator.get("/files?search=thesis").content.decode()
    assert "/home/eva/Thesis.odt" in html
    assert f"/archives/{archives[3].pk}/restore?entry=" not in html  # an operator may not restore


def test_who_may_restore_gets_a_button(as_admin: Client, archives: list[Archive]) -> None:
    html = as_admin.get("/files?search=thesis").content.decode()
    assert f"/archives/{archives[3].pk}/restore?entry=" in html
    assert f"/archives/{archives[1].pk}/restore?entry=" in html


def test_nothing_found_says_what_helps(as_viewer: Client, archives: list[Archive]) -> None:
    assert "A part of the name is enough" in as_viewer.get("/files?search=nowhere").content.decode()
    answer = as_viewer.get("/files?search=*")
    assert answer.status_code == 400
    assert '<div class="alert alert-warning" role="alert">' in answer.content.decode(), "and no empty page"
    assert as_viewer.get("/files").status_code == 200


def test_hostile_names_are_shown_and_do_nothing(as_viewer: Client, plan: Plan) -> None:
    taken(plan, 1, entry(b"d/<script>alert(1)</script>needle"), entry(b"d/needle\n\xff"))
    html = as_viewer.get("/files?search=needle").content.decode()
    assert "<script>alert" not in html
    assert "needle\\n\\xff" in html


def test_who_may_not_see_backups_finds_nothing(
    client: Client, archives: list[Archive], django_user_model: type[User]
) -> None:
    client.force_login(django_user_model.objects.create_user("nobody"))
    assert client.get("/files?search=thesis").status_code == 403

"""Archives on their pages: the list, one, and browsing in it."""

import html as markup
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups import catalog
from backups.models import Archive, Plan
from backups.runners.index import IndexArchive
from jobs.models import Job
from tests.backups.replay import entry
from tests.conftest import make_archive

pytestmark = pytest.mark.django_db

HOSTILE = [
    b"<script>alert(1)", b"\"onclick='x'", b"line\nbreak", b"latin-\xe9", "snow-☃-😀".encode(), b"{{ 7*7 }}", b"&amp;",
]  # fmt: skip


@pytest.fixture
def indexed(archive: Archive) -> Archive:
    day = [datetime(2020, 1, number, tzinfo=UTC) for number in (1, 2)]
    catalog.build(
        archive,
        [
            entry(b"d/"), entry(b"d/b", size=10, modified_at=day[0]), entry(b"d/a", size=20, modified_at=day[1]),
            entry(b"d/z/"), *(entry(b"odd/" + name) for name in HOSTILE),
            *(entry(b"many/%04d" % n) for n in range(450)),
            entry(b"odd/link", mode="lrwxrwxrwx", link=b"<b>\xff"), entry(b"odd/hard", mode="hrw-r--r--", link=b"d/a"),
            entry(b"odd/damaged", healthy=False), entry(b"odd/pipe", mode="prw-r--r--"),
        ],
    )  # fmt: skip
    return archive


def browse(client: Client, archive: Archive, path: bytes = b"", query: str = "") -> Any:
    """Open the folder `path` of the archive."""
    with catalog.Catalog(archive) as listing:
        item = listing.find(path) if path else None
    return client.get(f"/archives/{archive.pk}/browse" + (f"/{item.id}" if item else "") + query)


def shown(answer: Any) -> list[bytes]:
    assert answer.status_code == 200
    return [item.name for item in answer.context["items"]]


# --- Browsing ---------------------------------------------------------------------------------


def test_it_begins_at_the_top(as_viewer: Client, indexed: Archive) -> None:
    answer = browse(as_viewer, indexed)
    assert shown(answer) == [b"d", b"many", b"odd"]
    assert "3 entries in this folder." in answer.getvalue().decode()


def test_a_folder_shows_its_content_and_the_way_to_it(as_viewer: Client, indexed: Archive) -> None:
    answer = browse(as_viewer, indexed, b"d")
    assert shown(answer) == [b"z", b"a", b"b"]
    assert [item.name for item in answer.context["trail"]] == [b"d"]
    assert "<b>d</b>" in answer.getvalue().decode()


def test_an_empty_folder_says_so(as_viewer: Client, indexed: Archive) -> None:
    assert "This folder is empty." in browse(as_viewer, indexed, b"d/z").getvalue().decode()


def test_hostile_names_are_shown_escaped(as_admin: Client, indexed: Archive) -> None:
    html = browse(as_admin, indexed, b"odd").getvalue().decode()
    assert "<script>alert" not in html
    assert "onclick='x'" not in html
    for name in HOSTILE:
        assert markup.escape(catalog.readable(name)) in html
    assert "→ &lt;b&gt;\\xff" in html
    assert "hard link" in html
    assert "damaged" in html


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("name", [b"z", b"a", b"b"]), ("-name", [b"z", b"b", b"a"]), ("size", [b"z", b"b", b"a"]),
        ("-size", [b"z", b"a", b"b"]), ("-modified_at", [b"z", b"a", b"b"]), ("modified_at", [b"z", b"b", b"a"]),
        ("nonsense", [b"z", b"a", b"b"]), ("name; DROP TABLE entry", [b"z", b"a", b"b"]), ("", [b"z", b"a", b"b"]),
    ],
)  # fmt: skip
def test_it_is_sorted_as_asked(as_viewer: Client, indexed: Archive, order: str, expected: list[bytes]) -> None:
    assert shown(browse(as_viewer, indexed, b"d", f"?ordering={order}")) == expected


@pytest.mark.parametrize(
    ("page", "first", "count", "previous", "following"),
    [
        ("1", b"0000", 200, None, 2), ("2", b"0200", 200, 1, 3), ("3", b"0400", 50, 2, None),
        ("", b"0000", 200, None, 2),
        ("0", b"0000", 200, None, 2), ("00", b"0000", 200, None, 2), ("-1", b"0000", 200, None, 2),
        ("x", b"0000", 200, None, 2), ("9" * 40, b"0000", 200, None, 2), ("²", b"0000", 200, None, 2),
    ],
)  # fmt: skip
def test_a_large_folder_is_paged(
    as_viewer: Client,
    indexed: Archive,
    page: str,
    first: bytes,
    count: int,
    previous: int | None,
    following: int | None,
) -> None:
    answer = browse(as_viewer, indexed, b"many", f"?page={page}")
    assert (shown(answer)[0], len(shown(answer))) == (first, count)
    assert (answer.context["previous"], answer.context["next"]) == (previous, following)


def test_a_page_beyond_the_last_is_empty(as_viewer: Client, indexed: Archive) -> None:
    assert shown(browse(as_viewer, indexed, b"many", "?page=99")) == []


def test_what_is_no_folder_is_404(as_viewer: Client, indexed: Archive) -> None:
    with catalog.Catalog(indexed) as listing:
        file = listing.find(b"d/a")
    assert file
    for number in (file.id, 9999, 2**63, 10**30):
        assert as_viewer.get(f"/archives/{indexed.pk}/browse/{number}").status_code == 404
    assert as_viewer.get("/archives/999/browse").status_code == 404


def test_who_may_not_restore_sees_no_buttons_for_it(as_viewer: Client, as_admin: Client, indexed: Archive) -> None:
    assert "Restore what is chosen" not in browse(as_viewer, indexed, b"d").getvalue().decode()
    assert "Restore what is chosen" in browse(as_admin, indexed, b"d").getvalue().decode()


# --- Before the listing is read ---------------------------------------------------------------


def test_an_archive_without_its_listing_offers_to_read_it(as_viewer: Client, archive: Archive) -> None:
    answer = as_viewer.get(f"/archives/{archive.pk}/browse")
    html = answer.getvalue().decode()
    assert answer.status_code == 200  # HTMX swaps nothing but a success in, and this page comes back by itself
    assert f'action="/jobs/start/index/{archive.pk}"' in html
    assert "hx-trigger" not in html.partition("<section")[2].partition("</section>")[0]


def test_while_it_is_read_the_page_comes_back_by_itself(as_viewer: Client, archive: Archive) -> None:
    job = IndexArchive.enqueue(archive)
    html = as_viewer.get(f"/archives/{archive.pk}/browse?page=2").getvalue().decode()
    assert f'hx-get="/archives/{archive.pk}/browse?page=2"' in html
    assert f"/jobs/{job.pk}" in html
    assert f"/jobs/start/index/{archive.pk}" not in html


def test_a_reading_that_failed_says_why_and_may_be_tried_again(as_viewer: Client, archive: Archive) -> None:
    Job.objects.create(
        type="index", subject=f"archive:{archive.pk}", status="failed", error="No <disk>.", completed_at=timezone.now()
    )
    html = as_viewer.get(f"/archives/{archive.pk}/browse").getvalue().decode()
    assert "No &lt;disk&gt;." in html
    assert f"/jobs/start/index/{archive.pk}" in html


def test_once_it_is_read_the_page_heals(as_viewer: Client, archive: Archive) -> None:
    assert "has not been read" in as_viewer.get(f"/archives/{archive.pk}/browse").getvalue().decode()
    as_viewer.post(f"/jobs/start/index/{archive.pk}")
    assert Job.objects.get().type == "index"
    catalog.build(archive, [entry(b"etc/")])
    assert shown(as_viewer.get(f"/archives/{archive.pk}/browse")) == [b"etc"]


# --- The list ---------------------------------------------------------------------------------


def listed(client: Client, query: str = "") -> list[str]:
    answer = client.get(f"/archives{query}")
    assert answer.status_code == 200
    return [archive.name for archive in answer.context["page"]]


@pytest.fixture
def four(plan: Plan, second_plan: Plan) -> None:
    now = timezone.now()
    for number, owner in enumerate((plan, plan, plan, second_plan)):
        make_archive(
            owner, name=f"a{number}", start=now - timedelta(days=number), suspicion="Odd." if number == 1 else "",
            warnings=number == 2,
        )  # fmt: skip


@pytest.mark.usefixtures("four")
def test_the_newest_archive_comes_first(as_viewer: Client) -> None:
    assert listed(as_viewer) == ["a0", "a1", "a2", "a3"]


@pytest.mark.usefixtures("four")
def test_the_list_is_filtered(as_viewer: Client, plan: Plan) -> None:
    assert listed(as_viewer, "?suspicious=true") == ["a1"]
    assert listed(as_viewer, "?suspicious=false") == ["a0", "a2", "a3"]
    assert listed(as_viewer, "?search=A2") == ["a2"]
    assert listed(as_viewer, f"?plan={plan.pk}") == ["a0", "a1", "a2"]
    assert listed(as_viewer, "?search=%3Cscript%3E") == []


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("query", ["?suspicious=perhaps", "?plan=x", "?since=yesterday"])
def test_a_filter_that_makes_no_sense_finds_nothing_and_is_told(as_viewer: Client, query: str) -> None:
    """A tired person would take a list of everything for what they asked."""
    assert listed(as_viewer, query) == []
    assert "alert-warning" in as_viewer.get(f"/archives{query}").content.decode()


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("query", ["?page=x", "?page=99", "?nothing=1"])
def test_a_page_that_there_is_not_breaks_nothing(as_viewer: Client, query: str) -> None:
    assert len(listed(as_viewer, query)) == 4


@pytest.mark.usefixtures("four")
def test_each_state_has_a_word(as_viewer: Client) -> None:
    html = as_viewer.get("/archives").getvalue().decode()
    for word in ("good", "suspicious", "with warnings"):
        assert f"<span>{word}</span>" in html


def test_without_any_the_list_says_what_an_archive_is(as_viewer: Client) -> None:
    assert "No archive yet" in as_viewer.get("/archives").getvalue().decode()


# --- One --------------------------------------------------------------------------------------


def test_its_page_compares_it_with_the_one_before(as_viewer: Client, plan: Plan) -> None:
    now = timezone.now()
    make_archive(plan, files=90, start=now - timedelta(days=2))
    make_archive(plan, files=95, start=now - timedelta(days=1))
    newest = make_archive(plan, files=100)
    answer = as_viewer.get(f"/archives/{newest.pk}")
    assert answer.context["before"].files == 95
    assert "95 in the one before" in answer.getvalue().decode()


def test_its_page_warns_of_what_is_suspicious(as_viewer: Client, plan: Plan) -> None:
    odd = make_archive(plan, suspicion="Not found on the server: <b>/etc</b>.")
    html = as_viewer.get(f"/archives/{odd.pk}").getvalue().decode()
    assert "Not found on the server: &lt;b&gt;/etc&lt;/b&gt;." in html
    assert "It counts as no good backup." in html


def test_its_page_shows_the_command_and_says_where_the_listing_is(as_viewer: Client, indexed: Archive) -> None:
    Archive.objects.update(command_line="BORG_RSH='x' borg create -- '/a b'", indexed_at=timezone.now())
    html = as_viewer.get(f"/archives/{indexed.pk}").getvalue().decode()
    assert markup.escape("BORG_RSH='x' borg create -- '/a b'").replace("&#x27;", "&#x27;") in html
    assert "read <time" in html


def test_archives_are_for_who_may_see_backups(client: Client, indexed: Archive, django_user_model: Any) -> None:
    client.force_login(django_user_model.objects.create_user("nobody"))
    for path in ("/archives", f"/archives/{indexed.pk}", f"/archives/{indexed.pk}/browse"):
        assert client.get(path).status_code == 403

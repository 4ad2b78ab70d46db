"""The listing of an archive as a small database: written once, read many times."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backups import catalog
from backups.borg.results import Entry, Unreadable
from backups.catalog import ROOT, Catalog, Damaged, Item, NotIndexed, as_argument, readable
from backups.catalog.store import file_of, writing
from backups.models import Archive
from tests.backups.replay import entry

HOSTILE = [
    b"line\nbreak", b"tab\there", b"quote'\"`$(id)", b"<script>alert(1)", b"latin-\xe9\xff", b" spaces ",
    "snow-☃-😀".encode(), b"back\\slash \\n \\x41", b"-rf", b"--option", b"%00%0a", b"a" * 255, b"..", b"...", b"*?[a]",
    b"\x1b[31mred", "right\u202eleft".encode(), b"\xed\xa0\x80",
]  # fmt: skip
DIES = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE path SET name = 'half'")
connection.executemany("INSERT INTO line (of) VALUES (?)", ((f"line {n}",) for n in range(10_000)))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def archive() -> Archive:
    """One that no database knows: a catalog asks for its numbers only."""
    return made(1)


def made(number: int, *, plan: int | None = 1, day: int | None = None) -> Archive:
    """The archive that was taken on that day of the year, by default on that of its number."""
    taken_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number if day is None else day)
    return Archive(
        repository_id=7,
        plan_id=plan,
        borg_id=f"{number:064x}",
        name=f"web-files-{taken_at:%Y-%m-%d}",
        taken_at=taken_at,
    )


def names(items: Iterable[Item]) -> list[bytes]:
    return [item.name for item in items]


def at(listing: Catalog, path: bytes) -> Item:
    item = listing.find(path)
    assert item is not None, path
    return item


def built(archive: Archive, *entries: Entry) -> Catalog:
    catalog.build(archive, entries)
    return Catalog(archive)


# --- Writing ----------------------------------------------------------------------------------


def test_a_listing_becomes_a_tree(archive: Archive) -> None:
    with built(archive, entry(b"etc/"), entry(b"etc/hosts"), entry(b"etc/ssh/"), entry(b"etc/ssh/key")) as listing:
        assert names(listing.folder(ROOT)) == [b"etc"]
        assert names(listing.folder(at(listing, b"etc").id)) == [b"ssh", b"hosts"]
        assert names(listing.folder(at(listing, b"etc/ssh").id)) == [b"key"]


def test_every_field_of_an_entry_is_kept(archive: Archive) -> None:
    when = datetime(2020, 1, 2, 3, 4, 5, 678900, UTC)
    given = entry(
        b"etc/link",
        mode="lrwxrwxrwx",
        user="u\u00f6",
        group="g",
        size=7,
        modified_at=when,
        link=b"to \xff",
        healthy=False,
    )
    with built(archive, given) as listing:
        item = at(listing, b"etc/link")
    assert (item.kind, item.mode, item.owner, item.group, item.size) == ("l", "lrwxrwxrwx", "uö", "g", 7)
    assert (item.modified_at, item.link, item.link_text, item.healthy) == (when, b"to \xff", "to \\xff", False)


@pytest.mark.parametrize(
    ("mode", "kind", "is_file", "is_folder"),
    [
        ("-rw-r--r--", "-", True, False), ("drwxr-xr-x", "d", False, True), ("lrwxrwxrwx", "l", False, False),
        ("prw-------", "p", False, False), ("crw-------", "c", False, False), ("brw-------", "b", False, False),
        ("srw-------", "s", False, False), ("hrw-r--r--", "-", True, False),
    ],
)  # fmt: skip
def test_each_kind_of_entry_is_known(archive: Archive, mode: str, kind: str, is_file: bool, is_folder: bool) -> None:
    with built(archive, entry(b"x", mode=mode)) as listing:
        item = at(listing, b"x")
    assert (item.kind, item.is_file, item.is_folder, item.is_hard_link) == (kind, is_file, is_folder, mode[0] == "h")


def test_folders_that_the_archive_does_not_hold_are_made_up(archive: Archive) -> None:
    with built(archive, entry(b"srv/www/index.html"), entry(b"srv/www/a/")) as listing:
        folder = at(listing, b"srv/www")
        assert folder.is_folder
        assert (folder.mode, folder.owner, folder.modified_at) == ("", "", None)
        assert names(listing.folder(folder.id)) == [b"a", b"index.html"]
        assert names(listing.folder(ROOT)) == [b"srv"]


def test_a_folder_that_comes_after_its_content_is_itself(archive: Archive) -> None:
    with built(archive, entry(b"srv/x"), entry(b"srv/", user="www")) as listing:
        assert listing.count(ROOT) == 1
        assert at(listing, b"srv").owner == "www"
        assert names(listing.folder(at(listing, b"srv").id)) == [b"x"]


def test_an_entry_that_comes_twice_is_there_once_as_it_was_last(archive: Archive) -> None:
    assert catalog.build(archive, [entry(b"a/x", size=1), entry(b"a/x", size=2)]) == 2  # and the folder
    with Catalog(archive) as listing:
        assert [item.size for item in listing.folder(at(listing, b"a").id)] == [2]


def test_how_many_entries_there_are_is_told(archive: Archive) -> None:
    assert catalog.build(archive, [entry(b"etc/"), entry(b"etc/a"), entry(b"srv/deep/b")]) == 5


def test_the_root_of_the_machine_is_the_root_of_the_tree(archive: Archive) -> None:
    """Borg lists "/" itself as ".", beside what is below it."""
    with built(archive, entry(b"./"), entry(b"bin/"), entry(b"bin/sh")) as listing:
        assert names(listing.folder(ROOT)) == [b"bin"]


def test_an_empty_archive_has_an_empty_tree(archive: Archive) -> None:
    with built(archive) as listing:
        assert (listing.folder(ROOT), listing.count(ROOT)) == ([], 0)


def test_hostile_names_stay_the_bytes_that_they_are(archive: Archive) -> None:
    with built(archive, *(entry(b"d/" + name) for name in HOSTILE)) as listing:
        folder = at(listing, b"d")
        assert sorted(names(listing.folder(folder.id))) == sorted(HOSTILE)
        for name in HOSTILE:
            assert listing.path(at(listing, b"d/" + name)) == b"d/" + name
            assert os.fsencode(as_argument(name)) == name


def test_a_path_that_leads_out_stays_in_the_tree(archive: Archive) -> None:
    with built(archive, entry(b"../../etc/passwd")) as listing:
        assert names(listing.folder(ROOT)) == [b".."]
        assert listing.path(at(listing, b"../../etc/passwd")) == b"../../etc/passwd"


def test_two_thousand_folders_in_each_other(archive: Archive) -> None:
    deep = b"/".join([b"d"] * 2_000)
    with built(archive, entry(deep + b"/file"), entry(deep + b"/other")) as listing:
        item = at(listing, deep + b"/file")
        assert listing.path(item) == deep + b"/file"
        assert len(listing.trail(item)) == 2_001
        assert names(listing.folder(item.parent)) == [b"file", b"other"]


def test_two_hundred_thousand_entries_take_little_memory(archive: Archive) -> None:
    def entries() -> Iterator[Entry]:
        for number in range(200_000):
            yield entry(b"home/%04d/file-%07d" % (number // 50, number))

    tracemalloc.start()
    try:
        count = catalog.build(archive, entries())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200_000 + 4_000 + 1
    assert peak < 50_000_000


def test_folders_that_were_forgotten_are_found_again(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backups.catalog.writing.FOLDERS_REMEMBERED", 3)
    paths = [b"a%d/b/c%d" % (number % 7, number) for number in range(50)]
    with built(archive, *(entry(path) for path in paths)) as listing:
        assert listing.count(ROOT) == 7
        assert all(listing.path(at(listing, path)) == path for path in paths)


# --- Put in place when it is whole ------------------------------------------------------------


def test_before_it_is_read_there_is_none(archive: Archive) -> None:
    with pytest.raises(NotIndexed):
        Catalog(archive)


def test_a_listing_that_breaks_off_leaves_the_old_one(archive: Archive) -> None:
    def broken() -> Iterator[Entry]:
        yield entry(b"new")
        raise Unreadable("the listing ends in the middle of an entry")

    built(archive, entry(b"old")).__exit__()
    with pytest.raises(Unreadable):
        catalog.build(archive, broken())
    with Catalog(archive) as listing:
        assert names(listing.folder(ROOT)) == [b"old"]
    assert [path.name for path in file_of(7).parent.iterdir()] == ["7.sqlite3"]


def test_who_reads_is_not_kept_from_it_by_who_writes(archive: Archive) -> None:
    with built(archive, entry(b"old")) as listing:

        def read_meanwhile() -> Iterator[Entry]:
            yield entry(b"new")
            assert names(listing.folder(ROOT)) == [b"old"]

        catalog.build(made(2), read_meanwhile())
        assert names(listing.folder(ROOT)) == [b"old"]


def test_one_worker_writes_after_the_other(archive: Archive) -> None:
    waited: list[int] = []
    with writing(7) as first:

        def stop_waiting() -> None:
            waited.append(1)
            first.execute("COMMIT")
            first.execute("BEGIN")

        assert catalog.build(archive, [entry(b"a")], stop_waiting) == 1
    assert waited
    assert catalog.has(archive)


def test_what_a_worker_that_died_left_behind_is_in_nobodys_way(archive: Archive) -> None:
    """Killed with a journal on the disk: the next who writes makes it as it was."""
    built(archive, entry(b"old")).__exit__()
    with subprocess.Popen([sys.executable, "-c", DIES, str(file_of(7))], stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == b"written\n"
        worker.kill()
    assert file_of(7).with_name("7.sqlite3-journal").exists()
    with built(made(2), entry(b"new")) as listing:
        assert names(listing.folder(ROOT)) == [b"new"]
    with Catalog(archive) as listing:
        assert names(listing.folder(ROOT)) == [b"old"]


def test_a_damaged_file_is_no_listing(archive: Archive) -> None:
    built(archive, *(entry(b"d/%05d" % number) for number in range(5_000))).__exit__()
    with file_of(7).open("r+b") as file:
        for place in range(4096, file_of(7).stat().st_size, 4096):
            file.seek(place)
            file.write(b"\xff" * 100)
    with pytest.raises(NotIndexed), Catalog(archive) as listing:
        listing.folder(ROOT)
    with pytest.raises(Damaged):
        catalog.build(made(2), [entry(b"new")])
    catalog.drop(archive)  # nobody fails because of it
    catalog.drop_all(7)
    with built(archive, entry(b"new")) as listing:
        assert names(listing.folder(ROOT)) == [b"new"]


def test_a_file_that_is_something_else_is_no_listing(archive: Archive) -> None:
    file_of(7).parent.mkdir(parents=True)
    file_of(7).write_bytes(b"not a database" * 1000)
    assert not catalog.has(archive)
    with pytest.raises(Damaged):
        catalog.build(archive, [entry(b"new")])


def test_who_drops_does_not_wait_and_the_next_who_writes_does_it(archive: Archive) -> None:
    built(archive, entry(b"a")).__exit__()

    def meanwhile() -> Iterator[Entry]:
        catalog.drop(archive)
        yield entry(b"b")

    catalog.build(made(2), meanwhile())
    assert catalog.has(archive)
    catalog.build(made(3), [entry(b"c")], known={made(2).borg_id, made(3).borg_id})
    assert not catalog.has(archive)
    assert catalog.has(made(2))


def test_a_file_that_was_thrown_away_meanwhile_is_not_written_to(archive: Archive) -> None:
    """Red without the look at which file is locked: what was written would be in no file."""
    built(made(2), entry(b"old")).__exit__()
    with writing(7) as first:

        def throw_it_away() -> None:
            catalog.drop_all(7)
            first.execute("COMMIT")
            first.execute("BEGIN")

        catalog.build(archive, [entry(b"new")], throw_it_away)
    assert catalog.has(archive)


def test_dropping_it_drops_it_once(archive: Archive) -> None:
    built(archive, entry(b"a")).__exit__()
    catalog.drop(archive)
    catalog.drop(archive)
    with pytest.raises(NotIndexed):
        Catalog(archive)


def test_others_on_the_machine_cannot_read_it(archive: Archive) -> None:
    built(archive, entry(b"a")).__exit__()
    assert file_of(7).parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("folder", ["a b", "50% #1?", "ü"])
def test_it_may_lie_in_a_folder_of_any_name(archive: Archive, tmp_path: Any, settings: Any, folder: str) -> None:
    settings.CATALOG_DIR = tmp_path / folder
    with built(archive, entry(b"a")) as listing:
        assert listing.count(ROOT) == 1


# --- Reading ----------------------------------------------------------------------------------


@pytest.fixture
def listing(archive: Archive) -> Iterator[Catalog]:
    day = [datetime(2020, 1, number, tzinfo=UTC) for number in (1, 2, 3)]
    catalog.build(
        archive,
        [
            entry(b"d/"), entry(b"d/b", size=1, modified_at=day[2]), entry(b"d/a", size=3, modified_at=day[0]),
            entry(b"d/c", size=2, modified_at=day[1]), entry(b"d/z/", modified_at=day[0]), entry(b"d/y/"),
            entry(b"d/y/deep-a"), entry(b"d/y/A"),
        ],
    )  # fmt: skip
    with Catalog(archive) as listing:
        yield listing


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("name", [b"y", b"z", b"a", b"b", b"c"]), ("-name", [b"z", b"y", b"c", b"b", b"a"]),
        ("size", [b"z", b"y", b"b", b"c", b"a"]), ("-size", [b"y", b"z", b"a", b"c", b"b"]),
        ("modified_at", [b"y", b"z", b"a", b"c", b"b"]), ("-modified_at", [b"z", b"y", b"b", b"c", b"a"]),
    ],
)  # fmt: skip
def test_a_folder_is_sorted_with_folders_first(listing: Catalog, order: str, expected: list[bytes]) -> None:
    assert names(listing.folder(at(listing, b"d").id, order=order)) == expected


def test_a_folder_is_read_page_by_page(listing: Catalog) -> None:
    folder = at(listing, b"d").id
    pages = [names(listing.folder(folder, offset=offset, limit=2)) for offset in (0, 2, 4, 6)]
    assert pages == [[b"y", b"z"], [b"a", b"b"], [b"c"], []]
    assert listing.count(folder) == 5


@pytest.mark.parametrize(
    ("part", "found"),
    [(b"a", [b"a", b"deep-a"]), (b"A", [b"A"]), (b"deep", [b"deep-a"]), (b"%", []), (b"/", []), (b"nothing", [])],
)
def test_a_search_finds_parts_of_names_anywhere(listing: Catalog, part: bytes, found: list[bytes]) -> None:
    items, count = listing.search(part)
    assert (names(items), count) == (found, len(found))


def test_a_search_is_read_page_by_page(listing: Catalog) -> None:
    items, count = listing.search(b"a", offset=1, limit=1)
    assert (names(items), count) == ([b"deep-a"], 2)


@pytest.mark.parametrize("path", [b"d/y/A", b"/d/y/A", b"d//y/A", b"d/y/A/", b"//d/y/A"])
def test_slashes_do_not_matter(listing: Catalog, path: bytes) -> None:
    assert listing.path(at(listing, path)) == b"d/y/A"


@pytest.mark.parametrize("path", [b"", b"/", b"x", b"d/x", b"d/a/x", b"D", b"d/y/a", b"d/../d"])
def test_where_nothing_is_nothing_is_found(listing: Catalog, path: bytes) -> None:
    assert listing.find(path) is None


def test_a_trail_leads_from_the_root_to_the_entry(listing: Catalog) -> None:
    assert names(listing.trail(at(listing, b"d/y/A"))) == [b"d", b"y", b"A"]
    assert listing.trail(None) == []


@pytest.mark.parametrize("number", [0, -1, 99, 2**63 - 1, 2**63, 10**30, -(10**30)])
def test_a_number_that_no_entry_has_finds_none(listing: Catalog, number: int) -> None:
    assert listing.item(number) is None


def test_a_hard_link_has_the_content_of_the_first_entry(archive: Archive) -> None:
    first = entry(b"d/one", size=7)
    again = entry(b"d/two", mode="hrw-r--r--", size=0, link=b"d/one")
    lost = entry(b"d/three", mode="hrw-r--r--", size=0, link=b"elsewhere")
    with built(archive, first, again, lost) as listing:
        assert listing.content_of(at(listing, b"d/two")) == at(listing, b"d/one")
        assert listing.content_of(at(listing, b"d/one")) == at(listing, b"d/one")
        assert listing.content_of(at(listing, b"d/three")) == at(listing, b"d/three")


# --- Names for eyes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"hosts", "hosts"), ("snow-☃-😀 é".encode(), "snow-☃-😀 é"), (b"two words ", "two words "),
        (b"line\nbreak", "line\\nbreak"), (b"tab\there", "tab\\there"), (b"cr\r", "cr\\r"), (b"\x1b[31m", "\\x1b[31m"),
        (b"latin-\xe9\xff", "latin-\\xe9\\xff"), (b"\xed\xa0\x80", "\\xed\\xa0\\x80"), (b"nul\0", "nul\\x00"),
        ("right\u202eleft".encode(), "right\\u202eleft"), ("no\u00a0break".encode(), "no\\xa0break"),
        (b"<b>&'\"", "<b>&'\""), (b"", ""),
    ],
)  # fmt: skip
def test_a_name_is_made_readable(name: bytes, shown: str) -> None:
    assert readable(name) == shown
    shown.encode()

"""backups.restoring: what is chosen, and where it comes to lie."""

from __future__ import annotations

import stat
from datetime import UTC, datetime

import pytest

from backups.borg.results import Entry
from backups.placing import Placed
from backups.restoring import Chosen, Complaints, Ways, kind_of, lineage, overlap
from tests.backups.replay import entry


def chosen(*entries: Entry) -> Chosen:
    found = Chosen()
    for one in entries:
        found.add(one)
    return found


def test_only_the_uppermost_entries_are_roots() -> None:
    found = chosen(entry(b"srv/www/"), entry(b"srv/www/a"), entry(b"srv/wwwx"), entry(b"."), entry(b"etc/hosts"))
    assert found.roots == {b"srv/www", b"srv/wwwx", b"etc/hosts"}
    assert (found.size, found.files) == (9, 3)
    assert found.folder == ""
    assert chosen(entry(b"srv/www/a"), entry(b"srv/www/b/")).folder == "srv/www"
    assert chosen(entry(b"a")).folder == ""


def test_hard_links_are_known_by_the_file_that_they_share() -> None:
    second = entry(b"srv/b", mode="hrw-r--r--", size=0, link=b"srv/a")
    assert chosen(entry(b"srv/a"), second).links == {b"srv/a": [b"srv/b"]}


def test_beside_only_the_root_gets_the_ending() -> None:
    ways = Ways(chosen(entry(b"srv/www/")), ".restored-1", beside=True)
    assert ways.of(b"srv/www/a/b") == b"srv/www.restored-1/a/b"
    assert ways.of(b"srv/www") == b"srv/www.restored-1"


def test_what_was_left_is_nowhere_and_what_was_kept_beside_is_there() -> None:
    ways = Ways(chosen(entry(b"srv/")), ".restored-1", beside=False)
    ways.placed = Placed(skipped={b"srv/a"}, beside={b"srv/b"}, failed=[(b"srv/c", "why")])
    ways.settle()
    assert [ways.of(path) for path in (b"srv/a", b"srv/a/x", b"srv/c", b"srv/ab")] == [None, None, None, b"srv/ab"]
    assert ways.of(b"srv/b/x") == b"srv/b.restored-1/x"


def test_lineage_goes_from_the_uppermost_down() -> None:
    assert list(lineage(b"a/b/c")) == [b"a", b"a/b", b"a/b/c"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/var/lib/mysql", "/var/lib/mysql", True), ("/var/lib/mysql", "/var", True), ("/var/lib/mysql/", "/", True),
        ("/var/lib/mysql", "/var/lib/mysql/ibdata1", True), ("/var/lib/mysql", "/var/lib/mysql.restored-1", False),
        ("/var/lib/mysql", "/var/lib/my", False), ("/a", "/b", False),
    ],
)  # fmt: skip
def test_which_paths_overlap(one: str, other: str, *, expected: bool) -> None:
    assert overlap(one, other) == overlap(other, one) == expected


WHEN = datetime(2026, 3, 1, tzinfo=UTC)
SECONDS = int(WHEN.timestamp())


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (None, "new"), ((3, SECONDS, stat.S_IFREG), "same"), ((4, SECONDS, stat.S_IFREG), "differs"),
        ((3, SECONDS + 1, stat.S_IFREG), "differs"), ((3, SECONDS, stat.S_IFLNK), "differs"),
        ((3, SECONDS, stat.S_IFDIR), "differs"),
    ],
)  # fmt: skip
def test_what_a_file_meets(found: tuple[int, int, int] | None, kind: str) -> None:
    assert kind_of(entry(b"a", modified_at=WHEN), found) == kind


def test_a_folder_meets_a_folder() -> None:
    assert kind_of(entry(b"a/"), (0, 0, stat.S_IFDIR)) == "folders"
    assert kind_of(entry(b"a/"), (0, 0, stat.S_IFLNK)) == "differs"


def test_what_tar_says_is_kept_in_bounds() -> None:
    complaints = Complaints()
    complaints.take(["tar: a b: Cannot open: File exists", b"bytes", "tar: Exiting with failure status due to errors"])
    assert complaints.paths == [["a b", "Cannot open: File exists"]]
    assert not complaints.of_no_room
    complaints.take([f"tar: {n}: Cannot write: No space left on device" for n in range(5000)])
    assert complaints.of_no_room
    assert len(complaints.lines) == len(complaints.paths) + 1 == 100

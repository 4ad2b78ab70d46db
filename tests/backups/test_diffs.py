"""The store of what differs between two archives: folders with sums, exact names, and what becomes of old ones."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups import diffs
from backups.borg.changes import Change, Kind
from backups.borg.results import Entry, Unreadable
from backups.diffs import ROOT, Diff, Item, NotCompared
from backups.maintenance import sweep_comparisons
from backups.models import Archive, Plan
from tests.backups.replay import entry
from tests.conftest import make_archive

pytestmark = pytest.mark.django_db


def added(path: bytes, size: int = 1, **changes: Any) -> Change:
    return Change(path, Kind.ADDED, size, 0, **changes)


def removed(path: bytes, size: int = 1) -> Change:
    return Change(path, Kind.REMOVED, 0, size)


def changed(path: bytes, more: int = 1, less: int = 1, **changes: Any) -> Change:
    return Change(path, Kind.CHANGED, more, less, **changes)


def attributes(path: bytes, **changes: Any) -> Change:
    return Change(path, Kind.ATTRIBUTES, 0, 0, **changes)


@pytest.fixture
def two(plan: Plan) -> tuple[Archive, Archive]:
    return make_archive(plan), make_archive(plan)


Two = tuple[Archive, Archive]


def nothing_to_ask(archive: Archive) -> Iterable[Entry]:
    raise AssertionError("There was nothing to ask for.")


def built(two: Two, *changes: Change, before: Iterable[Entry] | None = None, after: Iterable[Entry] = ()) -> Item:
    listings = {two[0].pk: list(before or ()), two[1].pk: list(after)}
    asks = nothing_to_ask if before is None else lambda archive: listings[archive.pk]
    return diffs.build(*two, changes, asks)


def leaves(two: Two) -> dict[bytes, Item]:
    with Diff(*two) as found:
        return dict(found.leaves())


def names(two: Two, folder: bytes = b"", **how: Any) -> list[bytes]:
    with Diff(*two) as found:
        at = found.find(folder)
        assert at
        assert found.count(at.id, kind=how.get("kind", "")) == len(found.folder(at.id, **how))
        return [item.name for item in found.folder(at.id, **how)]


# --- Folders and sums -------------------------------------------------------------------------


def test_every_folder_has_the_sums_of_what_is_below_it(two: Two) -> None:
    total = built(
        two, added(b"srv/www/a", 100), removed(b"srv/www/b", 30), changed(b"srv/log", 50, 20), added(b"srv/www.old", 7),
        attributes(b"srv/www", times=True), attributes(b"etc"),
    )  # fmt: skip
    assert (total.added, total.removed, total.growth, total.below) == (157, 50, 107, 6)
    with Diff(*two) as found:
        assert found.item(ROOT) == total
        srv, www = found.find(b"/srv/"), found.find(b"srv/www")
        assert srv
        assert www
        assert (srv.kind, srv.added, srv.removed, srv.below) == ("", 157, 50, 5)
        assert (www.kind, www.added, www.removed, www.below, www.times) == ("attributes", 100, 30, 2, True)
        assert (srv.count_added, srv.count_removed, srv.count_changed, srv.count_attributes) == (2, 1, 1, 1)
        assert [part.name for part in found.trail(www)] == [b"srv", b"www"]
        assert found.find(b"srv/nothing") is None
        assert found.item(10**6) is found.item(-1) is found.item(2**63) is None


def sums(changes: Iterable[tuple[Kind, int, int]]) -> tuple[int, int]:
    listed = list(changes)
    return sum(more for _, more, _ in listed), sum(less for _, _, less in listed)


PATHS = st.lists(st.sampled_from([b"a", b"b", b"a b", b"a!", b"a-b", b"\xff", b"..."]), min_size=1, max_size=5)


@given(st.lists(st.tuples(PATHS, st.sampled_from(list(Kind)), st.integers(0, 99), st.integers(0, 99)), max_size=30))
def test_sums_are_those_of_the_leaves_whatever_the_names_and_their_order(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[list[bytes], Kind, int, int]]
) -> None:
    """Red if paths are sorted as they are: “a!” stands between “a” and “a/b” then."""
    two = (Archive(repository_id=1, borg_id="a" * 64), Archive(repository_id=1, borg_id="b" * 64))
    wanted = {b"/".join(path): (kind, more, less) for path, kind, more, less in changes}
    total = built(two, *(Change(path, *rest) for path, rest in wanted.items()))
    assert (total.added, total.removed) == sums(wanted.values())
    found = leaves(two)
    assert set(found) == set(wanted)
    for path, item in found.items():
        below = [rest for other, rest in wanted.items() if other == path or other.startswith(path + b"/")]
        assert (item.added, item.removed) == sums(below)
        assert item.below == len(below) - 1
        assert item.kind == wanted[path][0]


def test_the_machine_s_own_root_is_the_root(two: Two) -> None:
    assert built(two, attributes(b"."), attributes(b"/"), added(b"/etc/x", 3)).added == 3
    assert names(two) == [b"etc"]


def test_the_same_path_twice_is_one_entry(two: Two) -> None:
    built(two, added(b"x", 3), added(b"x", 4))
    assert {path: item.added for path, item in leaves(two).items()} == {b"x": 7}


def test_sums_beyond_what_can_be_counted_stay_countable(two: Two) -> None:
    """Red without the bound: OverflowError."""
    assert built(two, added(b"a/x", 2**63 - 1), added(b"a/y", 2**63 - 1)).added == 2**63 - 1


def test_it_is_ordered_by_growth_and_filtered_by_kind(two: Two) -> None:
    built(
        two, added(b"small", 1), added(b"big", 1000), removed(b"gone", 500), changed(b"log", 90, 40),
        removed(b"var/x", 5), attributes(b"mode"),
    )  # fmt: skip
    assert names(two) == [b"big", b"log", b"small", b"mode", b"var", b"gone"]
    assert names(two, order="growth")[:2] == [b"gone", b"var"]
    assert names(two, order="-removed")[0] == b"gone"
    assert names(two, order="name") == sorted(names(two))
    assert names(two, kind="removed") == [b"var", b"gone"]
    assert names(two, kind="attributes") == [b"mode"]
    with Diff(*two) as found:
        assert [item.name for item in found.folder(ROOT, offset=1, limit=2)] == [b"log", b"small"]


def test_a_hundred_thousand_changes_need_no_memory_of_their_own(two: Two) -> None:
    """Red if the changes are sorted in Python: some ten megabytes."""

    def many() -> Iterator[Change]:
        for number in range(100_000):
            yield added(b"folder-%d/%08d" % (number % 7, number))

    tracemalloc.start()
    try:
        total = diffs.build(*two, many(), nothing_to_ask)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert total.below == 100_000


def test_a_path_of_two_thousand_folders_is_no_trouble(two: Two) -> None:
    path = b"/".join([b"d"] * 2000)
    built(two, added(path, 3), added(path + b"x", 4))
    with Diff(*two) as found:
        deep = found.find(path)
        assert deep
        assert deep.added == 3
        assert len(found.trail(deep)) == 2000


# --- What borg leaves out ---------------------------------------------------------------------


def test_a_name_that_is_no_text_is_had_from_the_listings(two: Two) -> None:
    """Red without the listings: the name has a question mark."""
    built(
        two, added(b"d/new?", 5), removed(b"d/old?", 6), changed(b"d/same?", 2, 1), added(b"d/asked?", 1),
        before=[entry(b"d/old\xfe"), entry(b"d/same\xfd")],
        after=[entry(b"d/same\xfd"), entry(b"d/new\xff"), entry(b"d/asked?")],
    )  # fmt: skip
    assert {path: (item.kind, item.exact) for path, item in leaves(two).items()} == {
        b"d/new\xff": ("added", True), b"d/old\xfe": ("removed", True), b"d/same\xfd": ("changed", True),
        b"d/asked?": ("added", True),
    }  # fmt: skip


def test_a_folder_whose_name_is_no_text_is_one_folder(two: Two) -> None:
    built(
        two, added(b"\xc3\xa9?/a", 5), added(b"\xc3\xa9?/b", 6),
        before=[], after=[entry(b"\xc3\xa9\xff/"), entry(b"\xc3\xa9\xff/a"), entry(b"\xc3\xa9\xff/b")],
    )  # fmt: skip
    assert names(two) == [b"\xc3\xa9\xff"]
    assert names(two, b"\xc3\xa9\xff") == [b"b", b"a"]


def test_of_names_that_look_the_same_each_new_one_is_known_and_of_changed_ones_none(two: Two) -> None:
    """Red if the first one that fits is taken: “k\xfe” may be the one that did not change."""
    built(
        two, changed(b"k?", 2, 1), added(b"k?", 5), added(b"k?", 6),
        before=[entry(b"k\xfe"), entry(b"k\xfd")],
        after=[entry(b"k\xf1"), entry(b"k\xfe"), entry(b"k\xfd"), entry(b"k\xf2")],
    )  # fmt: skip
    found = {path: (item.kind, item.added, item.exact) for path, item in leaves(two).items()}
    assert found == {
        b"k?": ("changed", 2, False), b"k\xf1": ("added", 5, True), b"k\xf2": ("added", 6, True),
    }  # fmt: skip


def test_a_name_that_borg_told_is_meant_by_no_question_mark(two: Two) -> None:
    """Borg 1.2.4. Red without what was told: both are “k\xff”."""
    built(two, added(b"k\xff", 5), added(b"k?", 6), before=[], after=[entry(b"k\xff"), entry(b"k?")])
    assert {path: (item.added, item.exact) for path, item in leaves(two).items()} == {
        b"k\xff": (5, True), b"k?": (6, True),
    }  # fmt: skip


def test_a_name_that_borg_told_is_looked_up_in_the_listings_too(two: Two) -> None:
    """Borg 1.2.4. Red if the listings are asked for the name as it is: there it looks otherwise."""
    built(
        two, changed(b"k\xff?", 0, 0, sized=False, mode="-rw-r--r-- → lrwxrwxrwx"),
        before=[entry(b"k\xff?", size=9), entry(b"k??", size=3)], after=[entry(b"k\xff?", mode="lrwxrwxrwx")],
    )  # fmt: skip
    assert {path: (item.removed, item.exact) for path, item in leaves(two).items()} == {b"k\xff?": (9, True)}


def test_more_names_that_look_the_same_than_anybody_has_are_left_as_they_are(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffs, "MOST_ALIKE", 3)
    built(two, *(added(b"?") for _ in range(4)), before=[], after=[entry(bytes([0xF0 + n])) for n in range(4)])
    assert {path: (item.added, item.exact) for path, item in leaves(two).items()} == {b"?": (4, False)}


def test_what_became_another_type_has_the_sizes_of_both(two: Two) -> None:
    built(
        two,
        changed(b"x", 0, 0, sized=False, mode="-rw-r--r-- → lrwxrwxrwx"),
        changed(b"y", 0, 0, sized=False, mode="drwxr-xr-x → -rw-r--r--"),
        changed(b"z", 0, 0, sized=False, mode="prw-r--r-- → crw-r--r--"),
        before=[entry(b"x", size=70), entry(b"y/"), entry(b"z", mode="prw-r--r--", size=0)],
        after=[entry(b"x", mode="lrwxrwxrwx", size=5), entry(b"y", size=9), entry(b"z", mode="crw-r--r--")],
    )  # fmt: skip
    found = {path: (item.kind, item.added, item.removed) for path, item in leaves(two).items()}
    assert found == {b"x": ("changed", 0, 70), b"y": ("changed", 9, 0), b"z": ("changed", 0, 0)}


def test_a_hard_link_has_the_size_of_the_file_that_it_leads_to(two: Two) -> None:
    """Red without the second look: the listing says 0."""
    built(
        two, changed(b"x", 0, 0, sized=False, mode="lrwxrwxrwx → -rw-r--r--"),
        before=[entry(b"first\xff", size=70), entry(b"x", mode="lrwxrwxrwx")],
        after=[entry(b"first\xff", size=70), entry(b"x", mode="hrw-r--r--", size=0, link=b"first\xff")],
    )  # fmt: skip
    assert leaves(two)[b"x"].added == 70


def test_a_hard_link_that_leads_nowhere_ends_the_search(two: Two) -> None:
    """Red without a bound of the looks: they never end."""
    built(
        two, changed(b"x", 0, 0, sized=False, mode="lrwxrwxrwx → -rw-r--r--"),
        before=[entry(b"x", mode="lrwxrwxrwx")], after=[entry(b"x", mode="hrw-r--r--", size=0, link=b"gone")],
    )  # fmt: skip
    assert leaves(two)[b"x"].added == 0


def test_in_other_chunks_a_file_of_the_same_size_and_date_is_the_same(two: Two) -> None:
    built(
        two, changed(b"same", 0, 0, sized=False, times=True), changed(b"dated", 0, 0, sized=False, modified=True),
        changed(b"grown", 0, 0, sized=False),
        before=[entry(b"same", size=9), entry(b"dated", size=9), entry(b"grown", size=9)],
        after=[entry(b"same", size=9), entry(b"dated", size=9), entry(b"grown", size=12)],
    )  # fmt: skip
    found = {path: (item.kind, item.added, item.removed) for path, item in leaves(two).items()}
    assert found == {b"same": ("attributes", 0, 0), b"dated": ("changed", 9, 9), b"grown": ("changed", 12, 9)}


# --- Files ------------------------------------------------------------------------------------


def files(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file())


def test_one_that_breaks_off_leaves_nothing_behind(two: Two, settings: Any) -> None:
    def broken() -> Iterator[Change]:
        yield added(b"x")
        raise Unreadable("no more")

    with pytest.raises(Unreadable):
        diffs.build(*two, broken(), nothing_to_ask)
    assert files(settings.DIFF_DIR) == []
    with pytest.raises(NotCompared):
        Diff(*two)


def test_the_other_way_round_is_another_comparison(two: Two) -> None:
    built(two, added(b"x"))
    with pytest.raises(NotCompared):
        Diff(two[1], two[0])


def test_with_an_archive_its_comparisons_go(two: Two, settings: Any, plan: Plan) -> None:
    third = make_archive(plan)
    built(two, added(b"x"))
    diffs.build(two[1], third, [], nothing_to_ask)
    diffs.drop(two[0])
    assert files(settings.DIFF_DIR) == [f"{two[1].borg_id}-{third.borg_id}.sqlite3"]
    diffs.drop(third)
    assert files(settings.DIFF_DIR) == []


def test_an_archive_with_another_id_keeps_its_comparisons(two: Two) -> None:
    built(two, added(b"x"))
    old, two[0].borg_id = two[0].borg_id, "f" * 64
    diffs.renamed(two[0], old)
    assert set(leaves(two)) == {b"x"}


def test_old_ones_are_swept_and_drafts_of_the_dead(two: Two, plan: Plan, settings: Any) -> None:
    built(two, added(b"x"))
    draft = diffs.file_of(*two).with_suffix(".77.new")
    draft.touch()
    diffs.build(two[1], two[0], [], nothing_to_ask)
    long_ago = time.time() - diffs.KEPT.total_seconds() - 60
    for path in (diffs.file_of(*two), draft):
        os.utime(path, (long_ago, long_ago))
    assert sweep_comparisons() == 2
    assert files(settings.DIFF_DIR) == [diffs.file_of(two[1], two[0]).name]

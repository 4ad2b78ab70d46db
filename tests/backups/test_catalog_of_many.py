"""Many archives in one catalog: each is listed as if it were alone, and what they share is there once."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from backups import catalog
from backups.borg.results import Entry
from backups.catalog import ROOT, Catalog, Item
from backups.catalog.store import file_of, reading
from backups.models import Archive
from tests.backups.replay import entry
from tests.backups.test_catalog import at, built, made

Tree = dict[bytes, Entry]


def told(listing: Catalog, folder: int = ROOT, above: bytes = b"") -> dict[bytes, Item]:
    """Everything that a listing shows, by its path."""
    items: dict[bytes, Item] = {}
    for item in listing.folder(folder, limit=10**6):
        items[above + item.name] = item
        if item.is_folder:
            items |= told(listing, item.id, above + item.name + b"/")
    return items


def facts(items: dict[bytes, Item]) -> dict[bytes, tuple[object, ...]]:
    return {
        path: (item.kind, item.mode, item.owner, item.size, item.files, item.modified_at, item.link)
        for path, item in items.items()
    }


def alone(entries: Iterable[Entry]) -> dict[bytes, tuple[object, ...]]:
    """What a catalog says of them that holds nothing else."""
    stranger = made(10**6, plan=10**6)
    stranger.repository_id = 10**6
    catalog.drop_all(10**6)
    with built(stranger, *entries) as listing:
        return facts(told(listing))


def random_tree(chance: random.Random, before: Tree) -> Tree:
    """Some paths come, some go, some change, and some become another kind of thing."""
    tree = {path: one for path, one in before.items() if chance.random() > 0.15}
    for _ in range(12):
        path = b"/".join(chance.choice([b"a", b"b", b"c", b"d"]) for _ in range(chance.randint(1, 4)))
        if any(path == other[: len(path)] and other[len(path) : len(path) + 1] == b"/" for other in tree):
            tree[path] = entry(path + b"/", user=chance.choice(["root", "www"]))
            continue
        for above in (path[:n] for n in range(len(path)) if path[n : n + 1] == b"/"):
            if above in tree and not tree[above].mode.startswith("d"):
                del tree[above]
        kind = chance.choice(["file", "file", "folder", "link"])
        tree[path] = {
            "file": lambda p=path: entry(p, size=chance.randint(0, 3)),
            "folder": lambda p=path: entry(p + b"/"),
            "link": lambda p=path: entry(p, mode="lrwxrwxrwx", link=b"x"),
        }[kind]()
    return tree


@pytest.mark.parametrize("seed", range(25))
def test_each_is_listed_as_if_it_were_alone(seed: int) -> None:
    """Added in any order, read anew, dropped in any order: the others never change."""
    chance = random.Random(seed)
    trees: dict[int, Tree] = {}
    tree: Tree = {}
    for number in range(1, 9):
        trees[number] = tree = random_tree(chance, tree)
    expected = {number: alone(tree.values()) for number, tree in trees.items()}
    there: set[int] = set()
    for step in range(40):
        number = chance.randint(1, 8)
        archive = made(number, plan=chance.choice([1, 1, 1, 2]) if number not in there else 1)
        if number in there and chance.random() < 0.6:
            catalog.drop(archive)
            there.discard(number)
        else:
            entries = list(trees[number].values())
            chance.shuffle(entries)
            catalog.build(archive, entries)
            there.add(number)
        for other in there:
            with Catalog(made(other)) as listing:
                assert facts(told(listing)) == expected[other], (step, number, other)
                assert listing.size == sum(one[3] for one in expected[other].values() if one[0] != "d")  # type: ignore[misc]
        assert not any(catalog.has(made(other)) for other in set(trees) - there)
    catalog.drop(*(made(number) for number in there))
    with reading(7) as connection:
        for table in ("archive", "version", "path"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def versions() -> int:
    with reading(7) as connection:
        return int(connection.execute("SELECT count(*) FROM version").fetchone()[0])


def test_what_does_not_change_is_written_once() -> None:
    entries = [entry(b"home/%02d/%04d" % (n % 20, n), size=n) for n in range(1_000)]
    catalog.build(made(1), entries)
    first, size = versions(), file_of(7).stat().st_size
    catalog.build(made(2), entries)
    assert (versions(), file_of(7).stat().st_size) == (first, size)
    catalog.build(made(3), [*entries[:-1], entry(b"home/19/0999", size=5)])
    assert versions() == first + 3  # and the two folders that it is in


def test_an_archive_of_another_plan_has_nothing_to_do_with_it() -> None:
    catalog.build(made(1), [entry(b"a", size=1), entry(b"b", size=2)])
    catalog.build(made(2, plan=2), [entry(b"a", size=9)])
    catalog.build(made(3), [entry(b"a", size=1), entry(b"b", size=2)])
    assert versions() == 3


def test_imported_archives_are_of_one_line_if_their_names_begin_alike() -> None:
    entries = [entry(b"a"), entry(b"b")]
    for number, name in enumerate(["etc-2026-01-01", "etc-2026-01-02T03:04:05", "home-2026-01-03"], 1):
        archive = made(number, plan=None)
        archive.name = name
        catalog.build(archive, entries)
    assert versions() == 4


def test_a_folder_tells_what_is_below_it() -> None:
    files = {b"srv/a/x": 3, b"srv/a/deep/y": 4, b"srv/z": 5}
    link = entry(b"srv/h", mode="hrw-r--r--", size=0)
    with built(made(1), *(entry(path, size=size) for path, size in files.items()), link) as listing:
        sizes = {path: (item.size, item.files) for path, item in told(listing).items() if item.is_folder}
        assert sizes == {b"srv": (12, 4), b"srv/a": (7, 2), b"srv/a/deep": (4, 1)}
        assert (listing.size, listing.files) == (12, 4)


def test_a_number_means_nothing_in_the_next_file() -> None:
    """Whoever restores by numbers of a catalog that was made anew is told so, and gets nothing else instead."""
    with built(made(1), entry(b"old")) as listing:
        number = at(listing, b"old").id
    catalog.drop_all(7)
    with built(made(1), entry(b"new")) as listing:
        assert listing.item(number) is None
        assert 0 < at(listing, b"new").id < 2**53


def test_a_path_of_another_archive_is_not_in_this_one() -> None:
    catalog.build(made(1), [entry(b"old")])
    with built(made(2), entry(b"new")) as listing, Catalog(made(1)) as before:
        assert listing.item(at(before, b"old").id) is None
        assert listing.find(b"old") is None


def test_a_new_id_is_the_same_archive() -> None:
    catalog.build(made(1), [entry(b"a")])
    archive: Archive = made(2)
    catalog.renamed(archive, made(1).borg_id)
    assert catalog.has(archive)
    assert not catalog.has(made(1))

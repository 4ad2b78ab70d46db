"""What differs between two archives, kept for some days so that looking at it asks no borg.

One SQLite file for each pair below the data directory, written by a worker out of what `borg diff` prints, in constant
memory, and moved into place when it is whole. Web processes only read it. Every folder has the sums of what is below
it. Paths are bytes, as they are on disk; what borg does not say (borg/changes.py) is asked of both listings.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from django.conf import settings

from backups.borg.changes import Change, Kind
from backups.borg.results import Entry
from backups.catalog import readable
from backups.models import Archive

ROOT = 0
KEPT = timedelta(days=7)
MOST_ALIKE = 10_000  # names that look the same once each byte that is not UTF-8 is a "?"
MOST_BYTES = 2**63 - 1  # that SQLite counts

Listing = Callable[[Archive], Iterable[Entry]]

SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, kind TEXT NOT NULL, mode TEXT NOT NULL,
    owner TEXT NOT NULL, times INTEGER NOT NULL, exact INTEGER NOT NULL, added INTEGER NOT NULL,
    removed INTEGER NOT NULL, below INTEGER NOT NULL, count_added INTEGER NOT NULL, count_removed INTEGER NOT NULL,
    count_changed INTEGER NOT NULL, count_attributes INTEGER NOT NULL
);
"""
INDEX = "CREATE INDEX entry_in_folder ON entry (parent, name);"
# A database of its own that is on disk and has no name: what is needed until the file is whole.
WORK = """
ATTACH '' AS work;
CREATE TABLE work.change (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, kind TEXT NOT NULL, added INTEGER NOT NULL, removed INTEGER NOT NULL,
    mode TEXT NOT NULL, owner TEXT NOT NULL, times INTEGER NOT NULL, modified INTEGER NOT NULL, sized INTEGER NOT NULL,
    other_type INTEGER NOT NULL, exact INTEGER NOT NULL
);
CREATE TABLE work.wanted (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE work.told (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE work.seen (
    id INTEGER PRIMARY KEY, shown BLOB NOT NULL, after INTEGER NOT NULL, key BLOB NOT NULL, size INTEGER, link BLOB
);
CREATE INDEX work.seen_as ON seen (shown);
CREATE INDEX work.seen_key ON seen (key, after);
"""
INSERT = f"INSERT INTO entry VALUES ({', '.join('?' * 15)})"  # noqa: S608
KINDS = list(Kind)
GROWTH = "added - removed"
ORDERS = {
    "-growth": f"{GROWTH} DESC, name", "growth": f"{GROWTH}, name",
    "name": "name", "-name": "name DESC",
    "-added": "added DESC, name", "added": "added, name",
    "-removed": "removed DESC, name", "removed": "removed, name",
}  # fmt: skip


class NotCompared(Exception):
    """These two have not been compared yet, or it is too long ago."""


@dataclass(frozen=True)
class Item:
    """A file or a folder in which something differs, with what is below it. Sizes in bytes."""

    id: int
    parent: int
    name: bytes
    kind: str  # a Kind; "" for a folder that differs only in what is below it
    mode: str
    owner: str
    times: bool
    exact: bool  # False: its name has bytes that are no text, and borg did not say which
    added: int
    removed: int
    below: int  # how many entries differ below it
    count_added: int
    count_removed: int
    count_changed: int
    count_attributes: int

    @property
    def text(self) -> str:
        return readable(self.name)

    @property
    def growth(self) -> int:
        return self.added - self.removed


def file_of(before: Archive, after: Archive) -> Path:
    return _folder(after.repository_id) / f"{before.borg_id}-{after.borg_id}.sqlite3"


def _folder(repository_id: int) -> Path:
    return Path(settings.DIFF_DIR) / str(repository_id)


def drop(archive: Archive) -> None:
    """Forget the comparisons with an archive that is no more."""
    for path in _folder(archive.repository_id).glob(f"*{archive.borg_id}*"):
        path.unlink(missing_ok=True)


def renamed(archive: Archive, old_borg_id: str) -> None:
    """Borg knows `archive` by another id than before: what is in it is the same."""
    for path in _folder(archive.repository_id).glob(f"*{old_borg_id}*.sqlite3"):
        path.replace(path.with_name(path.name.replace(old_borg_id, archive.borg_id)))


def sweep(now: float | None = None) -> int:
    """Delete what has been there for long enough, and drafts that nobody finished; returns how many."""
    before = (now or time.time()) - KEPT.total_seconds()
    swept = 0
    for path in Path(settings.DIFF_DIR).glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # somebody else swept it
            if path.stat().st_mtime < before:
                path.unlink()
                swept += 1
    return swept


# --- Writing ----------------------------------------------------------------------------------


def build(before: Archive, after: Archive, changes: Iterable[Change], listing: Listing) -> Item:
    """Write what differs from `before` to `after`; returns the sums. `listing` is asked for what borg left out."""
    target = file_of(before, after)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as database:
            # Rows that nobody reads before the file is whole, so durability costs and gives nothing.
            database.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {SCHEMA} {INDEX} {WORK}")
            database.execute("BEGIN")
            _Questions(database).settle(changes, before, after, listing)
            total = _Tree(database).write()
            database.execute("COMMIT")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return total


def _key(path: bytes) -> bytes:
    """A path by whose bytes what is below a folder comes right behind it."""
    return path.strip(b"/").replace(b"/", b"\0")


def _shown(path: bytes) -> bytes:
    """A path as `borg diff` writes it."""
    return path.decode("utf-8", "surrogateescape").encode("utf-8", "replace")


class _Questions:
    """The changes as borg tells them, and what it does not tell: exact names, and the size of what became another type.

    An exact name is known when only one can be meant: among what is new, or gone, borg keeps the listing's order.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        database.create_function("shown", 1, _shown, deterministic=True)

    def settle(self, changes: Iterable[Change], before: Archive, after: Archive, listing: Listing) -> None:
        for change in changes:
            self._add(change)
        self._db.execute(
            "INSERT INTO work.wanted SELECT DISTINCT shown(key) FROM work.change WHERE NOT (sized AND exact)"
        )
        for _ in range(2):  # the second time for the files to which hard links lead that were found
            if not self._db.execute("SELECT EXISTS (SELECT 1 FROM work.wanted)").fetchone()[0]:
                break
            for is_after, archive in enumerate((before, after)):
                for entry in listing(archive):
                    self._look(entry, is_after)
            self._db.execute("DELETE FROM work.wanted")
            self._db.execute(
                "INSERT OR IGNORE INTO work.wanted SELECT shown(link) FROM work.seen WHERE link IS NOT NULL"
                " AND shown(link) NOT IN (SELECT shown FROM work.seen)"
            )
        self._answer()

    def _add(self, change: Change) -> None:
        key = _key(change.path)
        if key in {b"", b"."}:  # the machine's own root, which is the root of our tree
            return
        told = not key.isascii() and _shown(key) != key
        if told:  # by borg 1.2.4, which does not mean it by any "?" then
            self._db.execute("INSERT OR IGNORE INTO work.told VALUES (?)", (key,))
        self._db.execute(
            "INSERT INTO work.change VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key, change.kind, change.added, change.removed, change.mode, change.owner, change.times,
                change.modified, change.sized, change.is_another_type, told or b"?" not in key,
            ),
        )  # fmt: skip

    def _look(self, entry: Entry, is_after: int) -> None:
        shown = _key(_shown(entry.path))
        if not self._db.execute("SELECT 1 FROM work.wanted WHERE key = ?", (shown,)).fetchone():
            return
        is_link = entry.mode.startswith("h")
        size = entry.size if entry.mode.startswith("-") else None if is_link else 0
        self._db.execute(
            "INSERT INTO work.seen VALUES (NULL, ?, ?, ?, ?, ?)",
            (shown, is_after, _key(entry.path), size, _key(entry.link) if is_link else None),
        )

    def _answer(self) -> None:
        last, names = b"", _Alike([])
        questions = self._db.execute(
            "SELECT id, key, kind, modified, sized, other_type, exact FROM work.change WHERE NOT (sized AND exact)"
            " ORDER BY key, id"
        )
        for row_id, key, kind, modified, sized, other_type, exact in questions:  # sorted, so all of them are read
            if key != last:
                last, names = key, self._alike(key, exact=exact)
            meant = key if exact else names.meant(kind)
            if meant is None:
                continue
            self._db.execute("UPDATE work.change SET key = ?, exact = 1 WHERE id = ?", (meant, row_id))
            if not sized:
                removed, added = names.before.get(meant, 0), names.after.get(meant, 0)
                values: tuple[object, ...] = (kind, added, removed)
                if added == removed and not modified and not other_type:
                    values = Kind.ATTRIBUTES, 0, 0
                self._db.execute(
                    "UPDATE work.change SET kind = ?, added = ?, removed = ? WHERE id = ?", (*values, row_id)
                )

    def _alike(self, key: bytes, *, exact: bool) -> _Alike:
        """What is called so, or looks so."""
        where = "key = ?" if exact else "shown = ? AND key NOT IN (SELECT key FROM work.told)"
        rows = self._db.execute(
            "SELECT key, after, coalesce(size, (SELECT size FROM work.seen AS file WHERE file.key = seen.link"  # noqa: S608
            f" AND file.after = seen.after), 0) FROM work.seen WHERE {where} ORDER BY id LIMIT ?",
            (key, MOST_ALIKE + 1),
        ).fetchall()
        return _Alike(rows if len(rows) <= MOST_ALIKE else [])


class _Alike:
    """What both archives have under names that look the same, as sizes by exact names, in the listings' order."""

    def __init__(self, rows: Iterable[tuple[bytes, int, int]]) -> None:
        self.before: dict[bytes, int] = {}
        self.after: dict[bytes, int] = {}
        for key, is_after, size in rows:
            (self.after if is_after else self.before)[key] = size
        self._both = [key for key in self.before if key in self.after]
        self._alone = {
            Kind.ADDED: iter([key for key in self.after if key not in self.before]),
            Kind.REMOVED: iter([key for key in self.before if key not in self.after]),
        }

    def meant(self, kind: str) -> bytes | None:
        """The exact name of the next change of this kind; None: it may be one or the other."""
        if kind in self._alone:
            return next(self._alone[Kind(kind)], None)
        return self._both[0] if len(self._both) == 1 else None


@dataclass
class _Node:
    """An entry of which not all is read that is below it."""

    id: int
    parent: int
    key: bytes
    kind: str = ""
    mode: str = ""
    owner: str = ""
    times: bool = False
    exact: bool = True
    sums: list[int] = field(default_factory=lambda: [0] * 7)  # added, removed, below, and one count for each Kind

    def values(self) -> tuple[object, ...]:
        sums = [min(each, MOST_BYTES) for each in self.sums]
        name = self.key.rpartition(b"\0")[2]
        return self.id, self.parent, name, self.kind, self.mode, self.owner, self.times, self.exact, *sums


class _Tree:
    """Turns the changes, sorted, into folders with sums: what is open is one path from the root down."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._open = [_Node(ROOT, -1, b"")]
        self._next_id = ROOT + 1

    def write(self) -> Item:
        changes = self._db.execute(
            "SELECT key, kind, added, removed, mode, owner, times, exact FROM work.change ORDER BY key, id"
        )
        for key, kind, added, removed, mode, owner, times, exact in changes:
            node = self._at(key)
            node.kind, node.mode, node.owner, node.times, node.exact = kind, mode, owner, bool(times), bool(exact)
            node.sums[0] += added
            node.sums[1] += removed
            node.sums[3 + KINDS.index(kind)] += 1
        while len(self._open) > 1:
            self._close()
        self._db.execute(INSERT, self._open[0].values())
        return Item(*self._open[0].values())  # type: ignore[arg-type]  # as the table has them

    def _at(self, key: bytes) -> _Node:
        """The node of this path, opened with the folders that lead to it, while what is left behind is closed."""
        while (top := self._open[-1].key) and top != key and not key.startswith(top + b"\0"):
            self._close()
        while (top := self._open[-1].key) != key:
            end = key.find(b"\0", len(top) + 1 if top else 0)
            self._open.append(_Node(self._next_id, self._open[-1].id, key if end < 0 else key[:end]))
            self._next_id += 1
        return self._open[-1]

    def _close(self) -> None:
        node, folder = self._open.pop(), self._open[-1]
        self._db.execute(INSERT, node.values())
        folder.sums = [mine + theirs for mine, theirs in zip(folder.sums, node.sums, strict=True)]
        folder.sums[2] += bool(node.kind)


# --- Reading ----------------------------------------------------------------------------------


class Diff:
    """What differs between two archives, open for reading; a context manager. Raises NotCompared."""

    def __init__(self, before: Archive, after: Archive) -> None:
        uri = f"{file_of(before, after).as_uri()}?mode=ro&immutable=1"
        try:
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise NotCompared from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def folder(
        self, folder_id: int, *, order: str = "-growth", kind: str = "", offset: int = 0, limit: int = 100
    ) -> list[Item]:
        """Entries of a folder; `order` is one of ORDERS, `kind` a Kind that they, or something below them, have."""
        rows = self._db.execute(
            f"SELECT * FROM entry WHERE parent = ?{_where(kind)} ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?",  # noqa: S608
            (folder_id, limit, offset),
        )
        return [_item(row) for row in rows]

    def count(self, folder_id: int, *, kind: str = "") -> int:
        rows = self._db.execute(f"SELECT count(*) FROM entry WHERE parent = ?{_where(kind)}", (folder_id,))  # noqa: S608
        return int(rows.fetchone()[0])

    def item(self, item_id: int) -> Item | None:
        """An entry; ROOT has the sums of all."""
        if not 0 <= item_id < 2**63:  # beyond what SQLite counts
            return None
        row = self._db.execute("SELECT * FROM entry WHERE id = ?", (item_id,)).fetchone()
        return _item(row) if row else None

    def find(self, path: bytes) -> Item | None:
        """The entry at `path`; a leading slash does not matter. ROOT for none."""
        item = self.item(ROOT)
        for name in filter(None, path.split(b"/")):
            row = self._db.execute(
                "SELECT * FROM entry WHERE parent = ? AND name = ?", (item.id if item else ROOT, name)
            ).fetchone()
            if row is None:
                return None
            item = _item(row)
        return item

    def trail(self, item: Item) -> list[Item]:
        """The folders from the top down to `item`, itself last, without the root."""
        trail: list[Item] = []
        found: Item | None = item
        while found is not None and found.id != ROOT:
            trail.insert(0, found)
            found = self.item(found.parent)
        return trail

    def leaves(self) -> Iterator[tuple[bytes, Item]]:
        """Everything that differs itself, by its path, in no order."""
        for row in self._db.execute("SELECT * FROM entry WHERE kind <> ''"):
            item = _item(row)
            yield b"/".join(part.name for part in self.trail(item)), item


def _where(kind: str) -> str:
    return f" AND count_{Kind(kind)} > 0" if kind else ""


def _item(row: Any) -> Item:
    values = list(row)
    values[6], values[7] = bool(values[6]), bool(values[7])  # times, exact
    return Item(*values)

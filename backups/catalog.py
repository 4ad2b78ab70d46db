"""The listings of archives, kept by us so that browsing asks no borg.

One SQLite file per archive below the data directory, written by a worker in one pass over borg's
listing, in constant memory, and moved into place when it is whole. Web processes only read it.
Paths are bytes, as they are on disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from django.conf import settings

from backups.borg.results import Entry
from backups.models import Archive

ROOT = 0
FOLDERS_REMEMBERED = 50_000
SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, kind TEXT NOT NULL, mode TEXT NOT NULL,
    owner TEXT NOT NULL, grp TEXT NOT NULL, size INTEGER NOT NULL, modified_at TEXT, link BLOB NOT NULL,
    healthy INTEGER NOT NULL
);
"""
INDEX = "CREATE UNIQUE INDEX entry_in_folder ON entry (parent, name);"
ORDERS = {
    "name": "kind <> 'd', name", "-name": "kind <> 'd', name DESC",
    "size": "kind <> 'd', size, name", "-size": "kind <> 'd', size DESC, name",
    "modified_at": "kind <> 'd', modified_at, name", "-modified_at": "kind <> 'd', modified_at DESC, name",
}  # fmt: skip


class NotIndexed(Exception):
    """The listing of this archive has not been read yet, or was dropped."""


@dataclass(frozen=True)
class Item:
    """One entry as the pages show it. `kind` is the first letter of `ls -l`: d, -, l, p, c, b, s."""

    id: int
    parent: int
    name: bytes
    kind: str
    mode: str
    owner: str
    group: str
    size: int
    modified_at: datetime | None
    link: bytes
    healthy: bool

    @property
    def is_folder(self) -> bool:
        return self.kind == "d"

    @property
    def is_file(self) -> bool:
        return self.kind == "-"

    @property
    def is_hard_link(self) -> bool:
        return self.mode.startswith("h")

    @property
    def text(self) -> str:
        """The name for eyes: what is not UTF-8 or would break a line is spelled out."""
        return readable(self.name)

    @property
    def link_text(self) -> str:
        return readable(self.link)


def readable(name: bytes) -> str:
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_argument(path: bytes) -> str:
    """The same bytes as a word of a command line."""
    return path.decode("utf-8", "surrogateescape")


def file_of(archive: Archive) -> Path:
    return Path(settings.CATALOG_DIR) / str(archive.repository_id) / f"{archive.borg_id}.sqlite3"


def drop(archive: Archive) -> None:
    file_of(archive).unlink(missing_ok=True)


def renamed(archive: Archive, old_borg_id: str) -> None:
    """Borg knows `archive` by another id than before: what is in it is the same."""
    old = file_of(archive).with_name(f"{old_borg_id}.sqlite3")
    with contextlib.suppress(FileNotFoundError):
        old.replace(file_of(archive))


def build(archive: Archive, entries: Iterable[Entry]) -> int:
    """Write the catalog of `archive` from its listing; returns how many entries it has."""
    target = file_of(archive)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as database:
            count = _Writer(database).write(entries)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return count


class _Writer:
    """Turns paths into a tree, adding the folders that the archive implies but does not hold."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._next_id = ROOT + 1
        self._folders: dict[bytes, int] = {b"": ROOT}
        # Rows that nobody reads before the file is whole, so durability costs and gives nothing.
        self._db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {SCHEMA} {INDEX}")

    def write(self, entries: Iterable[Entry]) -> int:
        self._db.execute("BEGIN")
        for entry in entries:
            self._add(entry)
        self._db.execute("COMMIT")
        return self._next_id - 1

    def _add(self, entry: Entry) -> None:
        if entry.path.strip(b"/") in {b"", b"."}:  # the machine's own root, which is the root of our tree
            return
        folder, _, name = entry.path.strip(b"/").rpartition(b"/")
        parent = self._folder(folder)
        # borg shows a hard link to an earlier file with "h" for its kind.
        kind = "-" if entry.mode.startswith("h") else entry.mode[:1]
        when = entry.modified_at.isoformat() if entry.modified_at else None
        row_id = self._insert(
            parent, name, kind, entry.mode, entry.user, entry.group, entry.size, when, entry.link, entry.healthy
        )
        if kind == "d":
            self._remember(entry.path.strip(b"/"), row_id)

    def _insert(self, parent: int, name: bytes, *values: object) -> int:
        known = self._find(parent, name)
        row_id = known or self._next_id
        self._next_id += not known
        self._db.execute(
            "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (row_id, parent, name, *values)
        )
        return row_id

    def _folder(self, path: bytes) -> int:
        """The id of the folder `path`, made if the archive does not hold it (it holds what was asked for)."""
        row_id = self._folders.get(path)
        if row_id is None:
            row_id, known = ROOT, b""
            for name in path.split(b"/"):
                known = known + b"/" + name if known else name
                row_id = (
                    self._folders.get(known)
                    or self._find(row_id, name)
                    or self._insert(row_id, name, "d", "", "", "", 0, None, b"", True)
                )
            self._remember(path, row_id)
        return row_id

    def _find(self, parent: int, name: bytes) -> int | None:
        row = self._db.execute("SELECT id FROM entry WHERE parent = ? AND name = ?", (parent, name)).fetchone()
        return row[0] if row else None

    def _remember(self, path: bytes, row_id: int) -> None:
        if len(self._folders) >= FOLDERS_REMEMBERED:
            self._folders = {b"": ROOT}
        self._folders[path] = row_id


class Catalog:
    """The listing of one archive, open for reading; a context manager. Raises NotIndexed."""

    def __init__(self, archive: Archive) -> None:
        path = file_of(archive)
        if not path.exists():
            raise NotIndexed
        self._db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def folder(self, folder_id: int, *, order: str = "name", offset: int = 0, limit: int = 100) -> list[Item]:
        """Entries of a folder, folders first; `order` is one of ORDERS."""
        rows = self._db.execute(
            f"SELECT * FROM entry WHERE parent = ? ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?",  # noqa: S608
            (folder_id, limit, offset),
        )
        return [_item(row) for row in rows]

    def count(self, folder_id: int) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM entry WHERE parent = ?", (folder_id,)).fetchone()
        return int(count)

    def search(self, part: bytes, *, offset: int = 0, limit: int = 100) -> tuple[list[Item], int]:
        """Entries anywhere whose name holds `part`, and how many there are in all."""
        where = "FROM entry WHERE instr(name, ?) > 0"
        (count,) = self._db.execute(f"SELECT count(*) {where}", (part,)).fetchone()
        rows = self._db.execute(f"SELECT * {where} ORDER BY id LIMIT ? OFFSET ?", (part, limit, offset))
        return [_item(row) for row in rows], count

    def item(self, item_id: int) -> Item | None:
        if not 0 < item_id < 2**63:  # beyond what SQLite counts
            return None
        row = self._db.execute("SELECT * FROM entry WHERE id = ?", (item_id,)).fetchone()
        return _item(row) if row else None

    def find(self, path: bytes) -> Item | None:
        """The entry at `path`; a leading slash does not matter. None for the root, or when there is none."""
        item: Item | None = None
        for name in filter(None, path.split(b"/")):
            row = self._db.execute(
                "SELECT * FROM entry WHERE parent = ? AND name = ?", (item.id if item else ROOT, name)
            ).fetchone()
            if row is None:
                return None
            item = _item(row)
        return item

    def trail(self, item: Item | None) -> list[Item]:
        """The folders from the root down to `item`, itself last."""
        trail: list[Item] = []
        while item is not None:
            trail.insert(0, item)
            item = self.item(item.parent) if item.parent != ROOT else None
        return trail

    def path(self, item: Item) -> bytes:
        """The path inside the archive, without a leading slash."""
        return b"/".join(part.name for part in self.trail(item))

    def content_of(self, item: Item) -> Item:
        """The entry that holds the bytes of `item`: for a hard link to an earlier file, that file."""
        if item.is_hard_link and (first := self.find(item.link)):
            return first
        return item


def _item(row: Any) -> Item:
    row_id, parent, name, kind, mode, owner, group, size, when, link, healthy = row
    modified_at = datetime.fromisoformat(when) if when else None
    return Item(row_id, parent, name, kind, mode, owner, group, size, modified_at, link, bool(healthy))

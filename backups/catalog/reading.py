"""One archive's listing, as pages, API and workers read it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import SystemRandom
from typing import Any, Self

from backups.catalog.store import ROOT, NotIndexed, open_to_read
from backups.models import Archive

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
PATHS_TOLD = 100
TRIES = 30  # for each file of a sample: of all numbers some are of folders, and of files of other archives
ORDERS = {
    "name": "kind <> 'd', name", "-name": "kind <> 'd', name DESC",
    "size": "kind <> 'd', size, name", "-size": "kind <> 'd', size DESC, name",
    "modified_at": "kind <> 'd', modified_at, name", "-modified_at": "kind <> 'd', modified_at DESC, name",
}  # fmt: skip
COLUMNS = "path.id, folder, name, kind, mode, owner, grp, size, files, modified_at, link, healthy"
# CROSS JOIN: paths are found first, then how they look.
VERSIONS = """
    FROM path CROSS JOIN version ON version.path = path.id AND line = :line AND since <= :at
        AND (until IS NULL OR until > :at)
    CROSS JOIN look ON look.id = version.look
"""


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
    size: int  # bytes; of a folder, all that is below it
    files: int  # below a folder, everything that is no folder
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


class Catalog:
    """The listing of one archive, open for reading; a context manager. Raises NotIndexed."""

    def __init__(self, archive: Archive) -> None:
        self._connection = open_to_read(archive.repository_id)
        found = self._rows("SELECT line, position, size, files FROM archive WHERE borg_id = ?", (archive.borg_id,))
        if not found:
            self._connection.close()
            raise NotIndexed
        ((self._line, self._at, self.size, self.files),) = found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def folder(self, folder_id: int, *, order: str = "name", offset: int = 0, limit: int = 100) -> list[Item]:
        """Entries of a folder, folders first; `order` is one of ORDERS."""
        return self._items(
            f"WHERE folder = :folder ORDER BY {ORDERS[order]} LIMIT :limit OFFSET :offset",
            folder=folder_id, limit=limit, offset=offset,
        )  # fmt: skip

    def count(self, folder_id: int) -> int:
        return self._count("WHERE folder = :folder", folder=folder_id)

    def search(self, part: bytes, *, offset: int = 0, limit: int = 100) -> tuple[list[Item], int]:
        """Entries anywhere whose name holds `part`, and how many there are in all."""
        where = "WHERE instr(name, :part) > 0"
        page = f"{where} ORDER BY path.id LIMIT :limit OFFSET :offset"
        return self._items(page, part=part, limit=limit, offset=offset), self._count(where, part=part)

    def item(self, item_id: int) -> Item | None:
        if not 0 < item_id < 2**63:  # beyond what SQLite counts
            return None
        found = self._items("WHERE path.id = :id", id=item_id)
        return found[0] if found else None

    def at(self, number: int) -> Item | None:
        """An entry, or everything with ROOT, for whoever means that: to `item` a 0 is nothing."""
        if number == ROOT:
            return Item(ROOT, ROOT, b"", "d", "", "", "", self.size, self.files, None, b"", True)
        return self.item(number)

    def find(self, path: bytes) -> Item | None:
        """The entry at `path`; a leading slash does not matter. None for the root, or when there is none."""
        item: Item | None = None
        for name in filter(None, path.split(b"/")):
            found = self._items("WHERE folder = :folder AND name = :name", folder=item.id if item else ROOT, name=name)
            if not found:
                return None
            (item,) = found
        return item

    def trail(self, item: Item | None) -> list[Item]:
        """The folders below the root down to `item`, itself last; of the root, none."""
        trail: list[Item] = []
        while item is not None and item.id != ROOT:
            trail.append(item)
            item = self.item(item.parent)
        return trail[::-1]

    def path(self, item: Item) -> bytes:
        """The path inside the archive, without a leading slash."""
        return b"/".join(part.name for part in self.trail(item))

    def content_of(self, item: Item) -> Item:
        """The entry that holds the bytes of `item`: for a hard link to an earlier file, that file."""
        if item.is_hard_link and (first := self.find(item.link)):
            return first
        return item

    def sample(self, number: int) -> list[Item]:
        """So many different regular files by chance; all of them if there are no more."""
        ((lowest, highest),) = self._rows("SELECT min(id), max(id) FROM path", ())
        found: dict[int, Item] = {}
        if lowest is None or number < 1:
            return []
        chance = SystemRandom()
        tries = number * TRIES if self.files > number else 0
        while len(found) < number and (tries := tries - 1) >= 0:
            item = self.item(chance.randint(lowest, highest))
            if item is not None and item.is_file:
                found[item.id] = item
        if len(found) < number:  # few files among many numbers: those that follow one, and then from the beginning on
            first = chance.randint(lowest, highest)
            for where in ("path.id >= :first", "path.id < :first"):
                files = f"WHERE kind = '-' AND {where} ORDER BY path.id LIMIT :limit"
                for item in self._items(files, first=first, limit=number):
                    if len(found) < number:
                        found[item.id] = item
        return sorted(found.values(), key=lambda item: item.id)

    def file_at(self, path: bytes) -> Item | None:
        """The regular file at `path`, if everything above it is a folder."""
        item = self.find(path)
        is_plain = item and item.is_file and all(part.is_folder for part in self.trail(item)[:-1])
        return item if is_plain else None

    def entries(self) -> int:
        """What the archive holds, each path once; without folders that it only implies."""
        return self._count("WHERE mode <> ''")

    def regular_files(self) -> int:
        return self._count("WHERE kind = '-'")

    def below_no_folder(self) -> int:
        """Entries below something that is no folder: of a symlink, they would be put where it leads."""
        return self._count(
            f"WHERE folder <> {ROOT} AND NOT EXISTS (SELECT 1 FROM version AS v JOIN look AS l ON l.id = v.look"  # noqa: S608
            " WHERE v.path = path.folder AND v.line = :line AND v.since <= :at AND (v.until IS NULL OR v.until > :at)"
            " AND l.kind = 'd')"
        )

    def _items(self, where: str, **values: Any) -> list[Item]:
        rows = self._rows(f"SELECT {COLUMNS} {VERSIONS} {where}", {"line": self._line, "at": self._at, **values})
        return [item_of(row) for row in rows]

    def _count(self, where: str, **values: Any) -> int:
        rows = self._rows(f"SELECT count(*) {VERSIONS} {where}", {"line": self._line, "at": self._at, **values})
        return int(rows[0][0])

    def _rows(self, query: str, values: Any) -> list[Any]:
        """Raises NotIndexed also while a worker writes a lot, or if the file is damaged."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise NotIndexed from error


def item_of(row: Any) -> Item:
    number, folder, name, kind, mode, owner, group, size, files, when, link, healthy = row
    modified_at = EPOCH + when * MICROSECOND if when is not None else None
    return Item(number, folder, name, kind, mode, owner, group, size, files, modified_at, link or b"", bool(healthy))


def paths_of(archive: Archive, numbers: Sequence[int]) -> list[str]:
    """Of at most PATHS_TOLD entries, for people; none as long as the listing is not read."""
    try:
        with Catalog(archive) as listing:
            items = [listing.at(number) for number in numbers[:PATHS_TOLD]]
            return ["/" + readable(listing.path(item)) for item in items if item]
    except NotIndexed:
        return []

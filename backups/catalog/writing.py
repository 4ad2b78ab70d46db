"""One pass over borg's listing of an archive: what is new or has changed is written, and nothing else."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from backups.borg.results import Entry
from backups.catalog.reading import EPOCH, MICROSECOND
from backups.catalog.store import ROOT, forget, line_of, writing
from backups.models import Archive

FOLDERS_REMEMBERED = 50_000
AS_IT_IS = """
    SELECT id, folder, since, until, look, size, files, modified_at, link
    FROM path LEFT JOIN version
        ON version.path = path.id AND line = ?1 AND since <= ?2 AND (until IS NULL OR until > ?2)
"""
BY_NAME = f"{AS_IT_IS} WHERE folder = ?3 AND name = ?4"
BY_NUMBER = f"{AS_IT_IS} WHERE id = ?3"
NEW_VERSION = "INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Version(NamedTuple):
    """A row of `version`, without its path and its line."""

    since: int
    until: int | None
    look: int
    size: int
    files: int
    modified_at: int | None
    link: bytes | None


def build(
    archive: Archive,
    entries: Iterable[Entry],
    waits: Callable[[], object] = lambda: None,
    *,
    known: Collection[str] | None = None,
) -> int:
    """Write the listing of `archive` into its repository's catalog; returns how many entries it has.

    Whatever `entries` raises, the catalog stays as it was. Calls `waits` each second while another worker writes.
    Archives that are not among the `known` are forgotten. Raises Damaged.
    """
    with writing(archive.repository_id, waits) as connection:
        if known is not None:
            there = connection.execute("SELECT borg_id FROM archive")
            forget(connection, [borg_id for (borg_id,) in there if borg_id not in known])
        return _Writer(connection, archive).write(entries)


class _Writer:
    """Turns paths into a tree, adding the folders that the archive implies but does not hold."""

    def __init__(self, connection: sqlite3.Connection, archive: Archive) -> None:
        self._execute = connection.execute
        forget(connection, [archive.borg_id])
        self._borg_id = archive.borg_id
        self._line, self._at, self._next = self._place(line_of(archive), (archive.taken_at - EPOCH) // MICROSECOND)
        (self._next_path,) = self._execute("SELECT path FROM next").fetchone()
        self._lowest = self._execute("SELECT min(id) FROM path").fetchone()[0] or self._next_path
        self._looks: dict[tuple[object, ...], int] = {}
        self._kinds: dict[int, str] = {}
        for number, *look in self._execute("SELECT * FROM look"):
            self._looks[tuple(look)], self._kinds[number] = number, look[0]
        self._folders: dict[bytes, int] = {b"": ROOT}
        self._implied: set[int] = set()
        self._seen = bytearray()  # a bit for each path
        self._grown: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])  # bytes and files right in a folder

    def _place(self, of: str, position: int) -> tuple[int, int, int | None]:
        """The line, a free position in it, and the position of the archive that comes after."""
        self._execute("INSERT OR IGNORE INTO line (of) VALUES (?)", (of,))
        (line,) = self._execute("SELECT id FROM line WHERE of = ?", (of,)).fetchone()
        taken = "SELECT 1 FROM archive WHERE line = ? AND position = ?"
        while self._execute(taken, (line, position)).fetchone():
            position += 1
        after = "SELECT min(position) FROM archive WHERE line = ? AND position > ?"
        return line, position, self._execute(after, (line, position)).fetchone()[0]

    def write(self, entries: Iterable[Entry]) -> int:
        for entry in entries:
            self._add(entry)
        self._bare_what_is_implied()
        self._remove_unseen()
        size, files = self._sum_up()
        self._execute("INSERT INTO archive VALUES (?, ?, ?, ?, ?)", (self._borg_id, self._line, self._at, size, files))
        self._execute("UPDATE next SET path = ?", (self._next_path,))
        return int.from_bytes(self._seen).bit_count()

    # --- Entries --------------------------------------------------------------------------------

    def _add(self, entry: Entry) -> None:
        full = entry.path.strip(b"/")
        if full in {b"", b"."}:  # the machine's own root, which is the root of our tree
            return
        folder, _, name = full.rpartition(b"/")
        parent = self._folder(folder)
        # borg shows a hard link to an earlier file with "h" for its kind.
        kind = "-" if entry.mode.startswith("h") else entry.mode[:1]
        look = self._look(kind, entry.mode, entry.user, entry.group, entry.healthy)
        modified_at = (entry.modified_at - EPOCH) // MICROSECOND if entry.modified_at else None
        path, old = self._known(parent, name)
        size, files = (entry.size, 1) if kind != "d" else self._sums(old)
        self._become(path, parent, old, look, size, files, modified_at, entry.link or None)
        if kind == "d":
            self._implied.discard(path)
            self._remember(full, path)

    def _known(self, folder: int, name: bytes) -> tuple[int, Version | None]:
        """The number of a path, and how it looks by now."""
        if row := self._execute(BY_NAME, (self._line, self._at, folder, name)).fetchone():
            return row[0], Version(*row[2:]) if row[2] is not None else None
        path = self._next_path
        self._next_path += 1
        self._execute("INSERT INTO path VALUES (?, ?, ?)", (path, folder, name))
        return path, None

    def _become(
        self, path: int, folder: int, old: Version | None, look: int, size: int, files: int,
        modified_at: int | None, link: bytes | None,
    ) -> None:  # fmt: skip
        self._mark(path)
        if old is not None and old[2:] == (look, size, files, modified_at, link):
            return
        self._end(path, folder, old)
        version = path, self._line, self._at, self._next, look, size, files, modified_at, link
        self._execute(NEW_VERSION, version)
        if self._kinds[look] != "d":
            grown = self._grown[folder]
            grown[0] += size
            grown[1] += files

    def _end(self, path: int, folder: int, old: Version | None) -> None:
        """The path does not look like that here; in the archives before and after it does."""
        if old is None:
            return
        if self._next is not None and (old.until is None or old.until > self._next):
            self._execute(NEW_VERSION, (path, self._line, self._next, *old[1:]))
        key = path, self._line, old.since
        if old.since == self._at:
            self._execute("DELETE FROM version WHERE path = ? AND line = ? AND since = ?", key)
        else:
            self._execute("UPDATE version SET until = ? WHERE path = ? AND line = ? AND since = ?", (self._at, *key))
        if not self._is_folder(old):
            grown = self._grown[folder]
            grown[0] -= old.size
            grown[1] -= old.files

    # --- Folders --------------------------------------------------------------------------------

    def _folder(self, path: bytes) -> int:
        """The number of the folder `path`, made if the archive does not hold it (it holds what was asked for)."""
        number = self._folders.get(path)
        if number is None:
            number, known = ROOT, b""
            for name in path.split(b"/"):
                known = known + b"/" + name if known else name
                number = self._folders.get(known) or self._implied_folder(number, name)
            self._remember(path, number)
        return number

    def _implied_folder(self, parent: int, name: bytes) -> int:
        path, old = self._known(parent, name)
        if not self._has_seen(path):
            self._implied.add(path)
            if self._is_folder(old):
                self._mark(path)
            else:
                self._become(path, parent, old, self._bare, 0, 0, None, None)
        return path

    @property
    def _bare(self) -> int:
        """How a folder looks of which the archive says nothing."""
        return self._look("d", "", "", "", True)

    def _bare_what_is_implied(self) -> None:
        """What an archive before this one held of a folder, this one does not say."""
        for path in self._implied:
            folder, old = self._looks_now(path)
            if old is not None:
                self._become(path, folder, old, self._bare, old.size, old.files, None, None)

    def _remember(self, path: bytes, number: int) -> None:
        if len(self._folders) >= FOLDERS_REMEMBERED:
            self._folders = {b"": ROOT}
        self._folders[path] = number

    def _sums(self, folder: Version | None) -> tuple[int, int]:
        """Of a folder as it was, until `_sum_up` knows better."""
        return (folder.size, folder.files) if folder is not None and self._is_folder(folder) else (0, 0)

    def _is_folder(self, version: Version | None) -> bool:
        return version is not None and self._kinds[version.look] == "d"

    def _look(self, *look: object) -> int:
        number = self._looks.get(look)
        if number is None:
            number = self._looks[look] = len(self._looks) + 1
            self._kinds[number] = str(look[0])
            self._execute("INSERT INTO look VALUES (?, ?, ?, ?, ?, ?)", (number, *look))
        return number

    # --- What is left to do at the end ----------------------------------------------------------

    def _remove_unseen(self) -> None:
        """End what the archive before had, and this one does not."""
        there = self._execute(
            "SELECT path FROM version WHERE line = ?1 AND since <= ?2 AND (until IS NULL OR until > ?2)",
            (self._line, self._at),
        )
        for path in [path for (path,) in there if not self._has_seen(path)]:
            folder, old = self._looks_now(path)
            self._end(path, folder, old)

    def _sum_up(self) -> tuple[int, int]:
        """Tell folders what they have grown by, up to the root; returns bytes and files of the whole archive."""
        parents: dict[int, int] = {ROOT: ROOT}
        totals: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        for grown, (size, files) in self._grown.items():
            folder = grown
            while size or files:
                totals[folder][0] += size
                totals[folder][1] += files
                if folder == ROOT:
                    break
                if folder not in parents:
                    (parents[folder],) = self._execute("SELECT folder FROM path WHERE id = ?", (folder,)).fetchone()
                folder = parents[folder]
        for path, (size, files) in totals.items():
            if path == ROOT or not (size or files):
                continue
            folder, old = self._looks_now(path)
            if old is not None and self._is_folder(old):
                self._become(path, folder, old, old.look, old.size + size, old.files + files, *old[5:])
        before = self._execute(
            "SELECT size, files FROM archive WHERE line = ? AND position < ? ORDER BY position DESC LIMIT 1",
            (self._line, self._at),
        ).fetchone() or (0, 0)
        return before[0] + totals[ROOT][0], before[1] + totals[ROOT][1]

    def _looks_now(self, path: int) -> tuple[int, Version | None]:
        _id, folder, *row = self._execute(BY_NUMBER, (self._line, self._at, path)).fetchone()
        return folder, Version(*row) if row[0] is not None else None

    def _mark(self, path: int) -> None:
        byte, bit = divmod(path - self._lowest, 8)
        if byte >= len(self._seen):
            self._seen.extend(bytes(byte + 1 - len(self._seen) + 2**16))
        self._seen[byte] |= 1 << bit

    def _has_seen(self, path: int) -> bool:
        byte, bit = divmod(path - self._lowest, 8)
        return byte < len(self._seen) and bool(self._seen[byte] >> bit & 1)

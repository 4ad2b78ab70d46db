"""Finding files by name in all archives of many repositories, with every version that there is of each."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from backups.catalog.reading import EPOCH, MICROSECOND, Item, item_of, readable
from backups.catalog.store import ROOT, NotIndexed, reading

MOST_LOOKED_AT = 5_000_000  # names, for one page; then the person decides whether to go on
NAMES_OF_OPENING = 10_000  # that are read in the time that it takes to open a repository's file
MOST_VERSIONS = 50  # of one path, the newest
LEAST_LETTERS = 2
WILD = re.compile(r"\*\*|[*?]")
CANDIDATES = r"SELECT id, folder, name FROM path WHERE id > ? AND CAST(name AS TEXT) LIKE ? ESCAPE '\' ORDER BY id"
ABOUT_AS_MANY = "SELECT (SELECT max(id) FROM path) - (SELECT min(id) FROM path WHERE id > ?)"
VERSIONS_OF = """
    SELECT line, since, until, path.id, folder, name, kind, mode, owner, grp, size, files, modified_at, link, healthy
    FROM path CROSS JOIN version ON version.path = path.id CROSS JOIN look ON look.id = version.look
    WHERE path.id = ? AND since < ? ORDER BY since DESC
"""


class Pattern:
    """What is looked for: a part of a name or of a path, or a glob; large and small letters are the same.

    `*` and `?` stay within a name, `**` goes on below; a slash at the beginning is the root. Raises ValueError.
    """

    def __init__(self, text: str) -> None:
        text = text.strip().rstrip("/")
        *_, name = text.rsplit("/", 1)
        if sum(character.isalnum() for character in WILD.sub("", text)) < LEAST_LETTERS or "\0" in text:
            raise ValueError
        if WILD.search(text):
            begin, end = ("^" if text.startswith("/") else "(?:^|/)"), "$"
        else:
            begin, end = ("^" if text.startswith("/") else ""), "[^/]*$"
        # Before the first name stands a slash too: see `fits`.
        self._path = re.compile(begin + _as_regex(text) + end, re.IGNORECASE)
        before, after = ("" if WILD.search(text) or "/" in text else "%"), ("" if WILD.search(text) else "%")
        self.like = before + _as_like(name) + after

    def fits(self, path: bytes) -> bool:
        return self._path.search("/" + path.decode("utf-8", "surrogateescape")) is not None


def _as_regex(text: str) -> str:
    meanings = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    words = re.split(f"({WILD.pattern})", text)
    return "".join(meanings.get(word, re.escape(word)) for word in words)


def _as_like(name: str) -> str:
    """What SQLite looks at first; it knows no large and small letters but those of ASCII."""
    meanings = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}
    return "".join(meanings.get(letter, letter if letter.isascii() else "_") for letter in name)


@dataclass(frozen=True)
class Version:
    """How a path looked in some archives, one after the other."""

    item: Item
    first: Taken
    last: Taken
    archives: int


@dataclass(frozen=True)
class Taken:
    borg_id: str
    at: datetime


@dataclass
class Hit:
    """A path that fits, and how it looked, the newest first."""

    repository: int
    path: bytes
    versions: list[Version]

    @property
    def text(self) -> str:
        return "/" + readable(self.path)

    @property
    def newest(self) -> Version:
        return self.versions[0]


@dataclass(frozen=True)
class Place:
    """Where a search goes on: behind a path of a repository."""

    repository: int = 0
    path: int = 0


@dataclass
class Found:
    hits: list[Hit] = field(default_factory=list)
    goes_on: Place | None = None
    unread: int = 0  # repositories that have no listing (yet)


def find(pattern: Pattern, repositories: Iterable[int], *, since: Place, before: datetime | None, limit: int) -> Found:
    """Look through `repositories`, by number, from `since` on, until `limit` are found or enough was looked at."""
    found, looked_at = Found(), 0
    end = (before - EPOCH) // MICROSECOND if before else 2**63 - 1
    for repository in sorted(number for number in repositories if number >= since.repository):
        after = since.path if repository == since.repository else ROOT
        if len(found.hits) >= limit or looked_at >= MOST_LOOKED_AT:
            found.goes_on = Place(repository, after)
            break
        try:
            with reading(repository) as connection:
                looked_at += NAMES_OF_OPENING + (connection.execute(ABOUT_AS_MANY, (after,)).fetchone()[0] or 0)
                for hit in _Repository(repository, connection, end).hits(pattern, after):
                    if len(found.hits) >= limit:
                        found.goes_on = Place(repository, found.hits[-1].newest.item.id)
                        return found
                    found.hits.append(hit)
        except NotIndexed:
            found.unread += 1
    return found


class _Repository:
    def __init__(self, number: int, connection: sqlite3.Connection, end: int) -> None:
        self._number, self._execute, self._end = number, connection.execute, end
        self._lines: dict[int, list[tuple[int, str]]] = {}
        for line, *archive in self._execute("SELECT line, position, borg_id FROM archive ORDER BY position"):
            self._lines.setdefault(line, []).append((archive[0], archive[1]))
        self._folders: dict[int, bytes] = {ROOT: b""}

    def hits(self, pattern: Pattern, after: int) -> Iterator[Hit]:
        for number, folder, name in self._execute(CANDIDATES, (after, pattern.like)):
            path = self._path(folder) + name
            if pattern.fits(path) and (versions := list(self._versions(number))):
                yield Hit(self._number, path, versions)

    def _path(self, folder: int) -> bytes:
        """Of a folder, with a slash at its end."""
        below: list[tuple[int, bytes]] = []
        while folder not in self._folders:
            above, name = self._execute("SELECT folder, name FROM path WHERE id = ?", (folder,)).fetchone()
            below.append((folder, name))
            folder = above
        path = self._folders[folder]
        for number, name in reversed(below):
            path = self._folders[number] = path + name + b"/"
        return path

    def _versions(self, path: int) -> Iterator[Version]:
        for line, since, until, *row in self._execute(VERSIONS_OF, (path, self._end)).fetchmany(MOST_VERSIONS):
            end = min(self._end, until) if until is not None else self._end
            taken = [archive for archive in self._lines.get(line, ()) if since <= archive[0] < end]
            if taken:
                yield Version(item_of(row), _taken(taken[0]), _taken(taken[-1]), len(taken))


def _taken(archive: tuple[int, str]) -> Taken:
    return Taken(archive[1], EPOCH + archive[0] * MICROSECOND)

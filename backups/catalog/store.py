"""Where a repository's catalog lies, and what is in it.

A path is there once, with a number. How it looked is a version: in the archives of one line (those of one plan, one
after the other) from the position `since` until before `until`, or to the end. So an archive in which little has
changed adds little, and one that goes leaves what others have.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from django.conf import settings

from backups.models import Archive

ROOT = 0
NUMBERS_OF_A_FILE = 2**32
FILES = 2**17  # numbers stay below 2**53, which is all that JavaScript counts to, and have 15 digits at most
WAIT_SECONDS = 1.0
READER_WAITS_SECONDS = 5.0
CACHE_KIB = 64 * 1024  # of what was changed; beyond that readers have to wait for the end of the writing
LIKE_THE_ONE_BEFORE = re.compile(r"[-_.:T+0-9]*\Z")  # a time or a number at the end of an archive's name
SCHEMA = """
CREATE TABLE next (path INTEGER NOT NULL);
CREATE TABLE line (id INTEGER PRIMARY KEY, of TEXT NOT NULL UNIQUE);
CREATE TABLE archive (
    borg_id TEXT PRIMARY KEY, line INTEGER NOT NULL, position INTEGER NOT NULL, size INTEGER NOT NULL,
    files INTEGER NOT NULL, UNIQUE (line, position)
) WITHOUT ROWID;
CREATE TABLE path (id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, name BLOB NOT NULL);
CREATE UNIQUE INDEX path_in_folder ON path (folder, name);
CREATE TABLE look (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, mode TEXT NOT NULL, owner TEXT NOT NULL, grp TEXT NOT NULL,
    healthy INTEGER NOT NULL, UNIQUE (kind, mode, owner, grp, healthy)
);
CREATE TABLE version (
    path INTEGER NOT NULL, line INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER, look INTEGER NOT NULL,
    size INTEGER NOT NULL, files INTEGER NOT NULL, modified_at INTEGER, link BLOB, PRIMARY KEY (path, line, since)
) WITHOUT ROWID;
"""
DROP_UNUSED = """
    DELETE FROM version WHERE line = ?1 AND NOT EXISTS (
        SELECT 1 FROM archive WHERE line = ?1 AND position >= since AND (until IS NULL OR position < until)
    )
"""
DRAW_IN = """
    UPDATE version SET
        since = (SELECT min(position) FROM archive WHERE line = ?1 AND position >= since),
        until = (SELECT min(position) FROM archive WHERE line = ?1 AND position >= until)
    WHERE line = ?1 AND (
        since NOT IN (SELECT position FROM archive WHERE line = ?1)
        OR until NOT IN (SELECT position FROM archive WHERE line = ?1)
    )
"""


class Damaged(Exception):
    """The file of a repository is no catalog, or not any more: it can only be thrown away and read anew."""


class Busy(Exception):
    """Another worker writes."""


class NotIndexed(Exception):
    """The listing of this archive has not been read yet, or was dropped, or cannot be read just now."""


def file_of(repository: int) -> Path:
    return Path(settings.CATALOG_DIR) / f"{repository}.sqlite3"


def line_of(archive: Archive) -> str:
    """What follows one after the other: archives of one plan, or those whose names differ in their ends only."""
    return f"plan:{archive.plan_id}" if archive.plan_id else f"name:{LIKE_THE_ONE_BEFORE.sub('', archive.name)}"


@contextlib.contextmanager
def reading(repository: int) -> Iterator[sqlite3.Connection]:
    """The catalog of a repository, as it is. Raises NotIndexed, also while it is used."""
    connection = open_to_read(repository)
    try:
        yield connection
    except sqlite3.DatabaseError as error:
        raise NotIndexed from error
    finally:
        connection.close()


def open_to_read(repository: int) -> sqlite3.Connection:
    uri = f"{file_of(repository).as_uri()}?mode=ro"
    try:
        return sqlite3.connect(uri, uri=True, timeout=READER_WAITS_SECONDS, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise NotIndexed from error


@contextlib.contextmanager
def writing(repository: int, waits: Callable[[], object] = lambda: None) -> Iterator[sqlite3.Connection]:
    """The same, to change it: all of it or nothing. Calls `waits` each second while another worker writes.

    Raises Damaged.
    """
    connection = _locked(file_of(repository), waits)
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
            # A number means nothing in the next file, so that nobody restores by one of a file that is gone.
            first = (secrets.randbelow(FILES - 1) + 1) * NUMBERS_OF_A_FILE
            connection.execute("INSERT INTO next VALUES (?)", (first,))
        yield connection
        _until_free(lambda: connection.execute("COMMIT"), waits)
    except sqlite3.DatabaseError as error:
        raise _as_damage(error) from error
    finally:
        connection.close()  # without a COMMIT nothing has happened


def _locked(path: Path, waits: Callable[[], object]) -> sqlite3.Connection:
    """The file that is there now, in a transaction of ours: not one that was thrown away while we waited."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        path.touch(mode=0o600)
        inode = path.stat().st_ino
        connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT_SECONDS)
        try:
            _until_free(lambda: connection.execute("BEGIN IMMEDIATE"), waits)  # noqa: B023  # called at once
            if path.exists() and path.stat().st_ino == inode:
                return connection
        except sqlite3.DatabaseError as error:
            connection.close()
            raise _as_damage(error) from error
        except BaseException:
            connection.close()
            raise
        connection.close()


def _as_damage(error: sqlite3.DatabaseError) -> Exception:
    damage = sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB
    return Damaged(str(error)) if getattr(error, "sqlite_errorcode", 0) & 0xFF in damage else error


def _until_free(do: Callable[[], object], waits: Callable[[], object]) -> None:
    while True:
        try:
            do()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            waits()
        else:
            return


# --- Archives that come and go ----------------------------------------------------------------


def has(archive: Archive) -> bool:
    """Whether its listing can be read."""
    try:
        with reading(archive.repository_id) as connection:
            found = connection.execute("SELECT 1 FROM archive WHERE borg_id = ?", (archive.borg_id,)).fetchone()
    except NotIndexed:
        return False
    return found is not None


def drop(*archives: Archive) -> None:
    """Forget these archives, and what no other has; nobody waits for that: who writes next does it otherwise."""
    of_repository = sorted(archives, key=lambda archive: archive.repository_id)
    for repository, gone in groupby(of_repository, key=lambda archive: archive.repository_id):
        if file_of(repository).exists():
            with contextlib.suppress(Busy, Damaged), writing(repository, _give_up) as connection:
                forget(connection, [archive.borg_id for archive in gone])


def _give_up() -> None:
    raise Busy


def forget(connection: sqlite3.Connection, borg_ids: Sequence[str]) -> None:
    """Archives go; versions begin and end at archives that are left, and who has none left goes too."""
    of_them = f"borg_id IN ({','.join('?' * len(borg_ids))})"
    lines = connection.execute(f"SELECT DISTINCT line FROM archive WHERE {of_them}", borg_ids).fetchall()  # noqa: S608
    connection.execute(f"DELETE FROM archive WHERE {of_them}", borg_ids)  # noqa: S608
    for line in lines:
        connection.execute(DROP_UNUSED, line)
        connection.execute(DRAW_IN, line)
    if lines:
        connection.execute("DELETE FROM path WHERE NOT EXISTS (SELECT 1 FROM version WHERE version.path = path.id)")


def drop_all(repository: int) -> None:
    """Forget everything: to read it anew, or because the repository is gone."""
    path = file_of(repository)
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)


def renamed(archive: Archive, old_borg_id: str) -> None:
    """It has another id, and is the same."""
    if file_of(archive.repository_id).exists():
        with writing(archive.repository_id) as connection:
            connection.execute("UPDATE archive SET borg_id = ? WHERE borg_id = ?", (archive.borg_id, old_borg_id))

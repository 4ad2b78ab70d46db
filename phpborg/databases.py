"""All of the database as one stream, and back: for deploy/backup.sh, restore.sh, upgrade.sh and rollback.sh."""

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.db.backends.mysql.client import DatabaseClient


def dump() -> None:
    """Write it to our standard output; of MariaDB as SQL, of SQLite its file."""
    if connection.vendor == "sqlite":
        _with_sqlite_file(_dump_sqlite)
    else:
        become("mariadb-dump", "--single-transaction", "--quick", "--hex-blob", "--skip-dump-date",
               "--routines", "--triggers")  # fmt: skip


def load() -> None:
    """Put what `dump` wrote, from our standard input, in the place of all that is there. Raises CommandError."""
    if connection.vendor == "sqlite":
        _with_sqlite_file(_load_sqlite)
    else:
        _drop_all()
        become("mariadb", "--batch")


def become(program: str, *options: str) -> NoReturn:
    """Be `program`, with the login of DATABASE_URL: its password goes by its environment, not by its command line."""
    wanted: dict[str, Any] = dict(connection.settings_dict)
    wanted["HOST"] = wanted["OPTIONS"].get("unix_socket") or wanted["HOST"]
    argv, env = DatabaseClient.settings_to_cmd_args_env(wanted, [])
    *login, name = argv[1:]
    # The options of a file come first, or not at all; the database's name comes last.
    first = [word for word in login if word.startswith("--defaults-file=")]
    rest = [word for word in login if word not in first]
    if wanted["OPTIONS"].get("ssl"):
        rest.append("--ssl-verify-server-cert")
    connection.close()
    try:
        os.execvpe(program, [program, *first, *rest, *options, name], {**os.environ, **(env or {})})  # noqa: S606
    except FileNotFoundError:
        raise CommandError(f"{program} is missing: Debian's mariadb-client has it.") from None


def _drop_all() -> None:
    """A table that only a newer release knows must not outlive the return to an older one."""
    with connection.cursor() as cursor:
        cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}")
        cursor.execute("SET FOREIGN_KEY_CHECKS = 1")


def _with_sqlite_file(do: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=settings.DATA_DIR, prefix=".database-") as folder:
        do(Path(folder) / "database")


def _dump_sqlite(path: Path) -> None:
    connection.ensure_connection()
    with closing(sqlite3.connect(path)) as copy:
        connection.connection.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)


def _load_sqlite(path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    connection.ensure_connection()
    with closing(sqlite3.connect(path)) as copy:
        try:
            well = copy.execute("PRAGMA integrity_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            well = str(error)
        if well != "ok":
            raise CommandError(f"This is no whole SQLite database: {well}. Nothing is changed.")
        if not copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'django_migrations'").fetchone():
            raise CommandError("This is no database of phpBorg. Nothing is changed.")
        copy.backup(connection.connection)

"""dump_database, load_database and migrate_back, on SQLite and on a MariaDB, each in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import MySQLdb
import pytest

from tests.deploy import ROOT
from tests.mariadb import mariadb
from tests.phpborg.test_settings import KEPT, NEEDED

pytestmark = pytest.mark.e2e


@dataclass
class Place:
    """A phpBorg without processes: its data directory and its database."""

    data: Path
    variables: dict[str, str] = field(default_factory=dict)

    def manage(self, *words: str, sent: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        env = {name: os.environ[name] for name in KEPT if name in os.environ}
        env |= {"PHPBORG_DATA_DIR": str(self.data), **NEEDED, **self.variables}
        command = [sys.executable, "manage.py", *words]
        return subprocess.run(command, cwd=ROOT, env=env, input=sent, capture_output=True, check=False)

    def told(self, *words: str, sent: bytes = b"") -> bytes:
        ran = self.manage(*words, sent=sent)
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout

    def python(self, script: str) -> str:
        return self.told("shell", "--no-imports", "-c", script).decode().strip()


@pytest.fixture(params=["sqlite", "mariadb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        made = Place(tmp_path / "data")
        made.told("migrate", "--verbosity", "0")
        yield made
        return
    with mariadb() as url:
        with MySQLdb.connect(user="root", unix_socket=url.partition("unix_socket=")[2]) as login:
            login.cursor().execute("CREATE DATABASE phpborg CHARACTER SET utf8mb4")
        made = Place(tmp_path / "data", {"DATABASE_URL": url})
        made.told("migrate", "--verbosity", "0")
        yield made


ADD = "from servers.models import Server; Server.objects.create(name={!r}, address='192.0.2.7')"
NAMES = "from servers.models import Server; print(sorted(Server.objects.values_list('name', flat=True)))"
TABLES = "from django.db import connection; print('newer' in connection.introspection.table_names())"
NEWER = "from django.db import connection; connection.cursor().execute('CREATE TABLE newer (id integer)')"


def test_what_was_dumped_comes_back_and_nothing_else(place: Place) -> None:
    """Red without _drop_all: the table of a newer release stays, and its migration fails the next time."""
    place.python(ADD.format("zoë"))
    dump = place.told("dump_database")
    place.python(ADD.format("later"))
    place.python(NEWER)
    place.told("load_database", sent=dump)
    assert place.python(NAMES) == "['zoë']"
    assert place.python(TABLES) == "False"
    assert place.manage("verify_audit").returncode == 0


def test_migrations_that_an_older_release_does_not_know_are_taken_back(place: Place) -> None:
    """Red when apps are taken back in the order of their names: another app's migration still needs what goes."""
    place.python(ADD.format("zoë"))
    lines = place.told("showmigrations", "--plan").decode().splitlines()
    assert place.told("migrate_back", sent="\n".join(lines).encode()) == b""  # the same release: nothing to do
    known = lines[:-12]
    place.told("migrate_back", sent="\n".join(known).encode())
    after = place.told("showmigrations", "--plan").decode().splitlines()
    assert [line for line in after if line.startswith("[X]")] == known
    place.told("migrate", "--verbosity", "0")
    assert place.python(NAMES) == "['zoë']"


def test_without_a_list_nothing_is_taken_back(place: Place) -> None:
    """Red when no list means that nothing is known: every table would go."""
    ran = place.manage("migrate_back")
    assert ran.returncode != 0
    assert b"Nothing is changed" in ran.stderr
    assert place.python(NAMES) == "[]"


def test_half_a_file_of_sqlite_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    place.told("migrate", "--verbosity", "0")
    place.python(ADD.format("zoë"))
    dump = place.told("dump_database")
    for sent in (dump[: len(dump) // 2], b"no database", b""):
        ran = place.manage("load_database", sent=sent)
        assert ran.returncode != 0, sent[:20]
        assert b"Nothing is changed" in ran.stderr
    assert place.python(NAMES) == "['zoë']"
    assert [path.name for path in place.data.glob(".database-*")] == []

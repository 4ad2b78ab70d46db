"""dump_database, load_database, check_release, migrate_back on a small SQLite file; `make test-machine` has MariaDB."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker

from phpborg.management.commands import migrate_back


@pytest.fixture
def database(
    tmp_path: Path, settings: LazySettings, django_db_blocker: DjangoDbBlocker
) -> Iterator[BaseDatabaseWrapper]:
    """It says of itself that all our migrations are done, and has one table."""
    settings.DATA_DIR = tmp_path
    handler = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "db.sqlite3"}})
    made = handler["default"]
    before = connections["default"]
    connections["default"] = made
    with django_db_blocker.unblock():
        recorder = MigrationRecorder(made)
        recorder.ensure_schema()
        recorder.migration_qs.bulk_create(
            recorder.Migration(app=app, name=name) for app, name in MigrationLoader(None).disk_migrations or ()
        )
        execute(made, "CREATE TABLE server (name text)", "INSERT INTO server VALUES ('zoë')")
        yield made
        made.close()
    connections["default"] = before


def execute(database: BaseDatabaseWrapper, *statements: str) -> None:
    with database.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def told(database: BaseDatabaseWrapper) -> tuple[list[str], bool]:
    with database.cursor() as cursor:
        cursor.execute("SELECT name FROM server ORDER BY name")
        return [row[0] for row in cursor.fetchall()], "newer" in database.introspection.table_names(cursor)


def load(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
    call_command("load_database")


def dumped(capsysbinary: pytest.CaptureFixture[bytes]) -> bytes:
    call_command("dump_database")
    return capsysbinary.readouterr().out


def test_what_was_dumped_comes_back_and_nothing_else(
    database: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Red when the table of a newer release stays: its migration fails the next time."""
    dump = dumped(capsysbinary)
    execute(database, "CREATE TABLE newer (id integer)", "INSERT INTO server VALUES ('later')")
    assert told(database) == (["later", "zoë"], True)
    load(monkeypatch, dump)
    assert told(database) == (["zoë"], False)


def test_a_database_of_a_newer_release_is_refused(database: BaseDatabaseWrapper) -> None:
    """Red when what this release does not know is no matter to it."""
    call_command("check_release")
    MigrationRecorder(database).record_applied("phpborg", "9999_newer")
    with pytest.raises(CommandError, match=r"of a newer release: this one does not know phpborg\.9999_newer\."):
        call_command("check_release")


def test_a_database_that_is_away_is_said_in_a_sentence(database: BaseDatabaseWrapper, tmp_path: Path) -> None:
    """Red when install.sh shows a traceback of it."""
    database.close()
    database.settings_dict["NAME"] = tmp_path / "nowhere" / "db.sqlite3"
    with pytest.raises(CommandError, match=r"The database cannot be used \(.*\)\. Does it run"):
        call_command("check_release")


def test_half_a_file_is_refused(
    database: BaseDatabaseWrapper,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Red without a look at the file: a tree of half the pages, or nothing, takes the database's place."""
    dump = dumped(capsysbinary)
    for sent in (dump[: len(dump) // 2], b"no database", b""):
        with pytest.raises(CommandError, match="Nothing is changed"):
            load(monkeypatch, sent)
    assert told(database) == (["zoë"], False)
    assert list(tmp_path.glob(".database-*")) == []


def test_what_an_older_release_does_not_know_goes_back_youngest_first(database: BaseDatabaseWrapper) -> None:
    """Red in the order of names: servers still needs the users that would go first."""
    everything = set(MigrationLoader(None).disk_migrations or ())
    assert migrate_back.targets(everything) == []
    unknown = {key for key in everything if key[0] in ("accounts", "servers")}
    assert migrate_back.targets(everything - unknown)[-1] == ("accounts", "zero")
    last = max(name for app, name in everything if app == "servers")
    ((app, target),) = migrate_back.targets(everything - {("servers", last)})
    assert (app, target) == ("servers", sorted(name for app, name in everything if app == "servers")[-2])


def test_without_a_list_nothing_goes_back(database: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when no list means that nothing is known: every table would go."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("no list\n"))
    with pytest.raises(CommandError, match="Nothing is changed"):
        call_command("migrate_back")

"""Letting borg on the server extract: on a machine that answers from a script, and with a real borg."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backups import catalog
from backups.borg.commands import Access
from backups.catalog import Catalog
from backups.models import Archive, Repository
from backups.placing import LOOK, MAKE
from backups.restoring import Chosen
from backups.runners.base import BorgRunner
from backups.runners.index import IndexArchive
from backups.runners.restore import RestoreFiles
from jobs.errors import Failure
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from servers.ssh.command import NO_DIRECTORY, Command
from servers.ssh.local import Local
from servers.ssh.transport import Transport
from tests.backups.replay import entry, error, percent, warning
from tests.backups.tree import DEEP, STRANGE_NAMES, Tree, everything_in
from tests.conftest import run_now
from tests.fakes import Answer, FakeMachine

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]

INTO = "/srv/restore here"


def restore(archive: Archive, **parameters: Any) -> Job:
    return run_now(RestoreFiles.enqueue(archive, **{"directory": INTO, "paths": [], "entries": [], **parameters}))


def looks(command: Command) -> Answer:
    """What our scripts say on a machine where nobody has, or can put, anything into the directory."""
    script = command.argv[2]
    if script == LOOK:
        return Answer(b"missing\0/srv\0001\0/srv\0same\00099999999\0sshd\0")
    return Answer(INTO.encode())


@pytest.fixture
def machine(machine: FakeMachine) -> FakeMachine:
    machine.answers["sh"] = looks
    return machine


def patterns(machine: FakeMachine) -> list[str]:
    """What borg was told to extract."""
    argv = next(command.argv for command in machine.commands if "extract" in command.argv)
    return list(argv[argv.index("--") + 1 :])


# --- What is done -----------------------------------------------------------------------------


def test_the_directory_is_made_and_borg_extracts_there(archive: Archive, machine: FakeMachine) -> None:
    job = restore(archive)
    look, made, extract = machine.commands
    assert (job.status, job.warnings, job.error) == ("completed", 0, "")
    assert look.argv == ("sh", "-c", LOOK, "phpborg", INTO)
    assert made.argv == ("sh", "-c", MAKE, "phpborg", INTO)
    assert look.as_root and made.as_root
    assert extract.argv[:2] == ("/usr/bin/borg", "extract")
    assert f"ssh://phpborg{archive.repository.path}::{archive.name}" in extract.argv
    assert (extract.cwd, extract.as_root, extract.stdin) == (INTO, True, b"s3cret passphrase")
    assert job.result["directory"] == INTO
    assert [mark["name"] for mark in job.progress["phases"]] == ["connect", "prepare", "transfer"]


def test_without_paths_and_entries_everything_comes(archive: Archive, machine: FakeMachine) -> None:
    restore(archive)
    assert patterns(machine) == []


def test_paths_are_told_without_their_first_slash(archive: Archive, machine: FakeMachine) -> None:
    restore(archive, paths=["/etc/hosts", "home/a b", "//srv"])
    assert patterns(machine) == ["pp:etc/hosts", "pp:home/a b", "pp:srv"]


@pytest.mark.parametrize("path", ["/", "//", ".", "/.", "./"])
def test_the_root_is_everything(archive: Archive, machine: FakeMachine, path: str) -> None:
    restore(archive, paths=[path])
    assert patterns(machine) == []


def test_numbers_stand_for_entries_whatever_their_names(archive: Archive, machine: FakeMachine) -> None:
    names = [b"--option", b"latin-\xe9", b"line\nbreak"]
    catalog.build(archive, [entry(b"d/"), *(entry(b"d/" + name) for name in names)])
    with Catalog(archive) as listing:
        numbers = [item.id for name in names if (item := listing.find(b"d/" + name))]
    restore(archive, entries=numbers, paths=["/etc"])
    assert [os.fsencode(word) for word in patterns(machine)] == [b"pp:etc", *(b"pp:d/" + name for name in names)]


def test_how_far_it_is_is_exact(archive: Archive, machine: FakeMachine) -> None:
    machine.answers["extract"] = Answer(stderr=[percent(0, 0), percent(250, 1000), percent(730, 1000, "etc/passwd")])
    job = restore(archive)
    assert (job.progress["percent"], job.progress["exact"]) == (73, True)
    assert (job.progress["original"], job.progress["total"], job.progress["path"]) == (730, 1000, "etc/passwd")
    assert job.result["bytes"] == 1000


# --- What can go wrong ------------------------------------------------------------------------


def test_a_directory_that_cannot_be_made_is_said(archive: Archive, machine: FakeMachine) -> None:
    said = Answer(stderr=["mkdir: cannot create directory ‘/srv’: Read-only file system"], code=1)
    machine.answers["sh"] = lambda command: said if command.argv[2] == MAKE else looks(command)
    job = restore(archive)
    assert (job.status, job.cause) == ("failed", "source")
    assert job.error.startswith(f"The directory {INTO} cannot be made on web-1: mkdir: cannot create directory")
    assert len(machine.commands) == 2


def test_where_sudo_lets_us_run_borg_alone_it_extracts_as_ever(archive: Archive, machine: FakeMachine) -> None:
    """Red where each restore needs a shell that is root."""
    machine.answers["sh"] = Answer(stderr=["sudo: a password is required"], code=1)
    job = restore(archive)
    assert (job.status, job.error) == ("completed", "")
    assert [command.argv[0] for command in machine.commands] == ["sh", "mkdir", "/usr/bin/borg"]


@pytest.mark.parametrize("wish", [{"existing": "skip"}, {"existing": "both"}])
def test_what_needs_more_than_borg_says_so(archive: Archive, machine: FakeMachine, wish: dict[str, str]) -> None:
    machine.answers["sh"] = Answer(stderr=["sudo: a password is required"], code=1)
    job = restore(archive, **wish)
    assert job.error == "sudo on web-1 lets us run borg, and nothing else."
    assert len(machine.commands) == 1


def test_without_room_nothing_is_done(archive: Archive, machine: FakeMachine) -> None:
    machine.answers["sh"] = Answer(b"missing\0/srv\0001\0/srv\0same\000900\0sshd\0")
    job = restore(archive)
    assert job.error == "1,000,000 bytes are needed at /srv on web-1, and 921,600 are free."
    assert job.cause == "disk"
    assert len(machine.commands) == 1


@pytest.mark.parametrize("said", [b"", b"\0", b"full\0/srv", b"refused\0/srv is a symbolic link.\0"])
def test_a_machine_that_answers_nonsense_is_said(archive: Archive, machine: FakeMachine, said: bytes) -> None:
    machine.answers["sh"] = Answer(said)
    job = restore(archive)
    assert (job.status, job.cause) == ("failed", "source"), job.error
    assert job.error.startswith(f"{INTO} on web-1 cannot be")


def test_three_hundred_at_once_are_three_hundred_jobs(archive: Archive, machine: FakeMachine) -> None:
    jobs = [RestoreFiles.enqueue(archive, directory=INTO, paths=[f"/etc/{n}"], entries=[]) for n in range(300)]
    assert Job.objects.filter(status="pending", type="restore").count() == 300
    ended = [run_now(job) for job in jobs]
    assert {job.status for job in ended} == {"completed"}
    assert len({job.payload["paths"][0] for job in ended}) == 300
    assert len(machine.processes) == 900
    assert all(process.ended for process in machine.processes)


def test_an_archive_that_names_what_is_outside_of_it_is_refused() -> None:
    """Red where what a listing says is believed: a server that was taken over may write any archive."""
    for path in (b"../etc/passwd", b"a/../../etc", b"/etc/passwd", b".."):
        with pytest.raises(Failure, match="leads out of it"):
            Chosen().add(entry(path))


def test_a_server_that_is_gone_does_not_keep_an_archive_from_another(
    archive: Archive, other_server: Server, machine: FakeMachine
) -> None:
    """Red where a restore wants the archive's own server in any case."""
    Server.objects.filter(pk=archive.server_id).update(enabled=False)
    archive = Archive.objects.get()
    with pytest.raises(Refused, match="web-1 is switched off"):
        RestoreFiles.enqueue(archive, directory=INTO)
    assert RestoreFiles.enqueue(archive, directory=INTO, server=other_server.pk).status == "pending"
    Server.objects.filter(pk=other_server.pk).update(host_key="")
    with pytest.raises(Refused, match="the host key of db-1"):
        RestoreFiles.enqueue(archive, directory=INTO, server=other_server.pk)


def test_a_directory_that_may_not_be_entered_is_said(archive: Archive, machine: FakeMachine) -> None:
    machine.answers["extract"] = Answer(stderr=["sh: 1: cd: can't cd to /srv"], code=NO_DIRECTORY)
    job = restore(archive)
    assert job.error == f"root may not enter {INTO} on web-1."
    assert "Choose a directory" in job.advice


def test_damage_is_a_failure_although_borg_only_warns(archive: Archive, machine: FakeMachine) -> None:
    machine.answers["extract"] = Answer(code=102)
    job = restore(archive)
    assert (job.status, job.cause) == ("failed", "disk")
    assert job.error == "Parts of the archive are gone: what was restored has zeros in their place."


@pytest.mark.parametrize("code", [1, 101])
def test_a_path_that_is_not_in_the_archive_is_a_failure(archive: Archive, machine: FakeMachine, code: int) -> None:
    said = [warning("Include pattern 'etc/gone' never matched."), warning("Include pattern 'a' b' never matched.")]
    machine.answers["extract"] = Answer(stderr=said, code=code)
    job = restore(archive, paths=["/etc/gone", "/a' b"])
    assert (job.status, job.error) == ("failed", "2 paths could not be restored.")
    assert job.result["unreadable_paths"] == [
        ["etc/gone", "It is not in the archive."], ["a' b", "It is not in the archive."],
    ]  # fmt: skip


def test_a_file_that_could_not_be_written_is_listed(archive: Archive, machine: FakeMachine) -> None:
    machine.answers["extract"] = Answer(
        stderr=[warning("/etc/hosts: write: [Errno 28] No space left on device")], code=1
    )
    assert restore(archive).status == "failed"


@pytest.mark.parametrize(
    ("code", "said", "sentence"),
    [
        (2, error("Archive x does not exist", "Archive.DoesNotExist"), "The archive is not in the repository."),
        (31, "", "The archive is not in the repository."),
        (2, error("Repository x does not exist.", "Repository.DoesNotExist"), "The repository is not where it was."),
        (None, "", "borg extract was killed."),
    ],
)
def test_each_error_of_borg_has_a_sentence(
    archive: Archive, machine: FakeMachine, code: int | None, said: str, sentence: str
) -> None:
    machine.answers["extract"] = Answer(stderr=[said] if said else [], code=code)
    assert restore(archive).error == sentence


@pytest.mark.parametrize("numbers", [[2, 99], [0], [-1], [10**30]])
def test_entries_that_are_not_in_the_listing_restore_nothing(
    archive: Archive, machine: FakeMachine, numbers: list[int]
) -> None:
    catalog.build(archive, [entry(b"d/"), entry(b"d/a")])
    job = restore(archive, entries=numbers)
    assert job.error == "Some of the chosen entries are not in the archive's listing; choose again."
    assert machine.commands == []


def test_without_a_listing_numbers_say_nothing(archive: Archive, machine: FakeMachine) -> None:
    job = restore(archive, entries=[2])
    assert job.error == "The listing of this archive is gone; read it anew, then choose again."
    assert machine.commands == []


@pytest.mark.parametrize(
    ("model", "changes", "sentence"),
    [
        (Server, {"enabled": False}, "web-1 is switched off."),
        (Server, {"host_key": ""}, "Nobody has confirmed the host key of web-1 yet."),
        (Server, {"host_key_seen": "ssh-ed25519 AAAA"}, "The host key of web-1 has changed."),
        (Repository, {"state": "failed"}, "The repository web-1 could not be made."),
    ],
)
def test_what_stands_in_the_way_is_said(
    archive: Archive, model: type[Any], changes: dict[str, Any], sentence: str
) -> None:
    model.objects.update(**changes)
    with pytest.raises(Refused, match=sentence):
        RestoreFiles.enqueue(Archive.objects.get(), directory=INTO)


def test_the_passphrase_is_nowhere_in_the_clear(archive: Archive, machine: FakeMachine) -> None:
    job = restore(archive)
    stored = f"{Job.objects.values()} {[line.message for line in job.lines.all()]}"
    assert "borg extract" in stored
    assert "s3cret" not in stored


# --- With a real borg -------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is this machine, and borg reaches the repository by its path."""

    @contextmanager
    def reached(runner: BorgRunner[Any], repository: Repository, server: Server) -> Iterator[tuple[Transport, Access]]:
        yield Local(), runner.here(repository)

    monkeypatch.setattr(BorgRunner, "reached", reached)


@pytest.mark.e2e
@pytest.mark.usefixtures("here")
def test_everything_is_restored_byte_for_byte(real_archive: Archive, tree: Tree, tmp_path: Path) -> None:
    job = restore(real_archive, directory=str(tmp_path / "new" / "folder"))
    assert (job.status, job.error) == ("completed", "")
    assert everything_in(tmp_path / "new/folder") == {
        b"src": ("d", b""),
        **{b"src/" + path: value for path, value in everything_in(tree.root / "src").items()},
    }
    links = tmp_path / "new/folder/src/links"
    assert (links / "first").stat().st_ino == (links / "second").stat().st_ino


@pytest.mark.e2e
@pytest.mark.usefixtures("here")
def test_chosen_entries_are_restored_and_nothing_else(real_archive: Archive, tree: Tree, tmp_path: Path) -> None:
    run_now(IndexArchive.enqueue(real_archive))
    chosen = [b"names/" + name for name in STRANGE_NAMES if name != b"..."]
    chosen += [DEEP + b"/bottom", b"links/second", b"links/symlink"]
    with Catalog(real_archive) as listing:
        items = [listing.find(b"src/" + path) for path in chosen]
        assert all(items)
        job = restore(real_archive, directory=str(tmp_path / "r"), entries=[item.id for item in items if item])
    assert (job.status, job.error) == ("completed", "")
    expected = everything_in(tree.root / "src")
    restored = everything_in(tmp_path / "r/src")
    assert {path for path, (kind, _) in restored.items() if kind != "d"} == set(chosen)
    assert all(restored[path] == expected[path] for path in chosen)


@pytest.mark.e2e
@pytest.mark.usefixtures("here")
def test_the_root_of_a_real_archive_is_everything(real_archive: Archive, tmp_path: Path) -> None:
    job = restore(real_archive, directory=str(tmp_path / "r"), paths=["/"])
    assert job.status == "completed"
    assert (tmp_path / "r/src/dated").read_bytes() == b"dated"


@pytest.mark.e2e
@pytest.mark.usefixtures("here")
def test_the_root_of_a_whole_machine_is_everything_too(real_archive: Archive, tmp_path: Path) -> None:
    Archive.objects.update(name="machine")
    restore(real_archive, directory=str(tmp_path / "r"), paths=["/"])
    assert {path.name for path in (tmp_path / "r").iterdir()} == {path.name for path in Path("/").iterdir()}


@pytest.mark.e2e
@pytest.mark.usefixtures("here")
def test_what_a_real_archive_does_not_hold_is_never_reported_as_done(real_archive: Archive, tmp_path: Path) -> None:
    job = restore(real_archive, directory=str(tmp_path / "r"), paths=["/src/dated", "/src/gone"])
    assert job.status == "failed"
    assert job.result["unreadable_paths"] == [["src/gone", "It is not in the archive."]]
    assert (tmp_path / "r/src/dated").read_bytes() == b"dated"

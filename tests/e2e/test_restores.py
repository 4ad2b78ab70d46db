"""Restores with a real borg over a real sshd: each way of it, and the trees compared by everything that a file has."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backups.models import Archive, Plan
from backups.placing import Target
from backups.runners.create import RunBackup
from backups.runners.restore import RestoreFiles
from jobs.models import Job
from phpborg.embedded import Sshd
from servers.models import Server
from servers.ssh.command import Command
from servers.ssh.remote import Remote, RemoteProcess
from servers.ssh.transport import Tick, run
from tests.conftest import run_now
from tests.e2e.machines import log_of, machine, protect

pytestmark = pytest.mark.django_db(transaction=True)

NASTY = (
    b"new\nline", b"-rf", b"--option", b" spaces ", b"latin-\xe9\xff", b".hidden", b"..odd", b"...",
    b"it's \"$(id)\"", b"*", b"back\\slash", b"%s\\0", "snow ☃".encode(),
)  # fmt: skip
LONG_AGO = 1_577_934_245_123_456_789  # ns
BORG = shutil.which("borg") or "/usr/bin/borg"
SOMEBODY = 12345  # who is not on this machine

Snapshot = dict[bytes, tuple[Any, ...]]


def make(top: Path) -> None:
    """Files with everything that a file can have."""
    folder = top / "folder"
    (folder / "in" / "it").mkdir(parents=True)
    (top / "empty").mkdir()
    for name in NASTY:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"content of " + name)
    (folder / "file").write_bytes(os.urandom(300_000))
    (folder / "in" / "it" / "deep").write_text("deep")
    (folder / "gone").write_text("will be gone")
    (folder / "changed").write_text("as it was")
    os.link(folder / "file", top / "hard link")
    os.link(folder / "file", folder / "in" / "second hard link")
    (folder / "dangling").symlink_to("no such thing")
    (folder / "to a folder").symlink_to("in")
    os.mkfifo(folder / "fifo")
    (top / "program").write_text("#!/bin/sh\n")
    (top / "program").chmod(0o4755)
    (top / "empty").chmod(0o1777)
    with (top / "hole").open("wb") as file:
        file.truncate(1_000_000)
    os.setxattr(folder / "in", b"user.folder", b"of a folder")
    os.setxattr(folder / "in" / "it" / "deep", b"user.note", b"\0binary\xff")
    if os.geteuid() == 0:
        for path in (folder, folder / "in" / "it" / "deep", folder / "dangling"):
            os.chown(path, SOMEBODY, SOMEBODY + 1, follow_symlinks=False)
    folder.chmod(0o750)
    for path in sorted(top.rglob("*"), reverse=True):
        if path.name not in ("hard link", "second hard link"):
            os.utime(path, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)
    os.utime(top, ns=(LONG_AGO, LONG_AGO))


def snapshot(top: Path, *, by_tar: bool = False, owners: bool = True) -> Snapshot:
    """Of each path below `top`, and of it: all that a restore gives back; a tar has whole seconds, and no more."""
    found: Snapshot = {}
    inodes: dict[int, bytes] = {}
    root = os.fsencode(top)
    paths = [os.path.join(folder, name) for folder, *kinds in os.walk(root) for kind in kinds for name in kind]
    for path in [root, *sorted(paths)]:
        seen = os.lstat(path)
        name = os.path.relpath(path, root)
        first = inodes.setdefault(seen.st_ino, name) if not stat.S_ISDIR(seen.st_mode) else name
        content: Any = None
        if stat.S_ISREG(seen.st_mode):
            with open(path, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(seen.st_mode):
            content = os.readlink(path)
        xattrs = (
            () if by_tar else tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in xattrs_of(path))
        )
        found[name] = (
            stat.filemode(seen.st_mode), (seen.st_uid, seen.st_gid) if owners else (), first, content,
            seen.st_mtime_ns // (10**9 if by_tar else 1), xattrs,
        )  # fmt: skip
    return found


def xattrs_of(path: bytes) -> list[str]:
    return sorted(key for key in os.listxattr(path, follow_symlinks=False) if key.startswith("user."))


def disturb(top: Path) -> None:
    """What somebody did since the backup."""
    (top / "folder" / "gone").unlink()
    (top / "folder" / "changed").write_text("somebody's work")
    (top / "folder" / "new").write_text("made since")
    shutil.rmtree(top / "folder" / "in" / "it")
    (top / "program").unlink()
    (top / "program").symlink_to("/etc/passwd")


def contents(seen: Snapshot) -> dict[bytes, Any]:
    return {path: values[3] for path, values in seen.items()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "source" / "it's the top"
    top.mkdir(parents=True)
    make(top)
    return top


@pytest.fixture
def archive(sshd: Sshd, pool_dir: Path, tree: Path) -> Archive:
    plan = protect(machine(sshd), pool_dir, str(tree))
    return back_up(plan)


def back_up(plan: Plan) -> Archive:
    job = run_now(RunBackup.enqueue(plan))
    assert job.status == Job.Status.COMPLETED, (job.error, log_of(job))
    archive: Archive = job.archives.get()
    return archive


@pytest.fixture
def other(archive: Archive, sshd: Sshd) -> Server:
    """Another server, which is the same machine with another key; it has no borg."""
    server = machine(sshd, name="real-2")
    Server.objects.filter(pk=server.pk).update(borg_path="/nowhere/borg")
    return server


def restore(archive: Archive, **wish: Any) -> Job:
    return run_now(RestoreFiles.enqueue(archive, **{"paths": [], "entries": [], "directory": "", **wish}))


def done(job: Job) -> Job:
    assert job.status == Job.Status.COMPLETED, (job.error, job.result, log_of(job))
    return job


def failed(job: Job) -> Job:
    assert job.status == Job.Status.FAILED, log_of(job)
    return job


# --- Each way, to the same server and to another one ------------------------------------------

SERVERS = pytest.mark.parametrize("elsewhere", [False, True], ids=["same server", "another"])


@SERVERS
@pytest.mark.parametrize("where", ["directory", "place"])
@pytest.mark.parametrize("existing", ["overwrite", "skip", "both"])
def test_what_is_there_is_overwritten_left_or_kept(
    archive: Archive, other: Server, tree: Path, tmp_path: Path, *, elsewhere: bool, where: str, existing: str
) -> None:
    """Red without placing.py, for all but overwriting in a directory."""
    before = snapshot(tree, by_tar=elsewhere)
    lies = tree if where == "place" else tmp_path / "under" / tree.relative_to("/")
    if where == "directory":
        lies.parent.mkdir(parents=True)
        subprocess.run(["cp", "-a", str(tree), str(lies)], check=True)
    disturb(lies)
    disturbed = snapshot(lies, by_tar=elsewhere)

    job = done(restore(
        archive, where=where, existing=existing, directory=str(tmp_path / "under") if where == "directory" else "",
        server=other.pk if elsewhere else None, verify=True,
    ))  # fmt: skip

    after = snapshot(lies, by_tar=elsewhere)
    assert list(tmp_path.rglob(".phpborg-*-*")) == []
    assert job.result["verified"]["wrong"] == 0
    stayed = after.pop(b"folder/new")
    assert stayed == disturbed[b"folder/new"]
    if existing == "overwrite":
        assert after == before
        assert job.result["verified"]["files"] == sum(values[0].startswith("-") for values in before.values())
        return
    beside = {path: after.pop(path) for path in list(after) if b".restored-" in path}
    assert contents(after)[b"folder/changed"] == b"somebody's work"
    assert contents(after)[b"program"] == b"/etc/passwd"
    for path in (b"folder/gone", b"folder/in/it", b"folder/in/it/deep"):
        assert after[path] == before[path]
    assert set(before) == set(after)
    if existing == "skip":
        assert beside == {}
    else:
        kept = {path.partition(b".restored-")[0]: values[3] for path, values in beside.items()}
        assert kept[b"folder/changed"] == b"as it was"
        assert kept[b"program"] == b"#!/bin/sh\n"
        assert b"folder/gone" not in kept


@SERVERS
def test_beside_what_is_there(archive: Archive, other: Server, tree: Path, *, elsewhere: bool) -> None:
    before = snapshot(tree, by_tar=elsewhere)
    disturb(tree)
    disturbed = snapshot(tree)
    job = done(restore(archive, where="beside", server=other.pk if elsewhere else None, verify=True))
    [beside] = [path for path in tree.parent.iterdir() if path != tree]
    assert beside.name.startswith("it's the top.restored-2")
    assert snapshot(beside, by_tar=elsewhere) == before
    assert snapshot(tree) == disturbed
    assert job.result["verified"]["wrong"] == 0


@SERVERS
def test_into_a_new_directory(archive: Archive, other: Server, tree: Path, tmp_path: Path, *, elsewhere: bool) -> None:
    into = tmp_path / "made" / "anew"
    number = other.pk if elsewhere else None
    job = done(restore(archive, directory=str(into), server=number, verify=True))
    assert snapshot(into / tree.relative_to("/"), by_tar=elsewhere) == snapshot(tree, by_tar=elsewhere)
    assert job.result["verified"]["files"] > 15


@SERVERS
def test_chosen_paths_only(archive: Archive, other: Server, tree: Path, tmp_path: Path, *, elsewhere: bool) -> None:
    """A hard link comes with its content though its first name was not chosen, and is verified by that."""
    chosen = [str(tree / "folder" / "in"), str(tree / "empty")]
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "there").write_text("so that it is not empty")
    job = done(restore(
        archive, directory=str(tmp_path / "r"), paths=chosen, server=other.pk if elsewhere else None, verify=True,
    ))  # fmt: skip
    lies = tmp_path / "r" / tree.relative_to("/")
    assert sorted(os.listdir(lies)) == ["empty", "folder"]
    assert os.listdir(lies / "folder") == ["in"]
    assert (lies / "folder/in/second hard link").read_bytes() == (tree / "folder/file").read_bytes()
    assert job.result["verified"] | {"seconds": 0} == {"files": 2, "wrong": 0, "seconds": 0}


@SERVERS
def test_without_owners_and_modes(
    archive: Archive, other: Server, tree: Path, tmp_path: Path, *, elsewhere: bool
) -> None:
    done(restore(archive, directory=str(tmp_path / "r"), owners=False, server=other.pk if elsewhere else None))
    lies = tmp_path / "r" / tree.relative_to("/")
    assert contents(snapshot(lies)) == contents(snapshot(tree))
    for path in [lies, *lies.rglob("*")]:
        seen = path.lstat()
        assert (seen.st_uid, seen.st_gid) == (os.getuid(), os.getgid())
        assert path.is_symlink() or not seen.st_mode & 0o6022, path
    assert (lies / "program").stat().st_mode & 0o777 == 0o755


def test_another_server_never_learns_the_passphrase(
    archive: Archive, other: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, Command]] = []
    start = Remote.open

    def listened(remote: Remote, command: Command, tick: Tick) -> RemoteProcess:
        told.append((remote.name, command))
        return start(remote, command, tick)

    monkeypatch.setattr(Remote, "open", listened)
    done(restore(archive, directory=str(tmp_path / "r"), server=other.pk, verify=True))
    assert {name for name, _ in told} == {"real-2"}
    passphrase = archive.repository.passphrase()
    assert len(passphrase) > 20
    assert not any(passphrase in f"{command!s} {command.stdin!r}" for _, command in told)
    assert not any("borg" in command.argv[0] or "BORG_RSH" in command.env for _, command in told)


@pytest.fixture
def archive_by_sudo(sudo_user: str, sshd: Sshd, pool_dir: Path, tree: Path) -> Archive:
    """Saved by a user whom sudo lets run everything."""
    rules = Path("/etc/sudoers.d") / sudo_user
    rules.write_text(f"{sudo_user} ALL=(root) NOPASSWD:SETENV: ALL\n")
    return back_up(protect(machine(sshd, username=sudo_user, use_sudo=True), pool_dir, str(tree)))


@SERVERS
def test_through_sudo(
    archive_by_sudo: Archive, sudo_user: str, sshd: Sshd, tree: Path, tmp_path: Path, *, elsewhere: bool
) -> None:
    """Red where root's folders are entered, or tar runs, without sudo: only root may look into `tmp_path`."""
    number = None
    if elsewhere:
        number = machine(sshd, name="real-2", username=sudo_user, use_sudo=True).pk
    before = snapshot(tree, by_tar=elsewhere)
    disturb(tree)
    (tree / "folder" / "new").unlink()
    done(restore(archive_by_sudo, where="place", server=number, verify=True))
    assert snapshot(tree, by_tar=elsewhere) == before
    done(restore(archive_by_sudo, directory=str(tmp_path / "r"), server=number, owners=False))
    assert (tmp_path / "r" / tree.relative_to("/") / "hole").owner() == sudo_user
    assert list(tmp_path.rglob(".phpborg-*-*")) == []


def test_where_sudo_lets_us_run_borg_alone_nothing_is_put_in_place(
    archive_by_sudo: Archive, sudo_user: str, tree: Path
) -> None:
    (Path("/etc/sudoers.d") / sudo_user).write_text(f"{Server(username=sudo_user, borg_path=BORG).sudoers_line}\n")
    disturb(tree)
    before = snapshot(tree)
    job = failed(restore(archive_by_sudo, where="place"))
    assert job.error == "sudo on real-1 lets us run borg, and nothing else."
    assert snapshot(tree) == before


# --- Looking first ----------------------------------------------------------------------------


@SERVERS
def test_a_dry_run_tells_everything_and_changes_nothing(
    archive: Archive, other: Server, tree: Path, tmp_path: Path, *, elsewhere: bool
) -> None:
    disturb(tree)
    before = snapshot(tmp_path / "source")
    job = done(restore(archive, where="place", dry_run=True, server=other.pk if elsewhere else None))
    assert snapshot(tmp_path / "source") == before
    result = job.result
    assert result["paths"] == [[str(tree), str(tree)]]
    assert result["counts"]["new"] == 3  # gone, in/it, in/it/deep
    assert [str(tree / "folder/changed"), "differs"] in result["collisions"]
    assert [str(tree / "program"), "differs"] in result["collisions"]
    assert [str(tree / "hole"), "same"] in result["collisions"]
    assert result["needed"] > 1_300_000
    assert result["free"] > 0
    assert result["has_room"]


def test_a_dry_run_into_a_directory_that_is_not_there_does_not_make_it(archive: Archive, tmp_path: Path) -> None:
    job = done(restore(archive, directory=str(tmp_path / "not/there"), dry_run=True))
    assert not (tmp_path / "not").exists()
    assert set(job.result["counts"]) == {"new", "same", "differs", "folders"}
    assert job.result["counts"]["new"] > 20
    assert job.result["collisions"] == []


def test_a_database_that_runs_is_warned_of(
    archive: Archive, tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process's own name stands for a database's."""
    name = Path("/proc/self/comm").read_text().strip()
    monkeypatch.setattr("backups.runners.restore.DATABASES", {str(tree / "folder"): {name}})
    job = done(restore(archive, where="place", dry_run=True))
    [warning] = job.result["warnings"]
    assert warning.startswith(f"{name} is running on real-1, and {tree / 'folder'} holds its data: stop it first")
    assert job.warnings == 1


# --- Verifying --------------------------------------------------------------------------------


@SERVERS
def test_verifying_finds_a_flipped_byte(
    archive: Archive, other: Server, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    lies = tmp_path / "r" / tree.relative_to("/")
    hashes = Target.hashes

    def after_a_flip(target: Target, *words: Any) -> Iterator[tuple[bytes, str]]:
        with (lies / "hole").open("r+b") as file:
            file.seek(500_000)
            file.write(b"\1")
        (lies / "folder" / "gone").unlink()
        return hashes(target, *words)

    monkeypatch.setattr(Target, "hashes", after_a_flip)
    wish = {"directory": str(tmp_path / "r"), "server": other.pk if elsewhere else None, "verify": True}
    job = failed(restore(archive, **wish))
    assert job.error.startswith("2 of "), job.error
    assert sorted(job.result["unreadable_paths"]) == [
        [str(lies / "folder/gone"), "It cannot be read."], [str(lies / "hole"), "Its content is not the archive's."],
    ]  # fmt: skip
    assert job.result["verified"]["wrong"] == 2


# --- Links that somebody laid -----------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can be somebody else.")
@SERVERS
@pytest.mark.parametrize("where", ["directory", "place"])
def test_a_link_that_somebody_laid_leads_root_nowhere(
    archive: Archive, other: Server, tree: Path, tmp_path: Path, *, where: str, elsewhere: bool
) -> None:
    """Red with `borg extract` right into the directory, which follows it."""
    lies = tree if where == "place" else tmp_path / "under" / tree.relative_to("/")
    victim = tmp_path / "victim"
    victim.mkdir()
    shutil.rmtree(tree / "folder")
    lies.mkdir(parents=True, exist_ok=True)
    os.chown(lies, SOMEBODY, SOMEBODY)
    (lies / "folder").symlink_to(victim)
    os.chown(lies / "folder", SOMEBODY, SOMEBODY, follow_symlinks=False)
    job = failed(restore(
        archive, where=where, directory=str(tmp_path / "under") if where == "directory" else "",
        paths=[str(tree / "folder" / "file")], server=other.pk if elsewhere else None,
    ))  # fmt: skip
    assert list(victim.iterdir()) == []
    assert "is a symbolic link, which is not followed" in f"{job.error} {job.result}"


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can be somebody else.")
def test_what_is_extracted_lies_where_nobody_else_can_move_it(
    archive: Archive, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(tree.parent, SOMEBODY, SOMEBODY)
    homes: list[str] = []
    stage = Target.stage

    def noted(target: Target, home: str, job: str) -> tuple[str, list[str]]:
        homes.append(home)
        return stage(target, home, job)

    monkeypatch.setattr(Target, "stage", noted)
    before = snapshot(tree)
    disturb(tree)
    (tree / "folder" / "new").unlink()
    done(restore(archive, where="place"))
    assert homes == [str(tmp_path)]
    assert snapshot(tree) == before


# --- What goes wrong --------------------------------------------------------------------------


@SERVERS
def test_a_path_that_is_not_in_the_archive(
    archive: Archive, other: Server, tree: Path, tmp_path: Path, *, elsewhere: bool
) -> None:
    number = other.pk if elsewhere else None
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "there").touch()
    wish = {"directory": str(tmp_path / "r"), "server": number}
    nothing = failed(restore(archive, paths=["/no/such"], **wish))
    assert nothing.error == "Nothing of what was asked for is in the archive."
    job = failed(restore(archive, paths=["/no/such", str(tree / "hole")], **wish))
    assert job.result["unreadable_paths"] == [["no/such", "It is not in the archive."]]
    assert (tmp_path / "r" / tree.relative_to("/") / "hole").exists()


@SERVERS
def test_an_archive_that_was_deleted_meanwhile(
    archive: Archive, other: Server, tmp_path: Path, *, elsewhere: bool
) -> None:
    Archive.objects.filter(pk=archive.pk).update(name="no-such-archive")
    archive.refresh_from_db()
    job = failed(restore(archive, directory=str(tmp_path / "r"), server=other.pk if elsewhere else None))
    assert job.error == "The archive is not in the repository."


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can mount a disk.")
@SERVERS
def test_a_disk_that_is_too_small_is_said_before_anything_is_done(
    archive: Archive, other: Server, tmp_path: Path, *, elsewhere: bool
) -> None:
    with small_disk(tmp_path / "disk", "1M") as disk:
        number = other.pk if elsewhere else None
        job = failed(restore(archive, directory=str(disk / "r"), server=number))
        assert "bytes are needed at" in job.error
        assert job.cause == "disk"
        assert list(disk.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can mount a disk.")
@SERVERS
def test_a_disk_that_is_full_in_the_middle_keeps_what_it_had(
    archive: Archive, other: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    """As if somebody else had filled it: nobody counted beforehand."""
    monkeypatch.setattr(RestoreFiles, "_refuse_without_room", lambda *_: None)
    with small_disk(tmp_path / "disk", "1M") as disk:
        (disk / "mine").write_text("mine")
        job = failed(restore(archive, directory=str(disk), server=other.pk if elsewhere else None))
        assert "There was no room left" in job.error
        assert [path.name for path in disk.iterdir()] == ["mine"]


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can mount a disk.")
def test_another_disk_below_gets_its_files_too(archive: Archive, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    lies = tmp_path / "r" / tree.relative_to("/")
    lies.parent.mkdir(parents=True)
    with small_disk(lies, "8M"):
        done(restore(archive, directory=str(tmp_path / "r"), verify=True))
        before, after = snapshot(tree), snapshot(lies)
        assert {path: values[:2] + values[3:] for path, values in after.items()} == {
            path: values[:2] + values[3:] for path, values in before.items()
        }
    assert list(tmp_path.rglob(".phpborg-*-*")) == []


def test_a_folder_in_the_way_of_a_file_is_left(archive: Archive, tree: Path) -> None:
    (tree / "hole").unlink()
    (tree / "hole").mkdir()
    (tree / "hole" / "work").write_text("somebody's")
    (tree / "folder" / "gone").unlink()
    job = failed(restore(archive, where="place"))
    assert job.result["unreadable_paths"] == [
        [str(tree / "hole").lstrip("/"), "A folder that is not empty is in the way."]
    ]
    assert (tree / "hole" / "work").exists()
    assert (tree / "folder" / "gone").exists()


@SERVERS
def test_a_server_that_goes_away_in_the_middle_and_a_second_restore(
    archive: Archive, other: Server, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    before = snapshot(tree, by_tar=elsewhere)
    shutil.rmtree(tree)
    tree.mkdir()
    place, told = Target.place, 0

    def cut(target: Target, *words: Any, **more: Any) -> Iterator[Any]:
        nonlocal told
        for placed in place(target, *words, **more):
            told = placed.count  # what had arrived before the cut still comes
            yield placed
            if told == 2:
                target.machine.transport.sock.close()

    wish = {"where": "place", "server": other.pk if elsewhere else None}
    with monkeypatch.context() as patch:
        patch.setattr(Target, "place", cut)
        job = failed(restore(archive, **wish))
    assert job.cause == "network"
    assert told >= 2 and f" {told} entries had been put in their place" in job.error, job.error
    assert "Skip what is there" in job.advice
    assert list(tmp_path.rglob(".phpborg-restore-*")) == [Path(job.result["staging"])]
    done(restore(archive, existing="skip", verify=True, **wish))
    after = snapshot(tree, by_tar=elsewhere)
    assert contents(after) == contents(before)
    assert list(tmp_path.rglob(".phpborg-restore-*")) == []


@SERVERS
def test_a_server_that_goes_away_while_it_is_extracted_there(
    archive: Archive, other: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    """Red where the sentence is only that the connection broke. What ends is sshd's own child."""
    extract = RestoreFiles._extract

    def cut(runner: RestoreFiles, remote: Remote, *words: Any, **more: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner.log, "info", lambda _: kill_sshd_of(remote))
            extract(runner, remote, *words, **more)

    monkeypatch.setattr(RestoreFiles, "_extract", cut)
    job = failed(restore(archive, directory=str(tmp_path / "r"), server=other.pk if elsewhere else None))
    assert job.cause == "network", (job.error, log_of(job))
    assert f"What had been restored by then is in {tmp_path / 'r'} on " in job.error
    assert "half of one" in job.advice


def kill_sshd_of(remote: Remote) -> None:
    """End the process of sshd that serves this session: the parent of what it starts."""
    done = run(remote, Command(("sh", "-c", 'ps -o ppid= -p "$PPID"; echo "$PPID"')), lambda: None)
    number = int(done.text.split()[-1])
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def test_a_cancelled_restore_leaves_nothing_of_its_own(
    archive: Archive, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(tree)
    place = Target.place

    def cancelled(target: Target, *words: Any, **more: Any) -> Iterator[Any]:
        job = Job.objects.get(type="restore")
        job.request_cancel()
        while True:
            target._tick()
        yield from place(target, *words, **more)

    monkeypatch.setattr(Target, "place", cancelled)
    job = restore(archive, where="place")
    assert job.status == Job.Status.CANCELLED
    assert list(tmp_path.rglob(".phpborg-*-*")) == []
    assert snapshot(tree) == before

"""What goes wrong in the world, made for real: each ends in its own sentence, and nothing is half-made."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts import encryption
from backups.borg import commands
from backups.models import Archive, Plan, Repository
from backups.runners.create import RunBackup
from backups.runners.restore import RestoreFiles
from jobs.models import Job
from phpborg.embedded import Sshd, free_port
from servers.models import Server
from servers.runners.test import TestConnection as ConnectionTest
from tests.conftest import HOST_KEY, run_now
from tests.e2e.machines import bin_without_borg, log_of, machine, protect, script

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    return source


@pytest.fixture
def plan(sshd: Sshd, pool_dir: Path, folder: Path) -> Plan:
    return protect(machine(sshd), pool_dir, str(folder))


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may pass would be tried again; here it is the sentence that counts."""
    monkeypatch.setattr(RunBackup, "max_attempts", 1)


def failed(job: Job, cause: str) -> str:
    """The sentence of a job that failed for `cause`."""
    assert job.status == Job.Status.FAILED, (job.status, log_of(job))
    assert job.cause == cause, job.error
    assert job.advice
    return job.error


# --- The server -------------------------------------------------------------------------------


def test_nothing_listens_there(sshd: Sshd) -> None:
    job = run_now(ConnectionTest.enqueue(machine(sshd, port=free_port())))
    assert "cannot be reached on port" in failed(job, "network")


def test_the_name_is_unknown(sshd: Sshd) -> None:
    job = run_now(ConnectionTest.enqueue(machine(sshd, address="no-such-host.invalid")))
    assert "The name no-such-host.invalid is unknown" in failed(job, "network")


def test_our_key_is_refused(sshd: Sshd) -> None:
    server = machine(sshd)
    sshd.authorized_keys.write_text("")
    assert "refused our key" in failed(run_now(ConnectionTest.enqueue(server)), "authentication")


def test_the_host_key_is_another_one(plan: Plan) -> None:
    Server.objects.filter(pk=plan.server_id).update(host_key=HOST_KEY, host_key_seen=HOST_KEY)
    job = run_now(RunBackup.enqueue(Plan.objects.get(pk=plan.pk)))
    assert "The host key of 127.0.0.1 has changed" in failed(job, "authentication")
    assert not Archive.objects.exists()


@pytest.fixture
def bare_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A machine whose users find only what is in `bin`: no borg, unless a test puts one there."""
    with Sshd(tmp_path / "bare", options=[f"SetEnv PATH={bin_without_borg(tmp_path / 'bin')}"]) as server:
        yield server


@pytest.fixture
def only_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.facts.SEARCH_PATH", "/nowhere")


def test_borg_is_missing(bare_sshd: Sshd, only_path: None) -> None:
    server = machine(bare_sshd)
    job = run_now(ConnectionTest.enqueue(server))
    assert failed(job, "borg") == "borg was not found on real-1."
    assert "apt install borgbackup" in job.advice


@pytest.mark.parametrize(
    ("version", "sentence"),
    [("1.1.17", "borg 1.1.17 is too old"), ("2.0.0b14", "borg 2.0.0b14 is not supported yet")],
)
def test_a_borg_that_we_do_not_work_with(
    bare_sshd: Sshd, only_path: None, tmp_path: Path, version: str, sentence: str
) -> None:
    script(tmp_path / "bin" / "borg", f"echo borg {version}")
    job = run_now(ConnectionTest.enqueue(machine(bare_sshd)))
    assert sentence in failed(job, "borg")
    assert Server.objects.get().borg_version == version


def test_borg_went_away_after_the_test(plan: Plan) -> None:
    Server.objects.filter(pk=plan.server_id).update(borg_path="/usr/bin/no-borg-here")
    job = run_now(RunBackup.enqueue(Plan.objects.get(pk=plan.pk)))
    assert "/usr/bin/no-borg-here was not found on real-1" in failed(job, "borg")


# --- The source -------------------------------------------------------------------------------


def test_a_path_that_does_not_exist_makes_the_archive_suspicious(plan: Plan, folder: Path) -> None:
    source = plan.sources.get()
    source.parameters["paths"] = [str(folder), "/does/not/exist"]
    source.save()
    job = run_now(RunBackup.enqueue(plan))
    assert job.status == Job.Status.COMPLETED and job.result
    assert job.result["suspicion"] == "Not found on the server: /does/not/exist."
    plan.refresh_from_db()
    assert plan.last_good_at is None


def test_an_archive_of_less_than_half_is_suspicious_and_no_yardstick(plan: Plan, folder: Path) -> None:
    for number in range(9):
        (folder / f"more {number}").write_text("x")
    assert run_now(RunBackup.enqueue(plan)).result["suspicion"] == ""
    for path in folder.glob("more*"):
        path.unlink()
    for _ in range(2):  # the second one has the same few files, and is measured against the full one all the same
        result = run_now(RunBackup.enqueue(plan)).result
        assert result and "It has 1 files, less than half of the 10 before." in result["suspicion"]


@pytest.mark.parametrize("name", ["it's", 'a "quote"', "new\nline", "$(touch evil)", "`touch evil`", "-rf", "a" * 200])
def test_a_path_with_a_name_that_is_not_easy_is_saved(plan: Plan, folder: Path, name: str) -> None:
    (folder / name).mkdir()
    (folder / name / "file").write_text("x")
    source = plan.sources.get()
    source.parameters["paths"] = [str(folder / name)]
    source.save()
    job = run_now(RunBackup.enqueue(plan))
    assert job.status == Job.Status.COMPLETED, log_of(job)
    assert job.result and job.result["files"] == 1
    assert not list(Path.cwd().glob("evil*"))


# --- The repository ---------------------------------------------------------------------------


def test_the_repository_is_gone(plan: Plan) -> None:
    shutil.rmtree(plan.repository.path)
    job = run_now(RunBackup.enqueue(plan))
    assert failed(job, "disk") == "The repository is not where it was."


def test_the_passphrase_is_wrong(plan: Plan) -> None:
    Repository.objects.update(passphrase_encrypted=encryption.encrypt("not it"))
    job = run_now(RunBackup.enqueue(Plan.objects.get(pk=plan.pk)))
    assert failed(job, "passphrase") == "The passphrase of the repository is wrong."
    assert "not it" not in log_of(job)


def test_the_repository_is_locked(plan: Plan, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(commands, "LOCK_WAIT_SECONDS", 1)
    env = {
        "BORG_PASSPHRASE": plan.repository.passphrase(),
        "BORG_BASE_DIR": str(settings.BORG_BASE_DIR),
        "PATH": os.environ["PATH"],
    }
    holder = subprocess.Popen(
        ["borg", "with-lock", plan.repository.path, "sh", "-c", "echo held; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env,
    )  # fmt: skip
    try:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        job = run_now(RunBackup.enqueue(plan))
    finally:
        holder.communicate()
    assert "locked" in failed(job, "lock")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_fails_in_words_and_leaves_the_repository_usable(
    sshd: Sshd, small_disk: Path, folder: Path
) -> None:
    plan = protect(machine(sshd), small_disk, str(folder))
    assert run_now(RunBackup.enqueue(plan)).status == Job.Status.COMPLETED
    (folder / "noise").write_bytes(os.urandom(40_000_000))

    job = run_now(RunBackup.enqueue(plan))

    assert "full" in failed(job, "disk")
    (folder / "noise").unlink()
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)  # an administrator makes room
    assert run_now(RunBackup.enqueue(plan)).status == Job.Status.COMPLETED
    assert Archive.objects.count() == 2


def test_after_a_full_disk_borg_tidies_up_without_anybody_s_help(
    sshd: Sshd, small_disk: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without the reserve: borg cannot write its lock, so it cannot drop what the failed backup left."""
    monkeypatch.setattr("backups.pools.RESERVE_BYTES", 1_000_000)
    plan = protect(machine(sshd), small_disk, str(folder))
    assert run_now(RunBackup.enqueue(plan)).status == Job.Status.COMPLETED
    assert (small_disk / ".phpborg-reserve").exists()
    (folder / "noise").write_bytes(os.urandom(40_000_000))
    assert "full" in failed(run_now(RunBackup.enqueue(plan)), "disk")
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        file.write(bytes(12_000_000))  # also the last byte that borg may have left
    (folder / "noise").unlink()

    job = run_now(RunBackup.enqueue(plan))

    assert job.status == Job.Status.COMPLETED, job.error
    assert job.lines.filter(message__contains="the reserve was given up").exists()


# --- The way back -----------------------------------------------------------------------------


def test_a_restore_into_a_place_that_cannot_be_made(plan: Plan, folder: Path) -> None:
    archive = Archive.objects.get(job=run_now(RunBackup.enqueue(plan)))
    job = run_now(RestoreFiles.enqueue(archive, directory=f"{folder}/file/below", paths=[], entries=[]))
    assert f"{folder}/file is no folder, or may not be entered." in failed(job, "source")


def test_a_restore_of_a_path_that_the_archive_does_not_have_says_so(plan: Plan, tmp_path: Path) -> None:
    archive = Archive.objects.get(job=run_now(RunBackup.enqueue(plan)))
    job = run_now(RestoreFiles.enqueue(archive, directory=str(tmp_path / "out"), paths=["/nothing/here"], entries=[]))
    assert failed(job, "source") == "1 paths could not be restored."
    assert job.result
    assert job.result["unreadable_paths"] == [["nothing/here", "It is not in the archive."]]


def test_a_restore_from_an_archive_that_is_gone(plan: Plan, tmp_path: Path, settings: Any) -> None:
    archive = Archive.objects.get(job=run_now(RunBackup.enqueue(plan)))
    env = {
        "BORG_PASSPHRASE": plan.repository.passphrase(),
        "BORG_BASE_DIR": str(settings.BORG_BASE_DIR),
        "PATH": os.environ["PATH"],
    }
    subprocess.run(["borg", "delete", f"{plan.repository.path}::{archive.name}"], check=True, env=env)
    job = run_now(RestoreFiles.enqueue(archive, directory=str(tmp_path / "out"), paths=[], entries=[]))
    assert failed(job, "borg") == "The archive is not in the repository."

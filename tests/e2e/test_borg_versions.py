"""Borg 1.2 and 1.4 on either end of the relay, as root and through sudo: create, list, extract."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backups.catalog import Catalog
from backups.models import Plan
from backups.runners.create import RunBackup
from backups.runners.index import IndexArchive
from backups.runners.restore import RestoreFiles
from jobs.models import Job
from phpborg.embedded import Sshd
from servers.models import Server
from servers.runners.test import TestConnection as ConnectionTest
from tests.conftest import run_now
from tests.e2e.conftest import BORGS
from tests.e2e.machines import log_of, machine, protect, same_tree, script

pytestmark = pytest.mark.django_db(transaction=True)

NASTY = ["it's", 'a "quote"', "new\nline", "$(touch evil)", "--option", "<script>", "ünïcode ☃", "\udcff\udcfe"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files that are not easy: names, links, an empty folder, a hole."""
    top = tmp_path / "it's the $(source)"
    top.mkdir()
    for number, name in enumerate(NASTY):
        (top / name).write_bytes(os.urandom(2000) + bytes([number]))
    (top / "deep" / "er").mkdir(parents=True)
    (top / "deep" / "er" / "link").symlink_to("../../nowhere")
    os.link(top / NASTY[0], top / "deep" / "hard link")
    (top / "empty").mkdir()
    with (top / "hole").open("wb") as file:
        file.truncate(1_000_000)
    return top


def backed_up_and_back(plan: Plan, tree: Path, target: Path) -> Job:
    backup = run_now(RunBackup.enqueue(plan))
    assert backup.status == Job.Status.COMPLETED, (backup.error, log_of(backup))
    archive = backup.archives.get()
    index = Job.objects.get(type=IndexArchive.type)
    assert run_now(index).status == Job.Status.COMPLETED, index.error
    with Catalog(archive) as listing:
        folder = listing.find(os.fsencode(tree))
        assert folder
        names = {item.name for item in listing.folder(folder.id)}
    assert names == {os.fsencode(path.name) for path in tree.iterdir()}
    restore = run_now(RestoreFiles.enqueue(archive, directory=str(target), paths=[], entries=[]))
    assert restore.status == Job.Status.COMPLETED, (restore.error, log_of(restore))
    assert same_tree(tree, target / tree.relative_to("/"))
    return backup


@pytest.mark.parametrize("ours", BORGS)
@pytest.mark.parametrize("theirs", BORGS)
def test_every_pair_of_versions_gives_every_byte_back(
    ours: str, theirs: str, sshd: Sshd, pool_dir: Path, tree: Path, tmp_path: Path, settings: Any
) -> None:
    settings.BORG_PATH = str(BORGS[ours])
    server = machine(sshd)
    Server.objects.filter(pk=server.pk).update(borg_path=str(BORGS[theirs]))
    plan = protect(Server.objects.get(pk=server.pk), pool_dir, str(tree))

    backup = backed_up_and_back(plan, tree, tmp_path / "it's back")

    assert backup.warnings == 0, log_of(backup)
    assert not list(Path.cwd().glob("evil*"))


def test_a_sudo_user_saves_what_only_root_may_read(
    sudo_user: str, sshd: Sshd, pool_dir: Path, tree: Path, short_dir: Path
) -> None:
    (tree / "root only").write_text("secret")
    (tree / "root only").chmod(0o600)
    server = machine(sshd, username=sudo_user, use_sudo=True)
    tested = run_now(ConnectionTest.enqueue(server))
    assert tested.result and tested.result["ok"], (tested.error, tested.progress)
    target = short_dir / "restored by sudo"
    target.mkdir()
    target.chmod(0o755)

    plan = protect(Server.objects.get(pk=server.pk), pool_dir, str(tree))
    backup = backed_up_and_back(plan, tree, target)

    assert backup.warnings == 0, log_of(backup)


def test_without_sudo_rights_the_test_says_so(sudo_user: str, sshd: Sshd) -> None:
    (Path("/etc/sudoers.d") / sudo_user).write_text("")
    tested = run_now(ConnectionTest.enqueue(machine(sshd, username=sudo_user, use_sudo=True)))
    assert tested.status == Job.Status.FAILED
    assert tested.error.startswith(f"{sudo_user} may not run borg as root without a password")
    assert tested.cause == "authentication"


def test_a_user_without_root_gets_warnings_for_what_he_may_not_read(
    sudo_user: str, sshd: Sshd, pool_dir: Path, short_dir: Path
) -> None:
    folder = short_dir / "mixed"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "open").write_text("x" * 100)
    (folder / "open").chmod(0o644)
    (folder / "closed").write_text("y")
    (folder / "closed").chmod(0o600)
    plan = protect(machine(sshd, username=sudo_user, use_sudo=False), pool_dir, str(folder))

    backup = run_now(RunBackup.enqueue(plan))

    assert backup.status == Job.Status.COMPLETED, (backup.error, log_of(backup))
    assert backup.warnings == 1 and backup.result
    assert backup.result["unreadable"] == 1
    assert backup.result["unreadable_paths"][0][0] == str(folder / "closed")
    assert backup.result["suspicion"] == ""


def test_a_cancelled_sudo_backup_ends_although_we_may_not_signal_it(
    sudo_user: str, sshd: Sshd, pool_dir: Path, tmp_path: Path
) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    (noise / "bytes").write_bytes(os.urandom(30_000_000))
    server = machine(sshd, username=sudo_user, use_sudo=True)
    plan = protect(server, pool_dir, str(noise))
    Plan.objects.filter(pk=plan.pk).update(upload_kib_per_second=2000)
    job = RunBackup.enqueue(plan)

    def cancel_when_running(line: str) -> None:
        if "borg create" in line:
            Job.objects.get(pk=job.pk).request_cancel()

    watched = watch_log(job, cancel_when_running)
    assert watched.status == Job.Status.CANCELLED, (watched.error, log_of(watched))
    assert not processes_with(plan.repository.path)


def watch_log(job: Job, see: Any) -> Job:
    """Run `job` here while `see` gets each line of its log."""
    from jobs import log as job_log

    write = job_log.JobLog.write

    def seen(self: Any, level: Any, message: str) -> None:
        write(self, level, message)
        see(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_log.JobLog, "write", seen)
        return run_now(job)


def processes_with(text: str) -> list[str]:
    found = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if text in line and "borg" in line]


def test_a_borg_that_prints_noise_first_is_understood(sshd: Sshd, pool_dir: Path, tree: Path, tmp_path: Path) -> None:
    """A wrapper, as administrators write them: a banner on both streams before borg."""
    wrapper = script(
        tmp_path / "borg-with-banner",
        'echo "welcome {to} borg"; echo "{\\"be\\": careful" >&2; exec /usr/bin/borg "$@"',
    )
    server = machine(sshd)
    Server.objects.filter(pk=server.pk).update(borg_path=str(wrapper))
    plan = protect(Server.objects.get(pk=server.pk), pool_dir, str(tree))

    backup = run_now(RunBackup.enqueue(plan))

    assert backup.status == Job.Status.COMPLETED, (backup.error, log_of(backup))
    assert "be" in log_of(backup)

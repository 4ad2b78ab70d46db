"""Direct access, with real borgs and two real sshds: a server saves into a repository at an SSH account by itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import AuditEntry
from backups.models import Archive, Mount, Plan, Repository, Source, StoragePool
from backups.runners.check import CheckRepository
from backups.runners.compare import CompareRepository
from backups.runners.create import RunBackup
from backups.runners.delete import DeleteArchive
from backups.runners.import_ import ImportRepository
from backups.runners.init import InitRepository
from backups.runners.keys import GiveKey, TakeKey
from backups.runners.mount import MountArchive
from backups.runners.pool import CheckPool
from backups.runners.restore import RestoreFiles
from backups.runners.unmount import UnmountArchive
from jobs.models import Job
from jobs.runner import Refused
from phpborg.embedded import Sshd
from servers.models import Server
from tests.backups.accounts import Account
from tests.conftest import run_now
from tests.e2e.machines import log_of, machine, same_tree
from tests.fuse import mount_dir, needs_fuse  # noqa: F401  # a fixture

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("direct")]


@pytest.fixture
def short() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="phpborg-direct-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def account(short: Path) -> Iterator[Account]:
    account = Account(short / "account")
    with account.sshd:
        yield account


@pytest.fixture
def web(short: Path, db: None, one_thread: None) -> Iterator[Server]:
    home = short / "web"
    home.mkdir()
    with Sshd(home / "sshd", options=[f"SetEnv HOME={home}"]) as sshd:
        yield machine(sshd, name="web-1")


@pytest.fixture
def source(short: Path) -> Path:
    folder = short / "data"
    folder.mkdir()
    (folder / "it's a file").write_bytes(os.urandom(300_000))
    (folder / "link").symlink_to("it's a file")
    return folder


@pytest.fixture
def repository(account: Account, web: Server) -> Repository:
    repository = Repository.objects.create(name="web-1", pool=account.pool(), server=web)
    made = run_now(InitRepository.enqueue(repository))
    assert made.status == "completed", made.error
    given = run_now(Job.objects.get(type="give_key"))
    assert given.status == "completed", given.error + log_of(given)
    repository.refresh_from_db()
    return repository


@pytest.fixture
def plan(repository: Repository, source: Path) -> Plan:
    plan = Plan.objects.create(name="p", server=repository.server, repository=repository)
    plan.sources.add(Source.objects.create(name="s", server=repository.server, parameters={"paths": [str(source)]}))
    return plan


def test_a_server_saves_by_itself_and_everything_else_works_there_too(
    plan: Plan, account: Account, source: Path, short: Path
) -> None:
    done = run_now(RunBackup.enqueue(plan))
    assert done.status == "completed", done.error + log_of(done)
    archive = Archive.objects.get()
    assert (archive.files, archive.suspicion, archive.job) == (1, "", done)
    assert list((short / "web" / ".phpborg" / "runs").iterdir()) == []

    indexed = run_now(Job.objects.get(type="index"))
    assert indexed.status == "completed", indexed.error
    restored = run_now(RestoreFiles.enqueue(archive, paths=[], entries=[], directory=str(short / "back")))
    assert restored.status == "completed", restored.error
    assert same_tree(source, short / "back" / source.relative_to("/"))
    checked = run_now(CheckRepository.enqueue(plan.repository))
    assert checked.status == "completed", checked.error

    (source / "more").write_text("more")
    run_now(RunBackup.enqueue(plan))
    deleted = run_now(DeleteArchive.enqueue(archive))
    assert deleted.status == "completed", deleted.error
    assert Archive.objects.get().name != archive.name
    assert list(Path(account.home / "repos").iterdir()) == [account.home / "repos" / "web-1"]


@needs_fuse
@pytest.mark.usefixtures("mount_dir")
def test_its_archive_can_be_mounted_here_over_a_connection_that_outlives_the_job(plan: Plan, source: Path) -> None:
    run_now(RunBackup.enqueue(plan))
    done = run_now(MountArchive.enqueue(Archive.objects.get(), hours=1))
    assert done.status == "completed", done.error + log_of(done)
    assert same_tree(source, Path(done.result["path"]) / source.relative_to("/"))
    assert run_now(UnmountArchive.enqueue(Mount.objects.get())).status == "completed"
    assert not Path(done.result["path"]).exists()


def test_the_servers_key_can_only_add_and_is_kept_made_anew_and_taken_away(
    repository: Repository, account: Account
) -> None:
    [_, line] = account.lines
    assert line.startswith(f'restrict,command="borg serve --append-only --restrict-to-repository={repository.path} ')
    key = repository.server_key_path
    assert Path(key).stat().st_mode & 0o077 == 0
    words = ["ssh", "-i", key, "-o", f"UserKnownHostsFile={key}.known_hosts", "-o", "IdentitiesOnly=yes", "-p"]
    words += [str(account.sshd.port), "127.0.0.1", "echo", "anything"]
    ran = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
    assert "anything" not in ran.stdout

    first = repository.server_key
    assert run_now(GiveKey.enqueue(repository)).status == "completed"
    repository.refresh_from_db()
    assert repository.server_key == first
    assert len(account.lines) == 2
    assert run_now(GiveKey.enqueue(repository, renew=True)).status == "completed"
    repository.refresh_from_db()
    assert repository.server_key != first
    assert [repository.server_key in line for line in account.lines] == [False, True]

    taken = run_now(TakeKey.enqueue(repository))
    assert taken.status == "completed", taken.error
    repository.refresh_from_db()
    assert (repository.server_key, len(account.lines)) == ("", 1)
    assert list((account.home.parent / "web" / ".phpborg" / "keys").iterdir()) == []
    entries = AuditEntry.objects.filter(action__startswith="server_key.").order_by("pk")
    assert [entry.action for entry in entries] == ["server_key.given"] * 3 + ["server_key.taken"]


def test_a_server_without_its_key_does_not_save(plan: Plan) -> None:
    Repository.objects.update(server_key="")
    plan.refresh_from_db()
    with pytest.raises(Refused, match="The server has no key for the repository web-1 yet"):
        RunBackup.enqueue(plan)


def test_a_server_that_lies_about_its_key_changes_nothing(repository: Repository, account: Account) -> None:
    """With the key of another one, or ours, that one would end under the restriction of the server's."""
    before = account.lines
    public = Path(repository.server_key_path + ".pub")
    for claim in ["x", "ssh-rsa AAAA x", 'command="sh" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA x']:
        public.write_text(f"{claim}\n")
        assert run_now(GiveKey.enqueue(repository)).error == "What web-1 says is its key is none."
    public.write_text(f"{repository.pool.public_key}\n")
    job = run_now(GiveKey.enqueue(repository))
    assert job.error == "The account has this key for somebody else already: nothing was changed."
    assert account.lines == before


def test_a_key_that_is_entered_by_hand_is_shown_and_must_be_restricted(
    repository: Repository, account: Account
) -> None:
    StoragePool.objects.update(keys_by_hand=True)
    account.sshd.authorized_keys.write_text(f"{repository.pool.public_key}\n")
    job = run_now(GiveKey.enqueue(repository))
    assert job.error.startswith("The borg of web-1 does not get into the repository with its key: ")
    assert "Permission denied" in job.error
    line = job.result["line"]
    assert line.startswith('restrict,command="borg serve --append-only')
    assert job.advice == f"Enter this line where the account is managed, then try again: {line}"

    account.sshd.authorized_keys.write_text(f"{repository.pool.public_key}\n{repository.server_key}\n")
    job = run_now(GiveKey.enqueue(repository))
    assert job.error == "The account lets the server's key run anything, not only borg for this repository."
    account.sshd.authorized_keys.write_text(f"{repository.pool.public_key}\n{line}\n")
    assert run_now(GiveKey.enqueue(repository)).status == "completed"


def test_a_key_that_does_not_count_any_more_is_said_and_not_tried_again(plan: Plan, account: Account) -> None:
    before = account.sshd.authorized_keys.read_text()
    account.sshd.authorized_keys.write_text(f"{plan.repository.pool.public_key}\n")
    job = run_now(RunBackup.enqueue(plan))
    assert (job.status, job.cause) == ("failed", "authentication")
    assert job.error == "The SSH account of the repository refuses the key."
    account.sshd.authorized_keys.write_text(before)
    Path(f"{plan.repository.server_key_path}.known_hosts").write_text("")
    job = run_now(RunBackup.enqueue(plan))
    assert (job.status, job.cause) == ("failed", "authentication")
    assert job.error == "The host key of the repository's SSH account has changed."


# --- The account ------------------------------------------------------------------------------


def test_the_account_is_looked_at_step_by_step(account: Account, db: None, one_thread: None) -> None:
    pool = account.pool(host_key="", host_key_seen="")
    assert "Nobody has confirmed the host key" in run_now(CheckPool.enqueue(pool)).error
    pool.refresh_from_db()
    assert pool.confirm_host_key(pool.fingerprint_seen)
    assert run_now(CheckPool.enqueue(pool)).status == "completed"
    pool.refresh_from_db()
    assert pool.problem == ""
    assert pool.total_bytes
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"path": "/nowhere/at/all"}, "The folder /nowhere/at/all does not exist"),
        ({"borg_command": "borg-9"}, "borg-9 was not found"),
        ({"username": "nobody"}, "refused our key"),
        ({"host_key": "ssh-ed25519 AAAA"}, "has changed"),
        ({"port": 1}, "cannot be reached"),
    ]
    for changes, problem in wrong:
        before = {name: getattr(pool, name) for name in changes}
        StoragePool.objects.filter(pk=pool.pk).update(**changes)
        assert problem in run_now(CheckPool.enqueue(pool)).error
        StoragePool.objects.filter(pk=pool.pk).update(**before)


def test_another_host_key_stops_our_borg_too(repository: Repository, account: Account) -> None:
    other = StoragePool(name="x", address="x")
    other.make_key_pair()
    StoragePool.objects.update(host_key=" ".join(other.public_key.split()[:2]))
    job = run_now(CheckRepository.enqueue(repository))
    assert job.status == "failed"
    assert "host key" in job.error


def test_what_was_made_before_the_connection_broke_is_gone_on_with(repository: Repository) -> None:
    """Of a creation that failed at its end the repository is there, with a passphrase that we know."""
    Repository.objects.update(state=Repository.State.FAILED, borg_id="", key_encrypted="")
    again = run_now(InitRepository.enqueue(Repository.objects.get()))
    assert again.status == "completed", again.error
    repository.refresh_from_db()
    assert (repository.state, len(repository.borg_id)) == ("ready", 64)


def test_what_somebody_else_put_there_is_not_taken(repository: Repository) -> None:
    Repository.objects.update(name="other")
    Path(repository.path).rename(Path(repository.pool.path) / "other")
    Repository.objects.update(state=Repository.State.FAILED, passphrase_encrypted="")
    again = run_now(InitRepository.enqueue(Repository.objects.get()))
    assert again.error == "A repository exists there already."


# --- What others made, and left behind --------------------------------------------------------


def test_a_repository_at_an_account_is_imported(plan: Plan, account: Account) -> None:
    """As a new phpBorg would find it; the server gets a key of its own for it."""
    assert run_now(RunBackup.enqueue(plan)).status == "completed"
    repository, passphrase = plan.repository, plan.repository.passphrase()
    Archive.objects.all().delete()
    Job.objects.all().delete()
    plan.delete()
    Repository.objects.all().delete()
    job = run_now(
        ImportRepository.begin(server=repository.server, pool=repository.pool, name="web-1", passphrase=passphrase)
    )
    assert job.status == "completed", job.error
    found = Repository.objects.get()
    assert (found.borg_id, found.archives.count()) == (repository.borg_id, 1)
    assert run_now(Job.objects.get(type="give_key")).status == "completed"
    assert len(account.lines) == 3  # the account still knows the key that the other one gave


@pytest.mark.parametrize(("name", "passphrase", "error"), [
    ("web-1", "wrong", "The passphrase of the repository is wrong."),
    ("nothing", "x", "The repository is not where it was."),
])  # fmt: skip
def test_what_cannot_be_imported_is_said(repository: Repository, name: str, passphrase: str, error: str) -> None:
    server, pool = repository.server, repository.pool
    Job.objects.all().delete()
    repository.delete()
    assert run_now(ImportRepository.begin(server=server, pool=pool, name=name, passphrase=passphrase)).error == error


def test_a_lock_is_broken_when_the_accounts_machine_says_that_its_holder_is_dead(repository: Repository) -> None:
    host = os.uname().nodename
    runner = CompareRepository(Job(type="compare", subject=f"repository:{repository.pk}"))
    lock = Path(repository.path) / "lock.exclusive"
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        for name, verdict, proof in [
            (f"{host}@123.999999999-0", "dead", "there is no such process"),
            (f"{host}@123.{sleeper.pid}-0", "dead", "another program by now: sleep 60"),
            ("elsewhere@123.1-0", "unknown", "another machine"),
        ]:
            shutil.rmtree(lock, ignore_errors=True)
            lock.mkdir()
            (lock / name).touch()
            [holder] = runner.holders(repository)
            assert holder.verdict == verdict
            assert proof in holder.proof
    finally:
        sleeper.kill()
        sleeper.wait()
    (lock / f"{host}@123.999999999-0").touch()
    (lock / "elsewhere@123.1-0").unlink()
    job = run_now(CompareRepository.enqueue(repository))
    assert job.status == "completed", job.error
    assert not lock.exists()
    assert "The lock was broken." in log_of(job)


def test_the_lock_of_a_living_borg_is_left_alone(repository: Repository) -> None:
    script = Path(repository.path).parents[2] / "borg"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    borg = subprocess.Popen([str(script)], start_new_session=True)
    lock = Path(repository.path) / "lock.exclusive"
    lock.mkdir()
    (lock / f"{os.uname().nodename}@123.{borg.pid}-0").touch()
    try:
        [holder] = CompareRepository(Job(type="compare")).holders(repository)
        assert holder.verdict == "alive"
        assert run_now(CompareRepository.enqueue(repository)).status == "completed"  # it only reads
        assert lock.exists()
    finally:
        os.killpg(borg.pid, signal.SIGKILL)
        borg.wait()

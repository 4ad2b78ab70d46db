"""A direct backup outlives its worker, its SSH session and our patience with neither; and ends when it is told to.

Real worker process, two real sshds (the server's and the account's), real borg on both; an upload limit keeps it busy.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from backups.models import Archive, Plan, Repository, Source
from backups.runners.create import RunBackup
from backups.runners.init import InitRepository
from jobs import periodic
from jobs.models import Job
from jobs.runner import cancel
from phpborg.embedded import Child, Sshd, wait_until
from tests.backups.accounts import Account
from tests.conftest import run_now
from tests.e2e.machines import machine
from tests.faults.conftest import Start, is_gone, log_of, pid_of, wait_for
from tests.ssh.watching import processes_with

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("direct-interrupted")]

FILES, FILE_BYTES = 10, 300_000
SLOW_KIB_PER_SECOND = 250  # a dozen seconds


@pytest.fixture
def short() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="phpborg-direct-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def plan(transactional_db: None, short: Path) -> Iterator[Plan]:
    """A plan of a real server with a repository at an account; one of its paths is missing, which borg says at once."""
    account, home, source = Account(short / "account"), short / "web", short / "source"
    home.mkdir()
    source.mkdir()
    for number in range(FILES):
        (source / f"{number}").write_bytes(os.urandom(FILE_BYTES))
    with account.sshd, Sshd(home / "sshd", options=[f"SetEnv HOME={home}"]) as sshd:
        server = machine(sshd, name="web-1")
        repository = Repository.objects.create(name="web-1", pool=account.pool(), server=server)
        assert run_now(InitRepository.enqueue(repository)).status == "completed"
        assert run_now(Job.objects.get(type="give_key")).status == "completed"
        repository.refresh_from_db()
        plan = Plan.objects.create(
            name="p", server=server, repository=repository, upload_kib_per_second=SLOW_KIB_PER_SECOND
        )
        parameters = {"paths": [str(short / "missing"), str(source)]}
        plan.sources.add(Source.objects.create(name="s", server=server, parameters=parameters))
        yield plan


def creating(plan: Plan) -> list[int]:
    """The borg processes that make an archive in the plan's repository."""
    found = [pid for pid in processes_with(plan.repository.location) if pid != os.getpid()]
    return [pid for pid in found if b"borg\0create" in words_of(pid) or b"/borg\0create" in words_of(pid)]


def words_of(pid: int) -> bytes:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
    return b"" if words.startswith((b"sh\0", b"/bin/sh\0")) else words


def at_a_third(plan: Plan, start: Start) -> tuple[Job, Child, int]:
    """A backup that has read about 30 % of its files, its worker, and its borg on the server."""
    job = RunBackup.enqueue(plan)
    worker = start("worker")
    wait_for(job, "running")

    def is_there() -> bool:
        job.refresh_from_db()
        return int(job.progress.get("original") or 0) >= 0.3 * FILES * FILE_BYTES

    wait_until(is_there, seconds=60, what="The first third")
    [borg] = creating(plan)
    return job, worker, borg


def again(job: Job) -> None:
    """The next attempt, now."""
    Job.objects.filter(pk=job.pk).update(not_before=None, created_at=timezone.now() - timedelta(minutes=1))
    periodic.ring_forgotten()


def was_finished_by(plan: Plan, job: Job, borg: int) -> None:
    """The second attempt followed the same process to its end: one archive, of which nothing was read twice."""
    wait_for(job, "running", attempt=2)
    assert creating(plan) == [borg]
    wait_for(job, "completed", attempt=2)
    assert is_gone(borg)
    archive = Archive.objects.get()
    assert (archive.job, archive.files, [archive.name]) == (job, FILES, job.made)
    missing = "/missing: "
    assert "missing" in archive.suspicion  # which borg said while the first one listened
    assert job.warnings >= 1
    assert sum(missing in line for line in log_of(job, 1)) == 1
    assert not any(missing in line for line in log_of(job, 2))
    assert any("is followed again" in line for line in log_of(job, 2))


def test_a_killed_worker_is_replaced_and_the_same_borg_finishes_the_archive(plan: Plan, start: Start) -> None:
    """Red without `detached`: the borg ends with the worker's connection, or is made a second time."""
    job, worker, borg = at_a_third(plan, start)
    os.kill(pid_of(job), signal.SIGKILL)
    worker.kill()
    wait_until(lambda: is_gone(pid_of(job)), seconds=10, what="The end of the worker")
    Job.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - periodic.LOST_AFTER - timedelta(seconds=1))
    assert periodic.reap() == 1
    assert creating(plan) == [borg]
    start("worker")
    again(job)
    was_finished_by(plan, job, borg)


def test_a_session_that_breaks_is_opened_anew_and_the_same_borg_finishes_the_archive(plan: Plan, start: Start) -> None:
    job, _worker, borg = at_a_third(plan, start)
    runs = f"{job.pk}"
    for pid in processes_with(runs):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"tail" in words:
            os.kill(session_of(pid), signal.SIGKILL)
            break
    wait_for(job, "pending", attempt=1)
    assert job.cause == "network"
    again(job)
    was_finished_by(plan, job, borg)


def session_of(pid: int) -> int:
    """The sshd process above."""
    while b"sshd:" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def test_a_cancel_ends_it_and_frees_the_repository(plan: Plan, start: Start) -> None:
    """Red when `end` only hangs up: the borg goes on, and its lock stays."""
    Plan.objects.update(upload_kib_per_second=SLOW_KIB_PER_SECOND // 3)
    job, _worker, borg = at_a_third(plan, start)
    cancel(job)
    wait_for(job, "cancelled")
    wait_until(lambda: is_gone(borg), seconds=10, what="The end of the borg")
    assert not (Path(plan.repository.path) / "lock.exclusive").exists()
    assert not Archive.objects.exists()
    assert list((Path(plan.repository.path).parents[2] / "web" / ".phpborg" / "runs").iterdir()) == []

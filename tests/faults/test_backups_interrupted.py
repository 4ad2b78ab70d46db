"""A backup that is cut off in the middle: its worker, its SSH session, borg on the server, borg serve on our side.

Real worker process, real sshd, real borg on both ends; an upload limit keeps borg busy as long as we like.
After each: nothing is reported as done, the repository is free, and the next attempt makes the archive.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from backups import locks
from backups.models import Archive, Plan
from backups.runners.create import RunBackup
from jobs import periodic
from jobs.models import Job
from phpborg.embedded import Child, Sshd, wait_until
from tests.e2e.machines import machine, protect
from tests.faults.conftest import Start, borgs_of, is_gone, is_transferring, pid_of, session_of, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("interrupted")]

FILE_BYTES = 4_000_000
SLOW_KIB_PER_SECOND = 250  # a quarter of a minute


@pytest.fixture
def short() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="phpborg-cut-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def plan(transactional_db: None, short: Path) -> Iterator[Plan]:
    """A plan of a real server that takes its time."""
    source, pool = short / "source", short / "pool"
    source.mkdir()
    pool.mkdir()
    (source / "big").write_bytes(os.urandom(FILE_BYTES))
    with Sshd(short / "sshd") as sshd:
        plan = protect(machine(sshd), pool, str(source))
        Plan.objects.filter(pk=plan.pk).update(upload_kib_per_second=SLOW_KIB_PER_SECOND)
        plan.refresh_from_db()
        yield plan


def in_the_middle(plan: Plan, start: Start) -> tuple[Job, Child]:
    """A backup that sends its file and is far from its end, with both of its borgs at work, and its worker."""
    job = RunBackup.enqueue(plan)
    worker = start("worker")
    wait_for(job, "running")

    def transfers() -> bool:
        return is_transferring(job) and all(borgs_of(plan, word) for word in ("create", "serve"))

    wait_until(transfers, seconds=40, what="The transfer")
    return job, worker


def go_on(plan: Plan, job: Job) -> None:
    """The next attempt, now, and as fast as it goes."""
    Plan.objects.filter(pk=plan.pk).update(upload_kib_per_second=0)
    Job.objects.filter(pk=job.pk).update(not_before=None)
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - timedelta(minutes=1))
    periodic.ring_forgotten()


def proves_itself(plan: Plan, job: Job) -> None:
    """The second attempt has made the archive; one archive, in words and in truth."""
    wait_for(job, "completed", attempt=2)
    archive = Archive.objects.get()
    assert (archive.job, archive.files, archive.suspicion) == (job, 1, "")
    assert archive.original_bytes >= FILE_BYTES
    assert locks.holders(Path(plan.repository.path)) == []


def kill_the_worker(job: Job, worker: Child, plan: Plan) -> None:
    """The machine's power goes, as far as processes can tell: the worker and its child at once."""
    os.kill(pid_of(job), signal.SIGKILL)
    worker.kill()


def cut_the_session(job: Job, worker: Child, plan: Plan) -> None:
    """The sshd process of our session, and with it the connection."""
    os.kill(session_of(plan), signal.SIGKILL)


def kill_borg(job: Job, worker: Child, plan: Plan) -> None:
    """As the kernel does when memory runs out on the server."""
    for pid in borgs_of(plan, "create"):
        os.kill(pid, signal.SIGKILL)


def kill_serve(job: Job, worker: Child, plan: Plan) -> None:
    """The same on our side."""
    for pid in borgs_of(plan, "serve"):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("cut", "cause"), [(cut_the_session, "network"), (kill_borg, "borg"), (kill_serve, "network")])
def test_what_is_cut_off_is_tried_again(
    plan: Plan, start: Start, cut: Callable[[Job, Child, Plan], Any], cause: str
) -> None:
    """Red when `may_pass` of ConnectionLost, BorgKilled or BorgConnectionLost is false: the job has failed then."""
    job, worker = in_the_middle(plan, start)
    cut(job, worker, plan)
    wait_for(job, "pending", attempt=1)
    assert job.cause == cause
    assert job.error
    assert job.holds is None
    assert not Archive.objects.exists()
    wait_until(lambda: not borgs_of(plan), seconds=20, what="The end of every borg")
    go_on(plan, job)
    proves_itself(plan, job)


def test_a_killed_worker_leaves_nothing_behind_and_its_backup_is_made_by_another(plan: Plan, start: Start) -> None:
    """Red without `reap`: the row says "running" for ever, and the repository stays held."""
    job, worker = in_the_middle(plan, start)
    kill_the_worker(job, worker, plan)
    wait_until(lambda: is_gone(pid_of(job)), seconds=10, what="The end of the worker")
    wait_until(lambda: not borgs_of(plan), seconds=20, what="The end of every borg")
    assert periodic.reap() == 0  # nobody has missed it yet
    Job.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - periodic.LOST_AFTER - timedelta(seconds=1))
    assert periodic.reap() == 1
    job.refresh_from_db()
    assert (job.status, job.attempts, job.holds) == ("pending", 1, None)
    assert job.error.startswith("The worker disappeared")
    start("worker")
    go_on(plan, job)
    proves_itself(plan, job)


def test_a_worker_that_is_asked_to_stop_ends_its_backup_first(plan: Plan, start: Start) -> None:
    """Red when the worker passes SIGTERM on: the backup is cut off by every deployment."""
    Plan.objects.update(upload_kib_per_second=2 * SLOW_KIB_PER_SECOND)  # it is waited for
    plan.refresh_from_db()
    job, worker = in_the_middle(plan, start)
    os.kill(worker.process.pid, signal.SIGTERM)  # type: ignore[union-attr]
    waiting = Job.objects.create(type="pool_check", subject=f"storagepool:{plan.repository.pool_id}")
    wait_for(job, "completed", attempt=1)
    wait_until(lambda: not worker.is_alive, seconds=30, what="The end of the worker")
    waiting.refresh_from_db()
    assert waiting.status == "pending"
    assert Archive.objects.get().job == job

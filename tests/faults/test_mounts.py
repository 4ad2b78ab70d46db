"""Archives that are mounted, and workers that die: real workers, real borg, real FUSE."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from backups import maintenance, mounts
from backups.models import Archive, Mount, Plan
from backups.runners.mount import MountArchive
from jobs.models import Job
from jobs.periodic import LOST_AFTER, reap
from phpborg.embedded import wait_until
from tests.faults.conftest import PATIENCE_SECONDS, Start, is_gone, script, wait_for, with_pid
from tests.fuse import needs_fuse
from tests.small import SmallRepository

pytestmark = [pytest.mark.e2e, needs_fuse]


@pytest.fixture
def archive(plan: Plan, kept: SmallRepository) -> Iterator[Archive]:
    """One of a real repository that no borg of ours has met; what the workers mounted is taken down at the end."""
    shutil.rmtree(settings.DATA_DIR / "borg", ignore_errors=True)
    yield plan.archives.get(name="one")
    for folder in mounts.folders():
        assert mounts.take_down(folder, lambda: None) == ""


def mounted(archive: Archive) -> tuple[Path, int]:
    """Let the worker mount it: where, and its borg."""
    wait_for(MountArchive.enqueue(archive, hours=1), "completed")
    folder = Path(Mount.objects.get().path)
    assert [path.name for path in folder.rglob("file-*")] == ["file-0"]
    (pid,) = mounts.borgs_at(folder)
    return folder, pid


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), seconds=PATIENCE_SECONDS, what="The end of the process")


def is_unmounted(folder: Path) -> bool:
    return not folder.exists() and not mounts.is_mounted(folder) and not Mount.objects.exists()


def test_a_mount_that_died_with_its_worker_is_gone_when_the_next_one_starts(start: Start, archive: Archive) -> None:
    """As systemd ends a unit: all of its processes. Without `take_down_what_nobody_keeps` the folder answers nobody."""
    worker = start("worker")
    folder, borg = mounted(archive)
    worker.kill()
    killed(borg)
    with pytest.raises(OSError, match="not connected") as dead:
        os.listdir(folder)
    assert dead.value.errno == errno.ENOTCONN
    start("worker")
    wait_until(lambda: is_unmounted(folder), seconds=PATIENCE_SECONDS, what="The end of the mount")


def test_a_mount_that_works_outlives_its_worker_until_its_time_is_over(start: Start, archive: Archive) -> None:
    """Without `is_kept` the next worker takes it from whoever uses it; without `unmount_expired` it stays for ever."""
    worker = start("worker")
    folder, borg = mounted(archive)
    worker.kill()
    start("worker")
    again = MountArchive.enqueue(Archive.objects.get(name="two"), hours=1)
    wait_for(again, "completed")  # so the worker has begun
    assert next(folder.rglob("file-0")).stat().st_size == 200_000
    Mount.objects.update(expires_at=timezone.now())
    assert maintenance.unmount_expired() == 2
    wait_until(lambda: is_unmounted(folder), seconds=PATIENCE_SECONDS, what="The end of the mount")
    wait_until(lambda: is_gone(borg), seconds=PATIENCE_SECONDS, what="The end of its borg")


def test_a_worker_killed_in_mid_mount_leaves_nothing_mounted(start: Start, archive: Archive, tmp_path: Path) -> None:
    """Without the row before the deed nobody would know of it before the next worker starts."""
    waits = "while kill -0 $PPID 2>&-; do sleep 0.1; done"
    slow = script(tmp_path / "slow-borg", f'borg "$@"\n[ "$1" = --version ] && exit\ntouch {tmp_path}/mounted\n{waits}')
    worker = start("worker", BORG_PATH=str(slow))
    job = MountArchive.enqueue(archive, hours=1)
    wait_until((tmp_path / "mounted").exists, seconds=PATIENCE_SECONDS, what="The mount")
    job.refresh_from_db()
    worker.kill()
    pid = with_pid(job, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), seconds=PATIENCE_SECONDS, what="The end of the process")
    (folder,) = mounts.folders()
    assert mounts.is_mounted(folder)
    assert maintenance.unmount_expired() == 0  # nobody knows yet
    Job.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - LOST_AFTER - timedelta(seconds=1))
    assert reap() == 1
    start("worker")
    wait_until(lambda: is_unmounted(folder), seconds=PATIENCE_SECONDS, what="The end of the mount")

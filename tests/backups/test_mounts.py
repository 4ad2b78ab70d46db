"""Archives as folders on the worker's machine: what they show, whom they keep from what, and their end."""

from __future__ import annotations

import errno
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from backups import maintenance, mounts
from backups.models import Archive, Mount, Plan, Repository, RetentionPolicy
from backups.retention import decide
from backups.runners.compact import CompactRepository
from backups.runners.delete import DeleteArchive
from backups.runners.mount import MOST_AT_ONCE, MountArchive
from backups.runners.unmount import UnmountArchive
from jobs.errors import Cancelled
from jobs.models import Job
from jobs.runner import Refused
from tests.backups.tree import PASSPHRASE, Tree, everything_in
from tests.conftest import make_archive, run_now
from tests.fuse import mount_dir, needs_fuse  # noqa: F401  # a fixture
from tests.small import SmallRepository
from tests.ssh.watching import is_running, until

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread", "mount_dir")]


def mounted(archive: Archive, **parameters: Any) -> Mount:
    job = run_now(MountArchive.enqueue(archive, **{"hours": 24, **parameters}))
    assert job.status == "completed", job.error
    mount: Mount = Mount.objects.get(archive=archive)
    return mount


def unmounted(mount: Mount) -> Job:
    return run_now(UnmountArchive.enqueue(mount))


def row(archive: Archive, **changes: Any) -> Mount:
    """A mount as a database knows it."""
    now = timezone.now()
    values = {
        "place": "default", "machine": mounts.this_machine(), "path": "/somewhere", "mounted_at": now,
        "expires_at": now + timedelta(hours=1),
    }  # fmt: skip
    mount: Mount = Mount.objects.create(archive=archive, **(values | changes))
    return mount


# --- For real -------------------------------------------------------------------------------------


@needs_fuse
@pytest.mark.e2e
def test_it_shows_every_byte_and_nobody_can_write(real_archive: Archive, tree: Tree) -> None:
    mount = mounted(real_archive)
    folder = Path(mount.path)
    assert everything_in(folder / "src") == everything_in(tree.root / "src")
    with pytest.raises(OSError, match="Read-only") as refused:
        (folder / "new").touch()
    assert refused.value.errno == errno.EROFS
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert unmounted(mount).result == {"path": str(folder), "machine": mounts.this_machine()}
    assert not folder.exists()
    assert mounts.borgs_at(folder) == []


@needs_fuse
@pytest.mark.e2e
def test_its_borg_outlives_the_job_and_knows_no_secret_that_others_can_read(real_archive: Archive) -> None:
    mount = mounted(real_archive)
    (pid,) = mounts.borgs_at(Path(mount.path))
    texts = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    assert PASSPHRASE.encode() not in b"".join(texts)
    assert os.getsid(pid) != os.getsid(0)


@needs_fuse
@pytest.mark.e2e
def test_backups_and_checks_do_not_wait_for_it(plan: Plan, kept: SmallRepository, tmp_path: Path) -> None:
    """With a lock, as borg would take without --bypass-lock, this ends with LockTimeout."""
    mount = mounted(plan.archives.get(name="one"))
    kept.borg("create", "--lock-wait=1", "::four", str(tmp_path))
    kept.borg("check", "--lock-wait=1", "::")
    kept.borg("delete", "--lock-wait=1", "::two")
    assert [path.name for path in Path(mount.path).rglob("file-*")] == ["file-0"]


@needs_fuse
@pytest.mark.e2e
def test_it_is_unmounted_also_while_somebody_is_in_it(plan: Plan, kept: SmallRepository) -> None:
    mount = mounted(plan.archives.get(name="three"))
    file = next(Path(mount.path).rglob("file-2"))
    (pid,) = mounts.borgs_at(Path(mount.path))
    with file.open("rb"):
        assert unmounted(mount).status == "completed"
        assert not Path(mount.path).exists()
        until(lambda: not is_running(pid), "The end of its borg")
    assert not Mount.objects.exists()


@needs_fuse
@pytest.mark.e2e
def test_a_cancel_leaves_nothing_mounted(plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    follow = MountArchive.follow

    def cancelled(self: MountArchive, *args: Any) -> None:
        follow(self, *args)
        seen.extend(mounts.borgs_at(mounts.folder_of(Mount.objects.get())))
        raise Cancelled

    monkeypatch.setattr(MountArchive, "follow", cancelled)
    job = run_now(MountArchive.enqueue(plan.archives.get(name="one"), hours=1))
    assert (job.status, len(seen)) == ("cancelled", 1)
    assert (mounts.folders(), Mount.objects.count()) == ([], 0)
    until(lambda: not is_running(seen[0]), "The end of its borg")


# --- What is missing, said in words ---------------------------------------------------------------


@pytest.fixture
def any_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were FUSE."""
    monkeypatch.setattr(mounts, "DEVICE", tmp_path)


def refused_by(plan: Plan, tmp_path: Path, settings: Any, script: str) -> Job:
    """The job, with a borg that does what `script` does."""
    borg = tmp_path / "borg"
    borg.write_text(f"#!/bin/sh\n{script}\n")
    borg.chmod(0o755)
    settings.BORG_PATH = str(borg)
    job = run_now(MountArchive.enqueue(make_archive(plan), hours=1))
    assert (job.status, job.cause, Mount.objects.count(), mounts.folders()) == ("failed", "borg", 0, [])
    return job


NO_MODULE = {
    "1.2.9": '{"type": "log_message", "message": "borg mount not available: no FUSE support, BORG_FUSE_IMPL=...",'
    ' "levelname": "ERROR", "name": "borg.archiver"}',
    "1.4.5": '{"type": "log_message", "message": "Runtime Error: borg mount not available: no FUSE support, ...",'
    ' "levelname": "ERROR", "name": "borg.archiver", "msgid": "RTError"}',
}


@pytest.mark.usefixtures("any_device")
@pytest.mark.parametrize("line", NO_MODULE.values(), ids=NO_MODULE)
def test_a_borg_without_fuse_is_said(plan: Plan, tmp_path: Path, settings: Any, line: str) -> None:
    job = refused_by(plan, tmp_path, settings, f"echo '{line}' >&2; exit 2")
    assert job.error == "The worker's borg cannot mount: it was installed without FUSE."
    assert "python3-pyfuse3" in job.advice


@pytest.mark.usefixtures("any_device")
def test_what_fuse_itself_says_is_told(plan: Plan, tmp_path: Path, settings: Any) -> None:
    said = "fusermount3: mount failed: Operation not permitted"
    job = refused_by(plan, tmp_path, settings, f"echo '{said}' >&2; exit 2")
    assert job.error == f"The worker's machine did not let borg mount: {said}"


def test_a_machine_without_fuse_is_said(
    plan: Plan, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "DEVICE", tmp_path / "nothing")
    assert refused_by(plan, tmp_path, settings, "exit 0").error == "The worker's machine has no FUSE."


# --- What it keeps from what ----------------------------------------------------------------------


def test_while_it_is_mounted_nothing_of_it_is_deleted_or_moved(plan: Plan) -> None:
    policy = RetentionPolicy.objects.create(name="one", keep_within="", keep_last=1, **dict.fromkeys(
        ("keep_daily", "keep_weekly", "keep_monthly"), 0))  # fmt: skip
    Plan.objects.filter(pk=plan.pk).update(retention=policy)
    plan.refresh_from_db()
    Repository.objects.update(checked_at=timezone.now())
    archive, _ = make_archive(plan, start=timezone.now() - timedelta(days=9)), make_archive(plan)
    assert [one.pk for one in decide(plan).going] == [archive.pk]
    mount = row(archive)
    assert [(one.archive.pk, one.why) for one in decide(plan).kept][1] == (archive.pk, "in use")
    with pytest.raises(Refused, match="mounted"):
        DeleteArchive.enqueue(archive)
    with pytest.raises(Refused, match="mounted"):
        CompactRepository.enqueue(plan.repository)
    mount.delete()
    DeleteArchive.enqueue(archive)
    CompactRepository.enqueue(plan.repository)


def test_a_mounted_archive_is_not_mounted_again(archive: Archive) -> None:
    row(archive)
    with pytest.raises(Refused, match="already"):
        MountArchive.enqueue(archive, hours=1)


def test_no_more_than_some_are_mounted_at_one_place(plan: Plan) -> None:
    for _ in range(MOST_AT_ONCE):
        row(make_archive(plan), place="default")
    with pytest.raises(Refused, match=f"{MOST_AT_ONCE} archives"):
        MountArchive.enqueue(make_archive(plan), hours=1)


# --- The end --------------------------------------------------------------------------------------


def test_what_has_expired_is_unmounted_and_nothing_else(plan: Plan) -> None:
    over = row(make_archive(plan), expires_at=timezone.now() - timedelta(seconds=1))
    row(make_archive(plan))
    assert maintenance.unmount_expired() == 1
    job = Job.objects.get()
    assert (job.type, job.subject, job.place) == ("unmount", f"mount:{over.pk}", "default")
    assert maintenance.unmount_expired() == 0  # one is enough


@pytest.mark.parametrize(("status", "started"), [("failed", 1), ("completed", 1), ("running", 0), ("pending", 0)])
def test_what_a_job_left_half_made_is_unmounted_once_it_has_ended(archive: Archive, status: str, started: int) -> None:
    job = Job.objects.create(type="mount", status=status, subject=f"archive:{archive.pk}")
    row(archive, mounted_at=None, job=job)
    assert maintenance.unmount_expired() == started


def test_what_is_just_being_mounted_is_not_unmounted(archive: Archive) -> None:
    job = Job.objects.create(type="mount", status="running", subject=f"archive:{archive.pk}")
    with pytest.raises(Refused, match="just being mounted") as refused:
        UnmountArchive.enqueue(row(archive, mounted_at=None, job=job))
    assert refused.value.job == job


def test_a_mount_outlives_its_archive_on_record_so_that_it_can_be_unmounted(archive: Archive) -> None:
    mount = row(archive)
    archive.delete()
    mount.refresh_from_db()
    assert unmounted(mount).status == "completed"
    assert not Mount.objects.exists()


def test_another_machine_s_mount_is_not_struck_off_before_its_time(archive: Archive) -> None:
    mount = row(archive, machine="elsewhere")
    job = unmounted(mount)
    assert (job.status, job.error) == (
        "failed",
        f"It is mounted on elsewhere; this worker is on {mounts.this_machine()}.",
    )
    Mount.objects.update(expires_at=timezone.now())
    assert unmounted(mount).status == "completed"
    assert not Mount.objects.exists()


def test_a_sweep_takes_down_what_nobody_keeps(plan: Plan, settings: Any) -> None:
    running = Job.objects.create(type="mount", status="running")
    being_made = row(make_archive(plan), mounted_at=None, job=running)
    elsewhere = row(make_archive(plan), machine="elsewhere")
    dead = row(make_archive(plan))  # neither mounted nor served
    unknown = settings.MOUNT_DIR / "123456"
    for folder in (unknown, *map(mounts.folder_of, (being_made, elsewhere, dead))):
        folder.mkdir(parents=True)
    assert mounts.sweep() == 2
    assert set(Mount.objects.all()) == {being_made, elsewhere}
    assert set(mounts.folders()) == {mounts.folder_of(being_made), mounts.folder_of(elsewhere)}


# --- API and page ---------------------------------------------------------------------------------


def test_a_program_mounts_sees_where_and_unmounts(api_admin: APIClient, archive: Archive) -> None:
    url = f"/api/archives/{archive.pk}"
    answer = api_admin.post(f"{url}/mount", {"hours": 2})
    assert (answer.status_code, answer.json()["type"], answer.json()["payload"]) == (202, "mount", {"hours": 2})
    assert api_admin.get(url).json()["mount"] is None
    mount = row(archive)
    told = api_admin.get(url).json()["mount"]
    assert (told["path"], told["machine"]) == (mount.path, mount.machine)
    assert api_admin.get("/api/archives").json()["results"][0]["mount"] == told
    answer = api_admin.delete(f"{url}/mount")
    assert (answer.status_code, answer.json()["type"]) == (202, "unmount")
    mount.delete()
    assert api_admin.delete(f"{url}/mount").status_code == 409


@pytest.mark.parametrize("body", [None, {}, {"hours": None}])
def test_without_hours_it_is_a_day(api_admin: APIClient, archive: Archive, body: Any) -> None:
    assert api_admin.post(f"/api/archives/{archive.pk}/mount", body).json()["payload"] == {"hours": 24}


@pytest.mark.parametrize("hours", [0, -1, 169, 2**63, 1.5, "2", "x", True, []])
def test_hours_that_cannot_be_are_refused(api_admin: APIClient, archive: Archive, hours: Any) -> None:
    answer = api_admin.post(f"/api/archives/{archive.pk}/mount", {"hours": hours})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["hours"])


def test_the_page_says_where_it_is_mounted(archive: Archive, as_admin: Client, as_viewer: Client) -> None:
    page = as_admin.get(f"/archives/{archive.pk}").content.decode()
    assert f"/jobs/start/mount/{archive.pk}" in page
    mount = row(archive)
    page, seen = (client.get(f"/archives/{archive.pk}").content.decode() for client in (as_admin, as_viewer))
    assert f"/jobs/start/mount/{archive.pk}" not in page
    for text in (mount.path, mount.machine):
        assert text in page
        assert text in seen
    assert f'action="/jobs/start/unmount/{mount.pk}"' in page
    assert "/jobs/start/" not in seen
    assert as_admin.post(f"/jobs/start/unmount/{mount.pk}").status_code == 302
    assert Job.objects.get().type == "unmount"

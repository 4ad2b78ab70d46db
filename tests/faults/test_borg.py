"""What borg does, and what it does not do although it says nothing of it. Real borg on both ends, real sshd."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import encryption
from backups import locks
from backups.models import Plan, Repository, RetentionPolicy, Source
from backups.runners.check import CheckRepository
from backups.runners.compare import CompareRepository
from backups.runners.create import RunBackup
from backups.runners.prune import PruneArchives
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from tests.conftest import run_now
from tests.faults.conftest import again, new_archives, script, source_of
from tests.faults.test_ssh import is_root
from tests.small import PASSPHRASE, SmallRepository

pytestmark = [pytest.mark.e2e, pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]

UNREADABLE = "/proc/sys/vm/compact_memory"  # for root too: it may only be written
FLOOD_BYTES = 100_000_000
LINES_KEPT = 1_000
MEMORY_BYTES = 60_000_000  # of that, 16 MB are the channel's window
DAY = timedelta(days=1)


def back_up(plan: Plan) -> Job:
    return run_now(RunBackup.enqueue(again(plan)))


def saves(plan: Plan, *paths: object) -> None:
    Source.objects.filter(plans=plan).update(parameters={"paths": [str(path) for path in paths]})


def borg_is(plan: Plan, text: str) -> None:
    """The server's borg is this script; the real one is "$borg"."""
    text = f"borg={Server.objects.get(pk=plan.server_id).borg_path}\n{text}"
    path = script(source_of(plan).parent / "their-borg", text)
    Server.objects.filter(pk=plan.server_id).update(borg_path=str(path))


# --- Neither all well nor failed --------------------------------------------------------------------


def test_what_cannot_be_read_is_listed_and_the_rest_is_saved(real: Plan) -> None:
    """Red when exit code 1 (100 and more in 1.4) is a failure, or nothing to speak of."""
    unreadable = source_of(real) / "secret"
    if os.geteuid() == 0:
        saves(real, source_of(real), UNREADABLE)
        unreadable = Path(UNREADABLE)
    else:
        unreadable.touch(mode=0)
    job = back_up(real)
    assert (job.status, job.warnings, job.result["unreadable"]) == ("completed", 1, 1)
    ((path, why),) = job.result["unreadable_paths"]
    assert (path, "Permission denied" in why) == (str(unreadable), True)
    assert [archive.files for archive in new_archives()] == [3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("exit 0", "borg ended with code 0, but gave no proof of an archive: borg printed no result."),
        ("exit 1", "borg ended with code 1, but gave no proof of an archive: borg printed no result."),
        ("""echo '{"archive": {}}'""", "borg ended with code 0, but gave no proof of an archive: "),
        ('"$borg" "$@" >/dev/null', "borg ended with code 0, but gave no proof of an archive: borg printed no result."),
    ],
)
def test_without_a_proof_there_was_no_backup(real: Plan, text: str, sentence: str) -> None:
    """Red when the exit code decides."""
    borg_is(real, text)
    job = back_up(real)
    assert (job.status, job.cause) == ("failed", "borg")
    assert job.error.startswith(sentence)
    assert new_archives() == []
    assert again(real).last_good_archive().name == "three"  # type: ignore[union-attr]


# --- Suspicious -------------------------------------------------------------------------------------


def vanished(plan: Plan) -> str:
    saves(plan, source_of(plan), "/not/there")
    return "Not found on the server: /not/there."


def empty(plan: Plan) -> str:
    for path in source_of(plan).iterdir():
        path.unlink()
    return "The archive is empty."


def less_than_half(plan: Plan) -> str:
    for name in ("file-0", "file-1"):
        (source_of(plan) / name).unlink()
    return "It has 1 files, less than half of the 3 before."


@pytest.mark.parametrize("happens", [vanished, empty, less_than_half])
def test_a_suspicious_archive_is_no_good_backup_until_somebody_says_so(
    real: Plan, as_admin: Client, happens: Callable[[Plan], str]
) -> None:
    """Red without `suspicion`: retention would delete good archives for it (BORG.md, finding 1)."""
    policy = RetentionPolicy.objects.create(
        name="tight", keep_within="", keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0
    )
    Plan.objects.update(retention=policy)
    sentence = happens(real)
    job = back_up(real)
    assert (job.status, job.result["suspicion"]) == ("completed", sentence)
    assert job.lines.filter(level=30, message=f"Suspicious: {sentence}").exists()
    plan, (archive,) = again(real), new_archives()
    assert plan.last_good_archive().name == "three"  # type: ignore[union-attr]
    assert plan.last_good_at is not None
    assert plan.last_good_at < archive.taken_at
    assert not Job.objects.filter(type=PruneArchives.type).exists()
    with pytest.raises(Refused):
        PruneArchives.enqueue(plan)

    as_admin.post(f"/archives/{archive.pk}/trust")
    assert again(real).last_good_archive() == archive
    assert run_now(PruneArchives.enqueue(again(real))).result["deleted"] == ["three", "two", "one"]


# --- What borg refuses ------------------------------------------------------------------------------


def test_a_wrong_passphrase_is_said_and_not_tried_again(real: Plan) -> None:
    """Red when it may pass: every attempt is as wrong as the first."""
    Repository.objects.update(passphrase_encrypted=encryption.encrypt("not it"))
    job = back_up(real)
    assert (job.status, job.cause, job.attempts, job.max_attempts) == ("failed", "passphrase", 1, 3)
    assert job.error == "The passphrase of the repository is wrong."
    assert not job.lines.filter(message__contains="not it").exists()


# --- Clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [-DAY, DAY])
def test_a_server_whose_clock_is_off_by_a_day_changes_nothing(real: Plan, off: timedelta) -> None:
    """Red when retention and health count what the server says (`start`) instead of our own clock (`taken_at`)."""
    theirs = f"{timezone.now() + off:%Y-%m-%dT%H:%M:%S}"
    borg_is(real, f'command=$1; shift\nexec "$borg" "$command" --timestamp={theirs} "$@"')
    before = timezone.now().replace(microsecond=0)  # names of archives, and so our dates, are full seconds
    job = back_up(real)
    assert (job.status, job.result["suspicion"]) == ("completed", "")
    (archive,) = new_archives()
    assert f"{archive.start:%Y-%m-%dT%H:%M:%S}" == theirs
    assert before <= archive.taken_at <= timezone.now()
    assert again(real).last_good_at == archive.taken_at
    assert run_now(CompareRepository.enqueue(real.repository)).status == "completed"  # and not frozen
    assert again(real).last_good_archive() == archive


# --- Much -------------------------------------------------------------------------------------------


@contextmanager
def memory() -> Iterator[list[int]]:
    """How much this process has in memory, all the time, in bytes."""
    seen, end = [resident()], threading.Event()

    def look() -> None:
        while not end.wait(0.02):
            seen.append(resident())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_borg_that_prints_a_hundred_megabytes_of_log(real: Plan, live: Any) -> None:
    """Red without the cap of JobLog: 25,000 lines of 4 kB stay in memory, and in the database."""
    live(JOB_LOG_LINES=LINES_KEPT)
    line = '{"type": "log_message", "levelname": "WARNING", "name": "borg", "message": "%s"}' % ("x" * 3_900)
    borg_is(real, f"""yes '{line}' | head -c {FLOOD_BYTES} >&2; echo >&2; exec "$borg" "$@\"""")
    with memory() as seen:
        job = back_up(real)
    assert (job.status, job.error) == ("completed", "")
    assert max(seen) - seen[0] < MEMORY_BYTES
    assert job.lines.count() <= LINES_KEPT
    assert job.log_lines > FLOOD_BYTES / 4_100
    last = job.lines.order_by("number").last()
    assert last
    assert last.number == job.log_lines  # what came last is there
    assert new_archives()[0].files == 3


# --- Locks ------------------------------------------------------------------------------------------


@is_root
def test_a_borg_in_another_container_is_named_and_its_lock_is_not_broken(
    plan: Plan, kept: SmallRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phpBorg in another PID namespace of this machine. Red without the namespace in `host_id`: borg knows the host,
    finds no such process, and takes away the lock of the living (BORG.md, finding 7)."""
    monkeypatch.setattr("backups.borg.commands.LOCK_WAIT_SECONDS", 1)
    ask = "import backups.locks; print(backups.locks.host_id())"
    held = 'export BORG_HOST_ID="$("$1" -c "$2")"; exec borg with-lock "$3" sh -c "echo held; cat"'
    env = {
        **os.environ, "BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(tmp_path / "theirs"),
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }  # fmt: skip
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", held, "sh"]
    with subprocess.Popen(
        [*unshare, sys.executable, ask, str(kept.path)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as there:
        assert there.stdout
        assert there.stdout.readline() == b"held\n"
        (holder,) = locks.holders(kept.path)
        job = run_now(CheckRepository.enqueue(plan.repository))
        assert locks.holders(kept.path) == [holder]
        there.communicate()
    assert holder.verdict == locks.Verdict.UNKNOWN
    assert (job.status, job.cause) == ("failed", "lock")
    named = f"locked by process {holder.pid} of {holder.host}. It is in another container on this machine"
    assert job.lines.filter(message__contains=named).exists()
    assert run_now(CheckRepository.enqueue(plan.repository)).status == "completed"

"""What meets at one repository, and a cancel in each phase of a backup. Real workers, real sshd, real borg."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from backups import locks
from backups.models import Archive, Plan, RetentionPolicy
from backups.periodic import start_due_plans
from backups.runners.compare import CompareRepository
from backups.runners.create import RunBackup
from backups.runners.prune import PruneArchives
from jobs.models import Job
from phpborg.embedded import wait_until
from servers.models import Server
from tests.conftest import run_now
from tests.faults.conftest import (
    PATIENCE_SECONDS,
    Start,
    again,
    borgs_of,
    is_transferring,
    new_archives,
    says,
    script,
    source_of,
    wait_for,
)
from tests.ssh.watching import processes_with

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("together")]

CANCELLED_WITHIN_SECONDS = 15
BORG = str(shutil.which("borg"))


@pytest.fixture
def go(real: Plan) -> Iterator[Path]:
    """While this file is not there, a backup goes on although its archive is made already."""
    go = source_of(real).parent / "go"
    borg = real.server.borg_path
    text = f'{borg} "$@"; code=$?; while [ "$1" = create ] && [ ! -e {go} ]; do sleep 0.05; done; exit $code'
    Server.objects.update(borg_path=str(script(go.with_name("their-borg"), text)))
    yield go
    go.touch()


# --- One at a time ----------------------------------------------------------------------------------


def test_while_a_backup_runs_nothing_else_writes_and_nothing_is_lost(
    real: Plan, go: Path, start: Start, as_operator: Client
) -> None:
    """The button again, the schedule, and retention. Red without `_unfinished` in `enqueue_all`, or `holds`."""
    policy = RetentionPolicy.objects.create(
        name="tight", keep_within="", keep_last=2, keep_daily=0, keep_weekly=0, keep_monthly=0
    )
    Plan.objects.update(retention=policy)
    backup = RunBackup.enqueue(again(real))
    start("worker")
    start("worker")
    wait_for(backup, "running")
    wait_until(lambda: is_transferring(backup), seconds=PATIENCE_SECONDS, what="The transfer")

    answer = as_operator.post(f"/jobs/start/backup/{real.pk}")
    assert answer["Location"] == f"/jobs/{backup.pk}"

    due_at = timezone.now() - timedelta(seconds=1)
    Plan.objects.update(schedule="0 2 * * *", next_run_at=due_at)
    assert start_due_plans() == 0
    assert not Plan.objects.filter(next_run_at__lte=timezone.now()).exists()  # taken, not lost: what runs is as good
    assert Job.objects.filter(type="backup").count() == 1

    prune = PruneArchives.enqueue(again(real))
    wait_until(lambda: waits(prune, backup), seconds=PATIENCE_SECONDS, what="The second job")
    go.touch()
    wait_for(backup, "completed")
    wait_for(prune, "completed")
    assert prune.started_at and backup.completed_at
    assert prune.started_at >= backup.completed_at
    assert prune.result == {"deleted": ["two", "one"], "kept": 2}
    assert [archive.job for archive in new_archives()] == [backup]


def waits(job: Job, holder: Job) -> bool:
    job.refresh_from_db()
    return job.status == "pending" and job.holder == holder


# --- Cancel, phase by phase -------------------------------------------------------------------------


@pytest.fixture
def slow_login(home: Path) -> Iterator[None]:
    """A login shell that takes longer than anybody wants to wait."""
    (home / ".bashrc").write_text("sleep 60\n")
    yield
    (home / ".bashrc").unlink()


@pytest.fixture
def slow_line(real: Plan) -> None:
    (source_of(real) / "big").write_bytes(os.urandom(8_000_000))
    Plan.objects.update(upload_kib_per_second=250)


def while_it_logs_in(plan: Plan, job: Job) -> bool:
    return bool(processes_with("sleep\0" + "60"))


def while_it_transfers(plan: Plan, job: Job) -> bool:
    return bool(borgs_of(plan, "create")) and is_transferring(job)


def while_it_ends(plan: Plan, job: Job) -> bool:
    """The archive is made, and borg has not ended."""
    looping, working = processes_with("sleep\0" + "0.05"), borgs_of(plan, f"{BORG}\0create")
    return is_transferring(job) and bool(looping) and not working


@pytest.mark.parametrize(
    ("how", "phase"),
    [("slow_login", while_it_logs_in), ("slow_line", while_it_transfers), ("go", while_it_ends)],
)
def test_a_cancel_is_quick_in_every_phase(
    real: Plan, start: Start, api_operator: APIClient, how: str, phase: Callable[[Plan, Job], bool],
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """Red without the tick while the relay is set up, and without TERM after INT (BORG.md, finding 9)."""
    request.getfixturevalue(how)
    job = RunBackup.enqueue(again(real))
    start("worker")
    wait_until(lambda: phase(real, job), seconds=PATIENCE_SECONDS, what=phase.__name__)
    since = time.monotonic()
    assert api_operator.delete(f"/api/jobs/{job.pk}").status_code == 202
    wait_for(job, "cancelled")
    assert time.monotonic() - since < CANCELLED_WITHIN_SECONDS
    assert (job.holds, job.error, job.attempts) == (None, "", 1)
    assert locks.holders(Path(real.repository.path)) == []
    wait_until(lambda: not borgs_of(real), seconds=PATIENCE_SECONDS, what="The end of every borg")
    assert api_operator.delete(f"/api/jobs/{job.pk}").status_code == 409
    job.refresh_from_db()
    assert job.status == "cancelled"
    assert new_archives() == []

    compared = run_now(CompareRepository.enqueue(real.repository))
    assert (compared.status, compared.error) == ("completed", "")  # and not frozen
    assert [archive.job for archive in new_archives()] == ([job] if how == "go" else [])  # what borg finished is ours
    assert Archive.objects.exclude(quarantine="").count() == 0


# --- The database ------------------------------------------------------------------------------------


@pytest.mark.skipif(connection.vendor != "sqlite", reason="takes SQLite's lock")
def test_a_backup_goes_on_while_the_database_is_away_and_is_recorded_later(real: Plan, go: Path, start: Start) -> None:
    """Red without `insist` around the record: the archive is there, and the job has failed."""
    job = RunBackup.enqueue(again(real))
    worker = start("worker", BUSY_SECONDS="0.3")
    wait_until(lambda: while_it_ends(real, job), seconds=PATIENCE_SECONDS, what="The end of the transfer")
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        wait_until(lambda: says(worker, "its log waits"), seconds=PATIENCE_SECONDS, what="Its patience")
        go.touch()
        wait_until(lambda: says(worker, "trying again in", times=2), seconds=PATIENCE_SECONDS, what="Its insistence")
        other.rollback()
    wait_for(job, "completed")
    (archive,) = new_archives()
    assert (archive.job, archive.files, archive.suspicion, job.attempts) == (job, 3, "", 1)
    assert job.result["archive_id"] == archive.borg_id

"""Making a repository, with the borg of this machine."""

import logging
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts import encryption
from backups.models import Plan, Repository, StoragePool
from backups.runners.create import RunBackup
from backups.runners.init import InitRepository
from jobs.log import JobLog
from jobs.models import Job, LogLine
from jobs.periodic import reap
from jobs.runner import Refused
from servers.models import Server
from tests.conftest import run_now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def fresh(server: Server, pool: StoragePool) -> Repository:
    """One that has still to be made."""
    return Repository.objects.create(name="web-1", pool=pool, server=server)


@pytest.fixture
def folder(fresh: Repository) -> Path:
    return Path(fresh.path)


def make(repository: Repository) -> Job:
    job = run_now(InitRepository.enqueue(repository))
    repository.refresh_from_db()
    return job


def borg(*words: str, passphrase: str, base: Path) -> str:
    env = {"PATH": os.environ["PATH"], "BORG_PASSPHRASE": passphrase, "BORG_BASE_DIR": str(base), "LANG": "C.UTF-8"}
    return subprocess.run(["borg", *words], env=env, check=True, capture_output=True, text=True, timeout=60).stdout


def everything_stored_about(job: Job) -> str:
    row = Job.objects.filter(pk=job.pk).values().get()
    return f"{row} {[line.message for line in LogLine.objects.filter(job=job)]}"


# --- Made for real ----------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_repository_is_made_and_opens_with_what_is_kept(fresh: Repository, folder: Path, tmp_path: Path) -> None:
    job = make(fresh)
    assert (job.status, job.error, job.warnings) == ("completed", "", 0)
    assert (fresh.state, job.result) == ("ready", {"borg_id": fresh.borg_id})
    shown = borg("info", str(folder), passphrase=fresh.passphrase(), base=tmp_path / "else")
    assert f"Repository ID: {fresh.borg_id}" in shown
    assert "Encrypted: Yes (repokey BLAKE2b)" in shown


@pytest.mark.e2e
def test_the_kept_key_is_the_repositorys_own(fresh: Repository, folder: Path, tmp_path: Path) -> None:
    make(fresh)
    key = encryption.decrypt(fresh.key_encrypted)
    assert key.startswith(f"BORG_KEY {fresh.borg_id}\n")
    borg("key", "export", str(folder), str(tmp_path / "key"), passphrase=fresh.passphrase(), base=tmp_path / "else")
    assert (tmp_path / "key").read_text() == key


@pytest.mark.e2e
def test_passphrase_and_key_are_nowhere_in_the_clear(
    fresh: Repository, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    job = make(fresh)
    key = encryption.decrypt(fresh.key_encrypted)
    places = [everything_stored_about(job), caplog.text, "".join(capfd.readouterr()), str(vars(fresh))]
    for secret in (fresh.passphrase(), key, key.splitlines()[1]):
        assert not [place for place in places if secret in place]
    assert len(fresh.passphrase()) >= 43  # 32 random bytes


@pytest.mark.e2e
def test_each_repository_has_a_passphrase_of_its_own(fresh: Repository) -> None:
    other = Repository.objects.create(name="web-2", pool=fresh.pool, server=fresh.server)
    make(fresh)
    make(other)
    assert fresh.passphrase() != other.passphrase()
    assert fresh.borg_id != other.borg_id


@pytest.mark.e2e
def test_others_on_the_machine_cannot_read_its_folder(fresh: Repository, folder: Path) -> None:
    make(fresh)
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


@pytest.mark.e2e
def test_an_empty_folder_of_its_name_is_used(fresh: Repository, folder: Path) -> None:
    folder.mkdir()
    assert make(fresh).status == "completed"


@pytest.mark.e2e
def test_a_repository_that_is_ready_is_not_made_again(fresh: Repository, api_admin: APIClient) -> None:
    make(fresh)
    before = fresh.passphrase_encrypted
    with pytest.raises(Refused, match=r"^The repository web-1 exists already\.$"):
        InitRepository.enqueue(fresh)
    answer = api_admin.post("/api/jobs", {"type": "init", "subject": fresh.pk})
    assert (answer.status_code, answer.json()["error"]["message"]) == (409, "The repository web-1 exists already.")
    fresh.refresh_from_db()
    assert fresh.passphrase_encrypted == before


# --- Not made ---------------------------------------------------------------------------------


def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_is(fresh: Repository, folder: Path) -> None:
    folder.mkdir()
    (folder / "precious").write_text("mine")
    job = make(fresh)
    assert (job.status, job.cause) == ("failed", "disk")
    assert job.error == f"{folder} exists already on the worker's machine, and is not empty."
    assert (folder / "precious").read_text() == "mine"
    assert (fresh.state, fresh.passphrase_encrypted) == ("failed", "")


def test_a_file_of_its_name_is_refused_and_left_as_it_is(fresh: Repository, folder: Path) -> None:
    folder.write_text("mine")
    assert make(fresh).status == "failed"
    assert folder.read_text() == "mine"


def test_without_the_pools_folder_nothing_is_made(fresh: Repository, folder: Path) -> None:
    folder.parent.rmdir()
    job = make(fresh)
    assert (job.status, job.cause) == ("failed", "disk")
    assert job.error == f"The storage pool's folder {folder.parent} does not exist on the worker's machine."
    assert not folder.parent.exists()
    assert fresh.state == "failed"


def broken_borg(tmp_path: Path, script: str) -> str:
    path = tmp_path / "broken-borg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "script",
    [
        'mkdir "$5" && touch "$5/half" && exit 2',  # init fails in the middle
        'case $1 in init) mkdir "$5" && touch "$5/half";; *) echo nonsense;; esac',  # what it made does not answer
        "exit 0",
        "kill -9 $$",
    ],
)
def test_a_borg_that_fails_leaves_no_folder_and_no_passphrase(
    fresh: Repository, folder: Path, tmp_path: Path, settings: Any, script: str
) -> None:
    settings.BORG_PATH = broken_borg(tmp_path, script)
    job = make(fresh)
    assert job.status == "failed"
    assert job.error.endswith(".")
    assert not folder.exists()
    assert (fresh.state, fresh.passphrase_encrypted, fresh.borg_id) == ("failed", "", "")


def test_without_borg_on_the_workers_machine_that_is_said(fresh: Repository, folder: Path, settings: Any) -> None:
    settings.BORG_PATH = "/nowhere/borg"
    job = make(fresh)
    assert job.error == "/nowhere/borg is not installed on the worker's machine."
    assert not folder.exists()


def test_cancelled_in_the_middle_it_leaves_nothing(
    fresh: Repository, folder: Path, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BORG_PATH = broken_borg(tmp_path, 'mkdir "$5"; sleep 60')
    job = InitRepository.enqueue(fresh)
    checkpoint = JobLog.checkpoint

    def cancel_once_it_is_there(log: JobLog) -> None:
        if folder.exists():
            Job.objects.get(pk=job.pk).request_cancel()
            log.flush()
        checkpoint(log)

    monkeypatch.setattr(JobLog, "checkpoint", cancel_once_it_is_there)
    monkeypatch.setattr("servers.ssh.local.GRACE_SECONDS", {9: 5.0})
    run_now(job)
    fresh.refresh_from_db()
    assert (job.status, fresh.state, fresh.passphrase_encrypted) == ("cancelled", "failed", "")
    assert not folder.exists()


@pytest.mark.e2e
def test_one_that_could_not_be_made_can_be_tried_again(fresh: Repository, folder: Path) -> None:
    folder.write_text("in the way")
    make(fresh)
    folder.unlink()
    assert make(fresh).status == "completed"
    assert fresh.state == "ready"


def test_one_whose_worker_disappeared_can_be_tried_again(fresh: Repository) -> None:
    job = InitRepository.enqueue(fresh)
    assert job.claim("worker", holds=fresh.hold)
    Job.objects.filter(pk=job.pk).update(heartbeat_at="2026-01-01T00:00:00Z")
    assert reap() == 1
    fresh.refresh_from_db()
    assert fresh.state == "failed"
    InitRepository.enqueue(fresh)


# --- What waits for it ------------------------------------------------------------------------


def test_a_second_job_is_refused_while_the_first_waits(fresh: Repository) -> None:
    InitRepository.enqueue(fresh)
    with pytest.raises(Refused, match=r"Repository creation is already waiting here\."):
        InitRepository.enqueue(fresh)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("creating", "The repository web-1 is still being made."),
        ("failed", "The repository web-1 could not be made. Look at its page."),
    ],
)
def test_no_backup_starts_before_it_is_ready(fresh: Repository, state: str, sentence: str) -> None:
    Repository.objects.filter(pk=fresh.pk).update(state=state)
    fresh.refresh_from_db()
    plan = Plan.objects.create(name="files", server=fresh.server, repository=fresh)
    with pytest.raises(Refused) as refusal:
        RunBackup.enqueue(plan)
    assert str(refusal.value) == sentence

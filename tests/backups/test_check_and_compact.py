"""`borg check` and `borg compact`: what damage stops, and what goes before room is given back."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import encryption
from backups.models import Plan, Repository
from backups.runners.check import CheckForm, CheckRepository
from backups.runners.compact import CompactRepository
from backups.runners.create import RunBackup
from jobs.models import Job
from jobs.runner import Refused
from tests.conftest import run_now
from tests.small import SmallRepository

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.usefixtures("one_thread")]


def check(plan: Plan, **parameters: Any) -> tuple[Job, Repository]:
    job = run_now(CheckRepository.enqueue(plan.repository, **parameters))
    plan.repository.refresh_from_db()
    return job, plan.repository


@pytest.mark.parametrize(
    ("depth", "is_whole", "is_verified"),
    [
        ("", True, False), ("full", True, False), ("data", True, True),
        ("repository", False, False), ("archives", False, False),
    ],
)  # fmt: skip
def test_a_good_check_is_noted_when_it_looked_at_everything(
    plan: Plan, kept: SmallRepository, depth: str, is_whole: bool, is_verified: bool
) -> None:
    job, repository = check(plan, depth=depth)
    assert (job.status, repository.damage) == ("completed", "")
    assert (repository.checked_at is not None, repository.verified_at is not None) == (is_whole, is_verified)


def test_a_check_may_stop_in_time(plan: Plan, kept: SmallRepository) -> None:
    job, _ = check(plan, depth="repository", max_minutes=1)
    assert job.status == "completed"
    assert job.lines.filter(message__contains="--repository-only --max-duration=60").exists()
    assert "max_minutes" in CheckForm({"depth": "full", "max_minutes": 1}).errors
    assert CheckForm({"depth": "data", "max_minutes": 1}).is_valid()


@pytest.mark.parametrize("depth", ["full", "data", "repository"])
def test_damage_stops_everything_that_writes_but_not_what_reads(plan: Plan, kept: SmallRepository, depth: str) -> None:
    """Exit code 1, which is a warning elsewhere: taken as one, this backup would go on into a broken repository."""
    kept.flip_a_byte()
    job, repository = check(plan, depth=depth)
    assert (job.status, job.cause) == ("failed", "disk")
    assert repository.damage.startswith("The check found damage: Data integrity error")
    assert job.error == repository.damage
    assert repository.checked_at is None
    with pytest.raises(Refused, match="is damaged: nothing is written to it"):
        RunBackup.enqueue(plan)
    with pytest.raises(Refused, match="is damaged: nothing is written to it"):
        CompactRepository.enqueue(repository)
    CheckRepository.enqueue(repository)


@pytest.mark.parametrize("how", ["truncated", "gone"])
def test_a_segment_that_is_not_whole_is_damage(plan: Plan, kept: SmallRepository, how: str) -> None:
    segment = max(kept.path.glob("data/*/*"), key=lambda path: path.stat().st_size)
    if how == "gone":
        segment.unlink()
    else:
        segment.write_bytes(segment.read_bytes()[:-1000])
    _, repository = check(plan)
    assert repository.damage


def test_a_later_good_check_takes_the_damage_back(plan: Plan, kept: SmallRepository) -> None:
    Repository.objects.update(damage="The check found damage: a loose cable.")
    _, repository = check(plan)
    assert repository.damage == ""
    assert repository.checked_at is not None


def test_a_partial_good_check_does_not(plan: Plan, kept: SmallRepository) -> None:
    Repository.objects.update(damage="The check found damage: a loose cable.")
    _, repository = check(plan, depth="archives")
    assert repository.damage


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("missing", "The repository is not where it was."),
        ("passphrase", "The passphrase of the repository is wrong."),
        ("locked", "The repository is locked by another borg."),
    ],
)  # fmt: skip
def test_a_check_that_never_looked_says_nothing_of_damage(
    plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch, what: str, sentence: str
) -> None:
    monkeypatch.setattr("backups.borg.commands.LOCK_WAIT_SECONDS", 1)
    if what == "missing":
        shutil.rmtree(kept.path)
    elif what == "passphrase":
        Repository.objects.update(passphrase_encrypted=encryption.encrypt("another"))
    else:
        lock = Path(kept.path, "lock.exclusive", "elsewhere@1.2-3")
        lock.parent.mkdir()
        lock.touch()
    job, repository = check(plan)
    assert (job.status, job.error, repository.damage) == ("failed", sentence, "")


# --- Compaction -----------------------------------------------------------------------------------


def deleted(plan: Plan, kept: SmallRepository, name: str) -> Repository:
    """The archive `name`, deleted by us an hour ago."""
    plan.archives.filter(name=name).delete()
    kept.borg("delete", f"::{name}")
    Repository.objects.update(deleted_at=timezone.now() - timedelta(hours=1))
    plan.repository.refresh_from_db()
    return plan.repository


def test_room_is_given_back_only_after_a_good_check(plan: Plan, kept: SmallRepository) -> None:
    repository = deleted(plan, kept, "three")
    for checked_at in (None, timezone.now() - timedelta(hours=2)):
        Repository.objects.update(checked_at=checked_at)
        repository.refresh_from_db()
        with pytest.raises(Refused, match="has not been checked since something was deleted"):
            CompactRepository.enqueue(repository)
    _, repository = check(plan)
    job = run_now(CompactRepository.enqueue(repository))
    repository.refresh_from_db()
    assert (job.status, repository.deleted_at) == ("completed", None)
    assert job.result["freed"].endswith("kB")
    assert repository.compacted_at is not None
    assert set(kept.archives()) == {"one", "two"}


def test_nothing_is_compacted_when_an_archive_is_missing(plan: Plan, kept: SmallRepository) -> None:
    """A server that deletes in its append-only way must not have us make it final."""
    kept.borg("delete", "::two")
    _, repository = check(plan)
    before = sum(path.stat().st_size for path in kept.path.glob("data/*/*"))
    job = run_now(CompactRepository.enqueue(repository))
    repository.refresh_from_db()
    assert job.status == "failed"
    assert "An archive is gone from the repository, but not by phpBorg: two." in job.error
    assert sum(path.stat().st_size for path in kept.path.glob("data/*/*")) == before
    with pytest.raises(Refused, match="is frozen"):
        CompactRepository.enqueue(repository)


def test_the_api_takes_the_parameters_of_a_check(api_operator: APIClient, plan: Plan, kept: SmallRepository) -> None:
    asked = {"type": "check", "subject": plan.repository.pk, "parameters": {"depth": "everything"}}
    answer = api_operator.post("/api/jobs", asked, format="json")
    assert answer.status_code == 400, answer.json()
    asked["parameters"] = {"depth": "repository"}
    assert api_operator.post("/api/jobs", asked, format="json").status_code == 202

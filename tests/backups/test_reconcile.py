"""Borg's list of a repository beside our record: what a server, or anybody, may have done behind our back."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from backups.models import Archive, Plan, Repository
from backups.reconcile import CHANGED, UNKNOWN, accept
from backups.runners.compare import CompareRepository
from backups.runners.create import RunBackup
from backups.runners.index import IndexArchive
from jobs.models import Job
from tests.conftest import run_now
from tests.small import SmallRepository

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.usefixtures("one_thread", "counted")]


def compared(plan: Plan) -> tuple[Job, Repository]:
    job = run_now(CompareRepository.enqueue(plan.repository))
    plan.repository.refresh_from_db()
    return job, plan.repository


def announced(plan: Plan, *names: str, **changes: Any) -> Job:
    """A backup that set out to make archives of these names, and failed."""
    values: dict[str, Any] = {
        "type": RunBackup.type, "subject": f"plan:{plan.pk}", "plan": plan, "server": plan.server,
        "repository": plan.repository, "status": Job.Status.FAILED, "made": list(names),
        "started_at": timezone.now() - timedelta(minutes=5),
    }  # fmt: skip
    return Job.objects.create(**(values | changes))


def test_what_is_as_it_was_recorded_is_well(plan: Plan, kept: SmallRepository) -> None:
    job, repository = compared(plan)
    assert (job.status, repository.frozen) == ("completed", "")
    assert repository.compared_at is not None
    assert Archive.objects.good().count() == 3
    assert repository.original_bytes == 1_200_000
    assert repository.deduplicated_bytes > 600_000


def test_an_archive_that_nobody_asked_for_is_put_aside_and_freezes_the_repository(
    plan: Plan, kept: SmallRepository
) -> None:
    kept.borg("create", "::forged", str(kept.path.parent.parent / "pool" / plan.repository.name / "README"))
    job, repository = compared(plan)
    assert (job.status, job.cause) == ("failed", "borg")
    assert repository.frozen == "An archive is there that phpBorg did not make: forged."
    forged = Archive.objects.get(name="forged")
    assert (forged.quarantine, forged.plan) == (UNKNOWN, None)
    assert Archive.objects.good().count() == 3
    again, _ = compared(plan)
    assert again.status == "failed"  # until somebody has decided
    assert Archive.objects.count() == 4


@pytest.mark.parametrize("when", ["2001-01-01T00:00:00", "2099-12-31T23:59:59"])
def test_a_false_date_makes_no_good_archive(plan: Plan, kept: SmallRepository, when: str) -> None:
    newest = plan.last_good_archive()
    kept.borg("create", f"--timestamp={when}", "::web-1-files-forged", "/etc/hostname")
    _, repository = compared(plan)
    assert "web-1-files-forged" in repository.frozen
    assert plan.last_good_archive() == newest


def test_an_archive_that_is_gone_freezes_the_repository_until_somebody_decides(
    plan: Plan, kept: SmallRepository
) -> None:
    kept.borg("delete", "::three")
    job, repository = compared(plan)
    assert job.error.startswith(f"The repository {repository.name} is frozen. An archive is gone from the repository")
    assert Archive.objects.get(name="three").vanished_at is not None
    good = plan.last_good_archive()
    assert good and good.name == "two"
    assert accept(repository) == ["three"]
    assert not Archive.objects.filter(name="three").exists()
    job, repository = compared(plan)
    assert (job.status, repository.frozen) == ("completed", "")


def test_an_archive_that_comes_back_is_an_archive_again(plan: Plan, kept: SmallRepository) -> None:
    Archive.objects.filter(name="two").update(vanished_at=timezone.now())
    compared(plan)
    assert Archive.objects.get(name="two").vanished_at is None


def test_another_name_is_another_archive(plan: Plan, kept: SmallRepository) -> None:
    kept.borg("rename", "::two", "second")
    _, repository = compared(plan)
    assert repository.frozen == (
        "An archive is gone from the repository, but not by phpBorg: two. "
        "An archive is there that phpBorg did not make: second."
    )


def test_another_date_than_on_record_is_put_aside(plan: Plan, kept: SmallRepository) -> None:
    Archive.objects.filter(name="one").update(start=timezone.now())
    _, repository = compared(plan)
    assert repository.frozen == "An archive is not what it was when phpBorg made it: one."
    assert Archive.objects.get(name="one").quarantine == CHANGED


def test_another_repository_in_its_place_is_no_list_of_ours(plan: Plan, kept: SmallRepository) -> None:
    Repository.objects.update(borg_id="ab" * 32)
    _, repository = compared(plan)
    assert repository.frozen == f"Another repository lies where this one was ({kept.id[:12]})."
    assert Archive.objects.good().count() == 3


# --- What borg finished although its job died ------------------------------------------------------


@pytest.mark.parametrize("status", [Job.Status.FAILED, Job.Status.CANCELLED, Job.Status.RUNNING])
def test_what_a_job_set_out_to_make_is_adopted(plan: Plan, kept: SmallRepository, status: str) -> None:
    row = Archive.objects.get(name="three")
    row.delete()
    job = announced(plan, "never-made", "three", status=status)
    compared_job, repository = compared(plan)
    assert (compared_job.status, repository.frozen) == ("completed", "")
    adopted = Archive.objects.get(name="three")
    assert compared_job.result == {"adopted": [adopted.pk]}
    assert (adopted.borg_id, adopted.job, adopted.plan, adopted.taken_at) == (row.borg_id, job, plan, job.started_at)
    assert (adopted.files, adopted.original_bytes, adopted.suspicion) == (3, 600_000, "")
    assert Job.objects.filter(type=IndexArchive.type, subject=f"archive:{adopted.pk}").exists()
    plan.refresh_from_db()
    assert plan.last_good_at == job.started_at


def test_what_is_adopted_is_looked_at_as_closely_as_what_is_made(plan: Plan, kept: SmallRepository) -> None:
    Archive.objects.filter(name="three").delete()
    Archive.objects.filter(name="two").update(files=100)
    announced(plan, "three")
    compared(plan)
    assert Archive.objects.get(name="three").suspicion == "It has 3 files, less than half of the 100 before."


def test_a_name_that_a_job_has_made_already_is_not_adopted_twice(plan: Plan, kept: SmallRepository) -> None:
    Archive.objects.filter(name="three").delete()
    announced(plan, "three", status=Job.Status.COMPLETED)
    _, repository = compared(plan)
    assert "three" in repository.frozen


def test_the_next_attempt_finds_what_the_one_before_it_made(plan: Plan, kept: SmallRepository) -> None:
    """Without `_finished_before` it would log in to 192.0.2.7, which nobody answers."""
    Archive.objects.filter(name="three").delete()
    job = RunBackup.enqueue(plan)
    Job.objects.filter(pk=job.pk).update(made=["three"], attempts=1)
    job = run_now(Job.objects.get(pk=job.pk))
    assert job.status == "completed"
    assert (job.result["name"], job.result["files"]) == ("three", 3)
    assert [archive.name for archive in Archive.objects.filter(job=job)] == ["three"]


def test_a_failed_backup_that_had_begun_is_looked_after(plan: Plan, kept: SmallRepository) -> None:
    job = announced(plan, "three", status=Job.Status.PENDING)
    assert not Job.objects.filter(type=CompareRepository.type).exists()
    Job.objects.filter(pk=job.pk).update(status=Job.Status.FAILED)
    job.refresh_from_db()
    RunBackup.ended(job)
    assert Job.objects.filter(type=CompareRepository.type, repository=plan.repository).exists()


# --- What we deleted ourselves ---------------------------------------------------------------------


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_deletion_that_did_not_live_to_be_recorded_freezes_nothing(
    plan: Plan, kept: SmallRepository, is_gone: bool
) -> None:
    """The worker died between borg's delete and ours: it had written down what it was about to do."""
    row = Archive.objects.get(name="two")
    if is_gone:
        kept.borg("delete", "::two")
    Job.objects.create(
        type="prune", status="failed", repository=plan.repository, plan=plan, result={"deleting": [row.borg_id]}
    )
    job, repository = compared(plan)
    assert (job.status, repository.frozen) == ("completed", "")
    assert Archive.objects.filter(name="two").exists() is not is_gone
    assert (repository.deleted_at is not None) is is_gone

"""Between borg's proof and our row: a database that is away, a cancel, two backups of one repository."""

import threading
from typing import Any

import pytest
from django.db import OperationalError

from backups.models import Archive, Plan, Repository, StoragePool
from backups.runners.create import RunBackup
from backups.runners.index import IndexArchive
from jobs.models import Job
from jobs.periodic import reap
from jobs.runner import perform
from tests.backups.replay import ARCHIVE_ID, creates, progress
from tests.conftest import make_archive, run_now
from tests.fakes import Answer, FakeMachine


class Once:
    """Fails the first time that it is called, as a database that is away for a moment."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise OperationalError("server has gone away")
        return self._original(*args, **kwargs)


# --- A database that is away ------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)  # what failed is closed, which a test's own transaction would not survive
@pytest.mark.parametrize("broken", ["archive", "index"])
def test_a_database_that_fails_once_loses_and_doubles_nothing(
    plan: Plan, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    owner: Any = {"archive": Archive.objects, "index": IndexArchive}[broken]
    name = {"archive": "update_or_create", "index": "enqueue"}[broken]
    once = Once(getattr(owner, name))
    monkeypatch.setattr(owner, name, once)
    monkeypatch.setattr("jobs.log.time.sleep", lambda _: None)
    machine.answers["create"] = creates()
    job = run_now(RunBackup.enqueue(plan))
    assert (job.status, once.calls) == ("completed", 2)
    assert Archive.objects.count() == 1
    assert Job.objects.filter(type="index").count() == 1
    assert len(machine.processes) == 1  # borg itself ran once


@pytest.mark.django_db
@pytest.mark.usefixtures("one_thread")
def test_an_archive_that_is_known_already_is_adopted_not_doubled(plan: Plan, machine: FakeMachine) -> None:
    def known_in_the_middle(*_: Any) -> Answer:
        """As if the database had taken the row, but its answer was lost."""
        answer = creates()(machine.commands[-1])
        name = machine.commands[-1].argv[-3].partition("::")[2]
        known.append(make_archive(plan, borg_id=ARCHIVE_ID, name=name, files=1))
        return answer

    known: list[Archive] = []
    machine.answers["create"] = known_in_the_middle
    job = run_now(RunBackup.enqueue(plan))
    archive = Archive.objects.get()
    assert (job.status, archive.pk, archive.files, archive.job) == ("completed", known[0].pk, 100, job)


@pytest.mark.django_db
@pytest.mark.usefixtures("one_thread")
def test_the_same_archive_id_in_another_repository_is_another_archive(
    plan: Plan, second_plan: Plan, machine: FakeMachine
) -> None:
    other = Repository.objects.create(name="two", pool=plan.repository.pool, server=plan.server, state="ready")
    make_archive(plan, borg_id=ARCHIVE_ID, repository=other)
    machine.answers["create"] = creates()
    assert run_now(RunBackup.enqueue(plan)).status == "completed"
    assert Archive.objects.filter(borg_id=ARCHIVE_ID).count() == 2


# --- Cancel -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_cancel_in_mid_backup_ends_the_process_and_the_job(plan: Plan, machine: FakeMachine) -> None:
    job = RunBackup.enqueue(plan)
    Plan.objects.update(last_good_at="2026-01-01T00:00:00Z")
    machine.answers["create"] = Answer(stderr=[progress(5)], while_running=lambda: ask_to_cancel(job), hangs=True)
    run_now(job)
    plan.refresh_from_db()
    assert (job.status, job.error, job.cancel_requested_at) == ("cancelled", "", None)
    assert machine.processes[-1].ended
    assert job.completed_at
    assert not Archive.objects.exists()
    assert plan.last_job is None
    assert plan.last_good_at
    assert job.lines.filter(message="Cancelled.").exists()
    assert job.holds is None


def ask_to_cancel(job: Job) -> None:
    assert Job.objects.get(pk=job.pk).request_cancel()


@pytest.mark.django_db
def test_a_backup_that_is_cancelled_before_it_starts_never_starts(plan: Plan, machine: FakeMachine) -> None:
    job = RunBackup.enqueue(plan)
    job.request_cancel()
    run_now(job)
    assert job.status == "cancelled"
    assert machine.commands == []


@pytest.mark.django_db
@pytest.mark.usefixtures("one_thread")
def test_a_run_that_was_given_up_says_nothing_more(plan: Plan, machine: FakeMachine) -> None:
    job = RunBackup.enqueue(plan)

    def give_up() -> None:
        Job.objects.filter(pk=job.pk).update(heartbeat_at="2026-01-01T00:00:00Z")
        reap()

    machine.answers["create"] = creates(progress(1), while_running=give_up)
    run_now(job)
    assert (job.status, job.attempts) == ("pending", 1)
    assert job.error.startswith("The worker disappeared")


@pytest.mark.django_db
def test_a_plan_whose_backup_waits_for_its_next_attempt_has_not_failed_yet(plan: Plan) -> None:
    job = RunBackup.enqueue(plan)
    job.claim("worker", holds=plan.repository.hold)
    Job.objects.filter(pk=job.pk).update(heartbeat_at="2026-01-01T00:00:00Z")
    reap()
    plan.refresh_from_db()
    job.refresh_from_db()
    assert (plan.last_job, job.status, job.attempts) == (None, "pending", 1)


@pytest.mark.django_db
def test_a_backup_whose_worker_disappeared_is_the_plans_last_job(plan: Plan) -> None:
    job = RunBackup.enqueue(plan)
    Job.objects.update(max_attempts=1)
    job.refresh_from_db()
    job.claim("worker", holds=plan.repository.hold)
    Job.objects.filter(pk=job.pk).update(heartbeat_at="2026-01-01T00:00:00Z")
    reap()
    plan.refresh_from_db()
    assert plan.last_job == job


# --- Two at once ------------------------------------------------------------------------------


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs for which a worker was called."""
    jobs: list[Job] = []
    monkeypatch.setattr("jobs.queue._ring", jobs.append)
    return jobs


@pytest.mark.django_db(transaction=True)
def test_two_plans_of_one_repository_never_run_at_once(
    plan: Plan, second_plan: Plan, machine: FakeMachine, rung: list[Job]
) -> None:
    first, second = RunBackup.enqueue(plan), RunBackup.enqueue(second_plan)
    seen: list[tuple[str, str]] = []

    def try_the_second() -> None:
        perform(str(second.pk))
        second.refresh_from_db()
        seen.append((second.status, second.waits_for))

    rung.clear()
    machine.answers["create"] = creates(while_running=try_the_second)
    run_now(first)
    assert seen == [("pending", plan.repository.hold)]
    assert (first.status, first.holds) == ("completed", None)
    assert second in rung
    machine.answers["create"] = creates(archive_id="ef" * 32)
    run_now(second)
    assert (second.status, second.waits_for) == ("completed", "")
    assert Archive.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_the_one_that_waits_is_rung_after_a_failure_too(
    plan: Plan, second_plan: Plan, machine: FakeMachine, rung: list[Job]
) -> None:
    first, second = RunBackup.enqueue(plan), RunBackup.enqueue(second_plan)
    machine.answers["create"] = Answer(code=2, while_running=lambda: perform(str(second.pk)))
    rung.clear()
    run_now(first)
    assert first.status == "failed"
    assert [job for job in rung if job.type == RunBackup.type] == [second]


@pytest.mark.django_db(transaction=True)
def test_backups_of_two_repositories_run_at_once(
    plan: Plan, second_plan: Plan, pool: StoragePool, machine: FakeMachine
) -> None:
    other = Repository.objects.create(
        name="two", pool=pool, server=plan.server, state="ready", borg_id="ab" * 32,
        passphrase_encrypted=plan.repository.passphrase_encrypted,
    )  # fmt: skip
    Plan.objects.filter(pk=second_plan.pk).update(repository=other)
    second_plan.refresh_from_db()
    first, second = RunBackup.enqueue(plan), RunBackup.enqueue(second_plan)
    inner = creates(archive_id="ef" * 32)

    def run_the_second() -> None:
        machine.answers["create"] = inner
        run_now(second)

    machine.answers["create"] = creates(while_running=run_the_second)
    run_now(first)
    assert (first.status, second.status) == ("completed", "completed")


@pytest.mark.django_db(transaction=True)
def test_one_job_is_done_by_one_worker_however_many_are_rung(plan: Plan, machine: FakeMachine, workers: Any) -> None:
    go = threading.Event()
    machine.answers["create"] = creates(while_running=lambda: go.wait(30))
    job = RunBackup.enqueue(plan)
    for _ in range(3):
        workers.ring(job)
    go.set()
    workers.join()
    job.refresh_from_db()
    assert (job.status, job.attempts) == ("completed", 1)
    assert sum("create" in command.argv for command in machine.commands) == 1

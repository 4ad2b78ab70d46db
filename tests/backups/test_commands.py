"""The commands for cron and for people: what they start, what they print, and how they exit."""

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from backups.models import Archive, Plan, Repository, StoragePool
from backups.runners.create import RunBackup
from jobs import commandline
from jobs.models import Job
from jobs.runner import perform
from tests.backups.replay import creates
from tests.fakes import FakeMachine

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what waits while the command polls."""

    def work(_: float) -> None:
        for job in Job.objects.pending().order_by("created_at"):
            perform(str(job.pk))

    monkeypatch.setattr("jobs.commandline.time.sleep", work)


def told(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `manage.py <words>`."""
    with pytest.raises(SystemExit) as end:
        call_command(*words)
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_all_plans_of_a_server_run(plan: Plan, second_plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "backup", "web-1")
    assert code == 0
    jobs = Job.objects.filter(type=RunBackup.type)
    assert {job.plan for job in jobs} == {plan, second_plan}
    assert out.splitlines() == [f"{job.pk} backup pending" for job in jobs.order_by("created_at")]


def test_one_plan_runs_and_is_waited_for(
    plan: Plan, second_plan: Plan, machine: FakeMachine, worker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.answers["create"] = creates()
    code, out, err = told(capsys, "backup", "--plan", "web-1/files", "--wait", "--json")
    (shown,) = json.loads(out)
    assert (code, shown["status"], shown["plan"], err) == (0, "completed", plan.pk, "")


def test_a_backup_that_fails_is_an_exit_code(
    plan: Plan, machine: FakeMachine, worker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    RunBackup.max_attempts, before = 1, RunBackup.max_attempts
    try:
        code, out, _ = told(capsys, "backup", "web-1", "--wait")
    finally:
        RunBackup.max_attempts = before
    assert code == 1
    assert " backup failed: " in out


def test_what_is_refused_says_why(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    RunBackup.enqueue(plan)
    assert told(capsys, "backup", "web-1") == (1, "", "Backup is already waiting here.\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("backup", "web-2"), "There is no server “web-2”."),
        (("backup", "--plan", "web-1/nothing"), "There is no plan “web-1/nothing”."),
        (("backup", "web-1"), "web-1 has no plan that is not paused."),
        (("check_repository", "nothing"), "There is no repository “nothing”."),
        (("restore", "nothing", "/srv"), "There is no archive “nothing”."),
        (("prune", "nothing"), "There is no plan “nothing”."),
        (("prune", "--all"), "No plan has a retention policy."),
    ],
)
def test_what_is_not_there_is_said_with_exit_code_2(plan: Plan, words: tuple[str, ...], sentence: str) -> None:
    Plan.objects.update(enabled=False)
    with pytest.raises(CommandError) as error:
        call_command(*words)
    assert (str(error.value), error.value.returncode) == (sentence, 2)
    assert not Job.objects.exists()


def test_a_name_that_two_have_is_not_guessed(plan: Plan, second_plan: Plan) -> None:
    pool = StoragePool.objects.create(name="other", path="/srv/other")
    Repository.objects.create(name="web-1", pool=pool, server=plan.server, state="ready")
    with pytest.raises(CommandError, match="There are several of the name “web-1”: say which"):
        call_command("check_repository", "web-1")


def test_a_check_takes_its_depth(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "check_repository", "disk/web-1", "--depth", "repository", "--max-minutes", "5")[0] == 0
    assert Job.objects.get().payload == {"depth": "repository", "max_minutes": 5}
    with pytest.raises(CommandError, match="Only a check of the repository's files alone"):
        call_command("check_repository", "disk/web-1", "--max-minutes", "5")


def test_a_restore_takes_paths_and_a_directory(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match="Enter a path from the root"):
        call_command("restore", archive.name, "relative")
    assert told(capsys, "restore", archive.name, "/srv/restore", "etc/hosts", "etc/a b")[0] == 0
    payload = Job.objects.get().payload
    assert (payload["directory"], payload["paths"]) == ("/srv/restore", ["etc/hosts", "etc/a b"])


def test_how_far_it_is_fits_on_a_line() -> None:
    job = Job(type="backup", status="running", progress={"percent": 50})
    assert commandline.progress_line(job) == f"backup [{'#' * 15}{' ' * 15}] 50 %"
    job.progress = {"files": 1200, "original": 3400}
    assert commandline.progress_line(job) == "backup running, 1,200 files, 3,400 bytes"

"""A backup that goes well, on a machine that answers from a script."""

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from backups.models import Archive, Plan, Repository, Source
from backups.runners.create import RunBackup
from jobs.models import Job, LogLine
from servers.models import Server
from servers.ssh.command import Command, shell_line
from tests.backups.conftest import relays
from tests.backups.replay import ARCHIVE_ID, creates, error, progress, warning
from tests.conftest import make_archive, run_now
from tests.fakes import FakeMachine

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread", "counted")]


def back_up(plan: Plan) -> Job:
    job = run_now(RunBackup.enqueue(plan))
    plan.refresh_from_db()
    return job


def create_command(machine: FakeMachine) -> Command:
    return next(command for command in machine.commands if "create" in command.argv)


# --- What is kept of it -----------------------------------------------------------------------


def test_an_archive_is_recorded_with_its_numbers(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    job = back_up(plan)
    archive = Archive.objects.get()
    assert (job.status, job.error, job.warnings) == ("completed", "", 0)
    assert (archive.borg_id, archive.plan, archive.server) == (ARCHIVE_ID, plan, plan.server)
    assert (archive.repository, archive.job) == (plan.repository, job)
    assert (archive.files, archive.original_bytes, archive.compressed_bytes, archive.deduplicated_bytes) == (
        100, 1_000_000, 600_000, 50_000,
    )  # fmt: skip
    assert archive.start.isoformat() == "2026-03-01T02:00:00+00:00"
    assert archive.end.isoformat() == "2026-03-01T02:00:12.500000+00:00"
    assert (archive.duration, archive.warnings, archive.suspicion) == (12.5, 0, "")
    assert archive.indexed_at is None


def test_the_archives_name_says_whose_it_is_and_when(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    job = back_up(plan)
    assert job.started_at
    assert Archive.objects.get().name.startswith(f"web-1-files-{job.started_at:%Y-%m-%dT}")


def test_two_within_one_second_have_two_names(
    plan: Plan, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Borg refused the second one: “An archive of this name exists already.”"""
    moment = timezone.now()
    monkeypatch.setattr("backups.runners.create.timezone", SimpleNamespace(now=lambda: moment))
    for archive_id in ("ab" * 32, "cd" * 32, "ef" * 32):
        machine.answers["create"] = creates(archive_id=archive_id)
        assert back_up(plan).status == "completed"
    assert len(set(Archive.objects.values_list("name", flat=True))) == 3


def test_the_repositorys_size_is_kept(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    back_up(plan)
    repository = Repository.objects.get()
    assert (repository.original_bytes, repository.compressed_bytes, repository.deduplicated_bytes) == (
        9_000_000, 5_000_000, 700_000,
    )  # fmt: skip
    assert repository.measured_at


def test_its_listing_is_read_next(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    back_up(plan)
    index = Job.objects.get(type="index")
    assert (index.subject, index.trigger, index.user) == (f"archive:{Archive.objects.get().pk}", "system", None)
    assert index.priority == Job.Priority.LOW


def test_the_pool_is_measured_after_it(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    back_up(plan)
    plan.repository.pool.refresh_from_db()
    assert plan.repository.pool.free_bytes


def test_the_result_tells_a_program_everything(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    job = back_up(plan)
    archive = Archive.objects.get()
    assert job.result == {
        "archive": archive.pk, "archive_id": ARCHIVE_ID, "name": archive.name, "files": 100, "original": 1_000_000,
        "compressed": 600_000, "deduplicated": 50_000, "duration": 12.5, "suspicion": "", "unreadable": 0,
        "unreadable_paths": [],
    }  # fmt: skip


def test_the_plan_knows_its_last_job_and_its_last_good_archive(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    job = back_up(plan)
    archive = Archive.objects.get()
    assert (plan.last_job, plan.last_good_at) == (job, archive.taken_at)
    assert job.started_at and job.completed_at
    assert job.started_at < archive.taken_at < job.completed_at  # whatever the server's clock says


# --- What borg is told ------------------------------------------------------------------------


def test_borg_is_told_the_plans_options_and_paths(plan: Plan, second_plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    Plan.objects.filter(pk=plan.pk).update(compression="zstd,9", upload_kib_per_second=500)
    plan.sources.add(*second_plan.sources.all())
    Source.objects.filter(name="home").update(
        parameters={"paths": ["/home", "/srv"], "one_file_system": True, "exclude_caches": True}
    )
    back_up(plan)
    argv = create_command(machine).argv
    options, paths = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    assert sorted(paths) == ["/etc", "/home", "/srv"]
    assert argv[:2] == ("/usr/bin/borg", "create")
    for option in (
        "--compression=zstd,9", "--upload-ratelimit=500", "--exclude=*.tmp", "--one-file-system",
        "--exclude-caches", "--json", "--progress", "--log-json",
    ):  # fmt: skip
        assert option in options
    assert options[-1] == f"ssh://phpborg{plan.repository.path}::{Archive.objects.get().name}"


def test_borg_reaches_the_repository_through_us(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    back_up(plan)
    command = create_command(machine)
    assert command.env["BORG_RSH"] == "sh /tmp/phpborg.x/rsh"
    assert command.as_root
    assert relays[0].serve.argv == (
        "borg", "serve", "--append-only", f"--restrict-to-repository={plan.repository.path}", "--umask=077",
    )  # fmt: skip


def test_a_server_that_was_never_tested_runs_the_borg_on_its_path(plan: Plan, machine: FakeMachine) -> None:
    Server.objects.update(borg_path="")
    machine.answers["create"] = creates()
    assert back_up(plan).status == "completed"
    assert create_command(machine).argv[0] == "borg"


def test_the_passphrase_goes_in_on_standard_input_and_nowhere_else(
    plan: Plan, machine: FakeMachine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    machine.answers["create"] = creates(warning("/etc/x: [Errno 13] Permission denied: 'x'"), code=1)
    job = back_up(plan)
    command = create_command(machine)
    assert command.stdin == b"s3cret passphrase"
    stored: list[Any] = [
        *Job.objects.values(), *LogLine.objects.values(), *Archive.objects.values(), *Repository.objects.values(),
    ]  # fmt: skip
    places = [str(stored), caplog.text, str(command), repr(command), repr(job), shell_line(command, sudo=True).decode()]
    places += [str(command.env), " ".join(command.argv)]
    assert not [place for place in places if "s3cret" in place]


def test_the_command_that_ran_is_kept_as_somebody_would_type_it(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    job = back_up(plan)
    line = Archive.objects.get().command_line
    assert line == str(create_command(machine))
    assert "/usr/bin/borg create " in line
    assert line.endswith(" -- /etc")
    assert job.lines.filter(message=f"$ {line}").exists()


# --- How far it is ----------------------------------------------------------------------------


def test_the_first_backup_of_a_plan_knows_no_percent(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates(progress(250_000, 7, "etc/passwd"))
    shown = back_up(plan).progress
    assert (shown["percent"], shown["total"]) == (None, None)
    assert (shown["original"], shown["compressed"], shown["deduplicated"]) == (250_000, 125_000, 62_500)
    assert (shown["files"], shown["path"]) == (7, "etc/passwd")


@pytest.mark.parametrize(("read", "percent"), [(0, 0), (250_000, 25), (999_999, 99), (1_000_000, 99)])
def test_the_next_ones_are_compared_with_the_last_good_one(
    plan: Plan, machine: FakeMachine, read: int, percent: int
) -> None:
    make_archive(plan, original_bytes=1_000_000)
    make_archive(plan, original_bytes=7, suspicion="The archive is empty.")
    machine.answers["create"] = creates(progress(read))
    shown = back_up(plan).progress
    assert (shown["percent"], shown["total"]) == (percent, 1_000_000)


def test_what_has_grown_beyond_the_last_one_knows_no_percent_any_more(plan: Plan, machine: FakeMachine) -> None:
    make_archive(plan, original_bytes=1_000_000)
    machine.answers["create"] = creates(progress(1_000_001), progress(1_000_002))
    shown = back_up(plan).progress
    assert (shown["percent"], shown["total"]) == (None, None)


def test_each_phase_is_marked(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates()
    phases = [mark["name"] for mark in back_up(plan).progress["phases"]]
    assert phases == ["connect", "prepare", "transfer", "finish"]


# --- Warnings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 100, 104, 105, 107])
@pytest.mark.parametrize(
    ("said", "path", "why"),
    [  # 1.2.4, then 1.4.5
        ("/etc/shadow: open: [Errno 13] Permission denied: 'shadow'", "/etc/shadow",
         "[Errno 13] Permission denied: 'shadow'"),
        ("/etc/ssl/private: dir_open: [Errno 13] Permission denied: 'private'", "/etc/ssl/private",
         "[Errno 13] Permission denied: 'private'"),
        ("/etc/a: [Errno 5] Input/output error: 'a'", "/etc/a", "[Errno 5] Input/output error: 'a'"),
        ("/etc/a: file changed while we backed it up", "/etc/a", "file changed while we backed it up"),
        ("/etc/odd: [name: [Errno 13] Permission denied", "/etc/odd: [name", "[Errno 13] Permission denied"),
        ("/etc/two\nlines: open: [Errno 13] Permission denied: 'x'", "/etc/two\nlines",
         "[Errno 13] Permission denied: 'x'"),
    ],
)  # fmt: skip
def test_files_that_could_not_be_read_are_listed(
    plan: Plan, machine: FakeMachine, code: int, said: str, path: str, why: str
) -> None:
    machine.answers["create"] = creates(warning(said), code=code)
    job = back_up(plan)
    assert (job.status, job.warnings) == ("completed", 1)
    assert job.result["unreadable"] == 1
    assert job.result["unreadable_paths"] == [[path, why]]
    assert Archive.objects.get().warnings == 1
    assert job.result["suspicion"] == ""


def test_a_name_that_is_no_text_is_listed_too(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates(warning("/etc/bad\udcff: open: [Errno 13] Permission denied: 'x'"), code=1)
    job = back_up(plan)
    json.dumps(job.result, ensure_ascii=False).encode()
    assert job.result["unreadable_paths"][0][0] == "/etc/bad\\udcff"


def test_of_very_many_only_some_are_listed_but_all_are_counted(plan: Plan, machine: FakeMachine) -> None:
    said = [warning(f"/etc/{number}: open: [Errno 13] Permission denied: 'x'") for number in range(250)]
    machine.answers["create"] = creates(*said, code=1)
    job = back_up(plan)
    assert (job.result["unreadable"], len(job.result["unreadable_paths"]), job.warnings) == (250, 100, 250)


def test_another_warning_is_counted_but_names_no_file(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates(warning("Exclude pattern '*.x' never matched."), code=1)
    job = back_up(plan)
    assert (job.status, job.warnings, job.result["unreadable"]) == ("completed", 1, 0)


def test_noise_before_borg_speaks_disturbs_nothing(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates("Welcome to web-1!", '{"motd": true}', "", "{", progress(5))
    job = back_up(plan)
    assert (job.status, job.warnings) == ("completed", 0)
    levels = {line.message: line.level for line in job.lines.all()}
    assert levels["Welcome to web-1!"] == LogLine.Level.DEBUG
    assert levels["borg serve: serve says hello"] == LogLine.Level.DEBUG


def test_an_error_line_of_a_borg_that_made_its_archive_is_shown_as_one(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates(error("something odd"), code=1)
    job = back_up(plan)
    assert job.status == "completed"
    assert job.lines.get(message="something odd").level == LogLine.Level.ERROR

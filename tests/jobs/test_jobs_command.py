"""manage.py jobs: for people a table and a log, for programs JSON, for monitoring exit codes."""

import io
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from jobs.management.commands import jobs as command
from jobs.models import Job, LogLine
from servers.models import Server
from tests.jobs.conftest import row

pytestmark = pytest.mark.django_db

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls the command as a shell does: (exit code, what it printed, errors last)."""
    monkeypatch.setattr("django.core.management.base.connections.close_all", lambda: None)

    def call(*words: str) -> tuple[int, str]:
        code = 0
        try:
            command.Command().run_from_argv(["manage.py", "jobs", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1), ("running", 2), ("pending", 2)]
)
def test_the_exit_code_tells_how_a_job_stands(run: Run, status: str, code: int) -> None:
    job = row(status=status)
    for words in ([str(job.pk)], [str(job.pk), "--json"]):
        assert run(*words)[0] == code


@pytest.mark.parametrize(
    "words",
    [[str(uuid.uuid4())], ["7"], ["--status", "x"], ["--limit", "0"], ["--limit", "x"], ["--nonsense"], ["a", "b"]],
)
def test_what_it_does_not_know_has_a_code_of_its_own(run: Run, words: list[str]) -> None:
    code, said = run(*words)
    assert code == 3
    assert "Traceback" not in said
    assert said.strip()


def test_help_is_no_error(run: Run) -> None:
    assert run("--help")[0] == 0


def test_a_list_is_a_table_newest_first_and_always_ends_well(run: Run, server: Server) -> None:
    row(status="failed", error="No way.", server=server)
    newest = row(status="running", started_at=timezone.now(), progress={"percent": 42})
    code, said = run()
    lines = said.splitlines()
    assert code == 0
    assert lines[0].split() == ["ID", "STATUS", "TYPE", "SERVER", "CREATED", "TOOK"]
    assert lines[1].startswith(str(newest.pk))
    assert lines[1].endswith("42 %")
    assert server.name in lines[2]
    assert lines[2].endswith("No way.")


def test_it_filters_and_limits(run: Run, server: Server) -> None:
    failed = row(status="failed", server=server)
    for _ in range(3):
        row(status="completed")
    assert len(run("--limit", "2")[1].splitlines()) == 3
    assert str(failed.pk) in run("--status", "failed", "--status", "running")[1]
    assert len(run("--status", "completed")[1].splitlines()) == 4
    assert [job["id"] for job in json.loads(run("--server", server.name, "--json")[1])] == [str(failed.pk)]


def test_one_that_waits_for_its_next_attempt_says_so(run: Run) -> None:
    job = row(attempts=1, max_attempts=3, not_before=timezone.now(), error="No way.", advice="Plug it in.")
    assert "attempt 1 of 3 failed, next at " in run()[1]
    said = run(str(job.pk))[1]
    for words in ("pending, attempt 1 of 3", "next attempt: ", "error: No way.", "advice: Plug it in."):
        assert words in said


def with_log(job: Job, *messages: str, first: int = 1) -> None:
    at = timezone.now()
    LogLine.objects.bulk_create(
        LogLine(job=job, number=number, at=at, attempt=job.attempts or 1, message=message)
        for number, message in enumerate(messages, first)
    )


def test_one_is_shown_with_its_log_and_nothing_that_a_terminal_would_obey(run: Run) -> None:
    job = row(status="failed", error="\x1b[31mred")
    with_log(job, "first", "\x1b[2Jsecond\nthird")
    said = run(str(job.pk))[1]
    assert "\x1b" not in said
    assert said.splitlines()[-1].endswith("\\x1b[2Jsecond\\nthird")


def test_attempts_stand_apart(run: Run) -> None:
    job = row(status="completed", attempts=1)
    with_log(job, "first")
    Job.objects.update(attempts=2)
    job.refresh_from_db()
    with_log(job, "second", first=2)
    lines = run(str(job.pk))[1].splitlines()[1:]
    assert [line.split()[-1] for line in lines] == ["1", "first", "2", "second"]


def test_json_has_the_job_as_the_api_tells_it_and_its_log(run: Run) -> None:
    job = row(status="completed", result={"files": 3})
    with_log(job, "first")
    shown = json.loads(run(str(job.pk), "--json")[1])
    assert (shown["id"], shown["result"], shown["log"][0]["message"]) == (str(job.pk), {"files": 3}, "first")


def test_watching_one_follows_it_to_its_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    job = row(status="running", attempts=1)
    with_log(job, "first")
    steps: Iterator[Callable[[], object]] = iter(
        [lambda: with_log(job, "second", first=2), lambda: Job.objects.update(status="failed")]
    )
    monkeypatch.setattr("jobs.management.commands.jobs.time.sleep", lambda _: next(steps)())
    code, said = run(str(job.pk), "--watch")
    assert code == 1
    assert (said.count("first"), said.count("second")) == (1, 1)
    assert said.splitlines()[-1].startswith(f"probe {job.pk}: failed")


def test_watching_one_as_json_tells_its_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    job = row(status="running")
    monkeypatch.setattr("jobs.management.commands.jobs.time.sleep", lambda _: Job.objects.update(status="completed"))
    code, said = run(str(job.pk), "--watch", "--json")
    assert (code, json.loads(said)["status"]) == (0, "completed")


def test_watching_the_list_goes_on_until_somebody_ends_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        row()
        if Job.objects.count() == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("jobs.management.commands.jobs.time.sleep", interrupt)
    code, said = run("--watch")
    assert code == 130
    assert said.count("STATUS") == 3


def test_from_other_code_it_prints_where_it_is_told(db: Any) -> None:
    row()
    out = io.StringIO()
    call_command("jobs", "--json", stdout=out)
    assert len(json.loads(out.getvalue())) == 1

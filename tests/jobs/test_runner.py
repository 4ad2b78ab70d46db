"""How a job ends: jobs.runner alone decides, whatever a runner raises."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from jobs import log as log_module
from jobs.errors import Cancelled, Cause, Failure, Superseded
from jobs.log import JobLog
from jobs.models import Job, LogLine
from jobs.runner import JobRunner
from servers.models import Server
from tests.conftest import run_now
from tests.jobs.conftest import Probe, Unplugged, raising, row

pytestmark = pytest.mark.django_db

News = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def job(probe: type[Probe], server: Server) -> Job:
    return row(subject=f"server:{server.pk}", server=server)


def log_of(job: Job) -> list[str]:
    return list(job.lines.order_by("number").values_list("message", flat=True))


def test_a_run_that_returns_completes_with_its_result(probe: type[Probe], job: Job) -> None:
    probe.act = lambda _: {"files": 3, "names": ["a", None]}
    run_now(job)
    assert (job.status, job.result, job.error, job.cause) == ("completed", {"files": 3, "names": ["a", None]}, "", "")
    assert job.completed_at is not None


def test_a_run_works_on_its_subject_and_writes_its_log(probe: type[Probe], job: Job, server: Server) -> None:
    def act(runner: Any) -> dict[str, Any]:
        runner.log.info(f"on {runner.subject.name}")
        runner.log.warning("odd")
        runner.log.progress(percent=50)
        return {}

    probe.act = act
    run_now(job)
    assert log_of(job) == [f"on {server.name}", "odd"]
    assert (job.status, job.warnings, job.progress, job.log_lines) == ("completed", 1, {"percent": 50}, 2)


def test_a_failure_is_told_in_its_own_words_with_cause_and_advice(probe: type[Probe], job: Job) -> None:
    probe.act = raising(Unplugged("Somebody pulled the plug."))
    run_now(job)
    assert (job.status, job.error) == ("failed", "Somebody pulled the plug.")
    assert (job.cause, job.advice, job.result) == (Cause.NETWORK, "Plug it in.", None)
    assert list(job.lines.values_list("level", "message")) == [(40, "Somebody pulled the plug.")]


def test_advice_of_the_moment_goes_before_that_of_the_kind(probe: type[Probe], job: Job) -> None:
    probe.act = raising(Unplugged("No.", advice="Ask Ada."))
    assert run_now(job).advice == "Ask Ada."


def test_a_failure_may_leave_what_was_found_all_the_same(probe: type[Probe], job: Job) -> None:
    probe.act = raising(Failure("No.", result={"steps": ["reach"]}))
    assert run_now(job).result == {"steps": ["reach"]}


def test_warnings_are_kept_also_when_it_fails(probe: type[Probe], job: Job) -> None:
    def act(runner: Any) -> dict[str, Any]:
        runner.log.warning("odd")
        raise Failure("No.")

    probe.act = act
    assert run_now(job).warnings == 1


def test_a_cancel_while_it_runs_ends_it_as_cancelled(probe: type[Probe], job: Job) -> None:
    def act(runner: Any) -> dict[str, Any]:
        Job.objects.get(pk=job.pk).request_cancel()
        runner.log.flush()
        runner.log.checkpoint()
        return {}

    probe.act = act
    run_now(job)
    assert (job.status, job.error, job.cancel_requested_at) == ("cancelled", "", None)
    assert log_of(job) == ["Cancelled."]


def test_a_cancel_that_comes_too_late_does_not_undo_what_was_done(probe: type[Probe], job: Job) -> None:
    def act(runner: Any) -> dict[str, Any]:
        Job.objects.get(pk=job.pk).request_cancel()
        return {"done": True}

    probe.act = act
    run_now(job)
    assert (job.status, job.cancel_requested_at) == ("completed", None)


def test_a_mistake_of_ours_is_told_without_details_and_logged_with_them(
    probe: type[Probe], job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    probe.act = raising(KeyError("passphrase s3cret"))
    run_now(job)
    shown = f"{job.error} {job.advice} {job.result} {log_of(job)}"
    assert job.status == "failed"
    assert job.error == "phpBorg itself made a mistake (KeyError)."
    assert "s3cret" not in shown
    assert "Traceback" not in shown
    assert "KeyError: 'passphrase s3cret'" in caplog.text
    assert str(job.pk) in caplog.text


def test_a_run_that_counts_no_more_leaves_the_row_alone(
    probe: type[Probe], job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    def act(runner: Any) -> dict[str, Any]:
        Job.objects.get(pk=job.pk).finish(Job.Status.FAILED, error="The worker disappeared.")
        raise Superseded

    probe.act = act
    with caplog.at_level(logging.WARNING):
        run_now(job)
    assert (job.status, job.error) == ("failed", "The worker disappeared.")
    assert probe.seen_by_ended == []


def test_an_end_that_comes_second_is_not_told_to_anybody(probe: type[Probe], job: Job, news: News) -> None:
    def act(runner: Any) -> dict[str, Any]:
        Job.objects.get(pk=job.pk).finish(Job.Status.FAILED, error="The worker disappeared.")
        return {"done": True}

    probe.act = act
    run_now(job)
    assert (job.status, job.result) == ("failed", None)
    assert [event["status"] for event in news() if event["channel"] == "jobs"] == ["running"]


def test_an_unknown_type_fails_in_words() -> None:
    job = run_now(row(type="no_such_thing"))
    assert job.status == "failed"
    assert job.error == "This worker does not know the job type “no_such_thing”."


def test_a_subject_that_was_deleted_fails_in_words(probe: type[Probe]) -> None:
    probe.act = lambda runner: {"name": runner.subject.name}
    job = run_now(row(subject="server:999999"))
    assert (job.status, job.error) == ("failed", "The server that this job was for has been deleted.")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database does not take is a failure of the test, and not waited for."""
    monkeypatch.setattr("jobs.runner.insist", lambda what: what())


@pytest.mark.usefixtures("_impatient")
def test_hostile_text_in_an_error_or_a_result_is_stored_readably(probe: type[Probe], job: Job) -> None:
    probe.act = raising(Failure("No such file: /x/\udcff\0", result={"path": "\udcff"}))
    run_now(job)
    assert (job.status, job.error) == ("failed", "No such file: /x/\\udcff\\0")
    assert job.result == {"path": "\\udcff"}


@pytest.mark.usefixtures("_impatient")
def test_hostile_text_in_the_result_of_a_success_too(probe: type[Probe], job: Job) -> None:
    probe.act = lambda _: {"paths": [["/x/\udcff", "why\0"]], "rate": float("nan")}
    run_now(job)
    assert (job.status, job.result) == ("completed", {"paths": [["/x/\\udcff", "why\\0"]], "rate": None})


def test_an_endless_error_is_cut(probe: type[Probe], job: Job) -> None:
    probe.act = raising(Failure("x" * 100_000))
    assert len(run_now(job).error) < 5_000


def test_every_change_is_announced(probe: type[Probe], job: Job, news: News) -> None:
    run_now(job)
    events = [event for event in news() if event["channel"] == "jobs"]
    assert events == [
        {"channel": "jobs", "event": "job", "job": str(job.pk), "type": "probe", "status": status, "user": None}
        for status in ("running", "completed")
    ]


# --- The hook at the end ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda _: {}, "completed"),
        (raising(Failure("No.")), "failed"),
        (raising(RuntimeError()), "failed"),
        (raising(Cancelled()), "cancelled"),
    ],
)
def test_the_hook_sees_every_end_once(probe: type[Probe], job: Job, act: Any, status: str) -> None:
    probe.act = act
    run_now(job)
    assert [seen for seen, _ in probe.seen_by_ended] == [status]


@pytest.mark.django_db(transaction=True)
def test_the_hook_is_part_of_the_transaction_that_ends_the_job(
    probe: type[Probe], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.log.time.sleep", lambda _: None)
    first: list[str] = []

    def ended(job: Job) -> None:
        first.append(job.status)
        if len(first) == 1:
            raise OperationalError(2006, "Server has gone away")
        LogLine.objects.create(job=job, number=99, at=timezone.now(), message="kept by the hook")

    monkeypatch.setattr(probe, "ended", staticmethod(ended))
    run_now(job)
    assert first == ["completed", "completed"]  # the first end was taken back with the hook's failure
    assert job.status == "completed"
    assert log_of(job) == ["kept by the hook"]


@pytest.mark.django_db(transaction=True)
def test_the_hook_runs_within_a_transaction(probe: type[Probe], job: Job) -> None:
    run_now(job)
    assert probe.seen_by_ended == [("completed", True)]


# --- A database that is away ----------------------------------------------------------------------


def test_the_outcome_waits_for_the_database(probe: type[Probe], job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.log.time.sleep", lambda _: None)
    monkeypatch.setattr(log_module, "close_old_connections", lambda: None)
    finish, store = Job.finish, JobLog._store
    left = {"finish": 2, "store": 2}

    def once_back(name: str, original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if left[name]:
                left[name] -= 1
                raise OperationalError(2006, "Server has gone away")
            return original(self, *args, **kwargs)

        return call

    def act(runner: Any) -> dict[str, Any]:
        runner.log.info("a line")
        return {"done": True}

    probe.act = act
    monkeypatch.setattr(Job, "finish", once_back("finish", finish))
    monkeypatch.setattr(JobLog, "_store", once_back("store", store))
    run_now(job)
    assert (job.status, job.result, log_of(job)) == ("completed", {"done": True}, ["a line"])
    assert left == {"finish": 0, "store": 0}


# --- The registry ---------------------------------------------------------------------------------


def test_types_register_themselves_by_being_there() -> None:
    assert {"backup", "restore", "download", "index", "init", "server_test"} <= set(JobRunner.registry)


def test_every_type_names_what_pages_and_api_need() -> None:
    for name, runner in JobRunner.registry.items():
        assert runner.type == name
        assert str(runner.label)
        assert hasattr(runner.model._default_manager, "for_user") or "visible_to" in vars(runner), name
        assert runner.permission
        assert len(name) <= 40

"""JobLog: lines, progress and phases of one run, and what `flush` makes of them in the database."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Cancelled, Cause, Superseded
from jobs.log import MESSAGE_LIMIT, JobLog, Level, Stalled, storable, storable_values
from jobs.models import Job, LogLine
from tests.jobs.conftest import running

News = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def job(db: None) -> Job:
    return running()


def lines_of(job: Job) -> list[tuple[int, int, str]]:
    return list(LogLine.objects.filter(job=job).order_by("number").values_list("number", "level", "message"))


# --- Lines --------------------------------------------------------------------------------------


def test_lines_are_numbered_from_one_in_the_order_in_which_they_came(job: Job) -> None:
    log = JobLog(job)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    log.flush()
    assert lines_of(job) == [(1, 10, "a"), (2, 20, "b"), (3, 30, "c"), (4, 40, "d")]


def test_nothing_is_written_before_the_flush(job: Job) -> None:
    log = JobLog(job)
    log.info("a")
    assert lines_of(job) == []


def test_numbers_go_on_after_a_flush_and_the_row_knows_the_newest(job: Job) -> None:
    log = JobLog(job)
    for message in ("a", "b", "c"):
        log.info(message)
        log.flush()
    job.refresh_from_db()
    assert [number for number, _, _ in lines_of(job)] == [1, 2, 3]
    assert job.log_lines == 3


def test_a_second_attempt_goes_on_where_the_first_ended(job: Job) -> None:
    first = JobLog(job)
    first.info("first")
    first.flush()
    Job.objects.update(status="pending")
    again = Job.objects.get(pk=job.pk)
    again.claim("web:2", holds=None)
    second = JobLog(again)
    second.info("second")
    second.flush()
    assert list(job.lines.order_by("number").values_list("number", "attempt", "message")) == [
        (1, 1, "first"),
        (2, 2, "second"),
    ]


def test_warnings_are_counted_and_errors_are_not(job: Job) -> None:
    log = JobLog(job)
    log.warning("a")
    log.warning("b")
    log.error("c")
    assert log.warnings == 2


def test_lines_from_many_threads_each_get_a_number(job: Job) -> None:
    log = JobLog(job)

    def write() -> None:
        for _ in range(200):
            log.info("x")

    threads = [threading.Thread(target=write) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()
    assert [number for number, _, _ in lines_of(job)] == list(range(1, 1001))


def test_a_flush_with_nothing_new_only_beats(job: Job, news: News) -> None:
    Job.objects.update(heartbeat_at=None)
    log = JobLog(job)
    log.flush()
    job.refresh_from_db()
    assert job.heartbeat_at is not None
    assert news() == []


def test_a_flush_with_something_new_nudges_the_pages(job: Job, news: News) -> None:
    log = JobLog(job)
    log.info("a")
    log.info("b")
    log.flush()
    channel = f"job-{job.pk}"
    assert news() == [
        {"channel": channel, "event": channel, "line": 2},
        {"channel": "jobs", "event": "progress", "job": str(job.pk)},
    ]


def test_what_was_written_by_a_run_that_counts_no_more_is_not_stored(job: Job) -> None:
    log = JobLog(job)
    Job.objects.update(attempts=2)
    log.info("too late")
    log.flush()
    assert lines_of(job) == []


# --- Text that every database takes -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"), ("ключ \U0001f600", "ключ \U0001f600"), ("a\0b", "a\\0b"), ("a\udcffb", "a\\udcffb"),
        ("\ud83d alone", "\\ud83d alone"), ("tab\tand\nline", "tab\tand\nline"), ("", ""),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"), ("\x1b[31mred", "\x1b[31mred"),
    ],
)  # fmt: skip
def test_odd_text_is_stored_readably(job: Job, text: str, stored: str) -> None:
    log = JobLog(job)
    log.info(text)
    log.flush()
    assert storable(text) == stored
    assert LogLine.objects.get().message == stored


def test_a_long_line_is_cut_and_says_so(job: Job) -> None:
    log = JobLog(job)
    log.info("x" * (MESSAGE_LIMIT + 123))
    log.flush()
    assert LogLine.objects.get().message == "x" * MESSAGE_LIMIT + " ... (123 more characters)"


@given(st.text(alphabet=st.characters(), max_size=50))
def test_any_text_becomes_storable(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    stored.encode()


# --- Progress -------------------------------------------------------------------------------------


def test_only_the_newest_progress_is_stored(job: Job) -> None:
    log = JobLog(job)
    for percent in range(50):
        log.progress(percent=percent)
    log.flush()
    job.refresh_from_db()
    assert job.progress == {"percent": 49}


def test_progress_keeps_what_it_was_not_told_anew(job: Job) -> None:
    log = JobLog(job)
    log.progress(files=1, path="/etc")
    log.flush()
    log.progress(files=2)
    log.flush()
    job.refresh_from_db()
    assert job.progress == {"files": 2, "path": "/etc"}
    assert (log.latest("files"), log.latest("percent", 7)) == (2, 7)


def test_progress_that_came_while_the_database_wrote_is_stored_next_time(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = JobLog(job)
    log.progress(files=1)
    store = log._store

    def store_slowly(*args: Any) -> Any:
        monkeypatch.setattr(log, "_store", store)
        log.progress(files=2)
        return store(*args)

    monkeypatch.setattr(log, "_store", store_slowly)
    log.flush()
    log.flush()
    job.refresh_from_db()
    assert job.progress == {"files": 2}


def test_phases_are_kept_with_their_times(job: Job) -> None:
    log = JobLog(job)
    log.phase("connect")
    log.phase("transfer")
    log.flush()
    job.refresh_from_db()
    assert [phase["name"] for phase in job.progress["phases"]] == ["connect", "transfer"]
    assert job.progress["phases"][0]["at"] <= job.progress["phases"][1]["at"]


def test_a_hostile_path_in_the_progress_does_not_stop_the_log(job: Job) -> None:
    """borg's JSON may name half of a character: MariaDB takes none, and no page could show it."""
    log = JobLog(job)
    log.info("a line")
    log.progress(path="/x/\udcff", nested=[{"\udcff": "a\0b"}], percent=float("nan"), rate=float("inf"), files=3)
    log.flush()
    job.refresh_from_db()
    assert job.progress == {
        "path": "/x/\\udcff", "nested": [{"\\udcff": "a\\0b"}], "percent": None, "rate": None, "files": 3,
    }  # fmt: skip
    assert len(lines_of(job)) == 1


def test_what_is_storable_stays_as_it_is() -> None:
    value = {"a": [1, 2.5, True, None, "x"], "b": {"c": ""}}
    assert storable_values(value) == value


# --- The checkpoint: may the job go on? ---------------------------------------------------------


def test_a_job_that_nobody_stops_goes_on(job: Job) -> None:
    log = JobLog(job, idle_limit_seconds=60)
    log.flush()
    log.checkpoint()


def test_a_cancel_is_seen_at_the_checkpoint_after_a_flush(job: Job) -> None:
    log = JobLog(job)
    job.request_cancel()
    log.checkpoint()
    log.flush()
    with pytest.raises(Cancelled):
        log.checkpoint()


def test_a_cancel_is_seen_at_every_later_checkpoint_too(job: Job) -> None:
    log = JobLog(job)
    job.request_cancel()
    log.flush()
    log.flush()
    for _ in range(2):
        with pytest.raises(Cancelled):
            log.checkpoint()


def test_a_run_that_was_ended_by_somebody_else_is_told_so(job: Job) -> None:
    log = JobLog(job)
    Job.objects.get(pk=job.pk).finish(Job.Status.FAILED, error="The worker disappeared.")
    log.flush()
    with pytest.raises(Superseded):
        log.checkpoint()


def test_silence_for_too_long_is_a_stall(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JobLog(job, idle_limit_seconds=600)
    now = time.monotonic()
    monkeypatch.setattr("jobs.log.time.monotonic", lambda: now + 601)
    with pytest.raises(Stalled, match=r"Nothing was heard for 10 minutes, so the job was ended.") as stalled:
        log.checkpoint()
    assert stalled.value.may_pass
    assert stalled.value.cause == Cause.INTERNAL


@pytest.mark.parametrize("sign", [lambda log: log.info("x"), lambda log: log.progress(files=1)])
def test_a_line_or_progress_is_a_sign_of_life(
    job: Job, monkeypatch: pytest.MonkeyPatch, sign: Callable[[JobLog], None]
) -> None:
    log = JobLog(job, idle_limit_seconds=600)
    now = time.monotonic()
    monkeypatch.setattr("jobs.log.time.monotonic", lambda: now + 599)
    sign(log)
    monkeypatch.setattr("jobs.log.time.monotonic", lambda: now + 700)
    log.checkpoint()


def test_a_flush_alone_is_no_sign_of_life(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JobLog(job, idle_limit_seconds=600)
    now = time.monotonic()
    monkeypatch.setattr("jobs.log.time.monotonic", lambda: now + 601)
    log.flush()
    with pytest.raises(Stalled):
        log.checkpoint()


def test_without_a_limit_silence_is_no_stall(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JobLog(job)
    now = time.monotonic()
    monkeypatch.setattr("jobs.log.time.monotonic", lambda: now + 10**6)
    log.checkpoint()


# --- A database that is away ----------------------------------------------------------------------


def test_what_the_database_could_not_take_is_stored_by_the_next_flush(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = JobLog(job)
    log.info("a")
    log.progress(files=1)
    with monkeypatch.context() as away:
        away.setattr(log, "_store", failing)
        with pytest.raises(OperationalError):
            log.flush()
        log.info("b")
    log.flush()
    job.refresh_from_db()
    assert [message for _, _, message in lines_of(job)] == ["a", "b"]
    assert (job.log_lines, job.progress) == (2, {"files": 1})


def test_a_flush_whose_answer_was_lost_may_be_repeated(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database has stored the lines, but the connection breaks before it can say so."""
    log = JobLog(job)
    log.info("a")
    store = log._store

    def store_and_fail(*args: Any) -> Any:
        store(*args)
        failing()

    with monkeypatch.context() as away:
        away.setattr(log, "_store", store_and_fail)
        with pytest.raises(OperationalError):
            log.flush()
    log.info("b")
    log.flush()
    assert lines_of(job) == [(1, Level.INFO, "a"), (2, Level.INFO, "b")]


def failing(*args: Any) -> Any:
    raise OperationalError(2006, "Server has gone away")

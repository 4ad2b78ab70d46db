"""Pulse, which flushes while a runner works, and insist, which does not give up on a database."""

import threading
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError

from jobs import log as log_module
from jobs.errors import Cancelled
from jobs.log import JobLog, Pulse, insist
from jobs.models import Job, LogLine
from phpborg.embedded import wait_until
from tests.jobs.conftest import running

PATIENCE_SECONDS = 20  # for a condition that is awaited; nothing waits that long when all is well


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "FLUSH_SECONDS", 0.01)


class Watched(JobLog):
    """A JobLog that says when it has flushed, and whose database can be away."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.flushed = threading.Event()
        self.failures_left = 0
        self.threads: set[str] = set()

    def _store(self, *args: Any) -> Any:
        self.threads.add(threading.current_thread().name)
        if self.failures_left:
            self.failures_left -= 1
            raise OperationalError(2006, "Server has gone away")
        answer = super()._store(*args)
        self.flushed.set()
        return answer


@pytest.mark.django_db(transaction=True)
def test_lines_reach_the_database_while_the_runner_works() -> None:
    log = Watched(running())
    with Pulse(log):
        log.info("a line")
        # Not for the flush: one without the line may just have begun.
        wait_until(LogLine.objects.exists, seconds=PATIENCE_SECONDS, what="The line")
        assert LogLine.objects.get().message == "a line"
    assert log.threads == {"pulse"}


@pytest.mark.django_db(transaction=True)
def test_a_cancel_reaches_the_runner_by_itself() -> None:
    log = Watched(running())
    with Pulse(log):
        log.job.request_cancel()
        with pytest.raises(Cancelled):
            wait_at_checkpoints(log)


def wait_at_checkpoints(log: Watched) -> None:
    """What a runner does while it waits: until a checkpoint raises."""
    for _ in range(10_000):
        log.flushed.wait(PATIENCE_SECONDS)
        log.flushed.clear()
        log.checkpoint()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    log = Watched(running())
    log.failures_left = 3
    with Pulse(log):
        log.info("a line")
        assert log.flushed.wait(PATIENCE_SECONDS)
    assert LogLine.objects.get().message == "a line"
    assert caplog.text.count("the database is away, its log waits") == 3


@pytest.mark.django_db(transaction=True)
def test_the_thread_ends_with_the_block() -> None:
    pulse = Pulse(JobLog(running()))
    with pytest.raises(RuntimeError), pulse:
        raise RuntimeError
    assert not pulse._thread.is_alive()


# --- insist -------------------------------------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that `insist` made, on a clock of the test's own."""
    made: list[float] = []
    monkeypatch.setattr("jobs.log.time.sleep", made.append)
    monkeypatch.setattr("jobs.log.time.monotonic", lambda: sum(made))
    monkeypatch.setattr(log_module, "close_old_connections", lambda: None)
    return made


def failing(times: int, error: Exception) -> Any:
    left = [error] * times

    def what() -> str:
        if left:
            raise left.pop()
        return "done"

    return what


def test_insist_returns_what_it_called_returns(pauses: list[float]) -> None:
    assert insist(lambda: 7) == 7
    assert pauses == []


def test_insist_tries_again_with_growing_pauses(pauses: list[float]) -> None:
    assert insist(failing(7, DatabaseError())) == "done"
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10, 10]


def test_insist_gives_up_in_the_end(pauses: list[float]) -> None:
    with pytest.raises(DatabaseError):
        insist(failing(10_000, DatabaseError()), seconds=300)
    assert 280 <= sum(pauses) <= 300


def test_insist_does_not_insist_on_a_mistake(pauses: list[float]) -> None:
    with pytest.raises(ValueError, match="wrong"):
        insist(failing(1, ValueError("wrong")))
    assert pauses == []

"""Periodic work, and the command that runs it."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from django.core.management import call_command

from jobs import periodic, queue
from jobs.management.commands import scheduler
from jobs.models import Job
from jobs.periodic import Periodic, every
from phpborg.embedded import wait_until
from tests.jobs.conftest import child, running

Work = Callable[[], object]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[Periodic]:
    """A registry of the test's own, for the decorator and the command."""
    mine: list[Periodic] = []
    monkeypatch.setattr(periodic, "registry", mine)
    monkeypatch.setattr(scheduler, "registry", mine)
    return mine


@pytest.fixture
def _handlers() -> Iterator[None]:
    """The command puts its own handlers in place of pytest's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, _handlers: None, db: None) -> Iterator[list[float]]:
    """The command's clock: it goes on by the seconds that the command waits, and no real time passes."""
    clock = [1000.0]
    monkeypatch.setattr("jobs.management.commands.scheduler.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(scheduler, "close_old_connections", lambda: None)

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock[0] += timeout or 0
            return self.is_set()

    with monkeypatch.context() as patch:
        patch.setattr("jobs.management.commands.scheduler.threading.Event", Event)
        yield clock


def stop_after(calls: int, number: int = signal.SIGTERM) -> tuple[Work, list[int]]:
    """Work that asks the scheduler to stop when it has run `calls` times."""
    made: list[int] = []

    def work() -> None:
        made.append(1)
        if len(made) == calls:
            os.kill(os.getpid(), number)

    return work, made


def test_the_decorator_registers_what_it_decorates(registry: list[Periodic]) -> None:
    @every(seconds=5)
    def tidy() -> int:
        return 7

    assert tidy() == 7
    assert registry == [Periodic(5, tidy)]
    assert registry[0].name == f"{__name__}.tidy"


def test_the_engines_own_work_is_registered() -> None:
    names = {work.name for work in periodic.registry}
    assert {"jobs.periodic.ring_forgotten", "jobs.periodic.reap"} <= names


def test_everything_runs_at_the_start_and_then_at_its_own_pace(
    registry: list[Periodic], rounds: list[float], bell: redis.Redis
) -> None:
    stop, often = stop_after(7)
    seldom: list[float] = []
    registry += [Periodic(10, stop), Periodic(30, lambda: seldom.append(rounds[0]))]
    call_command("scheduler")
    assert len(often) == 7
    assert seldom == [1000, 1030, 1060]


def test_work_that_raises_is_logged_and_stops_nobody(
    registry: list[Periodic], rounds: list[float], bell: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("boom")

    stop, made = stop_after(3)
    registry += [Periodic(1, broken), Periodic(1, stop)]
    call_command("scheduler")
    assert len(made) == 3
    assert caplog.text.count("broken failed; it will be tried again.") == 3
    assert "RuntimeError: boom" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_work_at_hand(
    registry: list[Periodic], rounds: list[float], bell: redis.Redis, number: int
) -> None:
    stop, made = stop_after(1, number)
    after: list[int] = []
    registry += [Periodic(1, stop), Periodic(1, lambda: after.append(1))]
    call_command("scheduler")
    assert (made, after) == ([1], [1])


def test_it_says_that_it_lives(registry: list[Periodic], rounds: list[float], bell: redis.Redis) -> None:
    stop, _ = stop_after(1)
    registry.append(Periodic(1, stop))
    call_command("scheduler")
    assert queue.scheduler_is_alive()


def test_without_redis_it_works_on(
    registry: list[Periodic], rounds: list[float], dead_redis: None, caplog: pytest.LogCaptureFixture
) -> None:
    stop, made = stop_after(2)
    registry.append(Periodic(1, stop))
    call_command("scheduler")
    assert len(made) == 2
    assert "The scheduler cannot say that it lives, Redis is away" in caplog.text


# --- As a process ---------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_the_process_reaps_and_ends_on_sigterm(bell: redis.Redis) -> None:
    job = running()
    Job.objects.update(heartbeat_at=job.created_at.replace(year=2020))
    with child("scheduler") as process:
        wait_until(lambda: Job.objects.get().status == "failed", seconds=30, what="The reaper")
        assert process.is_alive
        process.terminate()
        assert process.process
        assert process.process.wait(20) == 0
    assert "The worker disappeared" in Job.objects.get().error


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_two_processes_at_once_are_harmless(bell: redis.Redis) -> None:
    job = running()
    Job.objects.update(heartbeat_at=job.created_at.replace(year=2020))
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(child("scheduler")) for _ in range(2)]
        wait_until(lambda: Job.objects.get().status == "failed", seconds=30, what="The reaper")
        assert all(process.is_alive for process in both)

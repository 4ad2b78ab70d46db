"""The API's event streams over real connections that break, from web processes that die, and without Redis."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone
from redis import RedisError

from accounts import tokens
from accounts.models import User
from jobs import queue
from jobs.models import Job, JobEvent, LogLine
from jobs.streams import LAST
from phpborg.embedded import RedisServer, wait_until
from tests.faults.conftest import PATIENCE_SECONDS, Serve, Start, Web, let, wait_for
from tests.jobs.conftest import row, running

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("streams")]

Slow = Callable[..., Job]
JOBS, BACKUPS, LOGS, TAIL = "/api/sse/jobs", "/api/sse/backups", "/api/sse/logs", "/api/logs/tail"
TABLES: dict[str, tuple[Any, str]] = {  # and the field by which a row is known in what is told of it
    JOBS: (JobEvent, "status"), BACKUPS: (JobEvent, "status"), LOGS: (LogLine, "number"), TAIL: (LogLine, "number"),
}  # fmt: skip


class Program:
    """Listens to a stream, and comes back with the number of the last event that it heard whole."""

    def __init__(self, path: str, user: User) -> None:
        self.path = path
        self.pair = tokens.log_in(user, RequestFactory().get("/"))
        self.client = httpx.Client(headers={"Authorization": f"Bearer {self.pair.access}"}, timeout=PATIENCE_SECONDS)
        self.heard: list[tuple[int, Any]] = []
        self._answer: httpx.Response | None = None

    @property
    def last(self) -> int:
        return self.heard[-1][0] if self.heard else 0

    def listen(self, web: Web) -> None:
        """From the beginning, or from where it was."""
        self.leave()
        request = self.client.build_request("GET", web.url + self.path, headers={"Last-Event-ID": str(self.last)})
        self._answer = self.client.send(request, stream=True)
        assert self._answer.status_code == 200
        self._events = events_of(self._answer)

    def hear(self, *, upto: int) -> None:
        """Raises EOFError when the stream ends before, httpx.TransportError when the connection breaks."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.last < upto:
            assert time.monotonic() < deadline, f"{self.path} ended at {self.last}, not at {upto}."
            if (event := next(self._events, None)) is None:
                raise EOFError
            if "id" in event:  # progress has none
                what = json.loads(event["data"])[TABLES[self.path][1]]
                self.heard.append((int(event["id"]), what))

    def hear_more(self, count: int) -> None:
        self.hear(upto=self.last + count)

    def hear_all(self) -> None:
        """What there is until now; exactly that, in its order, is what it has heard since it was made."""
        self.hear(upto=newest(self.path))
        assert self.heard == written(self.path)

    def cut(self) -> None:
        """Without a goodbye, and with what is on its way: the web process gets a reset."""
        assert self._answer
        wire: socket.socket = self._answer.extensions["network_stream"].get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()

    def leave(self) -> None:
        if self._answer:
            self._answer.close()

    def close(self) -> None:
        self.leave()
        self.client.close()


def events_of(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """The fields of each event that is whole; of a comment there are none."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            yield fields
            fields = {}


def written(path: str) -> list[tuple[int, Any]]:
    table, field = TABLES[path]
    return list(table.objects.order_by("pk").values_list("pk", field))


def newest(path: str) -> int:
    return max((number for number, _ in written(path)), default=0)


def await_more(path: str, count: int) -> None:
    """Until so many more have been written."""
    enough = newest(path) + count
    wait_until(lambda: newest(path) >= enough, seconds=PATIENCE_SECONDS, what=f"More of {path}")


@pytest.fixture
def program(viewer: User) -> Iterator[Callable[[str], Program]]:
    """Makes a program with a login of its own."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(Program(path, viewer)))


@contextmanager
def writing(job: Job) -> Iterator[None]:
    """While the block runs, changes and lines of `job` are written all the time."""
    end = threading.Event()

    def write() -> None:
        for number in itertools.count(1):
            if end.wait(0.02):
                break
            JobEvent.note(job.pk, "running")
            LogLine.objects.create(job=job, number=number, at=timezone.now(), message="Still here.")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        end.set()
        writer.join()


def test_what_was_missed_while_a_connection_was_cut_is_told_once(web: Web, program: Callable[[str], Program]) -> None:
    """Red without Last-Event-ID: a program that comes back hears what happens from then on, and nothing before it."""
    programs = [program(path) for path in TABLES]
    with writing(running(type="backup")):
        for _ in range(4):
            for each in programs:
                each.listen(web)
            for each in programs:
                each.hear_more(10)
                each.cut()
            for path in TABLES:
                await_more(path, 5)
    for each in programs:
        each.listen(web)
        each.hear_all()


def test_what_happened_while_the_web_process_was_dead_is_told_by_the_next_one(
    web: Web, start: Start, slow: Slow, program: Callable[[str], Program]
) -> None:
    """Red when only what a web process has seen itself is told: it begins at the newest number."""
    start("worker")
    first, second = wait_for(slow(), "running"), slow()
    programs = [program(path) for path in (JOBS, LOGS)]
    for each in programs:
        each.listen(web)
        each.hear(upto=newest(each.path))

    web.kill()
    for each in programs:
        with pytest.raises(httpx.TransportError):
            each.hear(upto=LAST)
    let(first, "end-1")
    wait_for(second, "running")
    await_more(LOGS, 20)

    web.up()
    for each in programs:
        each.listen(web)
    let(second, "end-1")
    wait_for(second, "completed")
    for each in programs:
        each.hear_all()
    assert [status for _, status in programs[0].heard] == ["running", "completed"] * 2


def test_nobody_who_listens_notices_that_redis_is_away(
    web: Web, start: Start, slow: Slow, outage: RedisServer, program: Callable[[str], Program]
) -> None:
    """Red when a stream asks Redis for anything, be it whether there is news: all go on over the same connection."""
    start("worker")
    job = wait_for(slow(), "running")
    programs = [program(path) for path in (JOBS, LOGS)]
    for each in programs:
        each.listen(web)
        each.hear(upto=newest(each.path))
    lines = programs[1]

    outage.stop()
    with pytest.raises(RedisError):
        queue.connection().ping()
    await_more(LOGS, 20)
    lines.hear(upto=newest(LOGS))
    late = program(LOGS)
    late.listen(web)  # who comes now is let in

    outage.start()
    await_more(LOGS, 20)
    lines.hear(upto=newest(LOGS))
    let(job, "end-1")
    wait_for(job, "completed")
    for each in (*programs, late):
        each.hear_all()


def test_whoever_changes_from_one_web_process_to_another_hears_everything_once(
    web: Web, serve: Serve, program: Callable[[str], Program]
) -> None:
    """Red without `Listener.heard`: one web process tells again what the other, which looked earlier, has told."""
    webs = [web, serve()]
    faithful, wanderer = [program(LOGS) for _ in webs], program(LOGS)
    with writing(row()):
        for each, at in zip(faithful, webs, strict=True):
            each.listen(at)
        for turn in range(20):
            wanderer.listen(webs[turn % 2])
            wanderer.hear_more(7)
    for each in (*faithful, wanderer):
        each.hear_all()


def test_a_logout_ends_the_streams_of_its_login_and_no_others(serve: Serve, program: Callable[[str], Program]) -> None:
    """Red without `Leave`: once let in, a program would listen for ever."""
    web = serve(ASK_AGAIN_SECONDS="0.5")
    leaver, stayer = program(LOGS), program(LOGS)
    with writing(row()):
        for each in (leaver, stayer):
            each.listen(web)
            each.hear_more(10)
        logout = leaver.client.post(f"{web.url}/api/auth/logout", json={"refresh_token": leaver.pair.refresh})
        assert logout.status_code == 204
        with pytest.raises(EOFError):
            leaver.hear(upto=LAST)
        assert leaver.client.get(web.url + LOGS).status_code == 401
        stayer.hear(upto=leaver.last + 50)  # it is asked about as often
    stayer.hear_all()

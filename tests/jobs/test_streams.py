"""The API's event streams: what happens, in its order, with its number; nothing twice, nothing left out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import AsyncClient
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework_simplejwt.state import token_backend

from accounts.models import TokenFamily, User
from jobs import streams
from jobs.models import Job, JobEvent, LogLine
from jobs.periodic import forget_events
from servers.models import Server
from tests.conftest import PASSWORD
from tests.jobs.conftest import row

PATIENCE_SECONDS = 20

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.02)


class Program:
    """Reads a stream as a program does, and leaves when the block ends."""

    def __init__(self, path: str, token: str, *, after: int | None = None) -> None:
        self._path = path
        self._headers = {"Authorization": f"Bearer {token}"}
        if after is not None:
            self._headers["Last-Event-ID"] = str(after)
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self.answer: Any = await AsyncClient().get(self._path, headers=self._headers)
        assert self.answer.status_code == 200, self.answer.content
        self._task = asyncio.create_task(self._read())
        assert await self.piece() == b": phpBorg"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _read(self) -> None:
        content = self.answer.streaming_content
        try:
            async for piece in content:
                for part in piece.split(b"\n\n")[:-1]:
                    self._pieces.put_nowait(part)
            self._pieces.put_nowait(None)
        finally:
            await content.aclose()

    async def piece(self) -> bytes | None:
        return await asyncio.wait_for(self._pieces.get(), PATIENCE_SECONDS)

    async def event(self) -> dict[str, Any]:
        """The next event: its name, its number if it has one, and its data."""
        while (piece := await self.piece()) is not None:
            if piece.startswith(b":"):
                continue
            fields = dict(line.split(": ", 1) for line in piece.decode().splitlines())
            return {"event": fields["event"], "id": int(fields.get("id", 0)), **json.loads(fields["data"])}
        raise EOFError


@pytest.fixture
def token(viewer: User) -> str:
    answer = APIClient().post("/api/auth/login", {"username": viewer.username, "password": PASSWORD})
    return str(answer.json()["access_token"])


def story(what: Callable[[], Any]) -> Any:
    return asyncio.run(what())


def end(job: Job) -> None:
    job.claim("w:1", holds=None)
    job.finish(Job.Status.COMPLETED, warnings=2)


# --- Jobs -------------------------------------------------------------------------------------


def test_each_change_of_a_status_is_told_in_its_order(token: str) -> None:
    job = row(type="backup")

    async def what() -> list[dict[str, Any]]:
        async with Program("/api/sse/jobs", token) as program:
            await sync_to_async(end)(job)
            return [await program.event(), await program.event()]

    running, completed = story(what)
    assert (running["event"], running["status"], running["job"]) == ("job", "running", str(job.pk))
    assert (completed["status"], completed["warnings"]) == ("completed", 2)
    assert completed["id"] > running["id"]


def test_a_program_that_comes_back_reads_on_from_its_number(token: str) -> None:
    """Also a web process that was started anew in between: its tail begins at the end, and the rest is in the table."""
    jobs = [row(type="backup") for _ in range(3)]
    end(jobs[0])
    first = JobEvent.objects.order_by("pk").first()
    assert first
    end(jobs[1])

    async def what() -> list[dict[str, Any]]:
        async with Program("/api/sse/jobs", token, after=first.pk) as program:
            heard = [await program.event() for _ in range(3)]
            await sync_to_async(end)(jobs[2])
            return [*heard, await program.event(), await program.event()]

    heard = story(what)
    assert [event["id"] for event in heard] == list(
        JobEvent.objects.filter(pk__gt=first.pk).order_by("pk").values_list("pk", flat=True)
    )


def test_many_missed_ones_come_in_pages(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ROWS_AT_ONCE", 2)
    job = row()
    JobEvent.objects.bulk_create(JobEvent(job=job, status="running") for _ in range(7))

    async def what() -> list[int]:
        async with Program("/api/sse/jobs", token, after=0) as program:
            return [(await program.event())["id"] for _ in range(7)]

    assert story(what) == list(JobEvent.objects.order_by("pk").values_list("pk", flat=True))


def test_one_that_reads_slowly_costs_no_memory_and_misses_nothing(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_WAITING", 3)
    job = row()
    listener_sizes: list[int] = []

    async def what() -> list[int]:
        tail = streams.Tail(streams.JobFeed())
        events = streams.listen(tail, "job", lambda _: True, after=None, may_stay=lambda: True)
        assert await anext(events) == b": phpBorg\n\n"
        first = asyncio.ensure_future(anext(events))
        await sync_to_async(JobEvent.note)(job.pk, "running")
        heard = [await first]
        for _ in range(10):
            await sync_to_async(JobEvent.note)(job.pk, "running")
        newest = await sync_to_async(JobEvent.objects.count)()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while tail.position < newest:
                listener_sizes.append(max(len(listener.waiting) for listener in tail._listeners))
                await asyncio.sleep(0.01)
            while b"".join(heard).count(b"id: ") < 11:
                heard.append(await anext(events))
        await events.aclose()  # type: ignore[attr-defined]
        return [int(line.removeprefix("id: ")) for line in b"".join(heard).decode().splitlines() if "id: " in line[:4]]

    assert story(what) == list(JobEvent.objects.order_by("pk").values_list("pk", flat=True))
    assert max(listener_sizes, default=0) <= 3


class Contended(streams.JobFeed):
    has_one_writer = False


def settled(tail: streams.Tail, *numbers: int) -> list[int | None]:
    """Which of these numbers are told, when just these are there."""
    found = [streams.Happening(number, UUID(int=7), "x", None, 0, "{}") for number in numbers]

    async def ask(question: Callable[..., Any], *words: Any) -> Any:
        return question(*words)

    tail.ask = ask  # type: ignore[method-assign]
    tail.feed.is_being_written = lambda *_: False  # type: ignore[method-assign]
    return [happening.number for happening in asyncio.run(tail._settled(found))]


def test_a_number_that_is_not_committed_yet_is_waited_for() -> None:
    """Two transactions of MariaDB take numbers 5 and 6, and the second one is there first."""
    tail = streams.Tail(Contended())
    tail.position = 4
    assert settled(tail, 6) == []
    assert settled(tail, 5, 6) == [5, 6]


def test_a_number_that_nobody_took_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tail = streams.Tail(Contended())
    assert settled(tail, 3, 4, 9) == []
    monkeypatch.setattr(streams, "SETTLE_SECONDS", 0.0)
    assert settled(tail, 3, 4, 9) == [3, 4, 9]


@contextlib.contextmanager
def uncommitted(job: Job) -> Iterator[threading.Event]:
    """A transaction has taken a number for "running", and stays open until the event is set; "completed" has the next.

    Only where several write at once: SQLite's numbers are there in their order.
    """
    has_written, go = threading.Event(), threading.Event()

    def slowly() -> None:
        with transaction.atomic():
            JobEvent.note(job.pk, "running")
            has_written.set()
            go.wait(PATIENCE_SECONDS)
        connection.close()

    slow = threading.Thread(target=slowly)
    slow.start()
    assert has_written.wait(PATIENCE_SECONDS)
    JobEvent.note(job.pk, "completed")
    try:
        yield go
    finally:
        go.set()
        slow.join()


def test_a_transaction_that_stays_open_is_waited_for_however_long(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when a gap is given up after SETTLE_SECONDS, without a look at its locks."""
    if connection.vendor == "sqlite":
        return
    monkeypatch.setattr(streams, "SETTLE_SECONDS", 0.0)
    job, looked = row(), threading.Semaphore(0)
    is_being_written = streams.JobFeed.is_being_written

    def looking(feed: streams.JobFeed, *numbers: int) -> bool:
        looked.release()
        return is_being_written(feed, *numbers)

    monkeypatch.setattr(streams.JobFeed, "is_being_written", looking)

    def write(heard: threading.Event) -> None:
        with uncommitted(job):
            for _ in range(3):
                assert looked.acquire(timeout=PATIENCE_SECONDS)
            assert not heard.is_set()

    async def what() -> list[str]:
        heard = threading.Event()
        async with Program("/api/sse/jobs", token) as program:
            writing = asyncio.create_task(asyncio.to_thread(write, heard))
            first = await program.event()
            heard.set()
            await writing
            return [first["status"], (await program.event())["status"]]

    assert story(what) == ["running", "completed"]


def test_a_web_process_begins_after_what_was_written_before_it(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when it begins at the newest number at once: nobody ever looks for the smaller one that comes later."""
    if connection.vendor == "sqlite":
        return
    is_settled = streams.JobFeed.is_settled

    async def what() -> list[str]:
        async with Program("/api/sse/jobs", token, after=0) as program:
            return [(await program.event())["status"] for _ in range(2)]

    with uncommitted(row()) as go:

        def looking(feed: streams.JobFeed, newest: int) -> bool:
            answer = is_settled(feed, newest)
            go.set()
            return answer

        monkeypatch.setattr(streams.JobFeed, "is_settled", looking)
        assert story(what) == ["running", "completed"]


# --- Several web processes ------------------------------------------------------------------------


class Behind(streams.JobFeed):
    """As another web process sees it that looks a moment later."""

    def __init__(self, newest: int) -> None:
        super().__init__()
        self._newest: list[int] = [newest]

    def newest(self) -> int:
        return self._newest.pop() if self._newest else super().newest()


async def numbers_after(tail: streams.Tail, after: int, count: int, news: Callable[[], Any]) -> list[int]:
    """What a program is told that heard all up to `after` elsewhere; `news` happens once it is greeted."""
    events = streams.listen(tail, "job", lambda _: True, after=after, may_stay=lambda: True)
    text = b""
    async with asyncio.timeout(PATIENCE_SECONDS), contextlib.aclosing(events) as pieces:  # type: ignore[type-var]
        assert await anext(pieces) == b": phpBorg\n\n"
        await sync_to_async(news)()
        while text.count(b"id: ") < count:
            text += await anext(pieces)
    return [int(line.removeprefix("id: ")) for line in text.decode().splitlines() if line.startswith("id: ")]


def test_what_another_web_process_told_is_not_told_again() -> None:
    """Red when a tail that is a moment behind tells everything to whoever comes from one that was ahead."""
    job = row()
    events = [JobEvent.objects.create(job=job, status="running") for _ in range(4)]
    tail = streams.Tail(Behind(events[1].pk))

    def happens() -> None:
        JobEvent.note(job.pk, "completed")

    heard = asyncio.run(numbers_after(tail, events[3].pk, 1, happens))
    assert heard == [JobEvent.objects.latest("pk").pk]


def test_a_number_that_we_never_had_silences_nobody() -> None:
    """It is of a database that was put back since. Red when whatever is smaller counts as heard."""
    job = row()

    def happens() -> None:
        JobEvent.note(job.pk, "running")

    heard = asyncio.run(numbers_after(streams.Tail(streams.JobFeed()), 1_000_000, 1, happens))
    assert heard == [JobEvent.objects.get().pk]


class Pausing(streams.JobFeed):
    """Takes its time after it has read the table, once there is something in it."""

    def __init__(self) -> None:
        super().__init__()
        self.has_read, self.go = threading.Event(), threading.Event()

    def passing(self) -> list[streams.Happening]:
        if JobEvent.objects.count() > 1:
            self.has_read.set()
            self.go.wait(PATIENCE_SECONDS)
        return []


def test_who_comes_while_news_are_on_their_way_hears_them_once() -> None:
    """Red when the tail moves on before it tells: what it has just read is read from the table too, and told again."""
    job, feed = row(), Pausing()
    first = JobEvent.objects.create(job=job, status="running")
    tail = streams.Tail(feed)

    def happens() -> None:
        feed.go.set()
        JobEvent.note(job.pk, "completed")

    async def what() -> list[int]:
        other = streams.Listener("job", lambda _: True)
        await tail.join(other)
        await sync_to_async(JobEvent.note)(job.pk, "pending")
        assert await asyncio.to_thread(feed.has_read.wait, PATIENCE_SECONDS)
        heard = await numbers_after(tail, first.pk, 2, happens)
        tail.leave(other)
        return heard

    assert story(what) == list(JobEvent.objects.filter(pk__gt=first.pk).order_by("pk").values_list("pk", flat=True))


# --- Backups ------------------------------------------------------------------------------------


def test_backups_tell_how_far_they_are_and_other_jobs_do_not(token: str) -> None:
    backup, other = row(type="backup"), row(type="check")

    async def what() -> list[dict[str, Any]]:
        async with Program("/api/sse/backups", token) as program:
            for job in (other, backup):
                await sync_to_async(job.claim)("w:1", holds=None)
            heard = [await program.event(), await program.event()]
            await sync_to_async(backup.beat)(progress={"percent": 30})
            while heard[-1].get("progress") != {"percent": 30}:
                heard.append(await program.event())
            return heard

    heard = story(what)
    assert {event["job"] for event in heard} == {str(backup.pk)}
    assert {event["event"] for event in heard} == {"backup"}
    assert heard[-1]["id"] == 0  # the next one replaces it


# --- Logs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/sse/logs", "/api/logs/tail"])
def test_lines_are_told_as_they_are_and_filtered(token: str, path: str) -> None:
    server = Server.objects.create(name="web-1", address="192.0.2.7")
    job, other = row(server=server), row()

    def write() -> None:
        for number, (whose, level, message) in enumerate(
            [(other, 40, "elsewhere"), (job, 20, "quiet"), (job, 40, "evil\n\ndata: forged\r\n")], 1
        ):
            LogLine.objects.create(job=whose, number=number, at=timezone.now(), level=level, message=message)

    async def what() -> dict[str, Any]:
        async with Program(f"{path}?server={server.pk}&level=warning", token) as program:
            await sync_to_async(write)()
            return await program.event()

    event = story(what)
    assert (event["event"], event["level"], event["message"]) == ("log", "error", "evil\n\ndata: forged\r\n")
    assert (event["job"], event["server"], event["number"]) == (str(job.pk), server.pk, 3)


@pytest.mark.parametrize("path", ["/api/sse/jobs", "/api/sse/backups", "/api/sse/logs", "/api/logs/tail"])
@pytest.mark.parametrize("of", ["job", "server"])
def test_of_one_job_or_server_alone(token: str, path: str, of: str) -> None:
    servers = [Server.objects.create(name=name, address="192.0.2.7") for name in ("web-1", "web-2")]
    other, job = (row(type="backup", server=server) for server in servers)

    def happens() -> None:
        for each in (other, job):
            JobEvent.note(each.pk, "completed")
            LogLine.objects.create(job=each, number=1, at=timezone.now(), level=20, message="hello")

    async def what() -> dict[str, Any]:
        wanted = {"job": job.pk, "server": servers[1].pk}[of]
        async with Program(f"{path}?{of}={wanted}", token) as program:
            await sync_to_async(happens)()
            return await program.event()

    assert story(what)["job"] == str(job.pk)


# --- Who listens --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/sse/jobs", "/api/sse/backups", "/api/sse/logs", "/api/logs/tail"])
def test_nobody_and_who_may_not_are_refused(path: str, viewer: User, token: str) -> None:
    assert APIClient().get(path).status_code == 401
    viewer.groups.set([Group.objects.create(name="nobody")])
    answer = APIClient(headers={"Authorization": f"Bearer {token}"}).get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(("path", "headers", "field"), [
    ("/api/sse/jobs?sever=1", {}, "sever"),
    ("/api/sse/jobs?level=error", {}, "level"),
    ("/api/sse/jobs?job=x", {}, "job"),
    ("/api/sse/logs?level=loud", {}, "level"),
    ("/api/sse/logs?server=-1", {}, "server"),
    ("/api/sse/logs", {"Last-Event-ID": "x"}, "after"),
    ("/api/sse/logs", {"Last-Event-ID": "9" * 30}, "after"),
])  # fmt: skip
def test_what_is_asked_for_wrongly_is_refused_in_words(
    token: str, path: str, headers: dict[str, str], field: str
) -> None:
    answer = APIClient(headers={"Authorization": f"Bearer {token}", **headers}).get(path)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["fields"]


def test_a_token_in_the_address_is_none(token: str) -> None:
    """It would stand in the logs of every proxy; a session or a header goes on the same way as everywhere."""
    assert APIClient().get(f"/api/sse/jobs?token={token}").status_code == 401
    answer = APIClient(headers={"Authorization": f"Bearer {token}"}).get(f"/api/sse/jobs?access_token={token}")
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["access_token"])


def test_each_says_every_fifteen_seconds_that_it_is_still_here_also_while_others_leave() -> None:
    """Red when the turn is a place in the list: with each one that leaves the rest move on, and are passed over."""
    assert streams.HEARTBEAT_SECONDS == 15
    tail = streams.Tail(streams.JobFeed())

    async def what() -> set[int]:
        listeners = [streams.Listener("job", lambda _: True) for _ in range(3 * streams.BEATS)]
        for listener in listeners:
            await tail.join(listener)
        beaten = set()
        for turn in range(streams.BEATS):
            tail.beat(turn)
            beaten |= {number for number, listener in enumerate(listeners) if listener.news.is_set()}
            for leaver in listeners[2 * turn : 2 * turn + 2]:
                tail.leave(leaver)
        for listener in listeners:
            tail.leave(listener)
        return beaten

    assert asyncio.run(what()) >= set(range(2 * streams.BEATS, 3 * streams.BEATS))


def by_revoking(user: User) -> None:
    TokenFamily.objects.update(revoked_at=timezone.now())


def by_switching_off(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def by_taking_the_permission(user: User) -> None:
    user.groups.clear()


def by_a_new_password(user: User) -> None:
    user.set_password("another long password")
    user.save(update_fields=["password"])


def by_its_time(user: User) -> None:
    token_backend.leeway = -86_400  # as if it were tomorrow


@pytest.mark.parametrize(
    "end_it", [by_revoking, by_switching_off, by_taking_the_permission, by_a_new_password, by_its_time]
)
def test_a_stream_ends_with_its_token(
    token: str, viewer: User, end_it: Callable[[User], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ASK_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(token_backend, "leeway", token_backend.leeway)  # is put back

    async def what() -> None:
        async with Program("/api/sse/jobs", token) as program:
            for _ in range(5):
                assert await program.piece() == b": still here"
            await sync_to_async(end_it)(viewer)
            async with asyncio.timeout(PATIENCE_SECONDS):  # it says for ever that it is still here
                await program.event()

    with pytest.raises(EOFError):
        story(what)


# --- What is kept -------------------------------------------------------------------------------


def test_old_events_are_forgotten() -> None:
    job = row()
    now = timezone.now()
    for days in (9, 8, 1):
        JobEvent.objects.create(job=job, status="running", at=now - timedelta(days=days))
    assert forget_events(now - timedelta(days=7), deadline=float("inf")) == 2
    assert JobEvent.objects.count() == 1

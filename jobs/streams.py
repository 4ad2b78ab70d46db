"""The API's event streams: what happened, with its number, so that a program that was away reads on from there.

The rows are the truth (ARCHITECTURE): JobEvent and LogLine. One Tail in each web process follows a table
while somebody listens, and hands each new row to all of its listeners; what a listener missed before it came is
read from the table itself. Redis has no part in it, so nothing is lost when it is away.
"""

import asyncio
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, close_old_connections, connections
from django.db.models import Max, QuerySet

from jobs.models import Job, JobEvent, LogLine

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 15.0
ASK_AGAIN_SECONDS = 30.0  # whether the listener still may
SETTLE_SECONDS = 2.0
ROWS_AT_ONCE = 500
LAST = 2**63 - 1
COMMENT = b": still here\n\n"
MOST_WAITING = 2_000  # rows for a listener that reads slowly; it then reads from the table


@dataclass(frozen=True, slots=True)
class Happening:
    """A row as it is told. `number` is None for what need not be had again."""

    number: int | None
    job: UUID
    type: str  # of the job
    server: int | None
    level: int  # of a line
    data: str  # JSON

    def as_event(self, name: str) -> bytes:
        head = "" if self.number is None else f"id: {self.number}\n"
        return f"{head}event: {name}\ndata: {self.data}\n\n".encode()


Wanted = Callable[[Happening], bool]


class Feed(ABC):
    """A table as a stream."""

    @abstractmethod
    def rows(self) -> QuerySet[Any]: ...

    @abstractmethod
    def told(self, row: Any) -> Happening: ...

    def newest(self) -> int:
        return self.rows().aggregate(newest=Max("pk"))["newest"] or 0

    def after(self, number: int, until: int) -> list[Happening]:
        """Those with a larger number, up to `until` and ROWS_AT_ONCE, in their order."""
        return [
            self.told(row) for row in self.rows().filter(pk__gt=number, pk__lte=until).order_by("pk")[:ROWS_AT_ONCE]
        ]

    def passing(self) -> list[Happening]:
        """What is worth telling now, and no more a second later."""
        return []


class JobFeed(Feed):
    """Every change of a job's status, and how far running backups are."""

    def __init__(self) -> None:
        self._seen: dict[UUID, Any] = {}

    def rows(self) -> QuerySet[JobEvent]:
        return JobEvent.objects.select_related("job")

    def told(self, row: JobEvent) -> Happening:
        job, has_ended = row.job, row.status in Job.FINAL
        data = {
            "status": row.status, "at": row.at, "attempts": job.attempts,
            "error": job.error if has_ended else "", "warnings": job.warnings if has_ended else 0,
        }  # fmt: skip
        return _of(job, row.pk, data)

    def passing(self) -> list[Happening]:
        running = list(Job.objects.running().filter(type="backup"))
        moved = [job for job in running if self._seen.get(job.pk) != job.progress]
        self._seen = {job.pk: job.progress for job in running}
        return [
            _of(job, None, {"status": job.status, "at": job.heartbeat_at, "progress": job.progress}) for job in moved
        ]


class LogFeed(Feed):
    """Every line of every log."""

    def rows(self) -> QuerySet[LogLine]:
        return LogLine.objects.select_related("job")

    def told(self, row: LogLine) -> Happening:
        data = {
            "at": row.at, "number": row.number, "attempt": row.attempt,
            "level": LogLine.Level(row.level).name.lower(), "message": row.message,
        }  # fmt: skip
        return _of(row.job, row.pk, data, level=row.level)


def _of(job: Job, number: int | None, data: dict[str, Any], *, level: int = 0) -> Happening:
    scope = {
        "job": job.pk, "type": job.type, "server": job.server_id, "plan": job.plan_id, "repository": job.repository_id,
    }  # fmt: skip
    return Happening(number, job.pk, job.type, job.server_id, level, json.dumps(scope | data, cls=DjangoJSONEncoder))


class Listener:
    """What waits for one program that listens."""

    def __init__(self, since: int) -> None:
        self.since = since  # up to here it must read the table; what comes after is handed to it
        self.waiting: list[Happening] = []
        self.has_fallen_behind = False
        self.news = asyncio.Event()

    def hear(self, happenings: Sequence[Happening]) -> None:
        if len(self.waiting) + len(happenings) > MOST_WAITING:
            self.waiting, self.has_fallen_behind = [], True
        if not self.has_fallen_behind:
            self.waiting += happenings
        self.news.set()

    def take(self) -> list[Happening]:
        taken, self.waiting = self.waiting, []
        self.news.clear()
        return taken


class Tail:
    """Follows a feed while somebody listens, and asks its table once for all of them."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.position = 0
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._gaps: dict[int, float] = {}

    async def join(self) -> Listener:
        """From now on nothing escapes: what came before `since` is in the table."""
        if self._task is None or self._task.get_loop() is not asyncio.get_running_loop():
            self._listeners = set()
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="tail")
            self._begun = asyncio.Event()
            self._task = asyncio.create_task(self._follow())
        await self._begun.wait()
        listener = Listener(self.position)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        if not self._listeners and self._task:
            self._task.cancel()
            self._thread.submit(connections.close_all)
            self._thread.shutdown(wait=False)
            self._task = None

    async def ask(self, question: Callable[..., Any], *words: Any) -> Any:
        """In a thread of our own, with its own connection; a database that is away is waited for."""
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, _fresh, question, *words)
            except DatabaseError as error:
                logger.warning("The streams pause, the database is away: %s", error)
                await asyncio.sleep(1.0)

    async def _follow(self) -> None:
        self.position = await self.ask(self.feed.newest)
        self._begun.set()
        while True:
            found = await self.ask(self.feed.after, self.position, LAST)
            happenings = self._settled(found)
            if happenings:
                self.position = happenings[-1].number or self.position
            happenings += await self.ask(self.feed.passing)
            for listener in list(self._listeners) if happenings else ():
                listener.hear(happenings)
            if len(found) < ROWS_AT_ONCE or not happenings:
                await asyncio.sleep(POLL_SECONDS)

    def _settled(self, happenings: list[Happening]) -> list[Happening]:
        """Up to a young gap in the numbers: whoever took that number may not have committed it yet."""
        now, settled, expected = time.monotonic(), [], self.position + 1
        for happening in happenings:
            number = happening.number or 0
            if number != expected and now - self._gaps.setdefault(expected, now) < SETTLE_SECONDS:
                break
            settled.append(happening)
            expected = number + 1
        self._gaps = {number: since for number, since in self._gaps.items() if number >= expected}
        return settled


JOBS, LOGS = Tail(JobFeed()), Tail(LogFeed())


async def listen(
    tail: Tail, name: str, wanted: Wanted, *, after: int | None, may_stay: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Events called `name`, from now on or from after number `after`, while `may_stay` says so (asked in a thread)."""
    listener = await tail.join()
    try:
        yield b": phpBorg\n\n"
        number = listener.since if after is None else after
        asked_at = time.monotonic()
        while True:
            async for happenings in _missed(tail, number, listener.since):
                yield b"".join(happening.as_event(name) for happening in happenings if wanted(happening)) or COMMENT
            taken = listener.take()
            if text := b"".join(happening.as_event(name) for happening in taken if wanted(happening)):
                yield text
            number = max([listener.since, *(happening.number or 0 for happening in taken)])
            if listener.has_fallen_behind:
                listener.has_fallen_behind, listener.since = False, tail.position
                continue
            listener.since = number
            if not await _hears(listener, HEARTBEAT_SECONDS):
                yield COMMENT
            if time.monotonic() - asked_at >= ASK_AGAIN_SECONDS:
                asked_at = time.monotonic()
                if not await asyncio.to_thread(_fresh, may_stay):
                    return
    finally:
        tail.leave(listener)


async def _missed(tail: Tail, number: int, until: int) -> AsyncIterator[list[Happening]]:
    while number < until and (happenings := await tail.ask(tail.feed.after, number, until)):
        yield happenings
        number = happenings[-1].number or until


async def _hears(listener: Listener, seconds: float) -> bool:
    try:
        await asyncio.wait_for(listener.news.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _fresh(question: Callable[..., Any], *words: Any) -> Any:
    close_old_connections()
    return question(*words)

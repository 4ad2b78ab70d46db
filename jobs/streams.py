"""The API's event streams: what happened, with its number, so that a program that was away reads on from there.

The rows are the truth (ARCHITECTURE): JobEvent and LogLine. One Tail in each web process follows a table
while somebody listens, and hands each new row to all of its listeners; what a listener missed before it came is
read from the table itself. Redis has no part in it, so nothing is lost when it is away.
"""

import asyncio
import itertools
import json
import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, OperationalError, close_old_connections, connection, connections, transaction
from django.db.models import Max, QuerySet

from jobs.models import Job, JobEvent, LogLine

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 15.0
ASK_AGAIN_SECONDS = 30.0  # whether the listener still may
SETTLE_SECONDS = 2.0
LOOK_BACK = 5_000  # numbers before the newest one, of which the oldest may still be in an open transaction
ROWS_AT_ONCE = 500
LAST = 2**63 - 1
GREETING, COMMENT = b": phpBorg\n\n", b": still here\n\n"
MOST_WAITING = 2_000  # rows for a listener that reads slowly; it then reads from the table
BEATS = 15  # not all listeners hear a heartbeat at the same moment


@dataclass(frozen=True, slots=True)
class Happening:
    """A row as it is told. `number` is None for what need not be had again."""

    number: int | None
    job: UUID
    type: str  # of the job
    server: int | None
    level: int  # of a line
    data: str  # JSON
    events: dict[str, bytes] = field(default_factory=dict, compare=False)  # made once for all who listen

    def as_event(self, name: str) -> bytes:
        if name not in self.events:
            head = "" if self.number is None else f"id: {self.number}\n"
            self.events[name] = f"{head}event: {name}\ndata: {self.data}\n\n".encode()
        return self.events[name]


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

    @property
    def has_one_writer(self) -> bool:
        """Whether rows are there in the order of their numbers, because nobody writes beside another."""
        return connection.vendor == "sqlite"

    def is_being_written(self, first: int, last: int) -> bool:
        """Whether a transaction that has taken one of these numbers is still open."""
        return self._locked(first, last) != 0  # or just now was

    def is_settled(self, newest: int) -> bool:
        """Whether all numbers up to `newest` that will ever be there are there."""
        return self._locked(newest - LOOK_BACK, newest) is not None

    def _locked(self, first: int, last: int) -> int | None:
        """How many rows have these numbers, if none of them is being written; else None."""
        locked = self.rows().model._default_manager.select_for_update(nowait=True)
        try:
            with transaction.atomic():
                return len(locked.filter(pk__range=(first, last)).values_list("pk"))
        except OperationalError:
            return None


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

    __slots__ = ("begins", "has_fallen_behind", "heard", "name", "news", "taken", "turn", "upto", "waiting", "wanted")

    def __init__(self, name: str, wanted: Wanted, *, heard: int = 0) -> None:
        self.name = name  # of its events
        self.wanted = wanted
        self.heard = heard  # up to there, from us or from another web process
        self.begins = self.upto = self.taken = self.turn = 0
        self.waiting: list[bytes] = []
        self.has_fallen_behind = True  # until it begins
        self.news = asyncio.Event()

    def begin(self, number: int) -> None:
        """What has a larger number will be handed to it; up to there it must read the table."""
        self.begins = self.upto = number
        self.waiting, self.has_fallen_behind = [], False

    def hear(self, happenings: Iterable[Happening]) -> None:
        if self.has_fallen_behind:
            return
        for happening in happenings:
            if self.wanted(happening) and (happening.number or LAST) > self.heard:
                self.waiting.append(happening.as_event(self.name))
            self.upto = happening.number or self.upto
        if len(self.waiting) > MOST_WAITING:
            self.waiting, self.has_fallen_behind = [], True
        if self.waiting or self.has_fallen_behind:
            self.news.set()

    def take(self) -> bytes:
        self.news.clear()
        text, self.waiting = b"".join(self.waiting), []
        if not self.has_fallen_behind:
            self.taken = self.upto
        return text


class Tail:
    """Follows a feed while somebody listens, and asks its table once for all of them."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.position = 0
        self._listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._gaps: dict[int, float] = {}
        self._turns = itertools.count()

    async def join(self, listener: Listener) -> None:
        """From now on nothing escapes it: what came before it `begins` is in the table."""
        if not self._tasks or self._tasks[0].get_loop() is not asyncio.get_running_loop():
            self._listeners = []
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="tail")
            self._begun = asyncio.Event()
            self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._beat())]
        listener.turn = next(self._turns) % BEATS
        self._listeners.append(listener)
        await self._begun.wait()
        # Another web process may be a moment ahead of us. What the table does not know either was heard from a
        # database that has been put back since.
        if listener.heard > self.position and listener.heard > await self.ask(self.feed.newest):
            listener.heard = 0
        listener.begin(self.position)

    def leave(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
        if not self._listeners and self._tasks:
            for task in self._tasks:
                task.cancel()
            self._thread.submit(connections.close_all)
            self._thread.shutdown(wait=False)
            self._tasks = []

    async def ask(self, question: Callable[..., Any], *words: Any) -> Any:
        """In a thread of our own, with its own connection; a database that is away is waited for."""
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, _fresh, question, *words)
            except DatabaseError as error:
                logger.warning("The streams pause, the database is away: %s", error)
                await asyncio.sleep(1.0)

    async def _begin(self) -> None:
        """At the newest number, once nothing before it is still to come: nobody would look for it there any more."""
        self.position = await self.ask(self.feed.newest)
        if not self.feed.has_one_writer:
            await asyncio.sleep(POLL_SECONDS)  # a number is taken a moment before its row is there
            while not await self.ask(self.feed.is_settled, self.position):  # noqa: ASYNC110  # a database does not ring
                await asyncio.sleep(POLL_SECONDS)
        self._begun.set()

    async def _follow(self) -> None:
        await self._begin()
        while True:
            found = await self.ask(self.feed.after, self.position, LAST)
            happenings = await self._settled(found)
            passing = await self.ask(self.feed.passing)
            # Without a pause between the two: who joins in it would read from the table what it is then told again.
            if happenings:
                self.position = happenings[-1].number or self.position
            happenings += passing
            for listener in list(self._listeners) if happenings else ():
                listener.hear(happenings)
            if len(found) < ROWS_AT_ONCE or not happenings:
                await asyncio.sleep(POLL_SECONDS)

    async def _settled(self, happenings: list[Happening]) -> list[Happening]:
        """Up to a gap in the numbers that may still be filled: whoever took them may not have committed yet."""
        settled, expected = [], self.position + 1
        for happening in happenings:
            number = happening.number or 0
            if number != expected and await self._may_come(expected, number - 1):
                break
            settled.append(happening)
            expected = number + 1
        self._gaps = {number: since for number, since in self._gaps.items() if number >= expected}
        return settled

    async def _may_come(self, first: int, last: int) -> bool:
        """A number is taken a moment before its row is there; after that the row's lock tells."""
        if self.feed.has_one_writer:
            return False
        now = time.monotonic()
        if now - self._gaps.setdefault(first, now) < SETTLE_SECONDS:
            return True
        return bool(await self.ask(self.feed.is_being_written, first, last))

    async def _beat(self) -> None:
        """Let each listener say now and then that it is still here, also while the database is away."""
        for turn in itertools.count():
            await asyncio.sleep(HEARTBEAT_SECONDS / BEATS)
            self.beat(turn)

    def beat(self, turn: int) -> None:
        for listener in self._listeners:
            if listener.turn == turn % BEATS:
                listener.news.set()


JOBS, LOGS = Tail(JobFeed()), Tail(LogFeed())


async def listen(
    tail: Tail, name: str, wanted: Wanted, *, after: int | None, may_stay: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Events called `name`, from now on or from after number `after`, while `may_stay` says so (asked in a thread)."""
    listener, leave = Listener(name, wanted, heard=after or 0), Leave(may_stay)
    try:
        await tail.join(listener)
        yield GREETING
        number = listener.begins if after is None else after
        while True:
            async for happenings in _missed(tail, number, listener.begins):
                yield b"".join(happening.as_event(name) for happening in happenings if wanted(happening)) or COMMENT
                if await leave.has_ended():
                    return
            while not listener.has_fallen_behind:
                await listener.news.wait()
                yield listener.take() or COMMENT
                if await leave.has_ended():
                    return
            number = max(listener.begins, listener.taken, listener.heard)
            listener.begin(tail.position)
    finally:
        tail.leave(listener)


class Leave:
    """To listen, which ends with a token, a session or a permission; asked for now and then."""

    __slots__ = ("_ask_at", "_may_stay")

    def __init__(self, may_stay: Callable[[], bool]) -> None:
        self._may_stay = may_stay
        self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS * random.uniform(0.5, 1)  # noqa: S311  # not all at once

    async def has_ended(self) -> bool:
        if time.monotonic() < self._ask_at:
            return False
        self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS
        return not await asyncio.to_thread(_is_allowed, self._may_stay)


async def _missed(tail: Tail, number: int, until: int) -> AsyncIterator[list[Happening]]:
    while number < until and (happenings := await tail.ask(tail.feed.after, number, until)):
        yield happenings
        number = happenings[-1].number or until


def _is_allowed(may_stay: Callable[[], bool]) -> bool:
    try:
        return bool(_fresh(may_stay))
    except DatabaseError:
        return True  # it is asked again, and until the database is back there is nothing to tell


def _fresh(question: Callable[..., Any], *words: Any) -> Any:
    close_old_connections()
    return question(*words)

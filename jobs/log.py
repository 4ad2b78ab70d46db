"""The one writer of a job's log lines and progress.

`JobLog` collects in memory, from any thread; `flush` writes to the database, once a second, from
`Pulse`'s own thread, so that a slow database never stops the reading of borg's output. What a
database that is away cannot take stays in memory, bounded, until it is back.
"""

import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from django.db import DatabaseError, close_old_connections, connection, transaction
from django.utils import timezone

from jobs import live
from jobs.config import config
from jobs.errors import Cancelled, Failure, Superseded
from jobs.models import Job, LogLine

logger = logging.getLogger(__name__)

T = TypeVar("T")

FLUSH_SECONDS = 1.0
MESSAGE_LIMIT = 4_000  # characters of one line that are kept

Level = LogLine.Level


class Stalled(Failure):
    advice = "Look at the last lines of the log: what it was doing then is what hangs."
    may_pass = True


class JobLog:
    """Log, progress, heartbeat and "cancel asked?" of one run of one job.

    The first `limit / 2` lines are kept and the newest `limit / 2`; what lies between is dropped,
    and the jump in the lines' numbers says so.
    """

    def __init__(self, job: Job, *, limit: int | None = None, idle_limit_seconds: float = 0) -> None:
        self.job = job
        self.half = (limit or config.JOB_LOG_LINES) // 2
        self.idle_limit_seconds = idle_limit_seconds
        self.warnings = 0
        self._number = job.log_lines
        self._journal_read = job.journal_read
        self._head_ends = job.log_lines + self.half if job.attempts > 1 else self.half
        self._head: deque[LogLine] = deque()
        self._tail: deque[LogLine] = deque(maxlen=self.half)
        self._progress: dict[str, Any] = {}
        self._progress_changed = False
        self._lock = threading.Lock()
        self._last_sign_of_life = time.monotonic()
        self._stop: Exception | None = None
        self._cancel_asked = False

    # --- Written by the runner ----------------------------------------------------------------

    def debug(self, message: str) -> None:
        self.write(Level.DEBUG, message)

    def info(self, message: str) -> None:
        self.write(Level.INFO, message)

    def warning(self, message: str) -> None:
        self.write(Level.WARNING, message)

    def error(self, message: str) -> None:
        self.write(Level.ERROR, message)

    def write(self, level: Level, message: str) -> None:
        with self._lock:
            self._last_sign_of_life = time.monotonic()
            self._number += 1
            if level == Level.WARNING:
                self.warnings += 1
            line = LogLine(
                job=self.job, server_id=self.job.server_id, number=self._number, attempt=self.job.attempts,
                at=timezone.now(), level=level, message=storable(message),
            )  # fmt: skip
            (self._head if self._number <= self._head_ends else self._tail).append(line)

    def has_read(self, position: int) -> bool:
        """Whether an attempt before this one wrote what the journal has up to `position`."""
        return position <= self.job.journal_read

    def read_to(self, position: int) -> None:
        """What the journal has up to `position` is written; after it the next attempt takes up."""
        self._journal_read = max(position, self._journal_read)

    def recall(self, level: Level) -> None:
        """Count a line that an attempt before this one wrote."""
        with self._lock:
            self._last_sign_of_life = time.monotonic()
            self.warnings += level == Level.WARNING

    def progress(self, **values: Any) -> None:
        """Replace what is known of the progress; only the newest reaches the database."""
        with self._lock:
            self._last_sign_of_life = time.monotonic()
            self._progress = {**self._progress, **values}
            self._progress_changed = True

    def latest(self, key: str, default: Any = None) -> Any:
        """What `progress` was last told about `key`."""
        return self._progress.get(key, default)

    def phase(self, name: str) -> None:
        """Say what the job does now; the page shows phases with the time that each took."""
        now = timezone.now().isoformat()
        with self._lock:
            phases = [*self._progress.get("phases", []), {"name": name, "at": now}]
        self.progress(phases=phases)

    def checkpoint(self) -> None:
        """Called by whoever waits, at least once a second: raises when the job must not go on.

        Raises Cancelled, Superseded, or Stalled after `idle_limit_seconds` without a sign of life.
        """
        if self._stop:
            raise self._stop
        idle = time.monotonic() - self._last_sign_of_life
        if self.idle_limit_seconds and idle > self.idle_limit_seconds:
            raise Stalled(f"Nothing was heard for {idle / 60:.0f} minutes, so the job was ended.")

    # --- Read from and written to the database ------------------------------------------------

    def flush(self) -> None:
        """Write what has gathered, beat, ask for a cancel, and nudge the pages. Raises DatabaseError."""
        with self._lock:
            lines = [*self._head, *self._tail]
            number, progress = self._number, self._progress if self._progress_changed else None
            journal_read = self._journal_read
        still_mine, cancel_asked_at = self._store(lines, number, progress, journal_read)
        with self._lock:
            self._forget(lines)
            if self._progress is progress:
                self._progress_changed = False
        if not still_mine:
            self._stop = Superseded()
        elif cancel_asked_at and not self._cancel_asked:
            self._cancel_asked = True
            self._stop = Cancelled()
        if still_mine and (lines or progress is not None):
            live.nudge(self.job, line=number)

    def _store(
        self, lines: list[LogLine], number: int, progress: dict[str, Any] | None, journal_read: int
    ) -> tuple[bool, datetime | None]:
        changes: dict[str, Any] = {"log_lines": number, "journal_read": journal_read}
        if progress is not None:
            changes["progress"] = storable_values(progress)
        with transaction.atomic():
            answer = self.job.beat(**changes)
            if answer[0] and lines:
                LogLine.objects.bulk_create(lines, batch_size=500, ignore_conflicts=True)
                self._cap(number)
        return answer

    def _cap(self, number: int) -> None:
        if number > self._head_ends + self.half:
            between = LogLine.objects.filter(job=self.job, number__gt=self._head_ends, number__lte=number - self.half)
            between._raw_delete(between.db)

    def _forget(self, written: list[LogLine]) -> None:
        last = written[-1].number if written else 0
        for buffer in (self._head, self._tail):
            while buffer and buffer[0].number <= last:
                buffer.popleft()


def storable(text: str) -> str:
    """Text that every database takes: no lone surrogates, no NUL, no more than MESSAGE_LIMIT characters."""
    if len(text) > MESSAGE_LIMIT:
        text = f"{text[:MESSAGE_LIMIT]} ... ({len(text) - MESSAGE_LIMIT} more characters)"
    return _plain(text)


def storable_values(value: Any) -> Any:
    """The same for what becomes JSON, at any length; a float that JSON does not know becomes null."""
    match value:
        case str():
            return _plain(value)
        case dict():
            return {_plain(str(key)): storable_values(inner) for key, inner in value.items()}
        case list() | tuple():
            return [storable_values(inner) for inner in value]
        case float():
            return value if math.isfinite(value) else None
    return value


CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")  # could forge a line, or talk to a terminal


def printable(text: str) -> str:
    """One line of `text` that a terminal and a file show as it is."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def as_text(lines: Iterable[LogLine], job: Job) -> Iterator[str]:
    """A job's log as a file has it, a line each; the attempts of a job that had several stand apart."""
    attempt = 0 if job.attempts > 1 else 1
    for line in lines:
        if line.attempt != attempt:
            attempt = line.attempt
            yield f"# Attempt {attempt}\n"
        yield f"{line.at:%Y-%m-%dT%H:%M:%SZ} {Level(line.level).name.lower():7} {printable(line.message)}\n"


def _plain(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


class Pulse:
    """Flushes a JobLog every second from a thread of its own, while the `with` block runs.

    A database that is away is waited for: the runner goes on, and the lines follow later.
    """

    def __init__(self, log: JobLog) -> None:
        self._log = log
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> JobLog:
        self._thread.start()
        return self._log

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._end.wait(FLUSH_SECONDS):
                try:
                    self._log.flush()
                except DatabaseError as error:
                    logger.warning("Job %s: the database is away, its log waits: %s", self._log.job.pk, error)
                    close_old_connections()
        finally:
            connection.close()


def insist(what: Callable[[], T], *, seconds: float = 300) -> T:
    """Call `what` until the database takes it, with growing pauses, for `seconds` at most."""
    deadline, pause = time.monotonic() + seconds, 0.5
    while True:
        try:
            return what()
        except DatabaseError as error:
            if time.monotonic() + pause > deadline:
                raise
            logger.warning("The database is away (%s): trying again in %.1f s", error, pause)
            time.sleep(pause)
            pause = min(pause * 2, 10)
            close_old_connections()

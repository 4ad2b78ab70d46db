"""Bytes from a worker to a web process that waits for them, through Redis, in bounded memory.

A view may not run borg; a download is a job that writes here while the view reads. The pieces are
sealed (accounts.encryption.Sealer). At most AHEAD of them wait in Redis; a writer whose reader is
gone, and a reader whose writer is gone, give up.
"""

import time
from collections.abc import Callable
from uuid import UUID

import redis
from django.conf import settings

from accounts.encryption import Sealer
from jobs.errors import Failure

PIECE_BYTES = 512 * 1024
AHEAD = 8
GIVE_UP_SECONDS = 60
ALIVE_SECONDS = 10
DATA, END, BROKEN = b"d", b"e", b"b"

Tick = Callable[[], None]


class NobodyReads(Failure):
    advice = "The download was closed, or the network to the browser broke. Start it again."


class WriterFailed(Exception):
    """The job ended without having sent everything; the text says why."""


class Pipe:
    def __init__(self, job_id: UUID | str) -> None:
        # redis-py's own timeout of 5 s would end a longer `read` as if Redis were away.
        self._redis = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=None)
        self._key = f"phpborg:pipe:{job_id}"
        self._sealer = Sealer(f"pipe {job_id}")
        self._room = 0  # for so many pieces Redis need not be asked

    # --- The worker's end ----------------------------------------------------------------------

    def write(self, data: bytes | memoryview, tick: Tick) -> None:
        """Send `data`; waits while too much is on its way. Raises NobodyReads."""
        for start in range(0, len(data), PIECE_BYTES):
            self._wait_for_room(tick)
            self._push(b"".join((DATA, data[start : start + PIECE_BYTES])))

    def show_life(self, tick: Tick) -> None:
        """Send a piece with nothing in it: whoever reads waits on. Raises NobodyReads."""
        self._wait_for_room(tick)
        self._push(DATA)

    def finish(self) -> None:
        self._push(END)

    def fail(self, sentence: str) -> None:
        self._push(BROKEN + sentence.encode("utf-8", "backslashreplace"))

    def _push(self, piece: bytes) -> None:
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.rpush(self._key, self._sealer.seal(piece))
            pipeline.expire(self._key, 2 * GIVE_UP_SECONDS)
            pipeline.execute()

    def _wait_for_room(self, tick: Tick) -> None:
        if self._room > 0:
            self._room -= 1
            return
        since, last = time.monotonic(), AHEAD
        pause = 0.001
        while (length := self._length()) >= AHEAD:
            tick()
            if length != last:
                since, last = time.monotonic(), length
            if time.monotonic() - since > GIVE_UP_SECONDS:
                raise NobodyReads("Nobody fetched the download any more.")
            time.sleep(pause)
            pause = min(pause * 2, 0.1)
        self._room = AHEAD - length - 1

    def _length(self) -> int:
        return int(self._redis.llen(self._key))

    # --- The reader's end ----------------------------------------------------------------------

    def read(self, *, seconds: float) -> bytes | None:
        """The next piece, None at the end; one without a byte says that there will be more.

        Raises WriterFailed, or TimeoutError after `seconds`.
        """
        answer = self._redis.blpop([self._key], timeout=seconds)
        if answer is None:
            raise TimeoutError
        piece = self._sealer.open(bytes(answer[1]))  # type: ignore[arg-type]  # bytes: nothing is decoded
        match piece[:1]:
            case b"d":
                return piece[1:]
            case b"e":
                return None
        raise WriterFailed(piece[1:].decode())

    def close(self) -> None:
        """Throw away what nobody will read."""
        self._redis.delete(self._key)


class Outgoing:
    """What a writer has, gathered into pieces that are worth their way; in between the reader is shown that we live."""

    def __init__(self, pipe: Pipe, tick: Tick) -> None:
        self.bytes = 0
        self._pipe, self._tick = pipe, tick
        self._gathered = bytearray()
        self._last = time.monotonic()

    def write(self, data: bytes) -> None:
        """Raises NobodyReads."""
        self._gathered += data
        if len(self._gathered) >= PIECE_BYTES:
            self._send(len(self._gathered) // PIECE_BYTES * PIECE_BYTES)

    def flush(self) -> None:
        """Send what has gathered. Raises NobodyReads."""
        self._send(len(self._gathered))

    def _send(self, count: int) -> None:
        with memoryview(self._gathered) as gathered, gathered[:count] as sent:
            self._pipe.write(sent, self._tick)
        del self._gathered[:count]
        self.bytes += count
        self._last = time.monotonic()

    def tick(self) -> None:
        """For whoever waits for more to write. Raises NobodyReads, and what the writer's own tick raises."""
        self._tick()
        if time.monotonic() - self._last < ALIVE_SECONDS:
            return
        if self._gathered:
            self.flush()
        else:
            self._pipe.show_life(self._tick)
            self._last = time.monotonic()

"""Pipe: bytes from a worker to a web process, in order, in bounded memory, unreadable on the way."""

import os
import threading
import uuid
from typing import Any

import pytest

from accounts.encryption import WrongKey
from jobs import pipe as pipe_module
from jobs.errors import Cancelled, Failure
from jobs.pipe import AHEAD, ALIVE_SECONDS, PIECE_BYTES, NobodyReads, Outgoing, Pipe, WriterFailed

PATIENCE_SECONDS = 20

pytestmark = pytest.mark.usefixtures("bell")


@pytest.fixture
def ends() -> tuple[Pipe, Pipe]:
    """The worker's end and the web process's end of one pipe."""
    number = uuid.uuid4()
    return Pipe(number), Pipe(number)


def nothing() -> None:
    """A tick that lets everything go on."""


def read_all(reader: Pipe) -> bytes:
    read = b""
    while (piece := reader.read(seconds=PATIENCE_SECONDS)) is not None:
        read += piece
    return read


def test_what_is_written_is_read_in_order(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    for number in range(AHEAD):
        writer.write(f"{number},".encode(), nothing)
    writer.finish()
    assert read_all(reader) == b"".join(b"%d," % number for number in range(AHEAD))


def test_any_bytes_pass_also_those_that_look_like_marks(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    pieces = [b"e", b"b", b"d", bytes(range(256)), b"\0"]
    for piece in pieces:
        writer.write(piece, nothing)
    writer.finish()
    assert read_all(reader) == b"".join(pieces)


def test_an_empty_file_is_only_an_end(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    writer.write(b"", nothing)
    writer.finish()
    assert reader.read(seconds=PATIENCE_SECONDS) is None


def test_much_at_once_comes_in_pieces_of_bounded_size(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    data = os.urandom(PIECE_BYTES * 3 + 17)
    writer.write(data, nothing)
    writer.finish()
    pieces = []
    while (piece := reader.read(seconds=PATIENCE_SECONDS)) is not None:
        pieces.append(piece)
    assert [len(piece) for piece in pieces] == [PIECE_BYTES] * 3 + [17]
    assert b"".join(pieces) == data


def test_what_lies_in_redis_is_not_what_was_written(ends: tuple[Pipe, Pipe], bell: Any) -> None:
    ends[0].write(b"the content of /etc/shadow", nothing)
    ends[0].fail("borg said: the content is broken")
    [key] = bell.keys("phpborg:pipe:*")
    lying: list[bytes] = bell.lrange(key, 0, -1)
    assert len(lying) == 2
    assert not any(word in piece for piece in lying for word in (b"content", b"shadow", b"borg"))


def test_what_is_never_read_goes_by_itself(ends: tuple[Pipe, Pipe], bell: Any) -> None:
    ends[0].write(b"x", nothing)
    [key] = bell.keys("phpborg:pipe:*")
    assert 0 < bell.ttl(key) <= 2 * pipe_module.GIVE_UP_SECONDS


def test_closing_throws_away_what_nobody_will_read(ends: tuple[Pipe, Pipe], bell: Any) -> None:
    writer, reader = ends
    writer.write(b"x", nothing)
    reader.close()
    assert bell.keys("phpborg:pipe:*") == []


def test_a_piece_that_somebody_planted_is_not_taken(ends: tuple[Pipe, Pipe], bell: Any) -> None:
    ends[0].write(b"ours", nothing)
    [key] = bell.keys("phpborg:pipe:*")
    bell.lpush(key, b"dplanted")
    with pytest.raises(WrongKey):
        ends[1].read(seconds=PATIENCE_SECONDS)


# --- Too fast, too slow, gone -----------------------------------------------------------------


def test_a_fast_writer_waits_for_a_slow_reader(ends: tuple[Pipe, Pipe], bell: Any) -> None:
    writer, reader = ends
    data = os.urandom(PIECE_BYTES)
    full = threading.Event()
    most = 0

    def tick() -> None:
        full.set()

    def write() -> None:
        for _ in range(3 * AHEAD):
            writer.write(data, tick)
        writer.finish()

    thread = threading.Thread(target=write)
    thread.start()
    assert full.wait(PATIENCE_SECONDS)  # it is waiting now
    read = 0
    while True:
        most = max(most, writer._length())
        piece = reader.read(seconds=PATIENCE_SECONDS)
        if piece is None:
            break
        assert piece == data
        read += 1
    thread.join()
    assert read == 3 * AHEAD
    assert AHEAD <= most <= AHEAD + 1  # the end does not wait for room


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The writer's clock: it goes on only while the writer pauses."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("jobs.pipe.time.monotonic", lambda: now[0])
    monkeypatch.setattr("jobs.pipe.time.sleep", sleep)
    return now


def fill(writer: Pipe) -> None:
    for _ in range(AHEAD):
        writer.write(b"x", nothing)


def test_a_writer_whose_reader_is_gone_gives_up(ends: tuple[Pipe, Pipe], clock: list[float]) -> None:
    writer, _ = ends
    fill(writer)
    with pytest.raises(NobodyReads, match=r"Nobody fetched the download any more.") as failure:
        writer.write(b"one too many", nothing)
    assert isinstance(failure.value, Failure)
    assert failure.value.advice
    assert pipe_module.GIVE_UP_SECONDS < clock[0] < pipe_module.GIVE_UP_SECONDS + 1


def test_a_reader_that_reads_seldom_is_not_gone(ends: tuple[Pipe, Pipe], clock: list[float]) -> None:
    writer, reader = ends
    fill(writer)
    taken_at = [0.0]

    def tick() -> None:
        if clock[0] - taken_at[0] > pipe_module.GIVE_UP_SECONDS - 10:
            taken_at[0] = clock[0]
            reader.read(seconds=PATIENCE_SECONDS)

    for _ in range(10):
        writer.write(b"x", tick)
    assert clock[0] > 8 * (pipe_module.GIVE_UP_SECONDS - 10)


def test_a_waiting_writer_can_be_cancelled(ends: tuple[Pipe, Pipe], clock: list[float]) -> None:
    writer, _ = ends
    fill(writer)

    def tick() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        writer.write(b"x", tick)


def test_a_reader_that_gets_nothing_is_told_so_in_time(ends: tuple[Pipe, Pipe]) -> None:
    with pytest.raises(TimeoutError):
        ends[1].read(seconds=0.05)


def test_a_reader_waits_as_long_as_it_was_asked_to(ends: tuple[Pipe, Pipe]) -> None:
    """redis-py's own limit of five seconds would end the wait for a worker that starts slowly."""
    assert ends[1]._redis.connection_pool.connection_kwargs["socket_timeout"] is None


def test_a_reader_that_was_there_first_gets_what_comes(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    read: list[Any] = []
    thread = threading.Thread(target=lambda: read.append(reader.read(seconds=PATIENCE_SECONDS)))
    thread.start()
    writer.write(b"at last", nothing)
    thread.join()
    assert read == [b"at last"]


def test_a_writer_that_fails_says_why(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    writer.write(b"half of it", nothing)
    writer.fail("The archive is gone.")
    assert reader.read(seconds=PATIENCE_SECONDS) == b"half of it"
    with pytest.raises(WriterFailed, match=r"^The archive is gone.$"):
        reader.read(seconds=PATIENCE_SECONDS)


def test_a_writer_that_fails_over_a_hostile_name_says_why(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    writer.fail("No such file: /x/\udcff")
    with pytest.raises(WriterFailed, match=r"^No such file: /x/\\udcff$"):
        reader.read(seconds=PATIENCE_SECONDS)


def test_two_pipes_do_not_meet(ends: tuple[Pipe, Pipe]) -> None:
    other = Pipe(uuid.uuid4())
    ends[0].write(b"x", nothing)
    with pytest.raises(TimeoutError):
        other.read(seconds=0.05)


# --- What gathers before it is sent -------------------------------------------------------------


def test_little_things_are_sent_together(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    outgoing = Outgoing(writer, nothing)
    for _ in range(PIECE_BYTES // 1000 + 1):
        outgoing.write(b"x" * 1000)
    assert writer._length() == 1
    outgoing.write(b"the rest")
    outgoing.flush()
    writer.finish()
    assert read_all(reader) == b"x" * 1000 * (PIECE_BYTES // 1000 + 1) + b"the rest"
    assert outgoing.bytes == 1000 * (PIECE_BYTES // 1000 + 1) + 8


def test_a_writer_that_waits_shows_that_it_lives(ends: tuple[Pipe, Pipe], clock: list[float]) -> None:
    """Red without it: in a large archive borg says nothing for minutes, and the reader would give up."""
    writer, reader = ends
    outgoing = Outgoing(writer, nothing)
    outgoing.tick()
    assert writer._length() == 0
    clock[0] += ALIVE_SECONDS
    outgoing.tick()
    outgoing.tick()
    assert reader.read(seconds=PATIENCE_SECONDS) == b""
    assert writer._length() == 0
    outgoing.write(b"x")
    clock[0] += ALIVE_SECONDS
    outgoing.tick()
    assert reader.read(seconds=PATIENCE_SECONDS) == b"x"


def test_a_writer_that_only_shows_that_it_lives_finds_out_that_nobody_reads(
    ends: tuple[Pipe, Pipe], clock: list[float]
) -> None:
    outgoing = Outgoing(ends[0], nothing)
    for _ in range(AHEAD):
        clock[0] += ALIVE_SECONDS
        outgoing.tick()
    clock[0] += ALIVE_SECONDS
    with pytest.raises(NobodyReads):
        outgoing.tick()

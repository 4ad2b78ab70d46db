"""servers.ssh.transport: lines out of a stream, and small commands run to their end."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Cause, Failure
from servers.ssh import transport
from servers.ssh.command import Command
from servers.ssh.transport import LINE_LIMIT, Completed, Lines, TooMuchOutput, run
from tests.fakes import Answer, FakeMachine


def lines_of(*chunks: bytes, limit: int = LINE_LIMIT) -> list[str]:
    lines = Lines(limit)
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.end()


# --- Lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"", []), (b"\n", [""]), (b"\n\n", ["", ""]), (b"a", ["a"]), (b"a\n", ["a"]), (b"a\nb", ["a", "b"]),
        (b"a\n\nb\n", ["a", "", "b"]), (b"a\r\nb\r\n", ["a", "b"]), (b"a\r", ["a"]), (b"a\rb\n", ["a\rb"]),
        (b"\r\n", [""]), (b" a \t\n", [" a \t"]), ("é😀\n".encode(), ["é😀"]),
        (b"a\x0bb\x0cc\x85\n", ["a\x0bb\x0cc\\x85"]),
        ("a\u2028b\n".encode(), ["a\u2028b"]), (b"\xff\xfe\n", ["\\xff\\xfe"]), (b"a\0b\n", ["a\0b"]),
        (b"\xf0\x9f\x98\n", ["\\xf0\\x9f\\x98"]), (b"\xed\xa0\x80\n", ["\\xed\\xa0\\x80"]),
    ],
)  # fmt: skip
def test_a_stream_becomes_its_lines(stream: bytes, lines: list[str]) -> None:
    assert lines_of(stream) == lines
    assert lines_of(*(stream[at : at + 1] for at in range(len(stream)))) == lines


@given(st.lists(st.binary(max_size=30)), st.integers(1, 12))
def test_chunks_make_no_difference(chunks: list[bytes], limit: int) -> None:
    assert lines_of(*chunks, limit=limit) == lines_of(b"".join(chunks), limit=limit)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.data())
def test_cut_characters_are_put_together_again(text: str, data: st.DataObject) -> None:
    stream = text.encode()
    cut = data.draw(st.integers(0, len(stream)))
    assert "\n".join(lines_of(stream[:cut], stream[cut:])) == "\n".join(
        line.rstrip("\r") for line in text.removesuffix("\n").split("\n")
    )


@given(st.binary(), st.integers(0, 8))
def test_no_line_is_longer_than_the_limit(stream: bytes, limit: int) -> None:
    assert all(len(line) <= limit * len(r"\xff") for line in lines_of(stream, limit=limit))


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"12345\nab\n"], ["12345", "ab"]),
        ([b"123456\nab\n"], ["12345", "ab"]),
        ([b"123", b"456", b"789", b"\nab\n"], ["12345", "ab"]),
        ([b"12345", b"6", b"\n", b"ab"], ["12345", "ab"]),
        ([b"123456789"], ["12345"]),
        ([b"123456789", b"more"], ["12345"]),
        ([b"12345678\n12345678\n1"], ["12345", "12345", "1"]),
        ([b"1234\xc3\xa9\n"], ["1234\\xc3"]),
    ],
)
def test_a_line_that_is_too_long_loses_its_rest_and_no_other_line_does(chunks: list[bytes], lines: list[str]) -> None:
    assert lines_of(*chunks, limit=5) == lines


def test_a_line_without_an_end_takes_no_more_memory_than_the_limit() -> None:
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"x" * 1024 * 1024) == []
    assert len(lines._rest) == LINE_LIMIT
    assert [len(line) for line in lines.feed(b"\nnext\n")] == [LINE_LIMIT, 4]


def test_an_ended_stream_has_no_second_end() -> None:
    lines = Lines()
    lines.feed(b"last")
    assert lines.end() == ["last"]
    assert lines.end() == []


# --- run --------------------------------------------------------------------------------------


def test_run_collects_both_streams_and_the_code() -> None:
    machine = FakeMachine(id=Answer(stdout=b"0\n", stderr=["one", "two"], code=3))
    assert run(machine, Command(("id",)), lambda: None) == Completed(3, b"0\n", ["one", "two"])


@pytest.mark.parametrize(
    ("stdout", "text"), [(b"", ""), (b" 0\n", "0"), (b"\xff\n", "\\xff"), ("é".encode(), "é"), (b"a\nb\n", "a\nb")]
)
def test_the_text_of_an_answer_is_readable(stdout: bytes, text: str) -> None:
    assert Completed(0, stdout).text == text


@pytest.mark.parametrize(
    "answer", [Answer(stdout=b"x" * 2049), Answer(stderr=["x" * 2049]), Answer(stderr=["x" * 10] * 300)]
)
def test_more_output_than_the_limit_ends_the_command(answer: Answer) -> None:
    machine = FakeMachine(id=answer)
    with pytest.raises(TooMuchOutput, match=r"^web-1 answered with more than 2 kB to a simple question\.$"):
        run(machine, Command(("id",)), lambda: None, limit=2048)
    assert machine.processes[0].ended


def test_the_limit_itself_is_allowed() -> None:
    machine = FakeMachine(id=Answer(stdout=b"x" * 2048))
    assert len(run(machine, Command(("id",)), lambda: None, limit=2048).stdout) == 2048


def test_a_tick_that_raises_ends_the_command() -> None:
    def stop() -> None:
        raise TimeoutError

    machine = FakeMachine()
    with pytest.raises(TimeoutError):
        run(machine, Command(("id",)), stop)
    assert machine.processes[0].ended


@pytest.mark.parametrize(("size", "too_much"), [(1024 * 1024, False), (1024 * 1024 + 1, True)])
def test_the_default_limit_is_a_megabyte(size: int, too_much: bool) -> None:
    machine = FakeMachine(id=Answer(stdout=b"x" * size))
    with pytest.raises(TooMuchOutput) if too_much else contextlib.nullcontext():
        run(machine, Command(("id",)), lambda: None)


# --- What can go wrong ------------------------------------------------------------------------

FAILURES = [
    (transport.Unreachable, Cause.NETWORK, True), (transport.ConnectionLost, Cause.NETWORK, True),
    (transport.HostKeyUnconfirmed, Cause.AUTHENTICATION, False),
    (transport.HostKeyChanged, Cause.AUTHENTICATION, False),
    (transport.LoginRefused, Cause.AUTHENTICATION, False), (transport.PasswordRefused, Cause.AUTHENTICATION, False),
    (transport.NoSudo, Cause.AUTHENTICATION, False),
    (transport.TooMuchOutput, Cause.SOURCE, False), (transport.TooLong, Cause.SOURCE, False),
    (transport.NoProgram, Cause.BORG, False), (transport.NoFiles, Cause.AUTHENTICATION, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "cause", "may_pass"), FAILURES)
def test_only_what_may_pass_is_tried_again(kind: type[Failure], cause: Cause, may_pass: bool) -> None:
    failure = kind("A sentence.")
    assert (failure.cause, failure.may_pass) == (cause, may_pass)
    assert failure.own_advice == failure.advice


def test_an_advice_for_one_case_replaces_the_general_one() -> None:
    assert transport.Unreachable("A sentence.", advice="Call Ada.").own_advice == "Call Ada."


def test_every_failure_is_looked_at() -> None:
    known = {value for value in vars(transport).values() if isinstance(value, type) and issubclass(value, Failure)}
    assert known - {Failure} == {kind for kind, _, _ in FAILURES}

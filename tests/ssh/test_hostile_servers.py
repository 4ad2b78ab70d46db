"""servers.ssh.remote against servers that do not keep to the rules: the worker must live, and know why."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import paramiko
import pytest

from servers.ssh import remote as module
from servers.ssh.command import PID_MARK, Command
from servers.ssh.remote import HostKey, Login, Remote, see_host_key
from servers.ssh.transport import LINE_LIMIT, ConnectionLost, TooMuchOutput, Unreachable, run
from tests.ssh.hostile import Talk, listening, rogue
from tests.ssh.watching import both, no_tick

PIECE = b"x" * 32_768


class Stop(Exception):
    """What a tick raises here."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a server that says nothing."""
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(module, "PID_SECONDS", 0.1)


@pytest.fixture
def private_key(key_pair: tuple[str, str]) -> str:
    return key_pair[0]


# --- Before the login -------------------------------------------------------------------------


def silent(caller: socket.socket) -> None:
    caller.recv(100)
    threading.Event().wait(20)


def dribbling(caller: socket.socket) -> None:
    while True:
        caller.sendall(b"S")
        threading.Event().wait(0.05)


def endless(data: bytes, *, first: bytes = b"") -> Talk:
    def talk(caller: socket.socket) -> None:
        caller.sendall(first)
        for piece in itertools.repeat(data):
            caller.sendall(piece)

    return talk


NO_SSH: dict[str, Talk] = {
    "hangs up": lambda caller: caller.close(),
    "says nothing": silent,
    "says a letter now and then": dribbling,
    "speaks HTTP": lambda caller: caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "speaks SSH 1": lambda caller: caller.sendall(b"SSH-1.5-old\r\n"),
    "says hello and hangs up": lambda caller: [caller.sendall(b"SSH-2.0-x\r\n"), caller.close()],  # type: ignore[func-returns-value]
    "says hello and then nonsense": endless(PIECE, first=b"SSH-2.0-x\r\n"),
    "says hello and then an endless packet": endless(bytes(32_768), first=b"SSH-2.0-x\r\n\xff\xff\xff\xf4"),
    "says bytes that are no text": lambda caller: caller.sendall(b"\xff\xfe\r\n" * 200),
    "has no end of banners": endless(b"welcome\r\n" * 1000),
    "has a banner without an end": endless(PIECE),
}  # fmt: skip


@pytest.mark.parametrize("talk", NO_SSH.values(), ids=NO_SSH)
def test_what_is_no_ssh_server_is_unreachable(talk: Talk) -> None:
    with listening(talk) as port, pytest.raises(Unreachable) as caught:
        see_host_key("127.0.0.1", port)
    said = f"127.0.0.1 answers on port {port}, but not as an SSH server that we can talk to: "
    assert str(caught.value).startswith(said)
    assert str(caught.value) != f"{said}."


@pytest.mark.parametrize("talk", NO_SSH.values(), ids=NO_SSH)
def test_no_login_is_tried_at_what_is_no_ssh_server(talk: Talk, private_key: str) -> None:
    with listening(talk) as port, pytest.raises(Unreachable, match="not as an SSH server that we can talk to"):
        Remote(Login("127.0.0.1", port, "root", private_key), any_key())


def any_key() -> HostKey:
    key = paramiko.ECDSAKey.generate()
    return HostKey(key.get_name(), key.get_base64())


@pytest.mark.parametrize("first", [b"", b"SSH-2.0-x\r\n\xff\xff\xff\xf4"], ids=["banner", "packet"])
def test_what_has_no_end_fills_no_memory(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 2)
    tracemalloc.start()
    try:
        with listening(endless(PIECE, first=first)) as port, pytest.raises(Unreachable):
            see_host_key("127.0.0.1", port)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * 1024**2


def test_a_packet_of_four_gigabytes_is_not_gathered() -> None:
    monster = endless(PIECE, first=b"SSH-2.0-x\r\n\xff\xff\xff\xf4")
    with listening(monster) as port, pytest.raises(Unreachable, match=r"it announced a packet of 4,294,967,\d+ bytes"):
        see_host_key("127.0.0.1", port)


def test_a_server_with_only_weak_ciphers_is_unreachable(monkeypatch: pytest.MonkeyPatch, private_key: str) -> None:
    with rogue(private_key) as (login, _):
        monkeypatch.setattr(module, "CIPHERS", ("aes128-cbc",))
        monkeypatch.setattr(paramiko.Transport, "_preferred_ciphers", ("aes256-ctr",))
        with pytest.raises(Unreachable):
            see_host_key(login.host, login.port)


# --- After the login --------------------------------------------------------------------------


@contextlib.contextmanager
def logged_in(server: contextlib.AbstractContextManager[tuple[Login, HostKey]]) -> Iterator[Remote]:
    with server as (login, host_key), Remote(login, host_key) as remote:
        yield remote


def test_a_command_that_is_never_answered_is_a_lost_connection(private_key: str) -> None:
    with logged_in(rogue(private_key, answers=threading.Event())) as remote, pytest.raises(ConnectionLost):
        remote.start(Command(("true",)), no_tick)


def test_a_signal_that_is_never_answered_was_not_sent(private_key: str) -> None:
    with logged_in(rogue(private_key, answers=threading.Event())) as remote:
        assert remote.signal("TERM", "1", seconds=0.1) is False


def test_a_signal_whose_end_is_never_told_was_not_sent(private_key: str) -> None:
    with logged_in(rogue(private_key, lambda channel: channel.shutdown_write(), reads=False)) as remote:
        assert remote.signal("TERM", "1", seconds=0.1) is False


def test_a_command_that_is_refused_is_a_lost_connection(private_key: str) -> None:
    with logged_in(rogue(private_key, answers=False)) as remote, pytest.raises(ConnectionLost):
        remote.start(Command(("true",)), no_tick)


def test_a_channel_that_takes_no_input_is_no_trap(private_key: str) -> None:
    with logged_in(rogue(private_key, reads=False)) as remote:
        remote.start(Command(("cat",), stdin=b"x" * 10_000_000), no_tick).end()
        assert remote.is_alive


def exits(channel: paramiko.Channel, code: int = 0) -> None:
    channel.send_exit_status(code)
    channel.close()


def test_endless_output_is_too_much(private_key: str) -> None:
    def flood(channel: paramiko.Channel) -> None:
        for _ in itertools.count():
            channel.sendall(PIECE)

    with logged_in(rogue(private_key, flood)) as remote:
        with pytest.raises(TooMuchOutput, match=r"^127\.0\.0\.1 answered with more than 1024 kB"):
            run(remote, Command(("id",)), no_tick)
        assert remote.is_alive


def test_endless_complaints_are_too_much(private_key: str) -> None:
    def complain(channel: paramiko.Channel) -> None:
        for _ in itertools.count():
            channel.sendall_stderr(b"no\n" * 10_000)

    with logged_in(rogue(private_key, complain)) as remote, pytest.raises(TooMuchOutput):
        run(remote, Command(("id",)), no_tick)


def test_a_line_of_a_hundred_megabytes_is_cut(private_key: str) -> None:
    def complain(channel: paramiko.Channel) -> None:
        for _ in range(100 * 1024 * 1024 // len(PIECE)):
            channel.sendall_stderr(PIECE)
        channel.sendall_stderr(b"\nthe next line\n")
        exits(channel)

    with logged_in(rogue(private_key, complain)) as remote:
        stdout, stderr = both(remote.start(Command(("id",)), no_tick))
    assert (stdout, [len(line) for line in stderr]) == (b"", [LINE_LIMIT, len("the next line")])


@pytest.mark.parametrize(
    "forged", ["1; reboot", "-1", "0x10", "", " ", "1 1", "½", "$(id)", "\n1", "9" * 5000], ids=lambda text: text[:9]
)
def test_a_forged_process_id_is_no_process_id(private_key: str, forged: str) -> None:
    def tell(channel: paramiko.Channel) -> None:
        channel.sendall_stderr(f"{PID_MARK}{forged}\n".encode())
        exits(channel)

    with logged_in(rogue(private_key, tell)) as remote:
        process = remote.start(Command(("id",)), no_tick)
        _, stderr = both(process)
    assert process.pid is None
    assert stderr


@pytest.mark.parametrize("code", [0, 255, 256, 2**31, 2**32 - 1])
def test_an_exit_code_may_be_any_number(private_key: str, code: int) -> None:
    with logged_in(rogue(private_key, lambda channel: exits(channel, code))) as remote:
        assert run(remote, Command(("id",)), no_tick).code == code


def test_a_channel_that_closes_without_a_word_has_no_exit_code(private_key: str) -> None:
    with logged_in(rogue(private_key, lambda channel: channel.close())) as remote:
        assert run(remote, Command(("id",)), no_tick).code is None


def test_an_end_that_never_comes_can_still_be_cancelled(private_key: str) -> None:
    """The server says that there is no more output, but neither how the command ended nor that it is over."""
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) == 3:
            raise Stop

    with logged_in(rogue(private_key, lambda channel: channel.shutdown_write())) as remote, pytest.raises(Stop):
        run(remote, Command(("id",)), tick)


def test_a_session_that_hangs_up_in_mid_command_is_a_lost_connection(private_key: str) -> None:
    def hang_up(channel: paramiko.Channel) -> None:
        channel.sendall(b"so far")
        channel.get_transport().close()

    with logged_in(rogue(private_key, hang_up)) as remote, pytest.raises(ConnectionLost):
        run(remote, Command(("id",)), no_tick)

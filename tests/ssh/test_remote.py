"""servers.ssh.remote against a real sshd: commands, their output, and their end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest

from phpborg.embedded import Sshd
from servers.ssh import remote as module
from servers.ssh.command import NO_DIRECTORY, PID_MARK, Command, shell_line
from servers.ssh.remote import Login, Remote, RemoteProcess, see_host_key
from servers.ssh.transport import ConnectionLost, TooLong, TooMuchOutput, run
from tests.ssh.conftest import USER
from tests.ssh.test_command import NASTY
from tests.ssh.watching import both, is_running, no_tick, processes_with, until

pytestmark = pytest.mark.e2e

FOR_EVER = "while :; do sleep 0.05; done"


class Stop(Exception):
    """What a tick raises here."""


def sh(script: str, *words: str) -> Command:
    return Command(("sh", "-c", script, "sh", *words))


def stop_after(count: int) -> Callable[[], None]:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) > count:
            raise Stop

    return tick


@pytest.fixture
def marker() -> str:
    """A word by which a test knows its own processes."""
    return f"phpborg-test-{secrets.token_hex(8)}"


def stdout_line(process: RemoteProcess) -> str:
    return next(output for output in process if isinstance(output, bytes)).decode().strip()


# --- What goes in -----------------------------------------------------------------------------


def collected(process: RemoteProcess) -> bytes:
    return b"".join(output for output in process if isinstance(output, bytes))


def test_what_is_written_bit_by_bit_arrives(remote: Remote) -> None:
    pieces = [os.urandom(300_000) for _ in range(20)]
    with remote.open(sh("sha256sum"), no_tick) as process:
        assert all(process.write(piece) for piece in pieces)
        process.finish()
        assert collected(process).split()[0].decode() == hashlib.sha256(b"".join(pieces)).hexdigest()
        assert process.exit_code() == 0


def test_a_command_that_answers_more_than_fits_is_fed_all_the_same(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red where `write` does not read: the command waits for us, and we for it."""
    monkeypatch.setattr(module, "WINDOW_BYTES", 256 * 1024)
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.05)
    with remote.open(sh("cat"), stop_after(2000)) as process:
        assert all(process.write(bytes(100_000)) for _ in range(100))
        process.finish()
        assert len(collected(process)) == 10_000_000


def test_a_slow_reader_holds_up_who_writes(remote: Remote) -> None:
    """Red where what is written waits in memory."""
    piece = bytes(1024 * 1024)
    tracemalloc.start()
    try:
        with remote.open(sh("sleep 0.5; exec cat >/dev/null"), no_tick) as process:
            assert all(process.write(piece) for _ in range(48))
            process.finish()
            assert collected(process) == b""
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_who_reads_no_more_is_written_to_no_more(remote: Remote) -> None:
    with remote.open(sh("echo enough >&2; exit 3"), stop_after(2000)) as process:
        while process.write(bytes(100_000)):
            pass
        assert list(process) == ["enough"]
        assert process.exit_code() == 3


def test_a_connection_that_breaks_while_one_writes_is_lost(login: Login, host_key: Any) -> None:
    with Remote(login, host_key) as remote, remote.open(sh("exec cat >/dev/null"), no_tick) as process:
        assert process.write(bytes(1000))
        remote.transport.sock.close()
        with pytest.raises(ConnectionLost):
            write_and_read_on(process)


def write_and_read_on(process: RemoteProcess) -> None:
    while process.write(bytes(100_000)):
        pass
    list(process)


# --- What comes out ---------------------------------------------------------------------------


def test_both_streams_come_in_their_order(remote: Remote) -> None:
    with remote.start(sh("for n in 1 2 3; do echo out $n; echo err $n >&2; done"), no_tick) as process:
        assert both(process) == (b"out 1\nout 2\nout 3\n", ["err 1", "err 2", "err 3"])


def test_the_process_id_is_known_and_not_shown(remote: Remote) -> None:
    with remote.start(sh("echo $$; echo late >&2"), no_tick) as process:
        stdout, stderr = both(process)
    assert (str(process.pid), stderr) == (stdout.decode().strip(), ["late"])


def test_only_the_first_process_id_counts(remote: Remote) -> None:
    with remote.start(sh(f"echo '{PID_MARK}1' >&2; echo '{PID_MARK}1; id' >&2; echo $$"), no_tick) as process:
        stdout, stderr = both(process)
    assert str(process.pid) == stdout.decode().strip()
    assert stderr == [f"{PID_MARK}1", f"{PID_MARK}1; id"]


def test_bytes_come_as_they_are(remote: Remote) -> None:
    with remote.start(sh(r"printf '\000\377\r\n'; printf 'no end\377' >&2"), no_tick) as process:
        assert both(process) == (b"\0\xff\r\n", ["no end\\xff"])


@pytest.mark.parametrize("code", [0, 1, 2, 42, 107, 127, 137, 143, 255])
def test_the_exit_code_is_told(remote: Remote, code: int) -> None:
    assert run(remote, sh(f"exit {code}"), no_tick).code == code


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL", "SEGV"])
def test_a_killed_command_has_no_exit_code(remote: Remote, name: str) -> None:
    assert run(remote, sh(f"kill -{name} $$"), no_tick).code is None


def test_a_program_that_is_not_there_is_the_shells_127(remote: Remote) -> None:
    done = run(remote, Command(("/no/such/borg", "list")), no_tick)
    assert done.code == 127
    assert "/no/such/borg" in done.stderr[0]


def test_a_hundred_megabytes_stream_through_little_memory(remote: Remote) -> None:
    size = 0
    tracemalloc.start()
    try:
        with remote.start(Command(("head", "-c", "100000000", "/dev/zero")), no_tick) as process:
            for piece in process:
                assert isinstance(piece, bytes)
                size += len(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 100_000_000
    assert peak < 3 * module.WINDOW_BYTES


def test_output_that_nobody_reads_stays_on_the_server(remote: Remote) -> None:
    with remote.start(sh("head -c 200000000 /dev/zero; echo done >&2"), no_tick) as process:
        outputs = iter(process)
        next(outputs)
        assert len(process._channel.in_buffer) <= module.WINDOW_BYTES


def test_a_stream_goes_on_while_the_server_asks_for_new_keys(
    tmp_path: Path, key_pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges: list[paramiko.Transport] = []
    original = paramiko.Transport._send_kex_init  # type: ignore[attr-defined]

    def counted(transport: paramiko.Transport) -> None:
        exchanges.append(transport)
        original(transport)

    monkeypatch.setattr(paramiko.Transport, "_send_kex_init", counted)
    with Sshd(tmp_path / "sshd", options=["RekeyLimit 1M", f"SetEnv HOME={tmp_path}"]) as server:
        server.authorized_keys.write_text(key_pair[1])
        login = Login("127.0.0.1", server.port, USER, key_pair[0])
        with Remote(login, see_host_key("127.0.0.1", server.port)) as session:
            for _ in range(3):
                done = run(session, sh("head -c 5000000 /dev/zero | tee /dev/stderr"), no_tick, limit=10**8)
                assert done.stdout == bytes(5_000_000)
    assert len(exchanges) > 10


def test_it_is_never_we_who_ask_for_new_keys_first(remote: Remote) -> None:
    """paramiko hangs when a channel closes while it waits for the answer; OpenSSH asks after 64 GB."""
    assert remote.transport.packetizer.REKEY_BYTES > 64 * 1024**3


# --- What goes in -----------------------------------------------------------------------------


@pytest.mark.parametrize("word", NASTY, ids=ascii)
def test_a_nasty_word_reaches_the_program_as_it_is(remote: Remote, word: str) -> None:
    done = run(remote, Command(("printf", r"%s\0", word, word), env={"NASTY": word}), no_tick)
    assert done.stdout == (os.fsencode(word) + b"\0") * 2


def test_the_environment_reaches_the_program(remote: Remote) -> None:
    command = Command(("sh", "-c", 'printf "%s" "$NASTY"'), env={"NASTY": "a'b\n$(id)\udcff"})
    assert run(remote, command, no_tick).stdout == b"a'b\n$(id)\xff"


@pytest.mark.parametrize("secret", [b"", b"hunter2", b"\0\xff\n", b"x" * 1_000_000])
def test_standard_input_reaches_the_program_and_ends(remote: Remote, secret: bytes) -> None:
    assert run(remote, Command(("cat",), stdin=secret), no_tick, limit=2_000_000).stdout == secret


def test_a_program_that_does_not_read_its_input_is_no_problem(remote: Remote) -> None:
    assert run(remote, Command(("true",), stdin=b"x" * 100_000), no_tick).code == 0


def test_the_secret_is_in_no_process_list(remote: Remote, marker: str) -> None:
    command = Command(("sh", "-c", 'read x; cat "/proc/$$/cmdline" "/proc/$$/environ"; ps -ef'), stdin=marker.encode())
    assert marker.encode() not in run(remote, command, no_tick).stdout


def test_the_program_runs_where_it_is_told(remote: Remote, tmp_path: Path) -> None:
    directory = tmp_path / "a 'quoted'\n$(dir)\udcff"
    os.mkdir(os.fsencode(directory))
    done = run(remote, Command(("pwd", "-P"), cwd=str(directory)), no_tick)
    assert done.stdout == os.fsencode(directory.resolve()) + b"\n"


def test_a_directory_that_is_not_there_has_an_exit_code_of_its_own(remote: Remote) -> None:
    done = run(remote, Command(("echo", "ran"), cwd="/no/such/directory"), no_tick)
    assert (done.code, done.stdout) == (NO_DIRECTORY, b"")


def test_the_longest_command_that_is_allowed_works(remote: Remote) -> None:
    def command(size: int) -> Command:
        return sh('echo "${#1}"', "x" * size)

    most = module.LINE_BYTES - len(shell_line(command(0), sudo=False)) + len("''")
    assert run(remote, command(most), no_tick).text == str(most)
    with pytest.raises(TooLong, match=r"^The command for 127\.0\.0\.1 is too long: 120,001 bytes, of 120,000\.$"):
        remote.start(command(most + 1), no_tick)


@pytest.mark.parametrize("count", [1_500, 5_000, 100_000])
def test_a_command_with_too_many_words_is_refused_before_it_is_sent(remote: Remote, count: int) -> None:
    """For sshd's shell the line is one word, of which Linux takes 128 KiB: it would end with code 1, a warning."""
    with pytest.raises(TooLong):
        remote.start(Command(("borg", "extract", *["x" * 99] * count)), no_tick)
    assert run(remote, Command(("echo", "still here")), no_tick).text == "still here"


# --- Ticks and the end ------------------------------------------------------------------------


def test_ticks_come_while_nothing_is_said(remote: Remote, tmp_path: Path) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) == 3:
            (tmp_path / "go").touch()

    done = run(remote, sh('while [ ! -e "$1" ]; do sleep 0.05; done', str(tmp_path / "go")), tick)
    assert (done.code, len(ticks) >= 3) == (0, True)


@pytest.mark.parametrize("ticks", [0, 1, 2, 5])
def test_a_tick_that_raises_ends_the_program(remote: Remote, marker: str, ticks: int) -> None:
    process = remote.start(sh(f"echo started; {FOR_EVER}", marker), stop_after(ticks))
    until(lambda: bool(processes_with(marker)), "The program")
    with pytest.raises(Stop), process:
        list(process)
    until(lambda: not processes_with(marker), "The end of the program")


def test_an_interrupt_comes_first_and_lets_the_program_finish(remote: Remote, tmp_path: Path) -> None:
    script = 'trap "echo checkpoint >\\"$1\\"; exit 0" INT; trap "echo no >\\"$1\\"" TERM; echo $$; ' + FOR_EVER
    with remote.start(sh(script, str(tmp_path / "log")), no_tick) as process:
        stdout_line(process)
    assert (tmp_path / "log").read_text() == "checkpoint\n"
    assert process.exit_code() == 0


def test_a_program_that_ignores_every_request_is_killed_with_its_children(
    remote: Remote, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", {"INT": 0.1, "TERM": 0.1, "KILL": 10.0})
    with remote.start(sh(f'trap "" INT TERM; ({FOR_EVER}) & echo $!; {FOR_EVER}', marker), no_tick) as process:
        child = int(stdout_line(process))
    assert process.exit_code() is None
    until(lambda: not is_running(child) and not processes_with(marker), "The end of the program")


def test_a_program_that_floods_and_ignores_requests_is_killed(
    remote: Remote, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", {"INT": 0.1, "TERM": 0.1, "KILL": 10.0})
    with remote.start(sh('trap "" INT TERM; yes "$1" & yes "$1" >&2', marker), no_tick) as process:
        next(iter(process))
    assert process.exit_code() is None
    until(lambda: not processes_with(marker), "The end of the program")


def test_a_program_whose_output_is_too_much_is_ended(remote: Remote, marker: str) -> None:
    with pytest.raises(TooMuchOutput):
        run(remote, sh('exec yes "$1"', marker), no_tick)
    until(lambda: not processes_with(marker), "The end of the program")


def test_a_program_may_say_much_before_it_ends(remote: Remote) -> None:
    script = 'trap "head -c 40000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 5" INT; echo $$; ' + FOR_EVER
    with remote.start(sh(script), no_tick) as process:
        stdout_line(process)
    assert process.exit_code() == 5


def test_the_end_of_what_has_ended_asks_for_nothing(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(remote, "signal", lambda *words, **_: asked.append(words))
    with remote.start(sh("exit 3"), no_tick) as process:
        list(process)
        process.end()
    assert (process.exit_code(), asked) == (3, [])


def test_a_signal_that_cannot_be_sent_is_told(remote: Remote) -> None:
    assert remote.signal("TERM", "999999999") is False
    remote.close()
    assert remote.signal("TERM", "1") is False


# --- Connections that break -------------------------------------------------------------------


def test_a_connection_that_breaks_in_mid_command_is_lost(remote: Remote) -> None:
    """The death of the server's sshd, as this session's own process."""
    process = remote.start(sh(f"echo $PPID; {FOR_EVER}"), no_tick)
    outputs = iter(process)
    daemon = int(next(output for output in outputs if isinstance(output, bytes)))
    os.kill(daemon, signal.SIGKILL)
    try:
        with pytest.raises(ConnectionLost, match=r"^The SSH connection to 127\.0\.0\.1 broke\.$"), process:
            list(outputs)
    finally:
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
    assert process.exit_code() is None


def test_what_came_before_the_connection_broke_is_yielded(remote: Remote, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    process = remote.start(sh(f"echo $$ $PPID > {numbers}; echo last words; {FOR_EVER}"), no_tick)
    until(process._channel.recv_ready, "the last words have arrived")
    command, daemon = map(int, numbers.read_text().split())
    os.kill(daemon, signal.SIGKILL)
    os.kill(command, signal.SIGKILL)
    until(lambda: not remote.is_alive, "the connection has broken")
    seen: list[object] = []
    with contextlib.suppress(ConnectionLost), process:
        seen.extend(process)
    assert b"last words\n" in seen


def test_a_session_that_breaks_before_a_command_is_lost(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the channel and the command: the connection breaks there too."""
    original = remote.transport.open_session

    def open_and_break(*words: Any, **options: Any) -> paramiko.Channel:
        channel = original(*words, **options)
        remote.transport.close()
        return channel

    monkeypatch.setattr(remote.transport, "open_session", open_and_break)
    with pytest.raises(ConnectionLost):
        remote.start(Command(("true",)), no_tick)


def test_one_session_too_many_is_refused_in_words(remote: Remote) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):  # Sshd's MaxSessions
            stack.enter_context(contextlib.closing(remote.execute("cat")))
        with pytest.raises(ConnectionLost, match=r"^127\.0\.0\.1 does not open another session: Connect failed\.$"):
            remote.start(Command(("true",)), no_tick)
    assert remote.is_alive

"""servers.ssh.local: commands on our own machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from servers.ssh import local
from servers.ssh.command import Command
from servers.ssh.local import Local, LocalProcess
from servers.ssh.transport import NoProgram, run
from tests.ssh.watching import both, is_running, no_tick, until

FOR_EVER = "while :; do sleep 0.05; done"


class Stop(Exception):
    """What a tick raises here."""


def sh(script: str, *words: str, **more: object) -> Command:
    return Command(("sh", "-c", script, "sh", *words), **more)  # type: ignore[arg-type]


def start(command: Command) -> LocalProcess:
    return Local().start(command, no_tick)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has little time to end by itself."""
    monkeypatch.setattr(local, "GRACE_SECONDS", {signal.SIGINT: 0.1, signal.SIGTERM: 0.1, signal.SIGKILL: 10.0})


def pid_on(process: LocalProcess) -> int:
    """The number that the process printed first."""
    return int(next(output for output in process if isinstance(output, bytes)).split()[0])


# --- What comes out ---------------------------------------------------------------------------


def test_both_streams_come_in_their_order() -> None:
    with start(sh("for n in 1 2 3; do echo out $n; echo err $n >&2; done")) as process:
        assert both(process) == (b"out 1\nout 2\nout 3\n", ["err 1", "err 2", "err 3"])


def test_a_last_line_without_an_end_is_a_line() -> None:
    with start(sh("printf 'no end' >&2; printf 'bytes\\377'")) as process:
        assert both(process) == (b"bytes\xff", ["no end"])


def test_a_silent_command_says_nothing() -> None:
    with start(Command(("true",))) as process:
        assert both(process) == (b"", [])


def test_much_output_on_both_streams_comes_whole() -> None:
    script = "head -c 5000000 /dev/zero & for n in $(seq 2000); do echo line $n >&2; done; wait"
    with start(sh(script)) as process:
        stdout, stderr = both(process)
    assert stdout == bytes(5_000_000)
    assert stderr == [f"line {n}" for n in range(1, 2001)]


def test_output_may_be_left_unread() -> None:
    with start(Command(("yes",))) as process:
        next(iter(process))
    assert not is_running(process._process.pid)


@pytest.mark.parametrize("code", [0, 1, 2, 42, 100, 107, 126, 127, 128, 137, 255])
def test_the_exit_code_is_told(code: int) -> None:
    assert run(Local(), sh(f"exit {code}"), no_tick).code == code


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL", "SEGV"])
def test_a_killed_command_has_no_exit_code(name: str) -> None:
    assert run(Local(), sh(f"kill -{name} $$"), no_tick).code is None


# --- What goes in -----------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [b"", b"hunter2", "pässword\n".encode(), b"\0\xff$(id)", b"x" * 60_000])
def test_standard_input_reaches_the_command_and_ends(secret: bytes) -> None:
    assert run(Local(), Command(("cat",), stdin=secret), no_tick).stdout == secret


def test_a_command_that_does_not_read_its_input_is_no_problem() -> None:
    assert run(Local(), Command(("true",), stdin=b"x" * 10_000_000), no_tick).code == 0


@pytest.mark.parametrize("word", ["a b", "", "'", "$(id)", "*", "a\nb", "-rf", "é😀", "\udcff\udc80"], ids=ascii)
def test_words_reach_the_command_as_they_are(word: str) -> None:
    assert run(Local(), Command(("printf", r"%s\0", word)), no_tick).stdout == os.fsencode(word) + b"\0"


def test_our_own_environment_does_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "DATABASE_URL", "BORG_PASSPHRASE", "LD_PRELOAD_", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "our-secret")
    done = run(Local(), Command(("env", "-0"), env={"LANG": "C.UTF-8", "A": "b\nc"}), no_tick)
    seen = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    assert b"our-secret" not in done.stdout
    assert set(seen) - {"PATH", "HOME", "USER", "TMPDIR"} == {"LANG", "A"}
    assert (seen["A"], seen["PATH"]) == ("b\nc", os.environ["PATH"])


def test_a_command_may_change_what_it_finds_its_way_with() -> None:
    assert run(Local(), Command(("/usr/bin/env",), env={"PATH": "/x"}), no_tick).text.count("PATH=/x") == 1


def test_a_secret_is_in_no_process_list(tmp_path: Path) -> None:
    command = sh('read secret; cat /proc/$$/cmdline /proc/$$/environ; echo "${#secret}"', stdin=b"hunter2\n")
    assert run(Local(), command, no_tick).stdout.endswith(b"7\n")
    assert b"hunter2" not in run(Local(), command, no_tick).stdout


def test_the_command_runs_where_it_is_told(tmp_path: Path) -> None:
    assert run(Local(), Command(("pwd", "-P"), cwd=str(tmp_path)), no_tick).text == str(tmp_path.resolve())


# --- What cannot be started --------------------------------------------------------------------


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(NoProgram, match=r"^no-such-borg is not installed on the worker's machine\.$"):
        start(Command(("no-such-borg", "list")))


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoProgram, match=r"^The directory .*/gone does not exist on the worker's machine\.$"):
        start(Command(("true",), cwd=str(tmp_path / "gone")))


def test_a_program_that_may_not_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "borg").write_text("#!/bin/sh\n")
    with pytest.raises(NoProgram, match=r"/borg cannot be started on the worker's machine: Permission denied\.$"):
        start(Command((str(tmp_path / "borg"),)))


def test_a_program_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "borg").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "borg").chmod(0o755)
    with pytest.raises(NoProgram, match=r"/borg cannot be started on the worker's machine: Exec format error\.$"):
        start(Command((str(tmp_path / "borg"),)))


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoProgram, match=r"^true cannot be started on the worker's machine: Not a directory\.$"):
        start(Command(("true",), cwd=str(tmp_path / "file")))


def test_too_many_words_are_refused_in_words() -> None:
    with pytest.raises(NoProgram, match=r"^true cannot be started on the worker's machine: Argument list too long\.$"):
        start(Command(("true", "x" * 10_000_000)))


# --- Ticks ------------------------------------------------------------------------------------


def test_ticks_come_while_nothing_is_said(tmp_path: Path) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) == 2:
            (tmp_path / "go").touch()

    done = run(Local(), sh('while [ ! -e "$1" ]; do sleep 0.05; done', str(tmp_path / "go")), tick)
    assert (done.code, len(ticks) >= 2) == (0, True)


def test_ticks_come_while_the_streams_are_closed(tmp_path: Path) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) == 5:
            (tmp_path / "go").touch()

    script = 'exec >&- 2>&-; while [ ! -e "$1" ]; do sleep 0.05; done; exit 7'
    assert run(Local(), sh(script, str(tmp_path / "go")), tick).code == 7


def test_a_tick_that_raises_ends_the_command() -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) == 3:
            raise Stop

    process = Local().start(sh("while :; do echo x; done"), tick)
    with pytest.raises(Stop), process:
        list(process)
    assert not is_running(process._process.pid)


# --- The end ----------------------------------------------------------------------------------


def test_an_interrupt_comes_first_and_lets_the_command_finish(tmp_path: Path) -> None:
    script = 'trap "echo checkpoint >\\"$1\\"; exit 0" INT; trap "echo no >\\"$1\\"" TERM; echo $$; ' + FOR_EVER
    process = start(sh(script, str(tmp_path / "log")))
    pid_on(process)
    process.end()
    assert (tmp_path / "log").read_text() == "checkpoint\n"
    assert process.exit_code() == 0


PARENT = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
def finish(*_):
    sys.exit(int(child.communicate()[0]))
signal.signal(signal.SIGINT, finish)
print("ready", flush=True)
signal.pause()
"""
CHILD = """
import signal, sys
interrupts = []
signal.signal(signal.SIGINT, lambda *_: interrupts.append(1))
print("ready", flush=True)
sys.stdin.read()
print(len(interrupts))
"""


def test_the_interrupt_is_not_for_its_children() -> None:
    process = start(Command((sys.executable, "-c", PARENT, CHILD)))
    assert next(iter(process)) == b"ready\n"
    process.end()
    assert process.exit_code() == 0


@pytest.mark.usefixtures("impatient")
def test_a_command_that_ignores_every_request_is_killed_with_its_children() -> None:
    script = 'trap "" INT TERM; (while :; do sleep 0.05; done) & echo $!; ' + FOR_EVER
    process = start(sh(script))
    child = pid_on(process)
    process.end()
    assert process.exit_code() is None
    until(lambda: not is_running(child), "The end of the child")


def test_a_command_that_ignores_interrupts_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(local.GRACE_SECONDS, signal.SIGINT, 0.1)
    script = 'trap "" INT; trap "echo bye >\\"$1\\"; exit 3" TERM; echo $$; ' + FOR_EVER
    process = start(sh(script, str(tmp_path / "log")))
    pid_on(process)
    process.end()
    assert process.exit_code() == 3
    assert (tmp_path / "log").read_text() == "bye\n"


def test_a_command_may_say_much_before_it_ends() -> None:
    script = 'trap "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 5" INT; echo $$; ' + FOR_EVER
    process = start(sh(script))
    pid_on(process)
    process.end()
    assert process.exit_code() == 5


@pytest.mark.usefixtures("impatient")
def test_a_command_with_closed_streams_is_ended_too() -> None:
    process = start(sh('trap "" INT TERM; echo $$; exec >&- 2>&-; ' + FOR_EVER))
    pid_on(process)
    process.end()
    assert process.exit_code() is None


def test_the_end_of_what_has_ended_changes_nothing() -> None:
    with start(sh("exit 3")) as process:
        list(process)
        process.end()
        process.end()
    assert process.exit_code() == 3


def test_the_streams_are_closed_after_the_end() -> None:
    with start(Command(("yes",))) as process:
        next(iter(process))
    popen = process._process
    assert [pipe.closed for pipe in (popen.stdin, popen.stdout, popen.stderr) if pipe] == [True, True, True]


def test_a_command_has_a_process_group_of_its_own() -> None:
    with start(sh("echo $$; read x")) as process:
        pid = pid_on(process)
    assert pid != os.getpgrp()
    done = run(Local(), Command(("ps", "-o", "pgid=,sid=", "-p", "self")), no_tick)
    assert str(os.getpgrp()) not in done.text.split()

"""Commands on our own machine."""

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from servers.ssh.command import Command
from servers.ssh.transport import CHUNK, Lines, NoProgram, Output, Tick

BULK_BYTES, BULK_PAUSE_SECONDS = 1024 * 1024, 0.002
GRACE_SECONDS = {signal.SIGINT: 8.0, signal.SIGTERM: 4.0, signal.SIGKILL: 4.0}


class Local:
    """This machine, as the user that we are."""

    name = "the worker's machine"

    def __init__(self, *, in_bulk: bool = False) -> None:
        self._in_bulk = in_bulk  # for what prints more than a program reads well: borg writes a tar in pieces of 10 kB

    def start(self, command: Command, tick: Tick) -> "LocalProcess":
        return LocalProcess(spawn(command), command.stdin, tick, in_bulk=self._in_bulk)


def spawn(command: Command) -> subprocess.Popen[bytes]:
    """Start `command` with pipes on all three streams, in a process group of its own. Raises NoProgram."""
    try:
        return subprocess.Popen(  # a list of words, no shell
            [os.fsencode(word) for word in command.argv],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**_own_environment(), **command.env}, cwd=command.cwd, start_new_session=True, bufsize=0,
        )  # fmt: skip
    except FileNotFoundError as error:
        if command.cwd and not Path(command.cwd).is_dir():
            raise NoProgram(f"The directory {command.cwd} does not exist on the worker's machine.") from error
        raise NoProgram(f"{command.argv[0]} is not installed on the worker's machine.") from error
    except OSError as error:
        raise NoProgram(f"{command.argv[0]} cannot be started on the worker's machine: {error.strerror}.") from error


def _own_environment() -> dict[str, str]:
    """Of our own environment only what a program needs to find its way: it may hold our secrets."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "USER", "TMPDIR") if name in os.environ}


def _enlarge(pipe: IO[bytes] | None) -> bool:
    """Whether the system let this pipe hold more than usual: it grants a user only so much in all."""
    try:
        return bool(pipe and fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, BULK_BYTES))
    except OSError:
        return False


class LocalProcess:
    position: int | None = None

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, tick: Tick, *, in_bulk: bool = False) -> None:
        self._process = process
        self._tick = tick
        self._last = 0  # bytes that came at once
        # Only a pipe that takes more meanwhile makes a pause worth it.
        self._in_bulk = in_bulk and _enlarge(process.stdout)
        assert process.stdin
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(stdin)

    def __iter__(self) -> Iterator[Output]:
        lines = Lines()
        with selectors.DefaultSelector() as selector:
            for pipe in (self._process.stdout, self._process.stderr):
                assert pipe
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                self._tick()
                for key, _ in selector.select(timeout=1.0):
                    data = self._read(key.fd)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._process.stdout:
                        yield data
                    else:
                        yield from lines.feed(data)
        yield from lines.end()
        while self._process.poll() is None:
            self._tick()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1.0)

    def _read(self, fd: int) -> bytes:
        if not self._in_bulk:
            return os.read(fd, CHUNK)
        if self._last < BULK_BYTES // 2:
            time.sleep(BULK_PAUSE_SECONDS)
        data = os.read(fd, BULK_BYTES)
        self._last = len(data)
        return data

    def exit_code(self) -> int | None:
        code = self._process.wait()
        return code if code >= 0 else None

    def end(self) -> None:
        for number, seconds in GRACE_SECONDS.items():
            if self._process.poll() is not None:
                break
            self._signal(number)
            self._drain(seconds)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGINT:
                self._process.send_signal(number)
            else:
                os.killpg(self._process.pid, number)

    def _drain(self, seconds: float) -> None:
        """Wait for the end, reading on: a process that cannot write cannot end."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            for pipe in (self._process.stdout, self._process.stderr):
                if pipe and not pipe.closed:
                    selector.register(pipe, selectors.EVENT_READ)
            while self._process.poll() is None and time.monotonic() < deadline:
                if not selector.get_map():
                    time.sleep(0.02)
                for key, _ in selector.select(timeout=0.05):
                    if not os.read(key.fd, CHUNK):
                        selector.unregister(key.fileobj)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

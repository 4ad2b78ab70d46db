"""A command on a server that outlives our connection: its output goes into a private journal there.

    server                                             worker
    ~/.phpborg/runs/<name>/  err, out, code  --tail-->  DetachedProcess, now or another one later

A process group of its own runs the command; a worker follows its journal over SSH. When the worker
or the network dies, the command goes on, and whoever starts it again under the same name finds it
and reads its journal from the start. The passphrase reaches it on standard input, as ever.
"""

import contextlib
import re
import shlex
import time
from collections.abc import Iterator
from typing import Self

from jobs.errors import Failure, Superseded
from servers.ssh.command import Command, shell_line
from servers.ssh.remote import LINE_BYTES, PID_LINE, Remote
from servers.ssh.transport import Completed, ConnectionLost, Lines, NoProgram, Output, Tick, TooLong, run

ALIVE, ENDED, VANISHED = "alive", "ended", "vanished"
NO_CODE = 122  # our exit code for a command that ended without telling how; borg has no such code
RESULT_LIMIT = 32 * 1024 * 1024  # bytes of standard output
PIECES = re.compile(rb"[^\n]*\n|[^\n]+")

FOLDER = 'd="$HOME/.phpborg/runs/$1"; '
# `boot` and `leader` say together which process it is, also after the machine was started anew.
LIVES = (
    "boot() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown; }; "
    '[ "$(cat "$d/boot" 2>/dev/null)" = "$(boot)" ] && kill -0 "$(cat "$d/leader" 2>/dev/null)" 2>/dev/null'
)

# $1 the name, $2 the command as a line for sh. What is read of our standard input first is whole before it
# starts: sshd drops what comes later when this shell ends. The command's standard error goes through `cat`, a
# process of ours also when the command is root's: without it borg ends with its next word.
START = (
    FOLDER
    + r"""
umask 077
mkdir -p "${d%/*}" || exit 1
find "${d%/*}" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} + 2>/dev/null
mkdir "$d" || exit 1
secret=$(cat; echo .)
{ cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown; } >"$d/boot"
: >"$d/err"
(printf %s "${secret%.}" | setsid sh -c 'echo "$$" >"$1/leader"
{ sh -c "$2" >"$1/out" 2>&4 4>&-; echo "$?" >"$1/ended"; } 4>&1 | cat >"$1/err"
mv "$1/ended" "$1/code"' phpborg "$d" "$2") </dev/null >/dev/null 2>&1 &
while ! [ -s "$d/leader" ]; do kill -0 "$!" || exit 1; sleep 0.05; done
"""
)

STATE = FOLDER + (
    f'if [ -e "$d/code" ]; then echo {ENDED}; elif {LIVES}; then echo {ALIVE}; '
    f'elif [ -d "$d" ]; then echo {VANISHED}; fi'
)

# $2: from which byte on. Ends when the command has ended, or when nobody reads any more.
FOLLOW = (
    FOLDER
    + r"""
tail -c "+$2" -f "$d/err" & tail=$!
trap 'kill "$tail" 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM
while kill -0 "$PPID" 2>/dev/null && ! [ -e "$d/code" ] && { """
    + LIVES
    + r"""; }; do sleep 0.5; done
"""
)

REST = FOLDER + 'exec tail -c "+$2" "$d/err"'
RESULT = FOLDER + f'cat "$d/out"; exit "$(cat "$d/code" 2>/dev/null || echo {NO_CODE})"'
# Of the group only what sudo runs is not ours: it loses its standard error with the rest, and borg ends with that.
KILL = FOLDER + 'kill -s KILL -- "-$(cat "$d/leader")"'
FORGET = FOLDER + 'rm -rf "$d"'

LADDER = {"INT": 8.0, "TERM": 4.0, "KILL": 4.0}  # seconds after each signal


class Detached:
    """Runs one command on `remote` under `name`, or finds it there. What has been read to its end is removed."""

    def __init__(self, remote: Remote, name: str, tick: Tick) -> None:
        self._remote = remote
        self._name = name
        self.name = remote.name
        self._process: DetachedProcess | None = None
        state = self.state(tick)
        self.is_there = state in (ALIVE, ENDED)
        if state == VANISHED:  # the machine was started anew, say: nothing will come of it
            self.ask(FORGET, tick)

    def start(self, command: Command, tick: Tick) -> "DetachedProcess":
        """Start `command`, unless it is there already. Raises NoProgram, TooLong or ConnectionLost."""
        if not self.is_there:
            self._start(command, tick)
        self._process = DetachedProcess(self, tick)
        return self._process

    def _start(self, command: Command, tick: Tick) -> None:
        line = shell_line(command, sudo=self._remote.login.sudo).decode("utf-8", "surrogateescape")
        started = Command(("sh", "-c", START, "phpborg", self._name, line), stdin=command.stdin)
        if len(shlex.join(started.argv)) > LINE_BYTES:
            raise TooLong(f"The command for {self.name} is too long to run there by itself.")
        done = run(self._remote, started, tick)
        if done.code != 0:
            complaint = " ".join(done.stderr)[-200:]
            raise NoProgram(f"{self.name} could not start a command of its own: {complaint or 'no answer'}.")

    def state(self, tick: Tick) -> str:
        """ALIVE, ENDED, VANISHED, or "" when there is none."""
        return self.ask(STATE, tick).text

    def ask(self, script: str, tick: Tick, *words: str) -> Completed:
        return run(self._remote, self.script(script, *words), tick, limit=RESULT_LIMIT)

    def follow(self, script: str, position: int, tick: Tick) -> Iterator[bytes]:
        """Standard output of `script`, as it comes."""
        with self._remote.start(self.script(script, str(position + 1)), tick) as process:
            for output in process:
                if isinstance(output, bytes):
                    yield output

    def script(self, script: str, *words: str) -> Command:
        return Command(("sh", "-c", script, "phpborg", self._name, *words))

    def signal(self, number: str, pid: int | None) -> bool:
        """To the command alone, which tidies up; KILL to its whole group. False when that was not possible."""
        if number == "KILL":
            return self.ask(KILL, without_end).code == 0
        return pid is not None and self._remote.signal(number, str(pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.has_ended:
            with contextlib.suppress(Failure):  # it is swept after some days
                self.ask(FORGET, without_end)


class DetachedProcess:
    """Reads a journal from its start. `position` is its byte at which the last line that was yielded ends."""

    def __init__(self, machine: Detached, tick: Tick) -> None:
        self._machine = machine
        self._tick = tick
        self._read = 0
        self._lines = Lines()
        self._pid: int | None = None
        self._code: int | None = None
        self.position = 0
        self.has_ended = False

    def __iter__(self) -> Iterator[Output]:
        yield from self._journal(FOLLOW)
        yield from self._journal(REST)
        for line in self._lines.end():
            self.position = self._read
            yield line
        result = self._machine.ask(RESULT, self._tick)
        self._code = result.code
        self.has_ended = True
        yield result.stdout

    def _journal(self, script: str) -> Iterator[str]:
        for data in self._machine.follow(script, self._read, self._tick):
            for piece in PIECES.findall(data):
                self._read += len(piece)
                for line in self._lines.feed(piece):
                    self.position = self._read
                    if self._pid is None and (found := PID_LINE.fullmatch(line)):
                        self._pid = int(found[1])
                    else:
                        yield line

    def exit_code(self) -> int | None:
        """The exit code; None when it was killed, or has vanished without a word."""
        code = self._code
        return None if code is None or code == NO_CODE or code > 128 else code

    def end(self) -> None:
        """End the command: ask politely first, then not."""
        with contextlib.suppress(ConnectionLost):
            for number, seconds in LADDER.items():
                if self.has_ended or self._machine.state(without_end) != ALIVE:
                    break
                if self._machine.signal(number, self._pid):
                    self._wait(seconds)
            self.has_ended = self.has_ended or self._machine.state(without_end) != ALIVE

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._machine.state(without_end) == ALIVE:
            time.sleep(0.2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Whoever only lost sight of it, or was told that another follows it now, leaves it alone.
        if not self.has_ended and not isinstance(error[1], ConnectionLost | Superseded):
            self.end()


def without_end() -> None:
    """A tick for what must be done to its end."""

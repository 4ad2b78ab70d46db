"""Borg on a server reaches a repository on our side through the SSH session that we opened.

    server                                                      worker
    borg --rsh--> FIFOs in a private directory <--helper--> channel <--Bridge--> borg serve --append-only

The helper makes a 0700 directory with two FIFOs and a small `rsh` script, and joins them to its own
standard streams, which are an SSH channel. Borg is told to use that script as its `ssh`. The server
needs no route to us and no key, and can do what `borg serve` lets it, only while we are connected.
"""

import contextlib
import fcntl
import os
import secrets
import shlex
import subprocess
import threading
import time
from collections import deque
from typing import Self

import paramiko

from servers.ssh.command import Command
from servers.ssh.local import spawn
from servers.ssh.remote import BROKEN, Remote, hang_up
from servers.ssh.transport import CHUNK, LINE_LIMIT, ConnectionLost, Lines, NoProgram, Tick

PIPE_BYTES = 1024 * 1024
READY_SECONDS = 30
SERVE_SECONDS = 5.0  # for borg serve to close its repository when the server's borg is gone

# $1 is a word that nobody else knows: what a chatty shell prints before it is not ours.
# The FIFOs are held open for reading and writing, so that no `cat` waits for its other end; `up` ends
# when we close the channel, and then everything ends. The watchdog does the same when sshd is gone.
# The directory goes before the FIFOs are let go: a borg that comes too late finds nothing, and does not wait for ever.
HELPER = r"""
umask 077
d=$(mktemp -d "${TMPDIR:-/tmp}/phpborg.XXXXXXXXXX") || exit 1
trap 'kill "$up" "$down" "$watchdog" 2>/dev/null; rm -rf "$d"' EXIT
trap 'exit 1' HUP INT TERM
mkfifo "$d/in" "$d/out" || exit 1
printf '%s\n' 'cat "${0%/*}/in" &' 'exec cat >"${0%/*}/out"' >"$d/rsh" || exit 1
exec 3<&0 4<>"$d/in" 5<>"$d/out" 6<"$d/out"
printf '%s %s\n' "$1" "$d"
cat <&6 3<&- 4>&- 5>&- & down=$!
cat <&3 >&4 5>&- 6<&- & up=$!
(while kill -0 "$PPID" && sleep 5; do :; done; kill $$) <&- >&- 2>&- 3<&- 4>&- 5>&- 6<&- & watchdog=$!
wait "$up"
rm -rf "$d"
exec 3<&- 4>&- 5>&- 6<&-
wait "$down"
"""


class Relay:
    """While the `with` block runs, `rsh` is what borg on the server needs as BORG_RSH.

    `serve` is our side: `borg serve` for exactly one repository.
    """

    def __init__(self, remote: Remote, serve: Command, tick: Tick) -> None:
        self._remote = remote
        self._command = serve
        self._tick = tick
        self.complaints: deque[str] = deque(maxlen=20)  # what borg serve said on its standard error

    def __enter__(self) -> Self:
        # Started first: it loads while the helper makes its directory.
        self._serve = spawn(self._command)
        try:
            self._channel = self._open_helper()
            self.rsh = shlex.join(["sh", self._await_directory() + "/rsh"])
        except BaseException:
            self._close_pipes()  # first: a borg serve without input ends by itself
            self._end_serve()
            raise
        self._threads = [
            threading.Thread(target=target, name=f"relay-{target.__name__}", daemon=True)
            for target in (self._up, self._down, self._listen)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        up = self._threads[0]
        with contextlib.suppress(*BROKEN):
            self._channel.shutdown_write()  # the helper ends, and takes its directory with it
        up.join(SERVE_SECONDS)
        hang_up(self._channel)  # for a helper that does not: `up` ends, and closes borg serve's input
        up.join(SERVE_SECONDS)
        self._end_serve()
        for thread in self._threads:
            thread.join(SERVE_SECONDS)
        self._close_pipes()

    # --- The helper on the server -----------------------------------------------------------------

    def _open_helper(self) -> paramiko.Channel:
        self._mark = "phpborg-relay-" + secrets.token_hex(8)
        channel = self._remote.execute(shlex.join(["exec", "sh", "-c", HELPER.strip(), "phpborg", self._mark]))
        channel.settimeout(1.0)
        return channel

    def _await_directory(self) -> str:
        """Read up to the helper's line "<mark> <directory>". Raises ConnectionLost or NoProgram."""
        seen = b""
        mark = self._mark.encode() + b" "
        deadline = time.monotonic() + READY_SECONDS
        while b"\n" not in seen.partition(mark)[2]:
            self._tick()
            try:
                data = self._channel.recv(CHUNK)
            except TimeoutError:
                if time.monotonic() < deadline and self._remote.is_alive:
                    continue
                raise ConnectionLost(f"{self._remote.name} did not set up the relay in {READY_SECONDS} s.") from None
            if not data:
                complaint = self._channel.recv_stderr(LINE_LIMIT).decode(errors="replace").strip()
                raise NoProgram(f"The relay could not be set up on {self._remote.name}: {complaint or 'no answer'}.")
            seen = (seen + data)[-LINE_LIMIT:]
        self._channel.settimeout(None)
        return seen.partition(mark)[2].partition(b"\n")[0].decode("utf-8", "surrogateescape")

    # --- The bridge between the channel and borg serve --------------------------------------------

    def _up(self) -> None:
        """From the server's borg to ours; when the server's ends, ours is told."""
        assert self._serve.stdin
        pipe = self._serve.stdin.fileno()
        with contextlib.suppress(*BROKEN):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            while data := self._channel.recv(CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(pipe, view) :]
        with contextlib.suppress(OSError):
            self._serve.stdin.close()

    def _down(self) -> None:
        """From our borg to the server's; when ours ends, the server's is told."""
        assert self._serve.stdout
        pipe = self._serve.stdout.fileno()
        with contextlib.suppress(*BROKEN):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            while data := os.read(pipe, CHUNK):
                self._channel.sendall(data)
        with contextlib.suppress(*BROKEN):
            self._channel.shutdown_write()

    def _listen(self) -> None:
        assert self._serve.stderr
        lines = Lines()
        with contextlib.suppress(OSError):
            while data := os.read(self._serve.stderr.fileno(), CHUNK):
                self.complaints.extend(lines.feed(data))
        self.complaints.extend(lines.end())

    def _close_pipes(self) -> None:
        for pipe in (self._serve.stdin, self._serve.stdout, self._serve.stderr):
            if pipe:
                pipe.close()

    def _end_serve(self) -> None:
        for insist in (None, self._serve.terminate, self._serve.kill):
            if insist:
                insist()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._serve.wait(SERVE_SECONDS)
                return

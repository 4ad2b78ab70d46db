"""What a transport offers, and what can go wrong with one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

from jobs.errors import Cause, Failure
from servers.ssh.command import Command

Output = bytes | str  # a piece of standard output, or a line of standard error
Tick = Callable[[], None]  # called at least once a second while waiting; may raise to end it

CHUNK = 256 * 1024
LINE_LIMIT = 64 * 1024


class Process(Protocol):
    """A command that runs. Iterate to its end, then ask for `exit_code`; `end` in any case."""

    @property
    def position(self) -> int | None:
        """How far into a journal the lines so far came, in bytes; None for a process that ends with us."""

    def __iter__(self) -> Iterator[Output]:
        """Yield standard output as bytes and standard error as lines, until both have ended."""

    def exit_code(self) -> int | None:
        """The exit code; None when the process was killed."""

    def end(self) -> None:
        """Make sure that it has ended: ask politely first, then not."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Transport(Protocol):
    """A way to run commands on one machine."""

    name: str  # of the machine, for sentences

    def start(self, command: Command, tick: Tick) -> Process: ...


@dataclass
class Completed:
    code: int | None
    stdout: bytes = b""
    stderr: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "backslashreplace").strip()


def run(transport: Transport, command: Command, tick: Tick, *, limit: int = 1024 * 1024) -> Completed:
    """Run a small command to its end. Raises TooMuchOutput beyond `limit` bytes."""
    done = Completed(None)
    size = 0
    with transport.start(command, tick) as process:
        for output in process:
            size += len(output)
            if size > limit:
                raise TooMuchOutput(
                    f"{transport.name} answered with more than {limit // 1024} kB to a simple question."
                )
            if isinstance(output, bytes):
                done.stdout += output
            else:
                done.stderr.append(output)
        done.code = process.exit_code()
    return done


class Lines:
    """Cuts a stream of bytes into lines of text; a line longer than `limit` bytes loses its rest."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        lines = []
        *complete, last = data.split(b"\n")
        for piece in complete:
            self._add(piece)
            lines.append(self._take())
            self._skipping = False
        self._add(last)
        return lines

    def end(self) -> list[str]:
        return [self._take()] if self._rest else []

    def _add(self, piece: bytes) -> None:
        if self._skipping:
            return
        self._rest += piece
        if len(self._rest) > self._limit:
            del self._rest[self._limit :]
            self._skipping = True

    def _take(self) -> str:
        text = self._rest.decode("utf-8", "backslashreplace").rstrip("\r")
        self._rest.clear()
        return text


# --- What can go wrong ------------------------------------------------------------------------


class Unreachable(Failure):
    cause: ClassVar = Cause.NETWORK
    may_pass: ClassVar = True
    advice: ClassVar = "Check the address, the port, the firewall between us, and that sshd runs there."


class ConnectionLost(Failure):
    cause: ClassVar = Cause.NETWORK
    may_pass: ClassVar = True
    advice: ClassVar = "If it happens again, look at the network between us and at the server's own log."


class HostKeyUnconfirmed(Failure):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = "Compare the fingerprint with the server's own, then confirm it on the server's page."


class HostKeyChanged(Failure):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = (
        "Somebody may stand between us and the server. If the server was reinstalled, an administrator "
        "can confirm the new key on the server's page."
    )


class LoginRefused(Failure):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = "Put our public key into the user's ~/.ssh/authorized_keys; the server's page shows the command."


class PasswordRefused(LoginRefused):
    advice: ClassVar = (
        "Enter it again. Many servers take no password from root, or from nobody: then run the command "
        "that the server's page shows."
    )


class NoSudo(Failure):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = "Add the sudoers line that the server's page shows, or let borg run without root."


class TooMuchOutput(Failure):
    cause: ClassVar = Cause.SOURCE


class TooLong(Failure):
    cause: ClassVar = Cause.SOURCE
    advice: ClassVar = "Choose the folder that holds the files, instead of each file."


class NoProgram(Failure):
    cause: ClassVar = Cause.BORG


class NoFiles(Failure):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = "Let the account use SFTP, or enter the keys by hand where it is managed."

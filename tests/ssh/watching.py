"""What tests of real processes ask about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from phpborg.embedded import wait_until
from servers.ssh.transport import Output

PATIENCE_SECONDS = 20


def no_tick() -> None:
    """Nothing asks for an end."""


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of one until its parent looks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes_with(word: str) -> list[int]:
    """The ids of the processes that have `word` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word.encode() in words:
            found.append(int(path.parent.name))
    return found


def until(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, seconds=PATIENCE_SECONDS, what=what)


def both(outputs: Iterable[Output]) -> tuple[bytes, list[str]]:
    """All of standard output, and the lines of standard error."""
    stdout, stderr = b"", []
    for output in outputs:
        if isinstance(output, bytes):
            stdout += output
        else:
            stderr.append(output)
    return stdout, stderr

"""Who holds the lock of a repository on this machine, whether that borg still lives, and what follows.

Borg takes a lock for stale when its host id is its own and there is no such process. In another
container with the same host id that is wrong: it removes a living lock (BORG.md, finding 7). So all
borg of ours has a host id that names the boot and the PID namespace too; a lock from another
namespace is a stranger's for borg, and here we say what can be proven of it.
"""

import hashlib
import platform
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from servers.ssh import files
from servers.ssh.command import Command
from servers.ssh.remote import Remote
from servers.ssh.transport import NoFiles, Tick, run

LOCK_FILE = re.compile(r"(?P<host>.+)\.(?P<pid>\d{1,9})-[0-9a-f]+")
OUR_HOST = re.compile(r"phpborg-(?P<machine>[0-9a-f]{12})@(?P<boot>[0-9a-f]{12})-(?P<namespace>\d+)")


# The names of the machine, and what the process $1 of ours was started as there.
ASK = """
uname -n; hostname -f 2>/dev/null; echo --
if kill -0 "$1" 2>/dev/null || [ -e "/proc/$1" ]; then ps -p "$1" -o args= 2>/dev/null || echo "borg, perhaps"
else echo gone; fi
"""


class Verdict(StrEnum):
    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Holder:
    host: str
    pid: int
    verdict: Verdict
    proof: str  # a sentence: how we know, or why we do not


@cache
def host_id() -> str:
    """BORG_HOST_ID of every borg on this machine: the machine, its boot and our PID namespace."""
    machine = _first_line("/etc/machine-id") or platform.node()
    boot = _first_line("/proc/sys/kernel/random/boot_id")
    namespace = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    return f"phpborg-{_short(machine + platform.node())}@{_short(boot)}-{namespace}"


def holders(path: Path) -> list[Holder]:
    """Who has locked the repository at `path` for writing; nobody, when there is no lock."""
    try:
        names = sorted(entry.name for entry in (path / "lock.exclusive").iterdir())
    except OSError:
        return []
    found = [LOCK_FILE.fullmatch(name) for name in names]
    return [_judge(name["host"], int(name["pid"])) for name in found if name]


def holders_at(account: Remote, path: str, tick: Tick) -> list[Holder]:
    """The same at an SSH account, whose machine is asked; nobody, where it cannot be looked. Raises ConnectionLost."""
    try:
        with files.session(account) as sftp:
            names = files.names(sftp, f"{path}/lock.exclusive")
    except NoFiles:
        return []
    found = [LOCK_FILE.fullmatch(name) for name in names]
    return [_ask(account, name["host"], int(name["pid"]), tick) for name in found if name]


def _ask(account: Remote, host: str, pid: int, tick: Tick) -> Holder:
    """Borg names itself after its machine: "<full name>@<a number of the machine>"."""
    done = run(account, Command(("sh", "-c", ASK, "phpborg", str(pid))), tick)
    names, _, command = done.text.partition("\n--\n")
    if done.code != 0 or not command:
        return Holder(host, pid, Verdict.UNKNOWN, f"{account.name} cannot be asked whether it lives.")
    if host.partition("@")[0] not in names.split():
        return Holder(
            host, pid, Verdict.UNKNOWN, f"That is another machine than {account.name}, so nobody can be asked."
        )
    if command == "gone":
        return Holder(host, pid, Verdict.DEAD, f"{account.name} says that there is no such process any more.")
    if "borg" not in command:
        return Holder(
            host, pid, Verdict.DEAD, f"On {account.name} that number is another program by now: {command[:80]}."
        )
    return Holder(host, pid, Verdict.ALIVE, f"On {account.name} it is alive: {command[:80]}.")


def _judge(host: str, pid: int) -> Holder:
    ours, theirs = OUR_HOST.fullmatch(host_id()), OUR_HOST.fullmatch(host)
    assert ours
    if theirs is None or theirs["machine"] != ours["machine"]:
        return Holder(host, pid, Verdict.UNKNOWN, "That is another machine, so nobody here can say whether it lives.")
    if theirs["boot"] != ours["boot"]:
        return Holder(host, pid, Verdict.DEAD, "It is of this machine, which has been started anew since then.")
    if theirs["namespace"] != ours["namespace"]:
        return Holder(host, pid, Verdict.UNKNOWN, "It is in another container on this machine, so we cannot see it.")
    command = _command_of(pid)
    if command is None:
        return Holder(host, pid, Verdict.DEAD, "There is no such process on this machine any more.")
    if command and "borg" not in command:
        return Holder(host, pid, Verdict.DEAD, f"That number is another program by now: {command[:80]}.")
    return Holder(host, pid, Verdict.ALIVE, f"It is alive: {command[:80]}.")


def _command_of(pid: int) -> str | None:
    """What the process was started as, "" while it is just starting; None when there is none that could do anything."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return None if state in "ZX" else " ".join(word.decode(errors="replace") for word in words).strip()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]

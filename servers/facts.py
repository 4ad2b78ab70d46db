"""What a server can do: the questions that the connection test asks over an open session."""

import re
from dataclasses import dataclass
from typing import Any

from servers.ssh.command import Command
from servers.ssh.remote import Remote
from servers.ssh.transport import NoSudo, Tick, run

# Where borg hides when a non-interactive shell has a short PATH; pip and the standalone binary put it there.
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/opt/borg/bin"


@dataclass(frozen=True)
class Space:
    """Free and total bytes of the file system that holds `path`."""

    path: str
    free: int
    total: int


def answer(remote: Remote, script: str, tick: Tick) -> str:
    """The one line that `script` prints, whatever a .bashrc there printed before it."""
    lines = run(remote, Command(("sh", "-c", f"echo; {script}")), tick).text.splitlines()
    return lines[-1] if lines else ""


def system(remote: Remote, tick: Tick) -> str:
    """As "Debian GNU/Linux 12 (bookworm)"; the kernel's name where there is no os-release."""
    script = '. /etc/os-release 2>/dev/null; printf "%s" "${PRETTY_NAME:-$(uname -sr)}"'
    return answer(remote, script, tick)[:120]


def is_root(remote: Remote, tick: Tick) -> bool:
    return answer(remote, "id -u", tick) == "0"


def find_borg(remote: Remote, tick: Tick) -> str:
    """The full path of borg there, or ""."""
    path = answer(remote, f'PATH="$PATH:{SEARCH_PATH}"; command -v borg', tick)
    return path if re.fullmatch(r"/.{1,254}", path) else ""


def borg_version(remote: Remote, borg_path: str, tick: Tick) -> str:
    """As "1.2.4", or "". With sudo this is also the proof that borg may run as root. Raises NoSudo."""
    done = run(remote, Command((borg_path, "--version"), as_root=True), tick)
    found = re.search(r"borg\S* (\d+\.\d+\.\d+\S*)", done.text)
    if not found and remote.login.sudo:
        complaint = next((line for line in done.stderr if line.startswith("sudo:")), " ".join(done.stderr)[-200:])
        raise NoSudo(f"{remote.login.user} may not run borg as root without a password: {complaint or 'no answer'}")
    return found.group(1)[:20] if found else ""


def space(remote: Remote, path: str, tick: Tick) -> Space | None:
    """How full the file system of `path` is; None when `df` does not say."""
    done = run(remote, Command(("df", "-kP", "--", path), env={"LC_ALL": "C"}), tick)
    fields = done.text.splitlines()[-1].split() if done.code == 0 and done.text else []
    try:
        return Space(path, int(fields[3]) * 1024, int(fields[1]) * 1024)
    except (IndexError, ValueError):
        return None


# --- What there is to save ---------------------------------------------------------------------

# A process by its name, and what a person calls the database.
DATABASES = {
    "mariadbd": "MariaDB", "mysqld": "MySQL", "postgres": "PostgreSQL", "mongod": "MongoDB", "redis-server": "Redis",
    "valkey-server": "Valkey",
}  # fmt: skip
ENGINES = ("docker", "podman")
# What a plan may be proposed to save, where it exists and something is in it.
FOLDERS = (
    "/etc", "/home", "/root", "/srv", "/opt", "/usr/local", "/var/www", "/var/mail", "/var/spool/cron",
)  # fmt: skip
# Mounted there, it belongs to the system, or comes with one of the folders.
SYSTEM_MOUNTS = (
    "/boot", "/usr", "/var", "/tmp", "/proc", "/sys", "/dev", "/run", "/snap", "/nix", *FOLDERS,  # noqa: S108
)  # fmt: skip
NO_DISK = frozenset({
    "tmpfs", "devtmpfs", "ramfs", "overlay", "squashfs", "efivarfs", "iso9660", "proc", "sysfs", "cgroup", "cgroup2",
})  # fmt: skip
MOST_DISKS = 40
LONGEST_LINE = 1_000  # of df


def inventory(remote: Remote, tick: Tick) -> dict[str, Any]:
    """Databases, containers, disks and folders, as JSON has them: what a test's result keeps."""
    found = disks(remote, tick)
    mounts = [disk["path"] for disk in found if disk["path"] != "/" and not is_below(disk["path"], SYSTEM_MOUNTS)]
    return {
        "databases": databases(remote, tick), "containers": containers(remote, tick), "disks": found,
        "folders": [*folders(remote, tick), *mounts],
    }  # fmt: skip


def is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def lines(remote: Remote, script: str, tick: Tick, *words: str) -> list[str]:
    """What `script` prints; each line must be looked at, a .bashrc may have printed before it."""
    return run(remote, Command(("sh", "-c", f"echo; {script}", "phpborg", *words)), tick).text.splitlines()


def databases(remote: Remote, tick: Tick) -> list[str]:
    """Those that run, by their processes, also in containers."""
    script = "{ ps -A -o comm= 2>/dev/null || cat /proc/[0-9]*/comm; } 2>/dev/null | sort -u"
    names = {line.strip().rpartition("/")[2] for line in lines(remote, script, tick)}
    return [label for name, label in DATABASES.items() if name in names]


def containers(remote: Remote, tick: Tick) -> list[dict[str, Any]]:
    """As [{"name": "docker", "running": 3}]; None for who does not tell us."""
    script = (
        'for name in "$@"; do command -v "$name" >/dev/null || continue; '
        'if ids=$(timeout 10 "$name" ps -q 2>/dev/null); then echo "$name $(printf %s "$ids" | grep -c .)"; '
        'else echo "$name ?"; fi; done'
    )
    words = [line.split() for line in lines(remote, script, tick, *ENGINES)]
    return [
        {"name": pair[0], "running": int(pair[1]) if pair[1].isdecimal() and len(pair[1]) < 7 else None}
        for pair in words
        if len(pair) == 2 and pair[0] in ENGINES
    ]


def disks(remote: Remote, tick: Tick) -> list[dict[str, Any]]:
    """File systems of its own with room for files, as [{"path": "/", "type": "ext4", "free": ..., "total": ...}]."""
    # GNU's df looks at no network share with -l: one that hangs would hang us.
    found: dict[str, dict[str, Any]] = {}
    for line in lines(remote, "df -klPT 2>/dev/null | grep . || df -kPT", tick):
        fields = line.split(None, 6)
        if len(line) > LONGEST_LINE or len(fields) < 7:
            continue
        device, kind, total, _, free, _, path = fields
        if not (total.isdecimal() and free.isdecimal() and path.startswith("/")):
            continue
        room, free_room = (int(number[:16]) * 1024 for number in (total, free))
        if room and (kind not in NO_DISK or path == "/"):
            found.setdefault(device, {"path": path, "type": kind, "free": free_room, "total": room})
    return list(found.values())[:MOST_DISKS]


def folders(remote: Remote, tick: Tick) -> list[str]:
    """Which of FOLDERS are there for borg to read, with something in them."""
    # Into what is closed to us only root can look.
    closed = "true" if remote.login.sudo else "false"
    filled = f'if [ -r "$folder" ]; then [ -n "$(ls -A "$folder")" ]; else {closed}; fi'
    script = f'for folder in "$@"; do [ -d "$folder" ] && {filled} && echo "$folder"; done; true'
    found = set(lines(remote, script, tick, *FOLDERS))
    return [folder for folder in FOLDERS if folder in found]

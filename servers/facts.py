"""What a server can do: the questions that the connection test asks over an open session."""

import re
from dataclasses import dataclass

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

"""OpenSSH's own client, for a borg that goes to a repository at an SSH account by itself."""

import shlex

from servers.ssh.memory import MemoryFile
from servers.ssh.remote import HostKey

# No question, no agent, no other key, no other host key than the pinned one; a dead peer is noticed within a minute.
OPTIONS = (
    "BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null",
    "PasswordAuthentication=no", "ControlMaster=no", "ControlPath=none", "ConnectTimeout=30",
    "ServerAliveInterval=15", "ServerAliveCountMax=4",
)  # fmt: skip
# When ssh cannot get through it says why and ends; borg, told of both at once, would hear only the end.
PATIENTLY = '"$@"; code=$?; [ "$code" = 255 ] && sleep 0.5; exit "$code"'


def rsh(key_path: str, known_hosts_path: str) -> str:
    """For BORG_RSH: how `ssh` logs in with that key, where only that host key counts."""
    options = [*OPTIONS, f'UserKnownHostsFile="{known_hosts_path}"']
    words = ["sh", "-c", PATIENTLY, "phpborg", "ssh", "-i", key_path]
    return shlex.join([*words, *(word for option in options for word in ("-o", option))])


def known_hosts_line(address: str, port: int, host_key: HostKey) -> str:
    return f"{address if port == 22 else f'[{address}]:{port}'} {host_key}\n"


class Identity:
    """Our own key for an SSH account, while this object lives; `rsh` is for a borg on this machine."""

    def __init__(self, address: str, port: int, private_key: str, host_key: HostKey) -> None:
        self._key = MemoryFile(private_key)
        self._known_hosts = MemoryFile(known_hosts_line(address, port, host_key))
        self.rsh = rsh(self._key.path, self._known_hosts.path)

"""An SSH account for repositories, on a real sshd: its folder, its authorized_keys, a pool that uses it."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from backups.models import StoragePool
from phpborg.embedded import Sshd


class Account:
    """Where it is, what it lets in, and how it may be started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / ".ssh").mkdir(parents=True)
        (home / "repos").mkdir()
        options = [f"Subsystem sftp internal-sftp -d {home}", f"SetEnv HOME={home}"]
        self.sshd = Sshd(home / "sshd", options=options)
        self.sshd.authorized_keys = home / ".ssh" / "authorized_keys"
        self.sshd.authorized_keys.touch(mode=0o600)

    @property
    def lines(self) -> list[str]:
        return self.sshd.authorized_keys.read_text().splitlines()

    def pool(self, **changes: Any) -> StoragePool:
        """A pool there, its host key confirmed and our key let in."""
        host_key = " ".join(self.sshd.host_key.with_suffix(".pub").read_text().split()[:2])
        values: dict[str, Any] = {
            "name": "account", "address": "127.0.0.1", "port": self.sshd.port, "username": getpass.getuser(),
            "path": str(self.home / "repos"), "host_key": host_key, "host_key_seen": host_key,
        }  # fmt: skip
        pool = StoragePool.objects.create(**(values | changes))
        with self.sshd.authorized_keys.open("a") as file:
            file.write(f"restrict {pool.public_key}\n")
        return pool

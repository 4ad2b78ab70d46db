"""A look at a storage pool from the machine that it is on, and the room that is kept in reserve there.

On a disk that is full to the last byte borg cannot even take its lock, so it can neither tidy up what a
failed backup left nor delete anything. A file of ours takes some room while there is plenty, and gives it
up when there is none.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from django.utils import timezone

from backups.models import StoragePool
from jobs.errors import Failure
from servers import facts
from servers.facts import Space
from servers.ssh import files
from servers.ssh.command import NOT_EXECUTABLE, NOT_FOUND, Command
from servers.ssh.remote import Remote, see_host_key
from servers.ssh.transport import Tick, run

PROBLEM_LIMIT = 300  # characters; as StoragePool.problem
RESERVE_NAME = ".phpborg-reserve"
RESERVE_BYTES = 16 * 1024 * 1024


def problem_of(path: str) -> str:
    """Why repositories cannot be made at `path` on this machine; "" when they can."""
    try:
        if not Path(path).is_dir():
            return f"The folder {path} does not exist on the worker's machine."
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"phpBorg")
    except OSError as error:
        return f"We may not write to {path} on the worker's machine: {error.strerror}."
    return ""


def measure(pool: StoragePool, tick: Tick = lambda: None) -> str:
    """Store what the pool is like now; returns its problem."""
    problem, room = _look_at_account(pool, tick) if pool.is_remote else _look_here(pool.path)
    StoragePool.objects.filter(pk=pool.pk).update(
        checked_at=timezone.now(),
        problem=problem[:PROBLEM_LIMIT],
        **({"free_bytes": room.free, "total_bytes": room.total} if room else {}),
    )
    return problem


def _look_here(path: str) -> tuple[str, Space | None]:
    if problem := problem_of(path):
        return problem, None
    _keep_reserve(Path(path))
    usage = shutil.disk_usage(path)
    return "", Space(path, usage.free, usage.total)


def _look_at_account(pool: StoragePool, tick: Tick) -> tuple[str, Space | None]:
    """Log in as our borg will. Where an account has no SFTP or no shell, that much cannot be told."""
    try:
        pool.remember_host_key(see_host_key(pool.address, pool.port))
        if not pool.host_key:
            return f"Nobody has confirmed the host key of {pool.address} yet.", None
        if pool.host_key_changed:
            return f"The host key of {pool.address} has changed. An administrator must look at it first.", None
        with pool.connect() as account:
            problem = "" if pool.keys_by_hand else _problem_at(account, pool.path)
            room = None if problem else facts.space(account, pool.path, tick)
            borg = run(account, Command((pool.borg_command or "borg", "--version")), tick)
    except Failure as error:
        return f"{error} {error.own_advice}".strip(), None
    if not problem and borg.code in (NOT_EXECUTABLE, NOT_FOUND):
        problem = f"{pool.borg_command or 'borg'} was not found at {pool.where}."
    return problem, room


def _problem_at(account: Remote, path: str) -> str:
    with files.session(account) as sftp:
        if not files.is_folder(sftp, path):
            return f"The folder {path} does not exist at {account.login}."
        probe = f"{path}/.phpborg-{secrets.token_hex(4)}"
        sftp.mkdir(probe)
        sftp.rmdir(probe)
    return ""


def give_up_reserve(path: str) -> bool:
    """Make room on a disk that has none; False when there was no need, or nothing to give up."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(path).free < RESERVE_BYTES:
            (Path(path) / RESERVE_NAME).unlink()
            return True
    return False


def _keep_reserve(folder: Path) -> None:
    file = folder / RESERVE_NAME
    with contextlib.suppress(OSError):
        if file.exists() or shutil.disk_usage(folder).free < 4 * RESERVE_BYTES:
            return
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)

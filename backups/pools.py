"""A look at a storage pool from the machine that it is on, and the room that is kept in reserve there.

On a disk that is full to the last byte borg cannot even take its lock, so it can neither tidy up what a
failed backup left nor delete anything. A file of ours takes some room while there is plenty, and gives it
up when there is none.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from django.utils import timezone

from backups.models import StoragePool

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


def measure(pool: StoragePool) -> str:
    """Store what the pool is like now; returns its problem."""
    problem = problem_of(pool.path)
    if not problem:
        _keep_reserve(Path(pool.path))
    usage = None if problem else shutil.disk_usage(pool.path)
    StoragePool.objects.filter(pk=pool.pk).update(
        checked_at=timezone.now(),
        problem=problem,
        **({"free_bytes": usage.free, "total_bytes": usage.total} if usage else {}),
    )
    return problem


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

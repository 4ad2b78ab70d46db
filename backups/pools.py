"""A look at a storage pool from the machine that it is on."""

import shutil
import tempfile
from pathlib import Path

from django.utils import timezone

from backups.models import StoragePool


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
    usage = None if problem else shutil.disk_usage(pool.path)
    StoragePool.objects.filter(pk=pool.pk).update(
        checked_at=timezone.now(),
        problem=problem,
        **({"free_bytes": usage.free, "total_bytes": usage.total} if usage else {}),
    )
    return problem

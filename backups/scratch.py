"""Folders on this machine into which restore tests extract, and their end. Each has the number of its job for a name.

What an archive holds may have been written by an enemy: these folders are for our own user alone, nothing in them is
followed where it leads, and `rm` and `chmod` of the system, which go as deep as it gets, tidy up.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from django.conf import settings

from jobs.models import Job
from servers.ssh.command import Command
from servers.ssh.local import Local
from servers.ssh.transport import Tick, run

BLOCK_BYTES = 4096  # that even an empty file takes
SPARE_BYTES = 200 * 1024**2  # which others who write to that disk keep
READ_BYTES = 1024**2


class NotThere(Exception):
    """No regular file is at that path, or the way to it is not one of folders only."""


@contextmanager
def folder_for(job: Job) -> Iterator[Path]:
    """A fresh folder; whatever happens, it goes with all that is in it."""
    folder: Path = settings.SCRATCH_DIR / str(job.pk)
    remove(folder)  # of an attempt before this one
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove(folder)


def is_short_of(files: int, size: int) -> tuple[int, int] | None:
    """The bytes that are needed and those that are free, if that is too little; None: there is room."""
    settings.SCRATCH_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    needed, free = size + files * BLOCK_BYTES + SPARE_BYTES, shutil.disk_usage(settings.SCRATCH_DIR).free
    return (needed, free) if needed > free else None


def open_up(folder: Path, tick: Tick = lambda: None) -> None:
    """Let its owner read and delete all of it, whatever the archive says of modes; links are not followed."""
    run(Local(), Command(("chmod", "-R", "--", "u+rwX", str(folder))), tick)


def remove(folder: Path) -> None:
    if not folder.exists():
        return
    if os.geteuid() != 0:
        open_up(folder)
    run(Local(), Command(("rm", "-rf", "--one-file-system", "--", str(folder))), lambda: None)


def sweep() -> int:
    """Take away what workers left that are no more; returns how many folders."""
    with suppress(FileNotFoundError):
        folders = {folder.name: folder for folder in settings.SCRATCH_DIR.iterdir() if is_ours(folder.name)}
        kept = Job.objects.running().filter(pk__in=list(folders)).values_list("pk", flat=True)
        left = folders.keys() - {str(pk) for pk in kept}
        for name in left:
            remove(folders[name])
        return len(left)
    return 0


def is_ours(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def open_file(top: int, path: bytes) -> int:
    """A descriptor of the regular file at `path` below the folder `top`, through folders only. Raises NotThere."""
    at = os.dup(top)
    try:
        *folders, name = path.split(b"/")
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            raise NotThere("no regular file")  # of a device even opening it does something
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
    except OSError as error:
        raise NotThere(error.strerror) from error
    finally:
        os.close(at)

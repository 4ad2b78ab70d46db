"""Archives that are mounted on this machine, each in a folder below our data directory, and their end.

Whether one is mounted is asked of the kernel, never of the folder: one whose borg hangs answers nobody.
"""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from backups.models import Mount
from servers.ssh.command import Command
from servers.ssh.local import Local
from servers.ssh.transport import Tick, run

DEVICE = Path("/dev/fuse")
ESCAPED = b"\\ \t\n"  # as /proc/self/mountinfo has them: the backslash first


def this_machine() -> str:
    return socket.gethostname()


def folder_of(mount: Mount) -> Path:
    """Named by number: an archive's own name may be anything."""
    folder: Path = settings.MOUNT_DIR / str(mount.pk)
    return folder


def make_folder(folder: Path) -> None:
    """For our own user alone, whatever the archive says of its files."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)


def is_mounted(folder: Path) -> bool:
    name = os.fsencode(folder)
    for byte in ESCAPED:
        name = name.replace(bytes([byte]), b"\\%03o" % byte)
    return any(line.split()[4] == name for line in Path("/proc/self/mountinfo").read_bytes().splitlines())


def borgs_at(folder: Path) -> list[int]:
    """The processes that serve it, or are about to."""
    name, found = os.fsencode(folder), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"mount" in words and name in words:
                found.append(int(process.name))
    return found


def take_down(folder: Path, tick: Tick) -> str:
    """Unmount it, also while somebody is in it, and end its borg; returns what was in the way, "" for nothing."""
    said = " ".join(run(Local(), detach(folder), tick).stderr) if is_mounted(folder) else ""
    if is_mounted(folder):
        return said[:300] or "nobody says why"
    for pid in borgs_at(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    with suppress(OSError):
        folder.rmdir()
    return ""


def detach(folder: Path) -> Command:
    """Only root may unmount without FUSE's own program."""
    words = ("umount", "--lazy") if os.geteuid() == 0 else ("fusermount3", "-u", "-z")
    return Command((*words, str(folder)))


# --- What nobody keeps ------------------------------------------------------------------------


def sweep(tick: Tick = lambda: None) -> int:
    """Take down what is here and wanted by nobody: expired, dead, half made, unknown; returns how many."""
    taken = 0
    ours = Mount.objects.filter(machine=this_machine()).select_related("job")
    for mount in ours:
        if not is_kept(mount) and not take_down(folder_of(mount), tick):
            mount.delete()
            taken += 1
    for folder in folders():
        if not Mount.objects.filter(pk=int(folder.name)).exists():
            taken += not take_down(folder, tick)
    return taken


def is_kept(mount: Mount) -> bool:
    """Whether a mount of this machine is as it should be, or just being made."""
    if mount.mounted_at is None:
        return mount.job is not None and not mount.job.has_ended
    folder = folder_of(mount)
    return mount.expires_at > timezone.now() and is_mounted(folder) and bool(borgs_at(folder))


def folders() -> list[Path]:
    if not settings.MOUNT_DIR.is_dir():
        return []
    return [folder for folder in settings.MOUNT_DIR.iterdir() if folder.name.isdecimal()]

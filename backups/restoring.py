"""What a restore takes out of an archive, and where each path of it comes to lie."""

import posixpath
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from backups.borg.results import Entry
from backups.catalog import as_argument, readable
from backups.placing import Placed, Stat
from jobs.errors import Failure
from servers.ssh.transport import Output

OF_TAR = re.compile(r"tar: (?P<path>.+): (?P<why>[^:]+: .+)", re.DOTALL)
# The last is what tar says of a file for which there was room in part.
NO_ROOM = ("No space left on device", "Disk quota exceeded", "Wrote only ")
SHOWN = 100


@dataclass
class Chosen:
    """What is to be restored, as the archive has it. Paths are bytes, without a leading slash."""

    roots: set[bytes] = field(default_factory=set)  # everything is one of these, or below
    size: int = 0  # bytes
    files: int = 0
    links: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))  # by the file that they share

    def add(self, entry: Entry) -> None:
        """Raises Failure for a path that leads out of the archive: who wrote it was no borg."""
        path = entry.path
        if path in (b"", b"."):  # the root of a whole machine
            return
        if path.startswith(b"/") or b".." in path.split(b"/"):
            raise Failure(f"The archive has a path that leads out of it: {readable(path)}. Nothing was restored.")
        if not self.holds(path):
            self.roots.add(path)
        self.size += entry.size if entry.mode.startswith("-") else 0
        self.files += not entry.mode.startswith("d")
        if entry.mode.startswith("h"):
            self.links[entry.link].append(path)

    def holds(self, path: bytes) -> bool:
        return any(part in self.roots for part in lineage(path))

    @property
    def folder(self) -> str:
        """The last folder that all of it is below."""
        return as_argument(posixpath.commonpath([posixpath.dirname(root) for root in self.roots] or [b""]))


@dataclass
class Ways:
    """Where each path of the archive comes to lie below the destination."""

    chosen: Chosen
    suffix: str
    beside: bool  # every root gets the suffix
    placed: Placed = field(default_factory=Placed)
    lost: set[bytes] = field(default_factory=set)

    def of(self, path: bytes) -> bytes | None:
        """None for what was left as it was, or failed."""
        if self.lost.intersection(lineage(path)):
            return None
        renamed = self.chosen.roots if self.beside else self.placed.beside
        for part in lineage(path):
            if part in renamed:
                return part + self.suffix.encode() + path[len(part) :]
        return path

    def settle(self) -> None:
        """All is placed that will be."""
        self.lost = self.placed.skipped | {path for path, _why in self.placed.failed}


class Complaints:
    """What tar says."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.paths: list[list[str]] = []
        self.of_no_room = False
        self.is_fatal = False  # it gave up before the end
        self.last = ""

    def take(self, outputs: Iterable[Output]) -> None:
        for line in outputs:
            if isinstance(line, str):
                self.last = line
                self.of_no_room = self.of_no_room or any(words in line for words in NO_ROOM)
                self.is_fatal = self.is_fatal or "not recoverable" in line
                if len(self.lines) < SHOWN:
                    self.lines.append(line)
                    if found := OF_TAR.fullmatch(line):
                        self.paths.append([found["path"], found["why"]])


def lineage(path: bytes) -> Iterator[bytes]:
    """The folders that `path` is in, from the uppermost down, and itself."""
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)
    yield path


def overlap(one: str, other: str) -> bool:
    """Whether one path is the other, or is below it."""
    shorter, longer = sorted((one.rstrip("/"), other.rstrip("/")), key=len)
    return longer == shorter or longer.startswith(f"{shorter}/")


def kind_of(entry: Entry, found: Stat | None) -> str:
    """What a restore meets: nothing ("new"), a folder for a folder, the same by size and time, or another thing."""
    if found is None:
        return "new"
    size, time, mode = found
    is_folder = stat.S_ISDIR(mode)
    if entry.mode.startswith("d") and is_folder:
        return "folders"
    seconds = int(entry.modified_at.timestamp()) if entry.modified_at else None
    same = entry.mode.startswith("-") and stat.S_ISREG(mode) and size == entry.size and time == seconds
    return "same" if same else "differs"

"""A tar made into a zip while it is read, for those who have nothing that unpacks a tar.

Modes, owners, times and symbolic links are kept in the fields that Info-ZIP made for them. A zip has no hard links:
each becomes a file, whose content is asked for again. Python's `zipfile` writes the format; its table of contents,
which belongs at the end, waits in a file that is on the disk and nowhere to be found.
"""

import pickle
import re
import shutil
import stat
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import IO, Any, cast
from urllib.parse import unquote_to_bytes
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from jobs.errors import Failure

COPY_BYTES = 256 * 1024
TAR_BYTES = 64 * 1024
SPOOL_BYTES = 1024 * 1024  # of one file with several names, before it goes to the disk
LINKS_AT_ONCE, LINK_BYTES_AT_ONCE = 1_000, 500_000  # a command line takes no more than some MB
EARLIEST, LATEST = 315_532_800, 4_354_819_198  # 1980 to 2107, which MS-DOS knew
LATEST_32_BIT = 2**31 - 1
IS_FOLDER = 0x10  # as MS-DOS says it

# What a name in a zip must not have, or would not keep: `\` is a slash to some, `C:` a disk, and `unzip` takes
# control characters away.
ODD = re.compile(rb"[\x00-\x1f\x7f\\]|\A\.\.\Z|\A[A-Za-z]:")
SPELLED = re.compile(r"[\x00-\x1f\x7f\\%:\udc80-\udcff]")


def make_zip(
    pieces: Iterator[bytes],
    write: Callable[[bytes], object],
    *,
    again: Callable[[Sequence[str]], Iterator[bytes]],
    leave_out: Callable[[str], object],
    level: int,
) -> None:
    """Write the tar of `pieces` as a zip. `again` gives a tar of some files alone. Raises Failure."""
    writer, links, room = _Writer(write, level), list[tarfile.TarInfo](), LINK_BYTES_AT_ONCE
    try:
        for member, content in members(pieces):
            if member.islnk():
                links.append(member)
                room -= len(member.linkname)
                if len(links) >= LINKS_AT_ONCE or room < 0:
                    writer.copy(links, again)
                    links, room = [], LINK_BYTES_AT_ONCE
            elif not writer.add(member, content):
                leave_out(member.name)
        writer.copy(links, again)
        writer.finish()
    except tarfile.TarError as error:
        raise Failure("What borg exported broke off.") from error
    finally:
        writer.let_go()


def members(pieces: Iterator[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Each entry of a tar, with what is in it if it is a file; to be read before the next one. Raises TarError."""
    file = cast("Any", _Inlet(pieces))
    with tarfile.open(mode="r|", fileobj=file, bufsize=TAR_BYTES, encoding="utf-8", errors="surrogateescape") as tar:
        while member := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # it would remember them all
            yield member, tar.extractfile(member) if member.isreg() else None
    for _ in pieces:  # zeros; and then borg says how it ended
        pass


def spelled(path: str) -> str:
    """A path as it stands in a zip: in UTF-8, and below the folder that it is unpacked in.

    In a name that has something odd, that is spelled as %XX. Two names never become one: what looks spelled already
    is spelled, too.
    """
    parts = path.encode("utf-8", "surrogateescape").split(b"/")
    return "/".join(_spelled(part) for part in parts if part not in (b"", b"."))


def _spelled(name: bytes) -> str:
    if not _looks_odd(name):
        return name.decode()
    text = name.decode("utf-8", "surrogateescape")
    if text == "..":
        return "%2E%2E"
    return SPELLED.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", text)


def _looks_odd(name: bytes) -> bool:
    while not (ODD.search(name) or name.decode("utf-8", "ignore").encode() != name):
        name, before = unquote_to_bytes(name), name
        if name == before:
            return False
    return True


class _Inlet:
    """Pieces as a file to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        """The next piece: `tarfile` asks again until it has enough."""
        return next(self._pieces, b"")


class _Outlet:
    """A function as a file to write, in which nobody can go back."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)

    def flush(self) -> None: ...


class _OnDisk:
    """In the place of ZipFile's list of what it has written, which would grow with the folder."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # goes with us, and has no name that could stay
        self._count = 0

    def append(self, info: ZipInfo) -> None:
        pickle.dump(info, self._file)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ZipInfo]:
        self._file.seek(0)
        for _ in range(self._count):
            yield pickle.load(self._file)  # noqa: S301  # nobody else can write there

    def close(self) -> None:
        self._file.close()


class _Writer:
    def __init__(self, write: Callable[[bytes], object], level: int) -> None:
        self._level = level
        self._zip = ZipFile(cast("Any", _Outlet(write)), "w")
        self._listed = _OnDisk()
        self._zip.filelist = cast("Any", self._listed)

    def add(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> bool:
        """Whether there was a place for it: a zip has none for pipes and devices."""
        if content is not None:
            self._file(member, content, member.size)
        elif member.isdir():
            self._folder(member)
        elif member.issym():
            info = self._info(member, stat.S_IFLNK)
            self._zip.writestr(info, member.linkname.encode("utf-8", "surrogateescape"))
        else:
            return False
        self._zip.NameToInfo.clear()
        return True

    def copy(self, links: Iterable[tarfile.TarInfo], again: Callable[[Sequence[str]], Iterator[bytes]]) -> None:
        """Hard links to what was added before: each as a file with the same content."""
        names: dict[str, list[tarfile.TarInfo]] = {}
        for link in links:
            names.setdefault(link.linkname, []).append(link)
        if not names:
            return
        for member, content in members(again(list(names))):
            if content is not None:
                self._copies(names.pop(member.name, []), content, member.size)
        if names:
            raise Failure("The content of a hard link was not found again in the archive.")

    def _copies(self, links: Sequence[tarfile.TarInfo], content: IO[bytes], size: int) -> None:
        if len(links) == 1:
            self._file(links[0], content, size)
            return
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            shutil.copyfileobj(content, spool, COPY_BYTES)
            for link in links:
                spool.seek(0)
                self._file(link, cast("IO[bytes]", spool), size)

    def _file(self, member: tarfile.TarInfo, content: IO[bytes], size: int) -> None:
        info = self._info(member, stat.S_IFREG)
        info.file_size = size  # decides whether it needs the larger fields (zip64)
        with self._zip.open(info, "w") as file:
            shutil.copyfileobj(content, file, COPY_BYTES)

    def _folder(self, member: tarfile.TarInfo) -> None:
        info = self._info(member, stat.S_IFDIR)
        if info.filename:  # the root of the machine has no name
            info.filename += "/"
            info.compress_type, info.CRC = ZIP_STORED, 0
            info.external_attr |= IS_FOLDER
            self._zip.mkdir(info)

    def _info(self, member: tarfile.TarInfo, kind: int) -> ZipInfo:
        seconds = int(member.mtime // 1)
        when = datetime.fromtimestamp(min(max(seconds, EARLIEST), LATEST), UTC)
        info = ZipInfo(spelled(member.name), when.timetuple()[:6])
        info.compress_type, info._compresslevel = ZIP_DEFLATED, self._level  # type: ignore[attr-defined]
        info.external_attr = (kind | member.mode & 0o7777) << 16
        info.extra = _extra(member, seconds)
        return info

    def finish(self) -> None:
        self._zip.close()

    def let_go(self) -> None:
        self._zip.fp = None  # or what is unfinished would get an end, and look whole
        self._listed.close()


def _extra(member: tarfile.TarInfo, seconds: int) -> bytes:
    """Info-ZIP's fields: when it was changed, in UTC and to the second, and whose it is, in numbers."""
    owner = struct.pack("<HHBBIBI", 0x7875, 11, 1, 4, member.uid & 0xFFFFFFFF, 4, member.gid & 0xFFFFFFFF)
    if not -LATEST_32_BIT <= seconds <= LATEST_32_BIT:
        return owner
    return struct.pack("<HHBi", 0x5455, 5, 1, seconds) + owner

"""A folder on its way to somebody: borg's tar as it is, compressed, or made into a zip; never held as a whole."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import zstandard

from backups.zipping import make_zip

Write = Callable[[bytes], object]
LEVEL = 1  # of zlib: whoever downloads waits for it
ZSTD_LEVEL = 3  # what the command `zstd` takes by itself


@dataclass(frozen=True)
class Export:
    """What borg exports of a folder."""

    pieces: Iterator[bytes]  # of a tar
    again: Callable[[Sequence[str]], Iterator[bytes]]  # a tar of these files alone; each is there as a file
    leave_out: Callable[[str], object]  # is told of what has no place


def as_it_is(export: Export, write: Write) -> None:
    for piece in export.pieces:
        write(piece)


def with_gzip(export: Export, write: Write) -> None:
    gzip = zlib.compressobj(LEVEL, wbits=31)  # 31: with the header and the end of a .gz
    for piece in export.pieces:
        write(gzip.compress(piece))
    write(gzip.flush())


def with_zstd(export: Export, write: Write) -> None:
    # Without threads: they take half as much of the processor again, and borg is the slower one in any case.
    zstd = zstandard.ZstdCompressor(ZSTD_LEVEL, write_checksum=True).compressobj()
    for piece in export.pieces:
        write(zstd.compress(piece))
    write(zstd.flush())


def as_zip(export: Export, write: Write) -> None:
    make_zip(export.pieces, write, again=export.again, leave_out=export.leave_out, level=LEVEL)


# By what stands behind `?format=`, which is also how the file's name ends.
PACKINGS: dict[str, Callable[[Export, Write], None]] = {
    "tar.zst": with_zstd, "tar.gz": with_gzip, "zip": as_zip, "tar": as_it_is,
}  # fmt: skip
PLAIN = "tar"

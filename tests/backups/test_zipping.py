"""A zip out of a tar: nothing is missing in silence, nothing gets out of its folder, and nothing gathers in memory."""

import io
import itertools
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Sequence

import pytest

from backups.zipping import LINKS_AT_ONCE, make_zip, spelled
from jobs.errors import Failure
from tests.backups.tree import LONG_AGO, STRANGE_NAMES


def member(name: bytes | str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
    info.type, info.size, info.linkname, info.mtime = kind, size, link, LONG_AGO
    info.mode, info.uid, info.gid = 0o640, 1000, 70000
    return info


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> Iterator[bytes]:
    """As borg writes it, in pieces that begin and end anywhere."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    written = file.getvalue()
    return (written[start : start + 777] for start in range(0, len(written), 777))


def files(**contents: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(member(name, size=len(content)), content) for name, content in contents.items()]


def nothing(_: Sequence[str]) -> Iterator[bytes]:
    raise AssertionError("Nothing is to be read again.")


def zipped(
    pieces: Iterator[bytes], *, again: Callable[[Sequence[str]], Iterator[bytes]] = nothing
) -> tuple[zipfile.ZipFile, list[str]]:
    """The zip, and what was left out."""
    written, left_out = io.BytesIO(), list[str]()
    make_zip(pieces, written.write, again=again, leave_out=left_out.append, level=1)
    archive = zipfile.ZipFile(written)
    assert archive.testzip() is None
    return archive, left_out


# --- What a zip keeps ---------------------------------------------------------------------------


def test_files_folders_and_symbolic_links_with_modes_owners_and_times() -> None:
    archive, left_out = zipped(
        tar_of(
            (member("d", tarfile.DIRTYPE), b""), *files(**{"d/file": b"content", "d/empty": b""}),
            (member("d/link", tarfile.SYMTYPE, link="../else/\udcff"), b""),
        )
    )  # fmt: skip
    found = {info.filename: info for info in archive.infolist()}
    assert left_out == []
    assert {name: archive.read(name) for name in found} == {
        "d/": b"", "d/file": b"content", "d/empty": b"", "d/link": b"../else/\xff",
    }  # fmt: skip
    kinds = {"d/": stat.S_IFDIR, "d/file": stat.S_IFREG, "d/empty": stat.S_IFREG, "d/link": stat.S_IFLNK}
    for name, kind in kinds.items():
        assert found[name].external_attr >> 16 == kind | 0o640
        assert found[name].date_time == (2020, 1, 2, 3, 4, 4)  # to two seconds
        assert found[name].extra == struct.pack("<HHBi", 0x5455, 5, 1, LONG_AGO) + struct.pack(
            "<HHBBIBI", 0x7875, 11, 1, 4, 1000, 4, 70000
        )
    assert found["d/"].external_attr & 0x10
    assert found["d/link"].compress_size < 30


@pytest.mark.parametrize("seconds", [-(2**40), -1, 0, 315_532_799, 4_354_819_200, 2**33, 2**50, 1.9])
def test_a_time_that_a_zip_does_not_know_is_the_nearest_one(seconds: float) -> None:
    info = member("old")
    info.mtime = seconds
    archive, _ = zipped(tar_of((info, b"")))
    [found] = archive.infolist()
    assert 1980 <= found.date_time[0] <= 2107


def test_pipes_and_devices_are_left_out_and_named() -> None:
    kinds = (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
    archive, left_out = zipped(tar_of(*((member(f"odd-{kind!r}", kind), b"") for kind in kinds), *files(file=b"x")))
    assert archive.namelist() == ["file"]
    assert left_out == [f"odd-{kind!r}" for kind in kinds]


# --- Hard links ---------------------------------------------------------------------------------


def test_a_hard_link_is_a_file_whose_content_is_asked_for_again() -> None:
    big = bytes(3_000_000)
    first, asked = files(**{"d/one": b"1", "d/big": big}), list[Sequence[str]]()

    def again(paths: Sequence[str]) -> Iterator[bytes]:
        asked.append(paths)
        return tar_of(*(pair for pair in first if pair[0].name in paths))

    links = [("d/one too", "d/one"), ("d/big 2", "d/big"), ("d/big 3", "d/big")]
    archive, left_out = zipped(
        tar_of(*first, *((member(name, tarfile.LNKTYPE, link=to), b"") for name, to in links)), again=again
    )
    assert {name: archive.read(name) for name in archive.namelist()} == {
        "d/one": b"1", "d/big": big, "d/one too": b"1", "d/big 2": big, "d/big 3": big,
    }  # fmt: skip
    assert asked == [["d/one", "d/big"]]
    assert left_out == []


def test_of_many_hard_links_only_some_wait_at_once() -> None:
    asked = list[int]()

    def again(paths: Sequence[str]) -> Iterator[bytes]:
        asked.append(len(paths))
        return tar_of(*files(**dict.fromkeys(paths, b"x")))

    count = 2 * LINKS_AT_ONCE + 1
    entries = [(member(f"copy-{n}", tarfile.LNKTYPE, link=f"file-{n}"), b"") for n in range(count)]
    archive, _ = zipped(tar_of(*entries), again=again)
    assert asked == [LINKS_AT_ONCE, LINKS_AT_ONCE, 1]
    assert {archive.read(f"copy-{n}") for n in range(count)} == {b"x"}


def test_paths_that_would_not_fit_into_a_command_line_are_asked_for_in_parts() -> None:
    asked = list[int]()

    def again(paths: Sequence[str]) -> Iterator[bytes]:
        asked.append(sum(map(len, paths)))
        return tar_of(*files(**dict.fromkeys(paths, b"x")))

    entries = [(member(f"copy-{n}", tarfile.LNKTYPE, link=f"{n:03}" + "/x" * 2000), b"") for n in range(300)]
    zipped(tar_of(*entries), again=again)
    assert sum(asked) == 300 * 4003
    assert max(asked) < 510_000


def test_a_hard_link_to_what_is_not_found_again_fails() -> None:
    """Red when the ones that were not found are passed over."""
    with pytest.raises(Failure, match="not found again"):
        zipped(tar_of((member("copy", tarfile.LNKTYPE, link="gone"), b"")), again=lambda _: tar_of(*files(other=b"")))


# --- Names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"etc/hosts", "etc/hosts"), ("été/☃".encode(), "été/☃"), (b"100%", "100%"), (b"a%20b", "a%20b"),
        (b"latin-\xe9\xff", "latin-%E9%FF"), (b"line\nbreak", "line%0Abreak"), (b"\xed\xa0\x80", "%ED%A0%80"),
        (b"/etc/passwd", "etc/passwd"), (b"//x", "x"), (b"../../x", "%2E%2E/%2E%2E/x"), (b"a/../b", "a/%2E%2E/b"),
        (b"./a/./b/", "a/b"), (b"..\\..\\x", "..%5C..%5Cx"), (b"C:\\x", "C%3A%5Cx"), (b"c:/x", "c%3A/x"),
        (b"...", "..."),
        (b"latin-%E9", "latin-%25E9"), (b"a%0a", "a%250a"), (b"%2E%2E", "%252E%252E"),
    ],
)  # fmt: skip
def test_a_name_stays_below_its_folder_and_can_be_read(path: bytes, name: str) -> None:
    assert spelled(path.decode("utf-8", "surrogateescape")) == name


def test_two_names_never_become_one() -> None:
    """Red when what looks spelled already is left as it is: `%FF` and the byte FF would be one file."""
    letters = [b"%", b"2", b"5", b"F", b"\xff", b"\\", b"."]
    names = {b"".join(word) for size in range(1, 6) for word in itertools.product(letters, repeat=size)} - {b"."}
    found = {spelled(name.decode("utf-8", "surrogateescape")) for name in names}
    assert len(found) == len(names)


def test_strange_names_come_out_as_files_below_the_folder() -> None:
    entries = [(member(b"names/" + name, size=len(name)), name) for name in STRANGE_NAMES]
    archive, _ = zipped(tar_of(*entries))
    assert len(set(archive.namelist())) == len(STRANGE_NAMES)
    for name, content in zip(archive.namelist(), STRANGE_NAMES, strict=True):
        assert archive.read(name) == content
        assert name.startswith("names/") and "\\" not in name and "/../" not in name and name.isascii() | (name > "")


# --- Nothing gathers ----------------------------------------------------------------------------


def many(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield member(f"folder/file-{number}").tobuf(tarfile.GNU_FORMAT)
    yield bytes(1024)


def peak_of(count: int) -> int:
    """Bytes of memory that were needed at most."""
    tracemalloc.start()
    make_zip(many(count), len, again=nothing, leave_out=len, level=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_number_of_files() -> None:
    """Red with the lists that ZipFile and TarFile keep by themselves: some 800 bytes for each file."""
    few, lots = peak_of(100), peak_of(2_000)
    assert lots - few < 200_000


def test_a_file_is_written_while_it_is_read() -> None:
    """Red when it is read as a whole first."""
    size, written = 50_000_000, 0
    ahead = list[int]()

    def pieces() -> Iterator[bytes]:
        yield member("big", size=size).tobuf(tarfile.GNU_FORMAT)
        for read in range(0, size, 500_000):
            ahead.append(read - written)
            yield b"\xa7" * 500_000
        yield bytes(512 + 1024)

    def write(data: bytes) -> None:
        nonlocal written
        written += len(data) * 200  # about what deflate makes of it
        assert len(data) < 1_000_000

    tracemalloc.start()
    make_zip(pieces(), write, again=nothing, leave_out=len, level=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


# --- What breaks off ----------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [100, 512, 700])
def test_half_a_tar_fails_and_gets_no_end(kept: int) -> None:
    """Red when the table of contents is written after all: the zip would look whole."""
    whole = b"".join(tar_of(*files(one=bytes(600), two=bytes(600))))
    written = io.BytesIO()
    with pytest.raises(Failure, match="broke off"):
        make_zip(iter([whole[:kept]]), written.write, again=nothing, leave_out=len, level=1)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(written)


def test_what_borg_fails_with_is_what_is_told() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"".join(tar_of(*files(one=b"1")))
        raise Failure("The repository is gone.")

    written = io.BytesIO()
    with pytest.raises(Failure, match="The repository is gone"):
        make_zip(pieces(), written.write, again=nothing, leave_out=len, level=1)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(written)


def test_an_empty_tar_is_an_empty_zip() -> None:
    archive, _ = zipped(tar_of())
    assert archive.namelist() == []

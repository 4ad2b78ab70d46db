"""backups.borg.results.parse_files: the entries of an archive, from what commands.list_files prints."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.borg.commands import LISTING_FIELDS, LISTING_FORMAT
from backups.borg.results import RECORD_LIMIT, Entry, Unreadable, parse_contents, parse_files
from tests.borg.recorded import VERSIONS, recorded
from tests.borg_json.record import NOT_UTF8, STRANGE_NAMES

WHEN = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
FOLDER = b"tmp/borg-sample/strange"
HOSTS = ("-rw-r--r--", "root", "root", "17", "2020-01-02T03:04:05.000000", "", "healthy", "etc/hosts")


def written(*records: Iterable[str]) -> bytes:
    """As a borg writes them with Python's codec unicode_escape."""
    return "".join(f"{field}\0" for record in records for field in record).encode("unicode_escape")


def entry_with(**changes: str) -> bytes:
    return written((dict(zip(LISTING_FIELDS, HOSTS, strict=True)) | changes).values())


def entries(*chunks: bytes) -> list[Entry]:
    return list(parse_files(chunks))


# --- Recorded ---------------------------------------------------------------------------------


@pytest.fixture(params=VERSIONS)
def listing(request: pytest.FixtureRequest) -> bytes:
    return recorded(request.param, "list_files").stdout


def test_every_recorded_name_is_had_back_byte_for_byte(listing: bytes) -> None:
    seen = {entry.path for entry in entries(listing)}
    others = {b"other\xff", b"symlink", b"fifo", b"device", b"before-1970"}
    assert seen == {FOLDER, *(FOLDER + b"/" + name for name in {*STRANGE_NAMES, *others})}


def test_a_recorded_file_has_its_size_owner_and_time(listing: bytes) -> None:
    [entry] = [entry for entry in entries(listing) if entry.path == FOLDER + b"/" + NOT_UTF8]
    size = len(NOT_UTF8)
    assert entry == Entry(FOLDER + b"/" + NOT_UTF8, "-rw-r--r--", "root", "root", size, WHEN, b"", healthy=True)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("", "drwxr-xr-x"), ("/symlink", "lrwxrwxrwx"), ("/fifo", "prw-r--r--"), ("/device", "crw-------"),
     ("/before-1970", "-rwsr-xr-x")],
)  # fmt: skip
def test_a_recorded_thing_has_its_mode(listing: bytes, name: str, mode: str) -> None:
    [entry] = [entry for entry in entries(listing) if entry.path == FOLDER + name.encode()]
    assert entry.mode == mode


def test_a_recorded_symlink_has_its_target_as_borg_shows_it(listing: bytes) -> None:
    [entry] = [entry for entry in entries(listing) if entry.mode.startswith("l")]
    assert entry.link == b"/to/nowhere ?\\"


def test_a_recorded_hard_link_names_the_entry_with_the_content(listing: bytes) -> None:
    [link] = [entry for entry in entries(listing) if entry.mode.startswith("h")]
    [first] = [entry for entry in entries(listing) if entry.path == link.link]
    assert {link.path, first.path} == {FOLDER + b"/linked", FOLDER + b"/other\xff"}
    assert (first.mode, first.size, link.size) == ("-rw-r--r--", len(b"linked"), 0)


def test_a_recorded_listing_is_the_same_cut_anywhere(listing: bytes) -> None:
    whole = entries(listing)
    for at in range(len(listing)):
        assert entries(listing[:at], listing[at:]) == whole


def test_a_recorded_listing_is_the_same_byte_by_byte(listing: bytes) -> None:
    assert entries(*(listing[at : at + 1] for at in range(len(listing)))) == entries(listing)


def test_a_recorded_listing_that_ends_too_early_is_unreadable(listing: bytes) -> None:
    ends = {0}  # where an entry ends
    for end in range(1, len(listing)):
        try:
            assert entries(listing[:end]) == entries(listing)[: len(entries(listing[:end]))]
        except Unreadable:
            continue
        ends.add(end)
    assert len(ends) == len(entries(listing))


def test_borg_is_asked_for_one_nul_after_each_field() -> None:
    assert LISTING_FORMAT.count("{NUL}") == len(LISTING_FIELDS) == LISTING_FORMAT.count("{") // 2


# --- Names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [b"a\nb", b"a\\nb", b"\\", b"\\x00", b"\\0", b"\\u0041", b"\\N{DASH}", b"\t\r\x0b\x1b\x7f", b"\x80", b"\xff\xfe",
     b"-rf", b" ", b"?", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"'\"$(id)`", "é".encode(), "e\u0301".encode(),
     "\ufeff".encode(), "😀".encode(), "😀".encode() * 1024, b"x" * 4096, b"\xff" * 4096],
    ids=lambda name: repr(name[:12]),
)  # fmt: skip
def test_a_name_is_had_back_byte_for_byte(name: bytes) -> None:
    assert entries(entry_with(bpath=os.fsdecode(name)))[0].path == name


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=20)), max_size=5), st.data())
def test_any_names_come_back_whatever_the_chunks(names: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    pairs = [(path.replace(b"\0", b""), link.replace(b"\0", b"")) for path, link in names]
    stream = b"".join(entry_with(bpath=os.fsdecode(path), source=os.fsdecode(link)) for path, link in pairs)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [(entry.path, entry.link) for entry in parse_files(chunks)] == pairs


def test_two_chunks_may_part_an_escape() -> None:
    stream = entry_with(bpath="a\n😀\udcff\\b")
    assert [entries(stream[:at], b"", stream[at:])[0].path for at in range(len(stream))] == [
        b"a\n\xf0\x9f\x98\x80\xff\\b"
    ] * len(stream)


# --- Hard links to names that are not UTF-8: borg writes each such byte as "?" -----------------------------


def link_to(shown: str) -> bytes:
    return entry_with(mode="hrw-r--r--", size="0", source=shown, bpath="link")


def test_a_hard_link_to_a_name_that_is_not_utf8_names_it() -> None:
    assert entries(entry_with(bpath="a/\udcff\udc80b"), link_to("a/??b"))[1].link == b"a/\xff\x80b"


def test_a_hard_link_to_a_name_with_a_question_mark_names_it() -> None:
    assert entries(entry_with(bpath="a?"), entry_with(bpath="\udcff"), link_to("a?"))[2].link == b"a?"


@pytest.mark.parametrize(("one", "other"), [("\udcff", "\udcfe"), ("?", "\udcff"), ("\udcff", "?")])
def test_a_hard_link_that_may_mean_two_files_stays_as_it_is(one: str, other: str) -> None:
    assert entries(entry_with(bpath=one), entry_with(bpath=other), link_to("?"))[2].link == b"?"


def test_only_a_file_is_what_a_hard_link_means() -> None:
    folder = entry_with(mode="drwxr-xr-x", bpath="\udcfe")
    assert entries(folder, entry_with(bpath="\udcff"), link_to("?"))[2].link == b"\xff"


def test_a_symlink_is_shown_as_borg_shows_it() -> None:
    symlink = entry_with(mode="lrwxrwxrwx", source="?")
    assert entries(entry_with(bpath="\udcff"), symlink)[1].link == b"?"


# --- Fields -----------------------------------------------------------------------------------


def test_an_entry_has_its_fields() -> None:
    assert entries(written(HOSTS)) == [
        Entry(b"etc/hosts", "-rw-r--r--", "root", "root", 17, WHEN, b"", healthy=True)
    ]  # fmt: skip


def test_no_output_is_no_entry() -> None:
    assert entries() == entries(b"") == entries(b"", b"") == []


@pytest.mark.parametrize(("health", "healthy"), [("healthy", True), ("broken", False), ("", False), ("Healthy", False)])
def test_only_a_healthy_entry_is_healthy(health: str, healthy: bool) -> None:
    assert entries(entry_with(health=health))[0].healthy is healthy


@pytest.mark.parametrize("size", ["-1", "", "x", "1.5", "0x10", str(2**63), "9" * 5000, "nan", "1e3", "²"])
def test_an_entry_with_a_forged_size_is_unreadable(size: str) -> None:
    with pytest.raises(Unreadable, match="not what borg writes"):
        entries(entry_with(size=size))


@pytest.mark.parametrize("time", ["x", "2020-13-01", "20200", "-1", "0000-01-01T00:00:00", "0001-01-01T00:00:00+14:00"])
def test_an_entry_with_a_forged_time_is_unreadable(time: str) -> None:
    with pytest.raises(Unreadable, match="not what borg writes"):
        entries(entry_with(isomtime=time))


def test_an_entry_without_a_time_has_none() -> None:
    assert entries(entry_with(isomtime=""))[0].modified_at is None


def test_long_owners_and_modes_are_cut() -> None:
    entry = entries(entry_with(mode="-" * 99, user="u" * 999, group="g" * 999))[0]
    assert (len(entry.mode), len(entry.user), len(entry.group)) == (10, 64, 64)


@pytest.mark.parametrize("half", [0xD800, 0xDC00, 0xDC7F, 0xDD00], ids=hex)
def test_a_name_with_half_a_character_that_stands_for_no_byte_is_unreadable(half: int) -> None:
    with pytest.raises(Unreadable, match="not what borg writes"):
        entries(entry_with(bpath=f"a{chr(half)}"))


# --- What is no listing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [b"\\x", b"\\x0", b"\\u12", b"\\U0001", b"\\", b"\\N{", b"\\xzz", b"\\U99999999", b"\\N{no such}"],
    ids=repr,
)
def test_a_broken_escape_is_unreadable(stream: bytes) -> None:
    with pytest.raises(Unreadable, match="what borg writes"):
        entries(stream)


@pytest.mark.parametrize(
    "stream", [b"noise", b"a\\x00b", b"\\x00" * 7, written(HOSTS) + b"x", written(HOSTS, HOSTS[:3])]
)
def test_what_ends_in_the_middle_of_an_entry_is_unreadable(stream: bytes) -> None:
    with pytest.raises(Unreadable, match="ends in the middle"):
        entries(stream)


def test_what_came_before_a_broken_end_is_yielded() -> None:
    seen = parse_files([written(HOSTS), b"\\x"])
    assert next(seen).path == b"etc/hosts"
    with pytest.raises(Unreadable):
        next(seen)


@pytest.mark.parametrize("chunk", [1_000, 256 * 1024])
def test_a_name_without_an_end_is_unreadable_before_it_fills_the_memory(chunk: int) -> None:
    given_out = 0

    def endless() -> Iterator[bytes]:
        nonlocal given_out
        while True:
            given_out += chunk
            yield b"x" * chunk

    with pytest.raises(Unreadable, match="longer than any file name"):
        list(parse_files(endless()))
    assert given_out <= RECORD_LIMIT + chunk


def test_the_longest_name_that_linux_knows_is_no_problem() -> None:
    name = os.fsdecode(b"\xff" * 4096)
    stream = entry_with(bpath=name, source=name)
    assert entries(*(stream[at : at + 100] for at in range(0, len(stream), 100)))[0].path == b"\xff" * 4096


@given(st.lists(st.binary(max_size=60), max_size=6))
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_no_bytes_raise_anything_else(chunks: list[bytes]) -> None:
    with contextlib.suppress(Unreadable):
        assert all(isinstance(entry, Entry) for entry in parse_files(chunks))


# --- Memory -----------------------------------------------------------------------------------


def test_entries_come_as_soon_as_they_are_whole() -> None:
    given_out = 0

    def chunks() -> Iterator[bytes]:
        nonlocal given_out
        for _ in range(100):
            given_out += 1
            yield written(HOSTS)

    seen = parse_files(chunks())
    assert [next(seen).path for _ in range(3)] == [b"etc/hosts"] * 3
    assert given_out == 3


def test_a_long_listing_takes_little_memory() -> None:
    piece = b"".join(entry_with(bpath=f"folder/{number}\udcff?") for number in range(100))
    tracemalloc.start()
    try:
        count = sum(1 for _ in parse_files(piece for _ in range(200)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 2 * 1024**2


# --- Hashes -----------------------------------------------------------------------------------


def test_hashes_stand_with_names_as_they_are() -> None:
    odd = "-rw-r--r--\0u\0g\0007\0\0\0healthy\0srv/latin-\\udce9\\n\0" + "ab" * 32 + "\0"
    printed = f"drwxr-xr-x\0u\0g\0000\0\0\0healthy\0srv\0\0{odd}".encode()
    for size in (1, 7, 1000):
        chunks = [printed[start : start + size] for start in range(0, len(printed), size)]
        told = [(one.path, one.size, one.sha256) for one in parse_contents(chunks)]
        assert told == [(b"srv", 0, ""), (b"srv/latin-\xe9\n", 7, "ab" * 32)]


@pytest.mark.parametrize(
    "printed", [b"-rw\0", b"-rw\0u\0g\x007\0\0\0healthy\0path\0", b"-rw\0u\0g\x007\0\0\0healthy\0path\0x"]
)
def test_hashes_that_end_too_early_are_said(printed: bytes) -> None:
    with pytest.raises(Unreadable):
        list(parse_contents([printed]))

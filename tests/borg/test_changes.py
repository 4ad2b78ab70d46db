"""backups.borg.changes: what differs between two archives, from what commands.diff prints."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.borg.changes import LINE_LIMIT, Change, Kind, parse_changes
from backups.borg.results import Unreadable
from tests.borg.recorded import VERSIONS, recorded

FOLDER = b"tmp/borg-sample/compared"


def printed(path: str, *changes: dict[str, Any]) -> bytes:
    return json.dumps({"path": path, "changes": list(changes)}).encode() + b"\n"


def parsed(*chunks: bytes) -> list[Change]:
    return list(parse_changes(chunks))


def by_name(version: str, case: str) -> dict[bytes, Change]:
    changes = parsed(recorded(version, case).stdout)
    assert len({change.path for change in changes}) == len(changes)
    return {change.path.removeprefix(FOLDER).lstrip(b"/"): change for change in changes}


# --- Recorded ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_change_is_of_its_kind(version: str) -> None:
    """Red if 1.2's "modified" with 0 bytes is believed: mode and owner are changes of content then."""
    assert {name: change.kind for name, change in by_name(version, "diff").items()} == {
        b"": "attributes", b"content": "changed", b"mode": "attributes", b"owner": "attributes",
        b"to-link": "changed", b"to-folder": "changed", b"to-folder/new": "added", b"to-file": "changed",
        b"to-file/below": "removed", b"from-fifo": "changed", b"link": "changed", b"gone": "removed",
        b"folder-gone": "removed", b"odd\xff" if version == "1.2.4" else b"odd?": "changed",
        b'q"\n\\': "changed", b"added": "added",
        b"added-folder": "added", b"added-link": "added", b"added-fifo": "added",
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_modes_and_owners_are_told(version: str) -> None:
    found = by_name(version, "diff")
    content = found[b"content"]
    assert (content.added, content.removed, content.sized, content.modified) == (10, 13, True, True)
    assert (found[b"added"].added, found[b"gone"].removed) == (5, 10)
    assert (found[b"mode"].mode, found[b"mode"].owner) == ("-rw-r--r-- → -rw-------", "")
    assert found[b"owner"].owner == "root:root → daemon:daemon"
    assert found[b"mode"].times
    assert not found[b"mode"].modified


@pytest.mark.parametrize("version", VERSIONS)
def test_what_became_another_type_has_no_size(version: str) -> None:
    found = by_name(version, "diff")
    others = {b"to-link", b"to-folder", b"to-file", b"from-fifo"}
    assert {name for name, change in found.items() if change.is_another_type} == others
    assert {name for name, change in found.items() if not change.sized} == others


@pytest.mark.parametrize("version", VERSIONS)
def test_of_archives_in_other_chunks_no_file_that_changed_has_a_size(version: str) -> None:
    assert recorded(version, "diff_of_other_chunks").code == (1 if version.startswith("1.2") else 0)
    found = by_name(version, "diff_of_other_chunks")
    assert not found[b"content"].sized
    assert found[b"added"].sized
    assert not found[b"mode"].modified  # by which one knows that its content is the same


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_archive_twice_differs_in_nothing(version: str) -> None:
    assert parsed(recorded(version, "diff_of_the_same").stdout) == []


# --- In pieces, and hostile -------------------------------------------------------------------


@given(st.lists(st.integers(1, 400)))
def test_it_does_not_matter_how_it_is_cut(sizes: list[int]) -> None:
    whole = recorded("1.4.5", "diff").stdout

    def pieces() -> Iterator[bytes]:
        first = 0
        for size in sizes:
            yield whole[first : first + size]
            first += size
        yield whole[first:]

    assert list(parse_changes(pieces())) == parsed(whole)


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b"7", b"null", b'"x"', b"{}", b'{"path": 7, "changes": []}', b'{"path": "a"}',
        b'{"path": "a", "changes": {}}x', b'{"path": "a", "changes": [7]}', b'{"path": "a", "changes": [{}]}',
        b'{"path": "a", "changes": [{"type": "added", "size": -1}]}',
        b'{"path": "a", "changes": [{"type": "added", "size": 1.5}]}',
        b'{"path": "a", "changes": [{"type": "added", "size": true}]}',
        b'{"path": "a", "changes": [{"type": "removed", "size": 9223372036854775808}]}',
        b'{"path": "a", "changes": [{"type": "mode"}]}',
        b'{"path": "\\ud800", "changes": []}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_borg_does_not_write_is_refused_in_words(line: bytes) -> None:
    with pytest.raises(Unreadable):
        parsed(line + b"\n")


def test_half_a_line_at_the_end_is_refused() -> None:
    with pytest.raises(Unreadable, match="middle"):
        parsed(printed("a", {"type": "added link"})[:-5])


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    """Red without LINE_LIMIT: all of it is kept."""
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="longer than any"):
            list(parse_changes(b"x" * 65_536 for _ in range(10 * LINE_LIMIT // 65_536)))
        assert tracemalloc.get_traced_memory()[1] < 4 * LINE_LIMIT
    finally:
        tracemalloc.stop()


def test_a_kind_of_change_that_we_do_not_know_is_a_change() -> None:
    [change] = parsed(printed("a", {"type": "changed soul"}))
    assert change.kind == Kind.CHANGED


def test_an_owner_that_is_no_text_can_be_stored() -> None:
    owner = {"old_user": "\udcff", "new_user": "x" * 10_000, "old_group": None, "new_group": "g", "type": "owner"}
    [change] = parsed(printed("a", owner))
    assert change.owner.startswith("?:None → xxx")
    assert len(change.owner.encode()) < 400

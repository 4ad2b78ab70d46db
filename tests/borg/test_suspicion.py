"""backups.suspicion: what speaks against an archive that borg has made without an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.suspicion import Size, suspicion

BEFORE = Size(files=100, original=1_000)
SIZES = st.builds(Size, st.integers(0, 2**63), st.integers(0, 2**63))


@pytest.mark.parametrize(
    "new",
    [BEFORE, Size(50, 500), Size(51, 501), Size(100, 500), Size(50, 10**12), Size(10**9, 10**15), Size(1_000, 500)],
)
def test_an_archive_like_the_one_before_raises_no_doubt(new: Size) -> None:
    assert suspicion(new, BEFORE, []) == ""


@pytest.mark.parametrize("new", [Size(1, 0), Size(1, 1), BEFORE])
@pytest.mark.parametrize("before", [None, Size(0, 0), Size(1, 0)])
def test_without_a_full_predecessor_only_emptiness_counts(new: Size, before: Size | None) -> None:
    assert suspicion(new, before, []) == ""


@pytest.mark.parametrize("before", [None, Size(0, 0), BEFORE])
@pytest.mark.parametrize("original", [0, 581, 10**9])
def test_an_empty_archive_is_suspicious_even_as_the_first(before: Size | None, original: int) -> None:
    assert suspicion(Size(0, original), before, []) == "The archive is empty."


@pytest.mark.parametrize("files", [1, 25, 49])
def test_less_than_half_of_the_files_is_suspicious(files: int) -> None:
    assert suspicion(Size(files, 10**9), BEFORE, []) == f"It has {files} files, less than half of the 100 before."


@pytest.mark.parametrize("original", [0, 1, 499])
def test_less_than_half_of_the_bytes_is_suspicious(original: int) -> None:
    assert suspicion(Size(100, original), BEFORE, []) == f"It has {original} bytes, less than half of the 1,000 before."


def test_large_numbers_are_written_to_be_read() -> None:
    said = suspicion(Size(1_234_567, 1), Size(9_876_543, 1), [])
    assert said == "It has 1,234,567 files, less than half of the 9,876,543 before."


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["/srv"], "Not found on the server: /srv."),
        (["/srv", "/home"], "Not found on the server: /srv, /home."),
        ([f"/{n}" for n in range(5)], "Not found on the server: /0, /1, /2, /3, /4."),
        ([f"/{n}" for n in range(6)], "Not found on the server: /0, /1, /2, /3, /4 ...."),
    ],
)
def test_a_missing_path_is_named(missing: list[str], said: str) -> None:
    assert suspicion(BEFORE, BEFORE, missing) == said


def test_all_doubts_are_said() -> None:
    assert suspicion(Size(0, 0), BEFORE, ["/srv"]) == "Not found on the server: /srv. The archive is empty."


@given(SIZES, SIZES | st.none(), st.lists(st.text()))
def test_an_archive_that_lost_more_than_half_is_never_without_a_doubt(
    new: Size, before: Size | None, missing: list[str]
) -> None:
    shrunk = before is not None and (new.files * 2 < before.files or new.original * 2 < before.original)
    assert bool(suspicion(new, before, missing)) == bool(missing or new.files == 0 or shrunk)

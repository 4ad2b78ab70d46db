"""`Range` as browsers, curl and strangers send it: one part, the whole, or none that there is."""

import pytest

from backups.ranges import Part, Unsatisfiable, asked_part

ETAG = '"a"'


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0), ("bytes=0-9", 0, 9), ("bytes=3-5", 3, 5), ("bytes=9-9", 9, 9), ("bytes=3-", 3, 9),
        ("bytes=0-", 0, 9), ("bytes=3-1000", 3, 9), ("bytes=-1", 9, 9), ("bytes=-10", 0, 9), ("bytes=-1000", 0, 9),
        ("bytes=00-007", 0, 7), ("Bytes=1-2", 1, 2), ("bytes = 1-2", 1, 2),
    ],
)  # fmt: skip
def test_one_part_is_what_it_says(asked: str, first: int, last: int) -> None:
    part = asked_part({"Range": asked}, size=10, etag=ETAG)
    assert part == Part(first, last, 10)
    assert part.content_range == f"bytes {first}-{last}/10"
    assert part.length == len(bytes(10)[first : last + 1])


@pytest.mark.parametrize(
    "asked",
    [
        "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=1-2,4-5", "bytes=0-0,-1", "lines=1-2",
        "bytes=1.0-2", "bytes=+1-2", "bytes=0x1-2", "bytes=١-٢", "bytes=1-2;x", "bytes=--1", "bytes=1--2",
        f"bytes={'9' * 30}-", "bytes=1-2\n",
    ],
)  # fmt: skip
def test_several_or_none_that_one_could_mean_is_the_whole(asked: str) -> None:
    assert asked_part({"Range": asked}, size=10, etag=ETAG) is None


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ("bytes=10-", 10),
        ("bytes=10-20", 10),
        ("bytes=999-1000", 10),
        ("bytes=-0", 10),
        ("bytes=0-", 0),
        ("bytes=-5", 0),
    ],
)
def test_a_part_that_is_not_there_is_refused_with_the_size(asked: str, size: int) -> None:
    with pytest.raises(Unsatisfiable) as refused:
        asked_part({"Range": asked}, size=size, etag=ETAG)
    assert refused.value.content_range == f"bytes */{size}"


@pytest.mark.parametrize(
    ("belongs_to", "taken"),
    [('"a"', True), ('"b"', False), ('W/"a"', False), ("Wed, 21 Oct 2026 07:28:00 GMT", False), ("", False)],
)
def test_a_part_of_something_else_is_the_whole(belongs_to: str, taken: bool) -> None:
    """Red without If-Range: whoever goes on with the file of another archive would get a mixture."""
    part = asked_part({"Range": "bytes=3-5", "If-Range": belongs_to}, size=10, etag=ETAG)
    assert (part is not None) == taken

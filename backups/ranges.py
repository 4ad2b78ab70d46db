"""`Range` and `If-Range` of a request: which part of a file is asked for (RFC 9110, 14)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

ONE_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII | re.IGNORECASE)


class Unsatisfiable(Exception):
    """The file has no such part; `size` says how long it is."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes, and none of those that were asked for.")
        self.content_range = f"bytes */{size}"


@dataclass(frozen=True)
class Part:
    first: int
    last: int  # itself with it
    size: int  # of the whole

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        return f"bytes {self.first}-{self.last}/{self.size}"


def asked_part(headers: Mapping[str, str], *, size: int, etag: str) -> Part | None:
    """The one part that is asked for; None for the whole, also where several are, or none that one could mean.

    Raises Unsatisfiable.
    """
    found = ONE_RANGE.fullmatch(headers.get("Range", ""))
    if found is None or headers.get("If-Range", etag) != etag or found[1] == found[2] == "":
        return None
    first, last = found[1], found[2]
    if first and last and int(last) < int(first):
        return None
    if first:
        part = Part(int(first), min(int(last or size), size - 1), size)
    else:
        part = Part(max(size - int(last), 0), size - 1, size)
    if part.length <= 0:
        raise Unsatisfiable(size)
    return part

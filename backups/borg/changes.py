"""What `borg diff --json-lines` prints, as values.

Borg says how files differ, not all that one wants to know (1.2.4, 1.2.9, 1.4.5 alike, but where it is said):

- In a path each byte that is not UTF-8 is a "?", whatever PYTHONIOENCODING says; 1.2.4 tells it.
- Of content that differs it counts whole chunks: a byte changed in a large file is megabytes added, and as many
  removed. Their difference is exact.
- Of a file that became a folder, a link or a pipe, or was one, it tells the mode and no size; of archives that were cut
  into chunks by other rules no size either.
- 1.2 says "modified" of every file that has changed in some way, with 0 bytes where it was not in content.
- A hard link counts as a file of its own.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backups.borg.results import Unreadable

LINE_LIMIT = 1024 * 1024  # bytes; a path has 4,096, and JSON takes six for one
MOST_OWNER = 130  # characters


class Kind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"  # in content, a link's target, or from a file into something else
    ATTRIBUTES = "attributes"  # mode, owner or times alone


@dataclass(frozen=True)
class Change:
    path: bytes
    kind: Kind
    added: int  # bytes
    removed: int
    sized: bool = True  # False: borg does not say how many bytes
    mode: str = ""  # before and after, as `ls -l` shows them; "": the same
    owner: str = ""
    modified: bool = False  # its time of modification is another
    times: bool = False  # that, or another time

    @property
    def is_another_type(self) -> bool:
        return bool(self.mode) and self.mode[0] != self.mode.rpartition(ARROW)[2][:1]


ARROW = " → "


def parse_changes(chunks: Iterable[bytes]) -> Iterator[Change]:
    """Read it piece by piece, in bounded memory. Raises Unreadable."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_LIMIT:
            raise Unreadable("a line of the comparison is longer than any can be")
        yield from map(_change, filter(None, lines))
    if rest:
        raise Unreadable("the comparison ends in the middle of a line")


def _change(line: bytes) -> Change:
    try:
        data = json.loads(line)
        path = data["path"].encode("utf-8", "surrogateescape")
        told = {str(each["type"]): each for each in data["changes"]}
        return _of(path, told)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(f"a line of the comparison is not what borg writes ({error})") from error


def _of(path: bytes, told: dict[str, Any]) -> Change:
    for name, each in told.items():
        if name.partition(" ")[0] == "added":  # "added", "added directory", "added link" ...
            return Change(path, Kind.ADDED, _bytes(each.get("size", 0)), 0)
        if name.partition(" ")[0] == "removed":
            return Change(path, Kind.REMOVED, 0, _bytes(each.get("size", 0)))
    content = told.get("modified")
    sized = content is None or {"added", "removed"} <= content.keys()
    added, removed = (_bytes(content.get(name, 0)) if content else 0 for name in ("added", "removed"))
    change = Change(
        path, Kind.ATTRIBUTES, added, removed,
        mode=_both(told.get("mode"), "mode"), owner=_both(told.get("owner"), "user", "group"),
        modified="mtime" in told, times=bool({"mtime", "ctime"} & told.keys()),
    )  # fmt: skip
    sized = sized and not change.is_another_type
    others = told.keys() - {"modified", "mode", "owner", "mtime", "ctime"}  # as "changed link"
    if added or removed or others or not sized:
        return Change(**{**vars(change), "kind": Kind.CHANGED, "sized": sized})
    return change


def _both(change: Any, *names: str) -> str:
    """What it was and what it is, in one text; "" when nothing was told."""
    if change is None:
        return ""
    old, new = (":".join(str(change[f"{age}_{name}"]) for name in names)[:MOST_OWNER] for age in ("old", "new"))
    return f"{old}{ARROW}{new}".encode("utf-8", "replace").decode()


def _bytes(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("a size is not a number of bytes")
    return value

"""What speaks against an archive that borg has made without an error."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    files: int
    original: int  # bytes


def suspicion(new: Size, before: Size | None, missing: Sequence[str]) -> str:
    """Say why an archive may not be what it should be; "" when nothing speaks against it.

    `before` is its last good predecessor, `missing` the source paths that were not there. An empty
    archive after a full one, and a prune on top, is how backups are lost (BORG.md, finding 1).
    """
    doubts = []
    if missing:
        doubts.append(f"Not found on the server: {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}.")
    if new.files == 0:
        doubts.append("The archive is empty.")
    elif before and new.files * 2 < before.files:
        doubts.append(f"It has {new.files:,} files, less than half of the {before.files:,} before.")
    elif before and new.original * 2 < before.original:
        doubts.append(f"It has {new.original:,} bytes, less than half of the {before.original:,} before.")
    return " ".join(doubts)

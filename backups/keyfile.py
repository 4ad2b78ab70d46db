"""The key of a repository that does not hold its own, for a borg of ours, on no disk."""

import os
import weakref
from typing import Self


class KeyFile:
    """A file in memory that borg, our child, can open while this object lives; nobody has to remove it."""

    def __init__(self, text: str) -> None:
        number = os.memfd_create("borg-key", os.MFD_CLOEXEC)
        self._close = weakref.finalize(self, os.close, number)
        os.write(number, text.encode())
        # For BORG_KEY_FILE. Who opens it gets a file of its own, read from its start.
        self.path = f"/proc/{os.getpid()}/fd/{number}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

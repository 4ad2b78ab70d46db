"""Secrets that a program of ours wants to read from a file."""

import os
import weakref
from typing import Self


class MemoryFile:
    """A file in memory that our children can open while this object lives; it is on no disk, and nobody removes it."""

    def __init__(self, text: str) -> None:
        number = os.memfd_create("phpborg", os.MFD_CLOEXEC)
        self._close = weakref.finalize(self, os.close, number)
        os.fchmod(number, 0o600)  # ssh takes no key that others may read
        os.write(number, text.encode())
        # Who opens it gets a file of its own, read from its start.
        self.path = f"/proc/{os.getpid()}/fd/{number}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

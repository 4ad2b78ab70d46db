"""Errors whose text was written for the person who must act.

Plain Python: the packages that know no Django raise them, and `jobs.runner` shows them.
"""

from enum import StrEnum
from typing import Any, ClassVar


class Cause(StrEnum):
    NETWORK = "network"
    LOCK = "lock"
    DISK = "disk"
    AUTHENTICATION = "authentication"
    PASSPHRASE = "passphrase"
    BORG = "borg"
    SOURCE = "source"
    INTERNAL = "internal"


class Failure(Exception):
    """Why a job did not do what it was for: one sentence, its cause, and what to do about it."""

    cause: ClassVar[Cause] = Cause.INTERNAL
    advice: ClassVar[str] = ""
    may_pass: ClassVar[bool] = False  # the same job may well succeed if it is tried again

    def __init__(self, sentence: str = "", *, advice: str = "", result: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.own_advice = advice or self.advice
        self.result = result  # what was done, or found, all the same


class Cancelled(Exception):
    """Somebody asked for the job to stop."""


class Superseded(Exception):
    """The row says that this run of the job is no longer the one that counts: stop, say nothing."""

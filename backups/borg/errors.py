"""Why a borg failed: its exit code and its messages, as a sentence and a cause.

With BORG_EXIT_CODES=modern, 1.4 has a code for each error; 1.2 knows only 2, and the `msgid` of
its last ERROR line decides. Codes: borg 1.4, docs/internals/frontends.rst.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

from backups.borg.events import Message
from jobs.errors import Cause, Failure

ERROR = 40
FIRST_LINE = re.compile(r"\s*(\S[^\r\n]*)")
EXCEPTION = re.compile(r"^(\S.*)\n\nPlatform: ", re.MULTILINE)  # the last line of a traceback of borg's
WARNING_CODES = {1, *range(100, 126)}  # borg reserves up to 127, but 126 and 127 are the shell's


class BorgFailed(Failure):
    cause: ClassVar = Cause.BORG
    advice: ClassVar = "The log has borg's own words."


class RepositoryLocked(BorgFailed):
    cause: ClassVar = Cause.LOCK
    may_pass: ClassVar = True
    advice: ClassVar = "Something else is using the repository. If nothing is, a borg died and left its lock."


class PassphraseWrong(BorgFailed):
    cause: ClassVar = Cause.PASSPHRASE
    advice: ClassVar = "The passphrase or the key that we hold is not this repository's. Retrying will not help."


class RepositoryMissing(BorgFailed):
    cause: ClassVar = Cause.DISK
    advice: ClassVar = "Look whether the storage pool's disk is mounted and the repository's folder is still there."


class RepositoryExists(BorgFailed):
    cause: ClassVar = Cause.DISK
    advice: ClassVar = "Choose another name, or remove what lies there."


class RepositoryUnreadable(BorgFailed):
    cause: ClassVar = Cause.DISK
    advice: ClassVar = "Check the repository (borg check) before anything else is written to it."


class DiskFull(BorgFailed):
    cause: ClassVar = Cause.DISK
    advice: ClassVar = "Make room, then run the job again. Nothing that was there before is lost."


class BorgConnectionLost(BorgFailed):
    cause: ClassVar = Cause.NETWORK
    may_pass: ClassVar = True
    advice: ClassVar = "If it happens again, look at the network between the server and us."


class AccountRefused(BorgFailed):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = "Look at the storage pool's page and at the repository's: the account must know the key."


class AccountUnknown(BorgFailed):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = (
        "Somebody may stand between. If the account's machine was made anew, an administrator can confirm its new "
        "host key on the storage pool's page."
    )


class ArchiveMissing(BorgFailed):
    cause: ClassVar = Cause.BORG
    advice: ClassVar = "Somebody may have deleted it from the repository."


class Replayed(BorgFailed):
    cause: ClassVar = Cause.BORG
    advice: ClassVar = (
        "The repository is older than what the server has seen: was an old copy put back? "
        "Look at it before anything is written to it."
    )


class BorgKilled(BorgFailed):
    may_pass: ClassVar = True
    advice: ClassVar = "Somebody killed it, or the machine ran out of memory."


_BY_MSGID: dict[str, tuple[type[BorgFailed], str]] = {
    "PassphraseWrong": (PassphraseWrong, "The passphrase of the repository is wrong."),
    "PasscommandFailure": (PassphraseWrong, "borg got no passphrase."),
    "LockTimeout": (RepositoryLocked, "The repository is locked by another borg."),
    "LockError": (RepositoryLocked, "The lock of the repository could not be taken."),
    "LockErrorT": (RepositoryLocked, "The lock of the repository could not be taken."),
    "LockFailed": (RepositoryLocked, "The lock of the repository could not be taken."),
    "Repository.DoesNotExist": (RepositoryMissing, "The repository is not where it was."),
    "Repository.ParentPathDoesNotExist": (RepositoryMissing, "The folder of the repository does not exist."),
    "Repository.AlreadyExists": (RepositoryExists, "A repository exists there already."),
    "Repository.PathAlreadyExists": (RepositoryExists, "Something exists there already."),
    "Repository.InvalidRepository": (RepositoryUnreadable, "What lies there is no valid repository."),
    "Repository.InvalidRepositoryConfig": (RepositoryUnreadable, "The repository's configuration is broken."),
    "Repository.CheckNeeded": (RepositoryUnreadable, "The repository is damaged and needs a check."),
    "Repository.ObjectNotFound": (RepositoryUnreadable, "A part of the repository is missing."),
    "Repository.InsufficientFreeSpaceError": (DiskFull, "The disk of the repository is full."),
    "Repository.StorageQuotaExceeded": (DiskFull, "The repository has reached its quota."),
    "IntegrityError": (RepositoryUnreadable, "The repository is damaged."),
    "FileIntegrityError": (RepositoryUnreadable, "A file of the repository or of borg's cache is damaged."),
    "DecompressionError": (RepositoryUnreadable, "The repository is damaged."),
    "Archive.DoesNotExist": (ArchiveMissing, "The archive is not in the repository."),
    "Archive.AlreadyExists": (BorgFailed, "An archive of this name exists already."),
    "Cache.RepositoryReplay": (Replayed, "borg refuses the repository: it looks like an older copy of itself."),
    "Cache.RepositoryIDNotUnique": (Replayed, "borg refuses the repository: it is a copy of another one."),
    "Cache.RepositoryAccessAborted": (BorgFailed, "borg refused the repository: it has moved, or another lies there."),
    "Cache.EncryptionMethodMismatch": (BorgFailed, "borg refuses the repository: its encryption has changed."),
    "ConnectionClosed": (BorgConnectionLost, "borg lost the connection to the repository."),
    "ConnectionClosedWithHint": (BorgConnectionLost, "borg lost the connection to the repository."),
    "ConnectionBrokenWithHint": (BorgConnectionLost, "borg lost the connection to the repository."),
    "PathNotAllowed": (BorgFailed, "borg serve does not allow this repository."),
}
_BY_CODE = {
    10: "Repository.AlreadyExists", 13: "Repository.DoesNotExist", 14: "Repository.InsufficientFreeSpaceError",
    15: "Repository.InvalidRepository", 16: "Repository.InvalidRepositoryConfig", 17: "Repository.ObjectNotFound",
    18: "Repository.ParentPathDoesNotExist", 19: "Repository.PathAlreadyExists",
    20: "Repository.StorageQuotaExceeded", 12: "Repository.CheckNeeded",
    30: "Archive.AlreadyExists", 31: "Archive.DoesNotExist",
    50: "PasscommandFailure", 51: "PasscommandFailure", 52: "PassphraseWrong",
    60: "Cache.CacheInitAbortedError", 61: "Cache.EncryptionMethodMismatch", 62: "Cache.RepositoryAccessAborted",
    63: "Cache.RepositoryIDNotUnique", 64: "Cache.RepositoryReplay",
    70: "LockError", 71: "LockErrorT", 72: "LockFailed", 73: "LockTimeout",
    80: "ConnectionClosed", 81: "ConnectionClosedWithHint", 83: "PathNotAllowed", 87: "ConnectionBrokenWithHint",
    90: "IntegrityError", 91: "FileIntegrityError", 92: "DecompressionError",
}  # fmt: skip


# What ssh says before borg knows only that the connection has gone.
_BY_SSH: dict[str, tuple[type[BorgFailed], str]] = {
    "Permission denied (": (AccountRefused, "The SSH account of the repository refuses the key."),
    "Host key verification failed": (AccountUnknown, "The host key of the repository's SSH account has changed."),
}


def failure_of(command: str, code: int | None, messages: Sequence[Message]) -> BorgFailed:
    """What to tell of a `borg <command>` that ended with `code`; None: killed."""
    errors = [message for message in messages if message.level >= ERROR]
    if any("[Errno 28]" in message.text for message in messages):
        return DiskFull("The disk of the repository, or of the server, is full.")
    known = [message.msgid for message in reversed(errors) if message.msgid in _BY_MSGID]
    msgid = known[0] if known else _BY_CODE.get(code or 0, "")
    if msgid in _BY_MSGID:
        kind, sentence = _BY_MSGID[msgid]
        if kind is BorgConnectionLost:
            kind, sentence = _said_by_ssh(messages) or (kind, sentence)
        return kind(sentence)
    if code is None or code > 128:
        return BorgKilled(f"borg {command} was killed.")
    said = _said(errors)
    return BorgFailed(f"borg {command} failed with exit code {code}{f': {said}' if said else '.'}")


def _said_by_ssh(messages: Sequence[Message]) -> tuple[type[BorgFailed], str] | None:
    said = [text for message in messages for text in _BY_SSH if text in message.text]
    return _BY_SSH[said[0]] if said else None


def _said(errors: Sequence[Message]) -> str:
    """Borg's last error as a sentence of one line; of a traceback, its exception."""
    for message in reversed(errors):
        found = (
            EXCEPTION.search(message.text) if message.text.startswith("Traceback") else FIRST_LINE.match(message.text)
        )
        if found:
            said = found[1][:300].strip()
            return said if said.endswith((".", "!", "?")) else f"{said}."
    return ""

"""backups.borg.errors.failure_of: why a borg failed, in a sentence."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.borg import errors
from backups.borg.errors import (
    WARNING_CODES,
    ArchiveMissing,
    BorgConnectionLost,
    BorgFailed,
    BorgKilled,
    DiskFull,
    PassphraseWrong,
    Replayed,
    RepositoryExists,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreadable,
    failure_of,
)
from backups.borg.events import Message
from jobs.errors import Cause
from tests.borg.recorded import VERSIONS, cases, recorded

# kind, borg 1.4's exit code with BORG_EXIT_CODES=modern, borg's msgid
KNOWN: list[tuple[type[BorgFailed], int, str]] = [
    (RepositoryExists, 10, "Repository.AlreadyExists"),
    (RepositoryUnreadable, 12, "Repository.CheckNeeded"),
    (RepositoryMissing, 13, "Repository.DoesNotExist"),
    (DiskFull, 14, "Repository.InsufficientFreeSpaceError"),
    (RepositoryUnreadable, 15, "Repository.InvalidRepository"),
    (RepositoryUnreadable, 16, "Repository.InvalidRepositoryConfig"),
    (RepositoryUnreadable, 17, "Repository.ObjectNotFound"),
    (RepositoryMissing, 18, "Repository.ParentPathDoesNotExist"),
    (RepositoryExists, 19, "Repository.PathAlreadyExists"),
    (DiskFull, 20, "Repository.StorageQuotaExceeded"),
    (BorgFailed, 30, "Archive.AlreadyExists"),
    (ArchiveMissing, 31, "Archive.DoesNotExist"),
    (PassphraseWrong, 51, "PasscommandFailure"),
    (PassphraseWrong, 52, "PassphraseWrong"),
    (BorgFailed, 61, "Cache.EncryptionMethodMismatch"),
    (BorgFailed, 62, "Cache.RepositoryAccessAborted"),
    (Replayed, 63, "Cache.RepositoryIDNotUnique"),
    (Replayed, 64, "Cache.RepositoryReplay"),
    (RepositoryLocked, 70, "LockError"),
    (RepositoryLocked, 71, "LockErrorT"),
    (RepositoryLocked, 72, "LockFailed"),
    (RepositoryLocked, 73, "LockTimeout"),
    (BorgConnectionLost, 80, "ConnectionClosed"),
    (BorgConnectionLost, 81, "ConnectionClosedWithHint"),
    (BorgFailed, 83, "PathNotAllowed"),
    (BorgConnectionLost, 87, "ConnectionBrokenWithHint"),
    (RepositoryUnreadable, 90, "IntegrityError"),
    (RepositoryUnreadable, 91, "FileIntegrityError"),
    (RepositoryUnreadable, 92, "DecompressionError"),
]
CAUSES = {
    BorgFailed: Cause.BORG, RepositoryLocked: Cause.LOCK, PassphraseWrong: Cause.PASSPHRASE,
    RepositoryMissing: Cause.DISK, RepositoryExists: Cause.DISK, RepositoryUnreadable: Cause.DISK,
    DiskFull: Cause.DISK, BorgConnectionLost: Cause.NETWORK, ArchiveMissing: Cause.BORG, Replayed: Cause.BORG,
    BorgKilled: Cause.BORG,
}  # fmt: skip
MAY_PASS = {RepositoryLocked, BorgConnectionLost, BorgKilled}


def error(msgid: str = "", text: str = "What borg said") -> Message:
    return Message(40, text, msgid)


def assert_is(failure: BorgFailed, kind: type[BorgFailed]) -> None:
    """It is of that kind, with its cause, and with a sentence and an advice that a person can read."""
    assert type(failure) is kind
    assert failure.cause == CAUSES[kind]
    assert failure.may_pass == (kind in MAY_PASS)
    assert re.fullmatch(r"\S.*[.!?]", str(failure))
    assert re.fullmatch(r"[A-Z].*\.", failure.own_advice)


# --- What borg has a name for -----------------------------------------------------------------


@pytest.mark.parametrize(("kind", "code", "msgid"), KNOWN)
def test_a_code_of_borg_1_4_is_enough(kind: type[BorgFailed], code: int, msgid: str) -> None:
    assert_is(failure_of("create", code, []), kind)


@pytest.mark.parametrize("code", [2, 1, None, 137])
@pytest.mark.parametrize(("kind", "_code", "msgid"), KNOWN)
def test_a_msgid_of_borg_1_2_is_enough(kind: type[BorgFailed], _code: int, msgid: str, code: int | None) -> None:
    assert_is(failure_of("create", code, [error(msgid)]), kind)


@pytest.mark.parametrize(("kind", "code", "msgid"), KNOWN)
def test_code_and_msgid_say_the_same(kind: type[BorgFailed], code: int, msgid: str) -> None:
    assert str(failure_of("create", code, [])) == str(failure_of("create", 2, [error(msgid)]))


def test_a_missing_passphrase_is_a_wrong_one() -> None:
    assert_is(failure_of("list", 50, []), PassphraseWrong)


def test_every_msgid_that_we_know_is_tested() -> None:
    assert set(errors._BY_MSGID) == {msgid for _, _, msgid in KNOWN}


def test_every_code_that_we_know_is_tested() -> None:
    assert {code for code, msgid in errors._BY_CODE.items() if msgid in errors._BY_MSGID} == {
        50, *(code for _, code, _ in KNOWN),
    }  # fmt: skip


def test_the_last_known_msgid_decides() -> None:
    said = [error("Repository.DoesNotExist"), error("LockTimeout"), error("Exception"), error("")]
    assert_is(failure_of("create", 2, said), RepositoryLocked)


def test_a_msgid_says_more_than_the_code() -> None:
    assert_is(failure_of("create", 80, [error("PassphraseWrong")]), PassphraseWrong)


@pytest.mark.parametrize("level", [10, 20, 30])
def test_a_warning_decides_nothing(level: int) -> None:
    assert_is(failure_of("create", 2, [Message(level, "m", "LockTimeout")]), BorgFailed)


# --- No space ---------------------------------------------------------------------------------

NO_SPACE = "[Errno 28] No space left on device: '/pool/web-1/data/0/17'"


@pytest.mark.parametrize("level", [20, 30, 40])
@pytest.mark.parametrize("code", [2, 1, None])
def test_no_space_is_known_by_its_number(code: int | None, level: int) -> None:
    assert_is(failure_of("create", code, [Message(level, f"noise: {NO_SPACE}"), error("Exception")]), DiskFull)


def test_no_space_says_more_than_what_came_of_it() -> None:
    assert_is(failure_of("create", 81, [Message(30, NO_SPACE), error("ConnectionClosedWithHint")]), DiskFull)


# --- What borg has no name for ------------------------------------------------------------------


@pytest.mark.parametrize("code", [None, 129, 130, 137, 143, 255])
def test_a_killed_borg_may_live_the_next_time(code: int | None) -> None:
    failure = failure_of("create", code, [])
    assert_is(failure, BorgKilled)
    assert str(failure) == "borg create was killed."


@pytest.mark.parametrize("code", [0, 1, 2, 3, 11, 53, 99, 100, 107, 120, 121, 128])
def test_an_unknown_end_names_command_and_code(code: int) -> None:
    failure = failure_of("compact", code, [])
    assert_is(failure, BorgFailed)
    assert str(failure) == f"borg compact failed with exit code {code}."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Something odd", "Something odd."),
        ("Something odd.", "Something odd."),
        ("Something odd!", "Something odd!"),
        ("Is borg working there? ", "Is borg working there?"),
        ("First line\nsecond line", "First line."),
        ("x" * 1000, "x" * 300 + "."),
        ("\n Late", "Late."),
        ("", "Something before."),
        (" \n", "Something before."),
    ],
)
def test_borgs_last_error_is_quoted(text: str, sentence: str) -> None:
    failure = failure_of("list", 2, [error(text="Something before"), error(text=text)])
    assert_is(failure, BorgFailed)
    assert str(failure).removeprefix("borg list failed with exit code 2: ") == sentence


def test_warnings_are_not_quoted() -> None:
    failure = failure_of("list", 2, [error(text="The error"), Message(30, "A warning")])
    assert str(failure) == "borg list failed with exit code 2: The error."


TRACEBACK = (
    "Traceback (most recent call last):\n  File \"x.py\", line 1, in main\nKeyError: 'a'\n\n"
    'During handling of the above exception, another exception occurred:\n\n  File "x.py", line 2, in run\n'
    "ValueError: no such thing\n\nPlatform: Linux web-1\nPID: 17  CWD: /\n"
)


@pytest.mark.parametrize(
    "said", [[error("Exception", "Local Exception"), error("", TRACEBACK)], [error("", TRACEBACK)]]
)
def test_of_a_traceback_the_last_exception_is_quoted(said: list[Message]) -> None:
    assert str(failure_of("list", 2, said)) == "borg list failed with exit code 2: ValueError: no such thing."


def test_a_traceback_cut_short_says_at_least_that_it_is_one() -> None:
    said = [error("Exception", "Local Exception"), error(text="Traceback (most recent call last):\n  File")]
    assert str(failure_of("list", 2, said)) == "borg list failed with exit code 2: Local Exception."


@given(
    st.text(),
    st.none() | st.integers(-5, 300),
    st.lists(
        st.builds(Message, st.sampled_from([10, 20, 30, 40]), st.text(), st.sampled_from(["", "LockTimeout", "X"]))
    ),
)
def test_every_end_has_a_sentence(command: str, code: int | None, messages: list[Message]) -> None:
    failure = failure_of(command, code, messages)
    assert str(failure).endswith((".", "!", "?"))
    assert len(str(failure)) < len(command) + 400


# --- Warnings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 100, 101, 102, 103, 104, 105, 106, 107])
def test_borgs_warnings_are_warnings(code: int) -> None:
    assert code in WARNING_CODES


@pytest.mark.parametrize("code", [0, 2, 3, 10, 52, 73, 90, 99, 126, 127, 128, 130, 137, 255, None])
def test_an_error_is_no_warning(code: int | None) -> None:
    assert code not in WARNING_CODES


# --- Recorded ---------------------------------------------------------------------------------

RECORDED = {
    "init_again": RepositoryExists, "create_again": BorgFailed, "no_archive": ArchiveMissing,
    "no_archive_to_list": ArchiveMissing, "no_repository": RepositoryMissing,
    "no_repository_but_a_folder": RepositoryUnreadable, "wrong_passphrase": PassphraseWrong,
    "locked": RepositoryLocked, "not_allowed": BorgFailed, "hung_up": BorgConnectionLost, "moved": BorgFailed,
    "moved_to_list": BorgFailed, "damaged": RepositoryUnreadable, "disk_full": DiskFull, "quota": DiskFull,
    "usage": BorgFailed, "crash": BorgFailed, "diff_without_other": ArchiveMissing,
}  # fmt: skip
SENTENCES = {
    "create_again": "An archive of this name exists already.",
    "not_allowed": "borg serve does not allow this repository.",
    "moved": "borg refused the repository: it has moved, or another lies there.",
    "moved_to_list": "borg refused the repository: it has moved, or another lies there.",
    "usage": "borg create failed with exit code 2.",
    "crash": "borg create failed with exit code 2: ValueError: Invalid value: storage_quota < 10M.",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", RECORDED)
def test_a_recorded_failure_is_understood(version: str, case: str) -> None:
    run = recorded(version, case)
    failure = failure_of("create", run.code, run.messages)
    assert_is(failure, RECORDED[case])
    assert str(failure) == SENTENCES.get(case, str(failure))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_failure_is_looked_at(version: str) -> None:
    failed = {case for case in cases(version) if recorded(version, case).code not in {0, *WARNING_CODES}}
    assert failed == set(RECORDED)

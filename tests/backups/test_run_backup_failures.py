"""A backup that fails: each reason its own sentence, and nothing is recorded that is not there."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from backups.models import Archive, Plan, Source
from backups.runners import base
from backups.runners.create import RunBackup
from jobs.models import Job
from servers.models import Server
from servers.ssh.command import Command
from servers.ssh.transport import ConnectionLost, LoginRefused
from tests.backups.replay import ARCHIVE_ID, archive_name, creates, description, error, warning
from tests.conftest import make_archive, run_now
from tests.fakes import Answer, FakeMachine

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(autouse=True)
def _one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may pass is judged as if all attempts were used up."""
    monkeypatch.setattr(RunBackup, "max_attempts", 1)


def fail(plan: Plan) -> Job:
    """Run a backup that must fail and leave no archive."""
    before = list(Archive.objects.values())
    job = run_now(RunBackup.enqueue(plan))
    plan.refresh_from_db()
    assert job.status == "failed"
    assert list(Archive.objects.values()) == before
    assert not Job.objects.filter(type="index").exists()
    assert (plan.last_job, plan.last_good_at) == (job, before[0]["start"] if before else None)
    return job


def raiser(failure: Exception) -> Callable[..., Any]:
    def fail_so(*_: object) -> Any:
        raise failure

    return fail_so


# --- borg says no -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said", "sentence", "cause"),
    [
        (2, error("Repository /x does not exist.", "Repository.DoesNotExist"), "The repository is not where it was.",
         "disk"),
        (13, "", "The repository is not where it was.", "disk"),
        (2, error("Passphrase supplied ... is incorrect.", "PassphraseWrong"),
         "The passphrase of the repository is wrong.", "passphrase"),
        (52, "", "The passphrase of the repository is wrong.", "passphrase"),
        (2, error("Failed to create/acquire the lock /x/lock.exclusive (timeout).", "LockTimeout"),
         "The repository is locked by another borg.", "lock"),
        (73, "", "The repository is locked by another borg.", "lock"),
        (2, error("Insufficient free space", "Repository.InsufficientFreeSpaceError"),
         "The disk of the repository is full.", "disk"),
        (2, error("Local Exception\n\nOSError: [Errno 28] No space left on device: '/x/data/0/5'"),
         "The disk of the repository, or of the server, is full.", "disk"),
        (2, error("Data integrity error: x", "IntegrityError"), "The repository is damaged.", "disk"),
        (90, "", "The repository is damaged.", "disk"),
        (2, error("Connection closed by remote host", "ConnectionClosed"),
         "borg lost the connection to the repository.", "network"),
        (2, error("Cache is newer", "Cache.RepositoryReplay"),
         "borg refuses the repository: it looks like an older copy of itself.", "borg"),
        (2, error("Something <new>"), "borg create failed with exit code 2: Something <new>.", "borg"),
        (3, "", "borg create failed with exit code 3.", "borg"),
        (None, "", "borg create was killed.", "borg"),
        (137, "", "borg create was killed.", "borg"),
    ],
)  # fmt: skip
def test_each_error_of_borg_has_a_sentence_and_a_cause(
    plan: Plan, machine: FakeMachine, code: int | None, said: str, sentence: str, cause: str
) -> None:
    machine.answers["create"] = Answer(stderr=[said] if said else [], code=code)
    job = fail(plan)
    assert (job.error, job.cause) == (sentence, cause)
    assert job.advice
    assert job.lines.filter(message=sentence, level=40).exists()


def test_an_error_ends_it_even_if_an_archive_is_described(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = creates(error("Data integrity error", "IntegrityError"), code=2)
    assert fail(plan).error == "The repository is damaged."


def test_a_failure_leaves_the_last_good_backup_the_last_good_one(plan: Plan, machine: FakeMachine) -> None:
    make_archive(plan)
    machine.answers["create"] = Answer(code=2)
    fail(plan)


# --- No proof of an archive -------------------------------------------------------------------


@pytest.mark.parametrize(
    "printed", [b"", b"done\n", b"{}", b"{", b'{"archive": 7}', b'{"archive": {}}', b"[]", b"\xff\xfe", b"[" * 100_000]
)
def test_exit_0_without_a_proof_is_a_failure(plan: Plan, machine: FakeMachine, printed: bytes) -> None:
    machine.answers["create"] = Answer(printed)
    job = fail(plan)
    assert job.error.startswith("borg ended with code 0, but gave no proof of an archive: ")


def test_exit_1_without_a_proof_is_a_failure(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = Answer(stderr=[warning("/etc/x: file changed while we backed it up")], code=1)
    assert fail(plan).error == "borg create failed with exit code 1."


def test_a_sudo_that_fails_is_no_warning_of_borg(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = Answer(stderr=["sudo: a password is required"], code=1)
    assert "sudo" in fail(plan).error


@pytest.mark.parametrize(
    ("printed", "word"),
    [(b"bash: borg: command not found", "not found"), (b"sh: 1: borg: Permission denied", "cannot be run")],
)
def test_a_borg_that_went_away_is_said(plan: Plan, machine: FakeMachine, printed: bytes, word: str) -> None:
    machine.answers["create"] = Answer(stderr=[printed.decode()], code=127 if word == "not found" else 126)
    assert word in fail(plan).error


# --- A server that lies -----------------------------------------------------------------------


def forged(**changes: Any) -> Callable[[Command], Answer]:
    """What a hostile server says of the archive that it was told to make."""

    def answer(command: Command) -> Answer:
        return Answer(json.dumps(description(archive_name(command), **changes)).encode())

    return answer


@pytest.mark.parametrize(
    "changes",
    [
        {"archive_id": "x"},
        {"archive_id": "../../x"},
        {"archive_id": "CD" * 32},
        {"archive_id": None},
        {"name": "../../x"},
        {"name": "--option"},
        {"name": "web-1-files-2099-01-01T00:00:00"},
        {"name": ""},
        {"name": "x" * 5_000},
        {"name": "half \ud800"},
        {"repository_id": "ef" * 32},
        {"repository_id": 7},
        {"files": -1},
        {"files": 2**63},
        {"files": "100"},
        {"files": True},
        {"original": 1.5},
        {"deduplicated": 10**30},
        {"repository_original": None},
        {"duration": float("nan")},
        {"duration": float("inf")},
        {"duration": "long"},
        {"start": "yesterday"},
        {"start": 7},
        {"start": "0001-01-01T00:00:00+14:00"},
        {"end": ""},
    ],
)
def test_a_description_that_cannot_be_is_not_believed(
    plan: Plan, machine: FakeMachine, changes: dict[str, Any]
) -> None:
    machine.answers["create"] = forged(**changes)
    job = fail(plan)
    assert job.cause == "borg"
    assert "phpBorg itself made a mistake" not in job.error


def test_an_archive_that_another_backup_made_cannot_be_claimed_again(plan: Plan, machine: FakeMachine) -> None:
    make_archive(plan, borg_id=ARCHIVE_ID)
    machine.answers["create"] = creates(files=7)
    assert fail(plan).error == "borg on web-1 describes another archive than the one that it was to make."


def test_endless_output_is_cut_off(plan: Plan, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RESULT_LIMIT", 1024 * 1024)
    machine.answers["create"] = Answer(b"x" * (1024 * 1024 + 1))
    assert fail(plan).error == "borg printed more than 1 MB where a few kB are usual."


def test_a_borg_that_asks_gets_no_answer(plan: Plan, machine: FakeMachine) -> None:
    machine.answers["create"] = Answer(
        stderr=[
            '{"type": "question_prompt", "message": "Really? [yN]"}', error("Aborted", "Cache.CacheInitAbortedError"),
        ],
        code=2,
    )  # fmt: skip
    job = fail(plan)
    assert job.lines.filter(message="borg asked, and got no answer: Really? [yN]").exists()


# --- Before and around borg -------------------------------------------------------------------


def test_a_plan_that_names_no_path_saves_nothing_and_says_so(plan: Plan, machine: FakeMachine) -> None:
    Source.objects.update(parameters={"paths": []})
    job = fail(plan)
    assert (job.error, job.cause) == ("The plan files has nothing to save: it names no path.", "source")
    assert machine.commands == []


def test_a_login_that_is_refused_is_said(plan: Plan, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "connect", raiser(LoginRefused("192.0.2.7 refused our key for the user root.")))
    job = fail(plan)
    assert (job.error, job.cause) == ("192.0.2.7 refused our key for the user root.", "authentication")


def test_a_connection_that_breaks_in_the_middle_is_never_a_success(plan: Plan, machine: FakeMachine) -> None:
    lost = ConnectionLost("The SSH connection to 192.0.2.7 broke.")
    machine.answers["create"] = creates(while_running=raiser(lost))
    job = fail(plan)
    assert (job.error, job.cause) == ("The SSH connection to 192.0.2.7 broke.", "network")
    assert machine.processes[-1].ended


def test_a_mistake_of_ours_is_told_without_its_details(
    plan: Plan, machine: FakeMachine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.answers["create"] = raiser(KeyError("s3cret passphrase"))
    job = fail(plan)
    assert job.error == "phpBorg itself made a mistake (KeyError)."
    assert "please report it" in job.advice
    assert "Traceback" in caplog.text


def test_a_plan_that_was_deleted_meanwhile_is_said(plan: Plan, machine: FakeMachine) -> None:
    job = RunBackup.enqueue(plan)
    plan.delete()
    run_now(Job.objects.get(pk=job.pk))
    job.refresh_from_db()
    assert (job.status, job.error) == ("failed", "The plan that this job was for has been deleted.")

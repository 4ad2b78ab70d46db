"""The way in by a password, with Debian's sshd, PAM and sudo: real users with real passwords."""

from __future__ import annotations

import fcntl
import secrets
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs import handover
from jobs.models import Job
from phpborg.embedded import Sshd
from servers.models import Server
from servers.runners.let_in import LetIn
from tests.conftest import run_now
from tests.e2e.conftest import OWN_KEYS, RULES, Person
from tests.e2e.machines import log_of
from tests.e2e.test_story_through_the_api import texts_of_processes
from tests.servers.conftest import OTHER_HOST_KEY

# They share /etc/sudoers.d/phpborg; with other runs too, for which the lock below is.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread"), pytest.mark.xdist_group("let-in")]

WAYS = {
    "password": ["PasswordAuthentication yes"],
    "PAM": ["UsePAM yes", "PasswordAuthentication yes"],
    "asked interactively by PAM": ["UsePAM yes", "KbdInteractiveAuthentication yes"],
}


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    """A machine has one RULES: other runs wait. What the tests write into it goes, and what was there comes back."""
    with (Path(tempfile.gettempdir()) / "phpborg-test-rules.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = RULES.read_text() if RULES.exists() else None
        RULES.unlink(missing_ok=True)
        yield
        RULES.unlink(missing_ok=True)
        if kept is not None:
            RULES.write_text(kept)
            RULES.chmod(0o440)


@contextmanager
def listening(directory: Path, *options: str) -> Iterator[Sshd]:
    with Sshd(directory, options=[OWN_KEYS, *options]) as sshd:
        yield sshd


@pytest.fixture
def sshd(short_dir: Path, request: pytest.FixtureRequest) -> Iterator[Sshd]:
    """One that takes passwords as `WAYS` has it; the first way where a test does not say."""
    way = getattr(request, "param", "password")
    with listening(short_dir / f"let-in-{list(WAYS).index(way)}-{secrets.token_hex(3)}", *WAYS[way]) as sshd:
        yield sshd


def server_at(sshd: Sshd, person: Person, *, use_sudo: bool = False, host_key: str = "") -> Server:
    server = Server.objects.create(
        name="real-1", address="127.0.0.1", port=sshd.port, username=person.name, use_sudo=use_sudo
    )
    seen = host_key or " ".join(sshd.host_key.with_suffix(".pub").read_text().split()[:2])
    Server.objects.filter(pk=server.pk).update(host_key=seen, host_key_seen=seen)
    server.refresh_from_db()
    return server


def let_in(server: Server, password: str) -> Job:
    job = LetIn.enqueue(server)
    handover.give(job, password)
    return run_now(job)


def after(server: Server) -> Job:
    """The connection test that the way in has started, done."""
    return run_now(Job.objects.get(server=server, type="server_test", status="pending"))


def sentences(job: Job) -> dict[str, str]:
    return {step["name"]: step["text"] for step in job.progress["steps"]}


@pytest.mark.parametrize("sshd", WAYS, indirect=True)
def test_the_password_puts_the_key_there_and_the_key_logs_in(sshd: Sshd, person: Person) -> None:
    server = server_at(sshd, person)
    job = let_in(server, person.password)
    assert job.status == "completed", (job.error, log_of(job))
    assert person.keys.read_text() == f"restrict {server.public_key}\n"
    assert person.keys.owner() == person.name
    tested = after(server)
    assert tested.result and tested.result["ok"], (tested.error, tested.progress)

    again = let_in(server, person.password)
    assert again.result and again.result["key"] == "there"
    assert person.keys.read_text() == f"restrict {server.public_key}\n"


@pytest.mark.parametrize("sshd", WAYS, indirect=True)
def test_a_wrong_password_is_refused_in_words(sshd: Sshd, person: Person) -> None:
    job = let_in(server_at(sshd, person), f"{person.password}!")
    assert (job.status, job.cause) == ("failed", "authentication")
    assert job.error == f"127.0.0.1 refused the password for the user {person.name}."
    assert "Enter it again." in job.advice
    assert not person.keys.exists()
    assert not Job.objects.filter(type="server_test").exists()


def test_a_server_that_takes_no_passwords_says_so(short_dir: Path, person: Person) -> None:
    """Red without a look at what the server would take: “refused” would send somebody to type it again."""
    with listening(short_dir / "keys-only") as sshd:
        job = let_in(server_at(sshd, person), person.password)
    assert job.error == f"127.0.0.1 takes no passwords from the user {person.name}."
    assert "run the command" in job.advice


def test_a_server_that_wants_more_than_a_password_says_so(short_dir: Path, person: Person) -> None:
    """Red without `is_authenticated`: paramiko is content, and the first command would find the connection closed."""
    with listening(short_dir / "two", "PasswordAuthentication yes", "AuthenticationMethods password,publickey") as sshd:
        job = let_in(server_at(sshd, person), person.password)
    assert job.error == f"127.0.0.1 took the password of the user {person.name}, but asks for more than that."
    assert "authorized_keys" in job.advice


def test_another_host_key_gets_no_password(sshd: Sshd, person: Person) -> None:
    job = let_in(server_at(sshd, person, host_key=OTHER_HOST_KEY), person.password)
    assert job.error.startswith("The host key of 127.0.0.1 has changed")
    assert sshd.log
    assert "password" not in sshd.log.read_text().replace("PasswordAuthentication", "")


# --- sudo -------------------------------------------------------------------------------------


@contextmanager
def watching(look: Callable[[], Iterator[bytes]], word: bytes) -> Iterator[list[bytes]]:
    """What of all that `look` finds has `word` in it, over and over while the block runs."""
    found: list[bytes] = []
    end = threading.Event()

    def watch() -> None:
        while not end.is_set():
            found.extend(text for text in look() if word in text)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


def test_with_sudo_its_line_is_there_as_well_and_the_password_in_no_process(sshd: Sshd, person: Person) -> None:
    """Red with the password as a word of the command: the look at the processes finds it."""
    person.may_sudo()
    server = server_at(sshd, person, use_sudo=True)
    with watching(texts_of_processes, person.password.encode()) as seen:
        job = let_in(server, person.password)
    assert (job.status, job.warnings) == ("completed", 0), (job.error, log_of(job))
    server.refresh_from_db()
    assert RULES.read_text() == f"{server.sudoers_line}\n"
    assert stat.S_IMODE(RULES.stat().st_mode) == 0o440
    assert (RULES.owner(), RULES.group()) == ("root", "root")
    assert list(RULES.parent.glob(".phpborg*")) == []
    assert seen == []
    assert person.password not in log_of(job)
    tested = after(server)
    assert tested.result and tested.result["ok"], (tested.error, tested.progress)
    assert sentences(tested)["root"] == "sudo lets us run borg as root without a password."


def test_the_line_of_another_user_stays_and_ours_is_there_once(sshd: Sshd, person: Person) -> None:
    person.may_sudo()
    other = "somebody ALL=(root) NOPASSWD:SETENV: /usr/bin/borg\n"
    RULES.write_text(other)
    RULES.chmod(0o440)
    server = server_at(sshd, person, use_sudo=True)
    for _ in range(2):
        assert let_in(server, person.password).status == "completed"
    server.refresh_from_db()
    assert RULES.read_text() == f"{other}{server.sudoers_line}\n"


def test_who_may_not_sudo_is_let_in_all_the_same(sshd: Sshd, person: Person) -> None:
    server = server_at(sshd, person, use_sudo=True)
    job = let_in(server, person.password)
    assert (job.status, job.warnings, job.result) == ("completed", 1, {"key": "added", "rule": ""})
    assert sentences(job)["rule"].startswith(f"{person.name} could not become root with this password: ")
    assert "sudoers" in sentences(job)["rule"]
    assert person.keys.read_text() == f"restrict {server.public_key}\n"
    assert not RULES.exists()
    assert after(server).error.startswith(f"{person.name} may not run borg as root without a password")


def test_a_line_that_sudo_would_not_understand_counts_for_nothing(
    sshd: Sshd, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without `visudo -c`: one bad file there, and nobody can use sudo any more."""
    person.may_sudo()
    server = server_at(sshd, person, use_sudo=True)
    line: Any = property(lambda _: "this is no rule")
    monkeypatch.setattr(Server, "sudoers_line", line)
    job = let_in(server, person.password)
    assert (job.status, job.warnings) == ("completed", 1)
    assert "syntax error" in sentences(job)["rule"]
    assert not RULES.exists()
    assert list(RULES.parent.glob(".phpborg*")) == []


def test_who_needs_no_password_for_sudo_does_not_leave_it_to_the_command(sshd: Sshd, person: Person) -> None:
    """Then sudo does not read it, and the script closes its standard input before anything else could."""
    person.may_sudo("NOPASSWD: ")
    server = server_at(sshd, person, use_sudo=True)
    assert let_in(server, person.password).result == {"key": "added", "rule": "added"}

"""Another key pair for a server, with Debian's sshd: what is written there, who gets in, what is left when it fails."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts import encryption
from accounts.models import AuditEntry
from jobs.models import Job
from phpborg.embedded import Sshd
from servers.models import Server
from servers.runners.renew_key import EDIT, RenewKey, base64_of
from servers.ssh.transport import ConnectionLost, LoginRefused
from tests.conftest import run_now
from tests.e2e.conftest import Person
from tests.e2e.machines import log_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread"), pytest.mark.xdist_group("let-in")]

KEY_FILES = "AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2"
OTHERS = "# our own\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGUh4dBKhK4WVHkjSQ0nBJWPTm2KJ4MkVLgT7dVmDBbI somebody\n"


@pytest.fixture
def sshd(short_dir: Path) -> Iterator[Sshd]:
    with Sshd(short_dir / f"renew-{secrets.token_hex(3)}", options=[KEY_FILES]) as sshd:
        yield sshd


@pytest.fixture
def server(sshd: Sshd, person: Person) -> Server:
    """One that lets us in as `person`, with a line that its administrator has made narrower."""
    server = Server.objects.create(name="real-1", address="127.0.0.1", port=sshd.port, username=person.name)
    seen = " ".join(sshd.host_key.with_suffix(".pub").read_text().split()[:2])
    Server.objects.filter(pk=server.pk).update(host_key=seen, host_key_seen=seen)
    server.refresh_from_db()
    write(person, f'{OTHERS}# once {server.public_key}\nfrom="127.0.0.1",restrict {server.public_key}')
    return server


def write(person: Person, text: str) -> None:
    person.keys.parent.mkdir(mode=0o700, exist_ok=True)
    person.keys.write_text(text)
    person.keys.chmod(0o640)
    for path in (person.keys.parent, person.keys):
        shutil.chown(path, person.name, person.name)


def renewed(server: Server) -> Job:
    job = run_now(RenewKey.enqueue(server))
    server.refresh_from_db()
    return job


def opens(server: Server, private_key: str) -> bool:
    try:
        server.connect(private_key=private_key).close()
    except LoginRefused:
        return False
    return True


def test_the_new_key_stands_in_the_place_of_the_old_one(server: Server, person: Person) -> None:
    old_private, old_public, made_at = server.private_key(), server.public_key, server.key_made_at
    job = renewed(server)
    assert job.status == "completed", (job.error, log_of(job))
    assert server.public_key != old_public
    assert server.public_key.endswith(" phpborg@real-1")
    assert person.keys.read_text() == f'{OTHERS}# once {old_public}\nfrom="127.0.0.1",restrict {server.public_key}'
    assert (person.keys.owner(), person.keys.stat().st_mode & 0o777) == (person.name, 0o640)
    assert list(person.keys.parent.iterdir()) == [person.keys]
    assert (opens(server, server.private_key()), opens(server, old_private)) == (True, False)
    assert server.leftover_public_key == ""
    assert server.key_made_at > made_at
    detail = AuditEntry.objects.get(action="server.key_renewed").detail
    assert detail == {"key": server.public_key, "before": old_public, "job": str(job.pk)}
    assert "PRIVATE" not in log_of(job) + str(job.result) + str(job.payload)


def test_a_job_that_has_had_the_server_for_hours_gets_in_all_the_same(server: Server) -> None:
    """Red when a row that was read before is believed."""
    known = Server.objects.get(pk=server.pk)
    assert renewed(server).status == "completed"
    known.connect().close()


def test_a_link_stays_one(server: Server, person: Person) -> None:
    """Red without readlink: the link is replaced, and whoever changes the file behind it wonders."""
    real = person.keys.rename(person.keys.with_name("real"))
    person.keys.symlink_to(real)
    assert renewed(server).status == "completed"
    assert person.keys.is_symlink()
    assert base64_of(server.public_key) in real.read_text()


def test_a_key_that_stands_elsewhere_is_left_alone(server: Server, person: Person) -> None:
    before, text = server.public_key, person.keys.read_text()
    elsewhere = person.keys.rename(person.keys.with_name("authorized_keys2"))
    write(person, OTHERS)
    job = renewed(server)
    assert job.status == "failed"
    assert job.error == f"Our key is not in ~/.ssh/authorized_keys of {person.name} on real-1, but somewhere else."
    assert (server.public_key, person.keys.read_text(), elsewhere.read_text()) == (before, OTHERS, text)
    assert server.leftover_public_key == ""


def test_an_old_key_that_still_opens_is_told_of(server: Server, person: Person) -> None:
    """Red without the proof: "completed", and whoever stole the old key is in."""
    before, text = server.public_key, person.keys.read_text()
    second = person.keys.with_name("authorized_keys2")
    second.write_text(text)
    job = renewed(server)
    assert job.status == "failed"
    assert job.error.startswith("The new key is used, but the old one still opens real-1")
    assert base64_of(before) in job.advice
    assert (server.public_key != before, server.leftover_public_key) == (True, before)
    server.connect().close()
    again = renewed(server)
    assert (again.status, again.warnings) == ("completed", 1)
    assert base64_of(before) in log_of(again)  # nobody can tell whether it still opens: its private half is gone
    assert server.leftover_public_key == ""


def test_a_new_key_that_is_not_taken_changes_nothing(
    server: Server, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when the row is changed before the new key has let us in: nobody gets in any more."""
    text, connect = person.keys.read_text(), Server.connect

    def picky(self: Server, *, private_key: str = "", **more: Any) -> Any:
        if private_key:
            raise LoginRefused("127.0.0.1 refused our key.")
        return connect(self, **more)

    monkeypatch.setattr(Server, "connect", picky)
    before = server.public_key
    job = renewed(server)
    assert job.status == "failed"
    assert job.error == "real-1 did not take the new key, so the old one stays: 127.0.0.1 refused our key."
    assert (server.public_key, server.leftover_public_key) == (before, "")
    assert person.keys.read_text() == f"{text}\n"  # sed ends the last line
    connect(server).close()


def test_what_was_left_behind_goes_with_the_next_one(
    server: Server, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks when the new key is to be tried, and again when it is to be taken away."""
    connect, before, sessions = Server.connect, server.public_key, 0

    def breaks(self: Server, **more: Any) -> Any:
        nonlocal sessions
        sessions += 1
        if sessions in (2, 3):
            raise ConnectionLost("The connection broke.")
        return connect(self, **more)

    monkeypatch.setattr(Server, "connect", breaks)
    assert renewed(server).status == "failed"
    left = server.leftover_public_key
    assert server.public_key == before
    assert base64_of(left) in person.keys.read_text()
    assert renewed(server).status == "completed"
    assert base64_of(left) not in person.keys.read_text()
    assert person.keys.read_text().count("restrict") == 1


def test_a_full_disk_loses_no_line(server: Server, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the file is written where it stands: half of it is all that is left."""
    text, before = person.keys.read_text(), server.public_key
    full = 'sed() { printf half; echo "sed: No space left on device" >&2; return 4; }\n'
    monkeypatch.setattr("servers.runners.renew_key.EDIT", full + EDIT)
    job = renewed(server)
    assert job.error == "~/.ssh/authorized_keys could not be changed on real-1: sed: No space left on device."
    assert (person.keys.read_text(), server.public_key, server.leftover_public_key) == (text, before, "")
    assert list(person.keys.parent.iterdir()) == [person.keys]


def test_the_row_is_sealed(server: Server) -> None:
    renewed(server)
    assert "PRIVATE KEY" in encryption.decrypt(server.private_key_encrypted)
    assert "PRIVATE" not in server.private_key_encrypted

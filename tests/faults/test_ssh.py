"""The way to the server: gone, frozen, refused, noisy, or not the way that it was. Real sshd, real borg."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.test import Client

from accounts.models import AuditEntry
from backups import locks
from backups.models import Plan
from backups.runners.create import RunBackup
from jobs.models import Job
from phpborg.embedded import Child, Sshd, free_port, wait_until
from servers.models import Server
from servers.runners.test import TestConnection as ConnectionTest
from servers.ssh import remote
from tests.conftest import run_now
from tests.faults.conftest import (
    PATIENCE_SECONDS,
    again,
    borgs_of,
    new_archives,
    point,
    script,
    session_of,
    source_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]

SLOW_KIB_PER_SECOND = 250
NOTICED_WITHIN_SECONDS = 90
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# --- A connection that is gone in mid-backup --------------------------------------------------------


@pytest.fixture
def slow(real: Plan) -> Plan:
    """The plan, with more to save than fits into half a minute."""
    (source_of(real) / "big").write_bytes(os.urandom(8_000_000))
    Plan.objects.update(upload_kib_per_second=SLOW_KIB_PER_SECOND)
    return again(real)


@contextmanager
def in_the_middle(plan: Plan, act: Callable[[], object]) -> Iterator[None]:
    """Meanwhile, once borg on the server sends its data, `act`."""
    size = size_of(plan)

    def wait_and_act() -> None:
        with suppress(Exception):  # the job, which goes on, will say so
            wait_until(lambda: size_of(plan) > size + 200_000, seconds=PATIENCE_SECONDS, what="The transfer")
            act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    yield
    thread.join()


def size_of(plan: Plan) -> int:
    return sum(path.stat().st_size for path in Path(plan.repository.path).glob("data/*/*"))


def is_put_back(plan: Plan, job: Job) -> None:
    """Neither done nor over: the next attempt comes later, and nothing of this one is in its way."""
    assert (job.status, job.cause, job.holds, job.attempts) == ("pending", "network", None, 1)
    assert job.not_before
    assert new_archives() == []
    wait_until(lambda: not borgs_of(plan, "serve"), seconds=PATIENCE_SECONDS, what="The end of borg serve")
    assert locks.holders(Path(plan.repository.path)) == []


@pytest.fixture
def far_away(tmp_path: Path, home: Path) -> Iterator[tuple[Sshd, Callable[[], object]]]:
    """An sshd in a network of its own, and what cuts the cable: from then on nobody answers, not even with a no."""
    name, network = f"far{secrets.token_hex(3)}", f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
    with Sshd(home / f"sshd-{name}", options=[f"SetEnv HOME={home}"]) as sshd:
        pass  # it has made its key and its configuration
    configuration = sshd.directory / "sshd_config"
    configuration.write_text(configuration.read_text().replace("127.0.0.1", f"{network}.2"))
    for command in (
        f"netns add {name}", f"link add {name} type veth peer name far netns {name}",
        f"addr add {network}.1/24 dev {name}", f"link set {name} up",
        f"-n {name} addr add {network}.2/24 dev far", f"-n {name} link set far up", f"-n {name} link set lo up",
    ):  # fmt: skip
        subprocess.run(["ip", *command.split()], check=True)
    inside = Child("sshd", ["ip", "netns", "exec", name, *sshd.argv], log=tmp_path / "far.log")
    try:
        with inside:
            ping = ["ip", "netns", "exec", name, "ss", "-Hltn", f"sport = {sshd.port}"]
            wait_until(lambda: bool(subprocess.check_output(ping)), seconds=PATIENCE_SECONDS, what="The far sshd")
            sshd.directory.joinpath("address").write_text(f"{network}.2")
            yield sshd, lambda: subprocess.run(["ip", "-n", name, "link", "set", "far", "down"], check=True)
    finally:
        for pid in subprocess.check_output(["ip", "netns", "pids", name], text=True).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name], check=True)


@is_root
def test_a_network_that_is_gone_is_noticed(
    slow: Plan, far_away: tuple[Sshd, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without TCP_USER_TIMEOUT: paramiko's own keepalive sends into the void, and asks for no answer."""
    monkeypatch.setattr(remote, "KEEPALIVE_SECONDS", 1)
    monkeypatch.setattr(remote, "DEAD_PEER_MILLISECONDS", 2_000)
    monkeypatch.setattr(remote, "KEEPALIVES_UNANSWERED", 1_000)
    sshd, cut = far_away
    point(slow.server, sshd, address=sshd.directory.joinpath("address").read_text())
    with in_the_middle(slow, cut):
        job = run_now(RunBackup.enqueue(again(slow)))
    is_put_back(slow, job)
    assert job.error == "The SSH connection to web-1 broke."


def test_a_server_that_is_frozen_is_noticed(slow: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red without Keepalive: its kernel acknowledges all that we send, so nothing is ever missing."""
    monkeypatch.setattr(remote, "KEEPALIVE_SECONDS", 0.5)
    frozen: list[int] = []

    def freeze() -> None:
        frozen.append(session_of(slow))
        os.kill(frozen[0], signal.SIGSTOP)

    try:
        with in_the_middle(slow, freeze):
            job = run_now(RunBackup.enqueue(slow))
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)
    is_put_back(slow, job)
    assert job.error == "web-1 does not answer any more: the SSH connection was given up."


def test_either_is_noticed_in_time() -> None:
    silence = remote.KEEPALIVE_SECONDS * (remote.KEEPALIVES_UNANSWERED + 1)
    assert silence < NOTICED_WITHIN_SECONDS
    assert remote.KEEPALIVE_SECONDS + remote.DEAD_PEER_MILLISECONDS / 1000 < NOTICED_WITHIN_SECONDS


def test_a_server_that_only_keeps_silent_is_left_alone(real: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers when it is asked: a borg that reads a large file says nothing for longer than this."""
    monkeypatch.setattr(remote, "KEEPALIVE_SECONDS", 0.2)
    borg = script(source_of(real).parent / "their-borg", 'sleep 3; exec borg "$@"')
    Server.objects.update(borg_path=str(borg))
    job = run_now(RunBackup.enqueue(again(real)))
    assert (job.status, job.error) == ("completed", "")


# --- A server that does not let us, or cannot -------------------------------------------------------


def nobody_listens(plan: Plan, sshd: Sshd) -> None:
    Server.objects.update(port=free_port())


def our_key_is_gone(plan: Plan, sshd: Sshd) -> None:
    sshd.authorized_keys.write_text("")


def borg_is_gone(plan: Plan, sshd: Sshd) -> None:
    Server.objects.update(borg_path="/usr/bin/no-borg-here")


@pytest.mark.parametrize(
    ("happens", "cause", "sentence", "status"),
    [
        (nobody_listens, "network", "127.0.0.1 cannot be reached on port", "pending"),
        (our_key_is_gone, "authentication", "127.0.0.1 refused our key for the user", "failed"),
        (borg_is_gone, "borg", "/usr/bin/no-borg-here was not found on web-1, or cannot be run.", "failed"),
    ],
)
def test_each_has_its_own_sentence_and_only_what_may_pass_is_tried_again(
    real: Plan, sshd: Sshd, happens: Callable[[Plan, Sshd], None], cause: str, sentence: str, status: str
) -> None:
    """Red when `may_pass` is true for all Failures, or for none."""
    happens(real, sshd)
    job = run_now(RunBackup.enqueue(again(real)))
    assert (job.status, job.cause, job.attempts) == (status, cause, 1)
    assert job.error.startswith(sentence)
    assert job.advice
    assert new_archives() == []


@is_root
def test_a_sudo_that_does_not_let_us_is_said(
    real: Plan, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real sudo, asked by a user whom nobody has entered; red when its exit code 1 is taken for borg's warning."""
    nobody = 'exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "$SSH_ORIGINAL_COMMAND"'
    monkeypatch.setattr(Server, "needs_sudo", True)
    with Sshd(home / "as-nobody", options=[f"ForceCommand {nobody}"]) as sshd:
        point(real.server, sshd)
        job = run_now(RunBackup.enqueue(again(real)))
    assert (job.status, job.cause, job.attempts) == ("failed", "authentication", 1)
    assert job.error.startswith("sudo on web-1 does not let us run borg: ")
    assert "sudoers line" in job.advice


@pytest.fixture
def full_home(home: Path) -> Iterator[None]:
    """No room for borg's cache on the server."""
    cache = home / ".cache"
    cache.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(cache)], check=True)
    yield
    subprocess.run(["umount", "-l", str(cache)], check=True)


@is_root
@pytest.mark.usefixtures("full_home")
def test_a_full_disk_of_the_server_is_said(real: Plan) -> None:
    """Red without the look for errno 28: a traceback of borg's would be all that is told."""
    job = run_now(RunBackup.enqueue(real))
    assert (job.status, job.cause, job.attempts) == ("failed", "disk", 1)
    assert job.error == "The disk of the repository, or of the server, is full."
    assert new_archives() == []


def test_another_host_key_is_refused_until_an_administrator_confirms_it(
    real: Plan, home: Path, tmp_path: Path, as_admin: Client, as_operator: Client
) -> None:
    """Red when the policy for unknown keys is to add them: the backup would go to whoever answers."""
    reinstalled = Sshd(home / f"reinstalled-{tmp_path.name}", options=[f"SetEnv HOME={home}"])
    reinstalled.authorized_keys.write_text(f"restrict {real.server.public_key}\n")
    with reinstalled:
        Server.objects.update(port=reinstalled.port)
        job = run_now(RunBackup.enqueue(again(real)))
        assert (job.status, job.cause, job.attempts) == ("failed", "authentication", 1)
        assert job.error.startswith("The host key of 127.0.0.1 has changed: it now shows ssh-ed25519 SHA256:")
        assert job.error.endswith("Nothing was sent.")
        assert "Accepted" not in reinstalled.tail()

        assert run_now(ConnectionTest.enqueue(real.server)).cause == "authentication"
        real.server.refresh_from_db()
        page = f"/servers/{real.server.pk}"
        assert "Look at the host key" in as_admin.get(page).getvalue().decode()
        seen = {"fingerprint": real.server.fingerprint_seen}
        assert as_operator.post(f"{page}/host-key", seen).status_code == 403
        as_admin.post(f"{page}/host-key", seen)
        assert AuditEntry.objects.get(action="host_key.confirmed").detail["fingerprint"] == seen["fingerprint"]
        assert run_now(RunBackup.enqueue(again(real))).status == "completed"


# --- Noise ------------------------------------------------------------------------------------------


def test_noise_on_the_connection_is_no_word_of_borg_s(real: Plan, home: Path, tmp_path: Path) -> None:
    """Banner, .bashrc, a forced command that greets, each on both streams, and a shell that takes its time.

    Red when the relay takes the first line for its own, or `parse_create` wants nothing but JSON.
    """
    noisy = home / f"noisy-{tmp_path.name}"
    noisy.mkdir()
    greeting = 'printf \'Welcome!\\n{"borg": "is great"}\\nno end\'; echo motd >&2'
    (noisy / ".bashrc").write_text(f"sleep 0.3; {greeting}\n")
    (noisy / "banner").write_text("Authorized use only.\n" * 20)
    options = [
        f"SetEnv HOME={noisy}", f"Banner {noisy}/banner", f'ForceCommand {greeting}; eval "$SSH_ORIGINAL_COMMAND"',
    ]  # fmt: skip
    with Sshd(noisy / "sshd", options=options) as sshd:
        point(real.server, sshd)
        job = run_now(RunBackup.enqueue(again(real)))
    assert (job.status, job.error, job.warnings) == ("completed", "", 0)
    (archive,) = new_archives()
    assert job.result["archive_id"] == archive.borg_id
    assert (archive.files, archive.suspicion) == (3, "")
    assert job.lines.filter(message="motd", level=10).exists()

"""The connection test, step by step, on a machine that answers from a script."""

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from jobs.log import JobLog
from jobs.models import Job
from servers.models import Server
from servers.runners import test as runners
from servers.ssh.command import Command
from servers.ssh.remote import HostKey, Login
from servers.ssh.transport import ConnectionLost, HostKeyChanged, LoginRefused, Unreachable
from tests.conftest import HOST_KEY, run_now
from tests.fakes import Answer, FakeMachine
from tests.servers.conftest import FINGERPRINT, OTHER_HOST_KEY

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]

DF = b"""Filesystem     1024-blocks     Used Available Capacity Mounted on
/dev/sda1         41152736 10000000  29000000      26% /
"""


def shell(user_id: bytes = b"0") -> Callable[[Command], Answer]:
    """Answers the three questions that go through a shell there."""

    def answer(command: Command) -> Answer:
        script = command.argv[-1]
        if "command -v borg" in script:
            return Answer(b"/usr/bin/borg\n")
        return Answer(user_id + b"\n" if "id -u" in script else b"Debian GNU/Linux 12 (bookworm)")

    return answer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """A machine on which all is well, and behind every server's address."""
    machine = FakeMachine(sh=shell(), df=Answer(DF))
    machine.answers["/usr/bin/borg"] = Answer(b"borg 1.4.0\n")
    machine.login = Login("192.0.2.7", 22, "root", "")
    monkeypatch.setattr(runners, "see_host_key", lambda *_: HostKey.parse(HOST_KEY))
    monkeypatch.setattr(Server, "connect", lambda *_: machine)
    return machine


def run_test(server: Server) -> tuple[Job, dict[str, tuple[str, str]]]:
    """Run the test and return the job with (state, sentence) of each step."""
    job = run_now(runners.TestConnection.enqueue(server))
    server.refresh_from_db()
    return job, {step["name"]: (step["state"], step["text"]) for step in job.progress["steps"]}


def states(steps: dict[str, tuple[str, str]]) -> list[str]:
    return [state for state, _ in steps.values()]


def raiser(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def not_root(server: Server, machine: FakeMachine, *, use_sudo: bool = True) -> None:
    Server.objects.filter(pk=server.pk).update(username="backup", use_sudo=use_sudo)
    machine.answers["sh"] = shell(b"1000")
    machine.login = Login("192.0.2.7", 22, "backup", "", sudo=use_sudo)


# --- All is well ------------------------------------------------------------------------------


def test_a_good_server_passes_every_step_with_a_sentence(server: Server, machine: FakeMachine) -> None:
    job, steps = run_test(server)
    assert (job.status, job.warnings) == ("completed", 0)
    assert steps == {
        "reach": ("ok", "192.0.2.7 answers on port 22."),
        "host_key": ("ok", f"ssh-ed25519 {FINGERPRINT}, as confirmed."),
        "login": ("ok", "Logged in as root with our key."),
        "root": ("ok", "We are root there."),
        "borg": ("ok", "borg 1.4.0. (/usr/bin/borg)"),
        "space": ("ok", "29.7 GB of 42.1 GB are free on /; borg's cache needs some."),
        "found": ("ok", "0 file systems, no database, no containers."),
    }


def test_what_was_found_is_kept(server: Server, machine: FakeMachine) -> None:
    job, _ = run_test(server)
    assert job.result["ok"] is True
    assert (server.system, server.borg_path, server.borg_version) == (
        "Debian GNU/Linux 12 (bookworm)", "/usr/bin/borg", "1.4.0",
    )  # fmt: skip
    assert server.test_ok is True
    assert server.tested_at is not None
    assert server.seen_at is not None


def test_what_there_is_to_save_is_in_the_result(server: Server, machine: FakeMachine) -> None:
    def tell(command: Command) -> Answer:
        script = command.argv[2]
        told = {
            "ps -A": b"mariadbd\n", "docker": b"docker 2\n", "df -k": b"/dev/sda ext4 9 1 8 1% /\n", "ls -A": b"/etc\n",
        }  # fmt: skip
        found = next((text for words, text in told.items() if words in script or words in command.argv), None)
        return Answer(b"\n" + found) if found else shell()(command)

    machine.answers["sh"] = tell
    job, steps = run_test(server)
    assert job.result["found"] == {
        "databases": ["MariaDB"], "containers": [{"name": "docker", "running": 2}], "folders": ["/etc"],
        "disks": [{"path": "/", "type": "ext4", "free": 8192, "total": 9216}],
    }  # fmt: skip
    assert steps["found"] == ("ok", "1 file system, MariaDB, docker.")
    assert runners.found_on(server) == job.result["found"]


def test_each_sentence_is_in_the_log(server: Server, machine: FakeMachine) -> None:
    job, steps = run_test(server)
    assert [line.message for line in job.lines.all()] == [text for _, text in steps.values()]


def test_borg_is_asked_for_its_version_as_root(server: Server, machine: FakeMachine) -> None:
    run_test(server)
    asked = next(command for command in machine.commands if command.argv == ("/usr/bin/borg", "--version"))
    assert asked.as_root


# --- Before the login -------------------------------------------------------------------------


def test_a_server_that_does_not_answer_fails_the_first_step(
    server: Server, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = "192.0.2.7 did not answer on port 22 within 15 seconds."
    monkeypatch.setattr(runners, "see_host_key", raiser(Unreachable(sentence)))
    job, steps = run_test(server)
    assert (job.status, job.error, job.cause) == ("failed", sentence, "network")
    assert "firewall" in job.advice
    assert steps["reach"] == ("failed", sentence)
    assert states(steps) == ["failed", *["waiting"] * 6]
    assert server.test_ok is False
    assert server.tested_at is not None
    assert machine.commands == []


def test_before_somebody_confirmed_its_key_nothing_is_sent(
    new_server: Server, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "connect", raiser(AssertionError("Something was sent.")))
    job, steps = run_test(new_server)
    assert (job.status, job.result["ok"]) == ("completed", False)
    assert steps["host_key"] == (
        "asks", f"It shows ssh-ed25519 {FINGERPRINT}. Compare and confirm it, then test again.",
    )  # fmt: skip
    assert states(steps) == ["ok", "asks", *["waiting"] * 5]
    assert new_server.host_key_seen == HOST_KEY
    assert new_server.host_key == ""
    assert new_server.test_ok is False


def test_a_changed_key_is_remembered_but_not_trusted(
    server: Server, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "see_host_key", lambda *_: HostKey.parse(OTHER_HOST_KEY))
    monkeypatch.setattr(Server, "connect", raiser(AssertionError("Something was sent.")))
    job, steps = run_test(server)
    assert (job.status, job.cause) == ("failed", "authentication")
    assert steps["host_key"][0] == "failed"
    assert "another key than the confirmed one" in steps["host_key"][1]
    assert HostKey.parse(OTHER_HOST_KEY).fingerprint in job.error
    assert (server.host_key, server.host_key_seen) == (HOST_KEY, OTHER_HOST_KEY)


def test_a_key_that_changes_before_the_login_fails_there(
    server: Server, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "connect", raiser(HostKeyChanged("The host key of 192.0.2.7 has changed.")))
    job, steps = run_test(server)
    assert job.error == "The host key of 192.0.2.7 has changed."
    assert states(steps) == ["ok", "ok", "failed", *["waiting"] * 4]


def test_a_refused_login_says_where_our_key_belongs(
    server: Server, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "connect", raiser(LoginRefused("192.0.2.7 refused our key for the user root.")))
    job, steps = run_test(server)
    assert (job.status, job.cause) == ("failed", "authentication")
    assert steps["login"] == ("failed", "192.0.2.7 refused our key for the user root.")
    assert "authorized_keys" in job.advice


# --- Root or sudo -----------------------------------------------------------------------------


def test_a_user_whom_sudo_refuses_is_told_what_sudo_said(server: Server, machine: FakeMachine) -> None:
    not_root(server, machine)
    machine.answers["/usr/bin/borg"] = Answer(stderr=["sudo: a password is required"], code=1)
    job, steps = run_test(server)
    assert steps["root"] == (
        "failed", "backup may not run borg as root without a password: sudo: a password is required",
    )  # fmt: skip
    assert "sudoers line" in job.advice
    assert server.test_ok is False


def test_a_user_whom_sudo_lets_run_borg_passes(server: Server, machine: FakeMachine) -> None:
    not_root(server, machine)
    _, steps = run_test(server)
    assert steps["root"] == ("ok", "sudo lets us run borg as root without a password.")


def test_a_user_without_sudo_is_told_what_borg_will_read(server: Server, machine: FakeMachine) -> None:
    not_root(server, machine, use_sudo=False)
    _, steps = run_test(server)
    assert steps["root"] == ("ok", "We are backup: borg reads what this user may read.")
    assert server.test_ok is True


# --- Borg -------------------------------------------------------------------------------------


def test_a_server_without_borg_is_told_how_to_get_it(server: Server, machine: FakeMachine) -> None:
    machine.answers["sh"] = Answer(code=127)
    job, steps = run_test(server)
    assert (job.status, job.cause) == ("failed", "borg")
    assert steps["borg"] == ("failed", "borg was not found on web-1.")
    assert "apt install borgbackup" in job.advice


def test_without_borg_nobody_can_tell_whether_sudo_would_run_it(server: Server, machine: FakeMachine) -> None:
    not_root(server, machine)
    machine.answers["sh"] = Answer(code=127)
    job, steps = run_test(server)
    assert steps["root"] == (
        "warning", "Whether sudo lets us run borg cannot be told before borg is installed.",
    )  # fmt: skip
    assert job.warnings == 1


@pytest.mark.parametrize(
    ("printed", "state", "sentence"),
    [
        (b"borg 1.1.17\n", "failed", "borg 1.1.17 is too old: 1.2 is the oldest that works. (/usr/bin/borg)"),
        (b"borg 2.0.0b14\n", "failed", "borg 2.0.0b14 is not supported yet: its repositories differ"),
        (b"borg 1.2.4\n", "warning", "borg 1.2.4 works, but has a known weakness (CVE-2023-36811): 1.2.6 mends it."),
        (b"borg 1.2.5\n", "warning", "CVE-2023-36811"),
        (b"borg 1.2.6\n", "ok", "borg 1.2.6."),
        (b"borg 1.4.0rc1\n", "ok", "borg 1.4.0rc1."),
        (b"welcome to web-1!\nborg 1.4.0\n", "ok", "borg 1.4.0."),
        (b"borg-linux64 1.2.8\n", "ok", "borg 1.2.8."),
    ],
)
def test_each_version_of_borg_is_judged(
    server: Server, machine: FakeMachine, printed: bytes, state: str, sentence: str
) -> None:
    machine.answers["/usr/bin/borg"] = Answer(printed)
    job, steps = run_test(server)
    assert steps["borg"][0] == state
    assert sentence in steps["borg"][1]
    assert server.test_ok is (state != "failed")
    assert job.status == ("failed" if state == "failed" else "completed")
    assert job.warnings == (1 if state == "warning" else 0)
    assert server.borg_version in printed.decode()


def test_a_borg_that_says_no_version_is_not_believed(server: Server, machine: FakeMachine) -> None:
    machine.answers["/usr/bin/borg"] = Answer(b"bash: /usr/bin/borg: cannot execute binary file\n", code=126)
    job, steps = run_test(server)
    assert job.status == "failed"
    assert steps["borg"][0] == "failed"


# --- Free space, and the rest -----------------------------------------------------------------


@pytest.mark.parametrize("df", [Answer(b"", code=1), Answer(b"nonsense\n"), Answer(b"a b c d e\n"), Answer(b"")])
def test_a_df_that_cannot_be_read_is_a_warning(server: Server, machine: FakeMachine, df: Answer) -> None:
    machine.answers["df"] = df
    job, steps = run_test(server)
    assert steps["space"] == ("warning", "How much space is free there cannot be told.")
    assert (job.status, server.test_ok) == ("completed", True)


def test_what_a_bashrc_prints_is_not_taken_for_an_answer(server: Server, machine: FakeMachine) -> None:
    def noisy(command: Command) -> Answer:
        return Answer(b"Last login: yesterday\n*** be quick " + subprocess.check_output(command.argv))

    machine.answers["sh"] = noisy  # our own shell's answers, as a server with a talkative .bashrc sends them
    _, steps = run_test(server)
    assert server.borg_path == shutil.which("borg")
    assert "Last" not in server.system and "***" not in server.system and server.system
    assert steps["root"][1] == (
        "We are root there." if os.geteuid() == 0 else "We are root: borg reads what this user may read."
    )


def test_a_connection_that_breaks_fails_the_step_it_was_at(server: Server, machine: FakeMachine) -> None:
    machine.answers["df"] = raiser(ConnectionLost("The SSH connection to 192.0.2.7 broke."))
    job, steps = run_test(server)
    assert job.error == "The SSH connection to 192.0.2.7 broke."
    assert states(steps) == [*["ok"] * 5, "failed", "waiting"]
    assert server.test_ok is False


def test_endless_output_to_a_small_question_ends_the_test(server: Server, machine: FakeMachine) -> None:
    machine.answers["sh"] = Answer(b"x" * (1024 * 1024 + 1))
    job, _ = run_test(server)
    assert job.error == "web-1 answered with more than 1024 kB to a simple question."


def test_a_test_that_is_cancelled_says_so_and_leaves_the_server_untested(server: Server, machine: FakeMachine) -> None:
    job = runners.TestConnection.enqueue(server)

    def cancel(command: Command) -> Answer:
        Job.objects.filter(pk=job.pk).update(cancel_requested_at=job.created_at)
        return Answer(DF, hangs=True)

    machine.answers["df"] = cancel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.fakes.HANGS_SECONDS", 60)
        run_with_pulse(job, patch)
    server.refresh_from_db()
    assert (job.status, server.test_ok) == ("cancelled", False)
    assert machine.processes[-1].ended


def run_with_pulse(job: Job, patch: pytest.MonkeyPatch) -> None:
    """Run `job` so that each tick asks the database, as the second thread does once a second."""
    checkpoint = JobLog.checkpoint

    def flush_first(log: JobLog) -> None:
        log.flush()
        checkpoint(log)

    patch.setattr(JobLog, "checkpoint", flush_first)
    run_now(job)

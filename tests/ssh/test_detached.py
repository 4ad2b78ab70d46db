"""servers.ssh.detached with a real sshd: a command that outlives the connection of whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import Superseded
from phpborg.embedded import Sshd
from servers.ssh.command import Command
from servers.ssh.detached import Detached
from servers.ssh.remote import HostKey, Login, Remote
from servers.ssh.transport import ConnectionLost, NoProgram, TooLong
from tests.ssh.watching import is_running, no_tick, until

pytestmark = pytest.mark.e2e

# Says who it is, one line for each that it is told to, and what it read.
TALKER = (
    "echo $$ >pid; read secret; n=0; while [ ! -e stop ]; do "
    '[ -e "say-$n" ] && { echo "line $n" >&2; n=$((n+1)); }; sleep 0.02; done; echo "<$secret>"; exit 3'
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def talker(place: Path) -> Iterator[Command]:
    yield Command(("sh", "-c", TALKER), stdin=b"pass $phrase\n", cwd=str(place))
    (place / "stop").touch()


def runs(sshd: Sshd) -> list[str]:
    folder = sshd.directory.parent / ".phpborg" / "runs"
    return sorted(os.listdir(folder)) if folder.exists() else []


def pid_in(place: Path) -> int:
    until(lambda: (place / "pid").exists() and bool((place / "pid").read_text().strip()), "the pid")
    return int((place / "pid").read_text())


def test_a_short_one_says_everything_and_leaves_nothing(remote: Remote, sshd: Sshd) -> None:
    command = Command(("sh", "-c", 'cat; echo "more" >&2; printf "no end" >&2; exit 7'), stdin=b"in 'quotes'\n\n")
    with Detached(remote, "short", no_tick) as machine:
        assert not machine.is_there
        with machine.start(command, no_tick) as process:
            outputs = list(process)
            assert "".join(output for output in outputs if isinstance(output, str)) == "moreno end"
            assert b"".join(output for output in outputs if isinstance(output, bytes)) == b"in 'quotes'\n\n"
            assert process.exit_code() == 7
    assert runs(sshd) == []


def test_its_journal_is_for_its_owner_alone(remote: Remote, sshd: Sshd, talker: Command, place: Path) -> None:
    with Detached(remote, "private", no_tick) as machine, machine.start(talker, no_tick):
        folder = sshd.directory.parent / ".phpborg" / "runs" / "private"
        assert all(path.stat().st_mode & 0o077 == 0 for path in [folder, *folder.iterdir()])
        command_line = Path(f"/proc/{pid_in(place)}/environ").read_bytes()
        assert b"phrase" not in command_line


def test_it_goes_on_without_us_and_is_found_again(
    login: Login, host_key: HostKey, sshd: Sshd, talker: Command, place: Path
) -> None:
    """The connection breaks in the middle; the one who comes next reads the same process to its end."""
    (place / "say-0").touch()
    heard = []

    def listen() -> None:
        breaking = Remote(login, host_key)
        with Detached(breaking, "again", no_tick) as machine, machine.start(talker, no_tick) as process:
            for output in process:
                heard.append((output, process.position))
                breaking.transport.sock.close()

    with pytest.raises(ConnectionLost):
        listen()
    pid = pid_in(place)
    assert is_running(pid)
    (place / "say-1").touch()
    with Remote(login, host_key) as remote, Detached(remote, "again", no_tick) as machine:
        assert machine.is_there
        with machine.start(Command(("false",)), no_tick) as process:
            seen: list[tuple[str | bytes, int]] = []
            for output in process:
                seen.append((output, process.position))
                if output == "line 1":
                    (place / "stop").touch()
            assert process.exit_code() == 3
    assert pid_in(place) == pid
    assert [output for output, _ in seen] == ["line 0", "line 1", b"<pass $phrase>\n"]
    assert seen[:1] == heard  # so that nobody has to hear twice what was heard before
    assert not is_running(pid)
    assert runs(sshd) == []


def test_one_that_ended_while_nobody_looked_is_read_afterwards(
    login: Login, host_key: HostKey, talker: Command, place: Path
) -> None:
    with Remote(login, host_key) as remote:
        Detached(remote, "alone", no_tick).start(talker, no_tick)
    (place / "say-0").touch()
    pid = pid_in(place)
    (place / "stop").touch()
    until(lambda: not is_running(pid), "the end")
    with Remote(login, host_key) as remote, Detached(remote, "alone", no_tick) as machine:
        assert machine.is_there
        with machine.start(talker, no_tick) as process:
            assert list(process)[-1] == b"<pass $phrase>\n"
            assert process.exit_code() == 3


@pytest.mark.parametrize("stubborn", ["", "trap '' INT; ", "trap '' INT TERM; "])
def test_whoever_stops_waiting_on_purpose_ends_it(
    remote: Remote, sshd: Sshd, place: Path, stubborn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servers.ssh.detached.LADDER", {"INT": 1.0, "TERM": 1.0, "KILL": 1.0})
    command = Command(
        ("sh", "-c", f"{stubborn}echo $$ >pid; echo here >&2; while :; do sleep 0.05; done"), cwd=str(place)
    )

    def leave() -> None:
        with Detached(remote, "ended", no_tick) as machine, machine.start(command, no_tick) as process:
            for _ in process:
                raise KeyError

    with pytest.raises(KeyError):
        leave()
    until(lambda: not is_running(pid_in(place)), "the end")
    assert runs(sshd) == []


def test_who_was_told_that_another_follows_it_leaves_it_alone(
    remote: Remote, sshd: Sshd, talker: Command, place: Path
) -> None:
    with (
        pytest.raises(Superseded),
        Detached(remote, "superseded", no_tick) as machine,
        machine.start(talker, no_tick),
    ):
        raise Superseded
    assert is_running(pid_in(place))
    assert runs(sshd) == ["superseded"]
    os.kill(pid_in(place), signal.SIGKILL)
    with Detached(remote, "superseded", no_tick) as machine, machine.start(talker, no_tick) as process:
        list(process)
        assert process.exit_code() is None


def test_one_that_vanished_is_started_anew(remote: Remote, talker: Command, place: Path, sshd: Sshd) -> None:
    """As when the machine lost its power: nothing of it lives, and nothing says how it ended."""
    Detached(remote, "vanished", no_tick).start(talker, no_tick)
    first = pid_in(place)
    leader = int((sshd.directory.parent / ".phpborg/runs/vanished/leader").read_text())
    os.killpg(leader, signal.SIGKILL)
    until(lambda: not is_running(first), "the end")
    (place / "pid").unlink()
    (place / "stop").touch()
    with Detached(remote, "vanished", no_tick) as machine:
        assert not machine.is_there
        with machine.start(talker, no_tick) as process:
            assert list(process) == [b"<pass $phrase>\n"]
            assert process.exit_code() == 3


def test_what_happens_after_its_machine_was_started_anew_is_no_sign_of_life(
    remote: Remote, talker: Command, place: Path, sshd: Sshd
) -> None:
    Detached(remote, "boot", no_tick).start(talker, no_tick)
    pid_in(place)
    (sshd.directory.parent / ".phpborg/runs/boot/boot").write_text("another boot\n")
    assert Detached(remote, "boot", no_tick).is_there is False


def test_a_home_that_takes_nothing_is_said(remote: Remote, sshd: Sshd) -> None:
    home = sshd.directory.parent
    subprocess.run(["rm", "-rf", str(home / ".phpborg")], check=True)
    (home / ".phpborg").touch()
    try:
        with pytest.raises(NoProgram, match="could not start a command of its own"):
            Detached(remote, "nowhere", no_tick).start(Command(("true",)), no_tick)
    finally:
        (home / ".phpborg").unlink()


def test_a_command_that_is_too_long_is_refused(remote: Remote) -> None:
    with pytest.raises(TooLong):
        Detached(remote, "long", no_tick).start(Command(("echo", "x" * 130_000)), no_tick)

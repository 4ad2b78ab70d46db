"""servers.ssh.relay with real borgs and a real sshd: the server reaches a repository of ours, and nothing else."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.borg import commands
from backups.borg.commands import Access, CreateOptions
from backups.borg.errors import BorgConnectionLost, BorgFailed, failure_of
from backups.borg.events import Message, parse_line
from backups.borg.results import parse_archives, parse_create
from phpborg.embedded import Sshd
from servers.ssh.command import Command
from servers.ssh.local import Local
from servers.ssh.relay import HELPER, Relay
from servers.ssh.remote import Login, Remote, see_host_key
from servers.ssh.transport import Completed, ConnectionLost, NoProgram, run
from tests.ssh.conftest import USER
from tests.ssh.watching import is_running, no_tick, processes_with, until

pytestmark = pytest.mark.e2e

BORG = shutil.which("borg") or "borg"
PASSPHRASE = "a throwaway's $phrase"


class Stop(Exception):
    """What a tick raises here."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("relay")


@pytest.fixture(scope="module")
def here(place: Path) -> Access:
    """A new repository, as our own borg sees it."""
    access = Access(str(place / "repo"), PASSPHRASE, borg=BORG, base_dir=str(place / "our-base"))
    assert run(Local(), commands.init(access), no_tick).code == 0
    return access


def serve(access: Access) -> Command:
    return commands.serve(BORG, access.location, base_dir=access.base_dir)


def there(access: Access, relay: Relay, place: Path) -> Access:
    """The same repository as the server's borg sees it."""
    location = f"ssh://phpborg{access.location}"
    return Access(location, PASSPHRASE, borg=BORG, rsh=relay.rsh, base_dir=str(place / "their-base"))


def folder_of(relay: Relay) -> Path:
    return Path(shlex.split(relay.rsh)[1]).parent


def processes_holding(folder: Path) -> list[int]:
    """The ids of the processes that have something in `folder` open, removed or not."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()).startswith(str(folder)):
                found.add(int(link.parts[2]))
        except OSError:
            continue
    return sorted(found - {os.getpid()})


def assert_nothing_is_left(relay: Relay) -> None:
    until(lambda: not folder_of(relay).exists(), "The end of the relay's folder")
    until(lambda: not processes_holding(folder_of(relay)), "The end of the relay's processes")
    until(lambda: not processes_with(relay._mark), "The end of the relay's helper")
    assert relay._serve.poll() is not None
    assert not [thread for thread in relay._threads if thread.is_alive()]


def messages_of(done: Completed) -> list[Message]:
    return [event for event in map(parse_line, done.stderr) if isinstance(event, Message)]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(20_000_000))
    (folder / "small").write_bytes(b"small")
    return folder


# --- It works ---------------------------------------------------------------------------------


def test_a_backup_and_a_restore_go_through_the_relay(
    remote: Remote, here: Access, place: Path, sources: Path, tmp_path: Path
) -> None:
    with Relay(remote, serve(here), no_tick) as relay:
        access = there(here, relay, place)
        made = run(remote, commands.create(access, "both-ways", [str(sources)], CreateOptions()), no_tick)
    assert (made.code, parse_create(made.stdout).files) == (0, 2)
    assert "both-ways" in listed(here)
    assert_nothing_is_left(relay)

    (tmp_path / "target").mkdir()
    with Relay(remote, serve(here), no_tick) as relay:
        command = commands.extract(there(here, relay, place), "both-ways", [], directory=str(tmp_path / "target"))
        assert run(remote, command, no_tick).code == 0
    restored = tmp_path / "target" / str(sources).lstrip("/")
    assert (restored / "large").read_bytes() == (sources / "large").read_bytes()
    assert_nothing_is_left(relay)


def listed(access: Access) -> set[str]:
    done = run(Local(), commands.list_archives(access), no_tick)
    return {archive.name for archive in parse_archives(done.stdout).archives}


def test_two_relays_share_a_session(remote: Remote, here: Access, place: Path) -> None:
    with Relay(remote, serve(here), no_tick) as one, Relay(remote, serve(here), no_tick) as other:
        for relay in (one, other):
            assert run(remote, commands.list_archives(there(here, relay, place)), no_tick).code == 0
    assert_nothing_is_left(one)
    assert_nothing_is_left(other)


def test_a_relay_that_nobody_uses_leaves_nothing(remote: Remote, here: Access) -> None:
    with Relay(remote, serve(here), no_tick) as relay:
        assert folder_of(relay).is_dir()
    assert_nothing_is_left(relay)


def test_nobody_else_on_the_server_gets_at_the_relay(remote: Remote, here: Access) -> None:
    with Relay(remote, serve(here), no_tick) as relay:
        folder = folder_of(relay)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in folder.iterdir()} == {
            "in": 0, "out": 0, "rsh": 0,
        }  # fmt: skip


def test_the_passphrase_does_not_go_through_the_relays_files(remote: Remote, here: Access) -> None:
    with Relay(remote, serve(here), no_tick) as relay:
        assert PASSPHRASE not in (folder_of(relay) / "rsh").read_text()


# --- Servers that are not as they should be ----------------------------------------------------


@pytest.fixture
def odd_server(tmp_path: Path, key_pair: tuple[str, str]) -> Iterator[Sshd]:
    """An sshd whose options a test may still set; it is started by `logged_in`."""
    server = Sshd(tmp_path / "sshd", options=[f"SetEnv HOME={tmp_path}"])
    server.authorized_keys.write_text(f"{key_pair[1]}\n")
    yield server
    server.stop()


def log_in(server: Sshd, key_pair: tuple[str, str]) -> Remote:
    server.start()
    return Remote(Login("127.0.0.1", server.port, USER, key_pair[0]), see_host_key("127.0.0.1", server.port))


NOISE = r"""printf 'Welcome!\n{"type": "log_message"}\nphpborg-relay-0 /tmp\n'; printf 'motd\nno end' >&2"""


def test_the_noise_of_a_shell_is_no_part_of_anything(
    odd_server: Sshd, key_pair: tuple[str, str], here: Access, place: Path, sources: Path
) -> None:
    odd_server.options.append(f'ForceCommand {NOISE}; eval "$SSH_ORIGINAL_COMMAND"')
    with log_in(odd_server, key_pair) as remote:
        with Relay(remote, serve(here), no_tick) as relay:
            access = there(here, relay, place)
            made = run(remote, commands.create(access, "noisy", [str(sources)], CreateOptions()), no_tick)
        assert (made.code, parse_create(made.stdout).name) == (0, "noisy")
        assert made.stdout.startswith(b"Welcome!\n")
        assert_nothing_is_left(relay)


@pytest.mark.parametrize("name", ["with space", "it's", "a$(b)", "ünï☃"])
def test_the_servers_temporary_directory_may_have_an_odd_name(
    name: str, odd_server: Sshd, key_pair: tuple[str, str], here: Access, place: Path, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    odd_server.options = [f'SetEnv "HOME={tmp_path}" "TMPDIR={tmp_path / name}"']
    with log_in(odd_server, key_pair) as remote, Relay(remote, serve(here), no_tick) as relay:
        assert folder_of(relay).parent == tmp_path / name
        assert run(remote, commands.list_archives(there(here, relay, place)), no_tick).code == 0
    assert_nothing_is_left(relay)


def test_a_server_without_a_temporary_directory_is_told_in_words(
    odd_server: Sshd, key_pair: tuple[str, str], here: Access
) -> None:
    odd_server.options = ["SetEnv TMPDIR=/no/such/directory"]
    with (
        log_in(odd_server, key_pair) as remote,
        pytest.raises(NoProgram, match=r"^The relay could not be set up on 127\.0\.0\.1: .*/no/such/directory.*\.$"),
        Relay(remote, serve(here), no_tick),
    ):
        pass


# --- Our end ----------------------------------------------------------------------------------


def test_a_repository_that_is_not_allowed_is_refused(remote: Remote, here: Access, place: Path) -> None:
    with Relay(remote, serve(Access(f"{here.location}-other")), no_tick) as relay:
        done = run(remote, commands.list_archives(there(here, relay, place)), no_tick)
    failure = failure_of("list", done.code, messages_of(done))
    assert (type(failure), str(failure)) == (BorgFailed, "borg serve does not allow this repository.")
    assert_nothing_is_left(relay)


def test_a_borg_serve_that_dies_at_once_is_reported(remote: Remote, here: Access, place: Path) -> None:
    dying = Command(("sh", "-c", "echo 'no such option' >&2; exit 2"))
    with Relay(remote, dying, no_tick) as relay:
        done = run(remote, commands.list_archives(there(here, relay, place)), no_tick)
    assert isinstance(failure_of("list", done.code, messages_of(done)), BorgConnectionLost)
    assert list(relay.complaints) == ["no such option"]
    assert_nothing_is_left(relay)


def test_a_borg_serve_that_is_not_there_is_reported(remote: Remote) -> None:
    with (
        pytest.raises(NoProgram, match="is not installed on the worker's machine"),
        Relay(remote, commands.serve("no-such-borg", "/x", base_dir="/x"), no_tick),
    ):
        pass


def test_a_borg_that_comes_when_borg_serve_is_gone_does_not_wait(
    remote: Remote, here: Access, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when the FIFOs outlive who held them: nobody opens their other end any more, and borg is there for ever."""
    go = tmp_path / "go"
    slow = f'wait "$down"\nuntil [ -e {go} ]; do sleep 0.05; done\n'
    monkeypatch.setattr("servers.ssh.relay.HELPER", HELPER.replace('wait "$down"\n', slow))
    with Relay(remote, serve(here), no_tick) as relay:
        relay._serve.kill()
        until(lambda: not processes_holding(folder_of(relay)), "The end of who held the FIFOs")
        is_late = not folder_of(relay).exists() and run(
            remote, commands.list_archives(there(here, relay, place)), no_tick
        )
        go.touch()
    assert is_late and isinstance(failure_of("list", is_late.code, messages_of(is_late)), BorgConnectionLost)
    assert_nothing_is_left(relay)


def test_a_borg_serve_that_is_killed_in_mid_backup_ends_the_backup(
    remote: Remote, here: Access, place: Path, sources: Path
) -> None:
    with Relay(remote, serve(here), no_tick) as relay:
        command = commands.create(there(here, relay, place), "killed", [str(sources)], CreateOptions())
        with remote.start(command, no_tick) as process:
            outputs = iter(process)
            first = next(output for output in outputs if isinstance(output, str) and "archive_progress" in output)
            relay._serve.kill()
            stderr = [first, *(output for output in outputs if isinstance(output, str))]
        done = Completed(process.exit_code(), b"", stderr)
    assert isinstance(failure_of("create", done.code, messages_of(done)), BorgConnectionLost)
    assert_nothing_is_left(relay)
    assert "killed" not in listed(here)


# --- Ends in between --------------------------------------------------------------------------


def test_a_cancelled_backup_leaves_no_process_and_no_lock(
    remote: Remote, here: Access, place: Path, sources: Path
) -> None:
    cancel = False

    def tick() -> None:
        if cancel:
            raise Stop

    with pytest.raises(Stop), Relay(remote, serve(here), tick) as relay:  # noqa: PT012
        command = commands.create(there(here, relay, place), "cancelled", [str(sources)], CreateOptions())
        with remote.start(command, tick) as process:
            for output in process:
                cancel = cancel or (isinstance(output, str) and "archive_progress" in output)
    assert process.pid
    assert not is_running(process.pid)
    assert_nothing_is_left(relay)
    assert not list(Path(here.location).glob("lock.*"))
    assert "cancelled" not in listed(here)


def test_a_tick_that_raises_while_the_relay_is_set_up_leaves_nothing(remote: Remote, here: Access) -> None:
    def stop() -> None:
        raise Stop

    relay = Relay(remote, serve(here), stop)
    with pytest.raises(Stop), relay:
        pass
    remote.close()
    until(lambda: not processes_with(relay._mark), "The end of the relay's helper")
    assert relay._serve.returncode >= 0  # by itself: nobody had to kill it


def test_a_connection_that_breaks_takes_everything_with_it(
    remote: Remote, here: Access, place: Path, sources: Path
) -> None:
    daemon = int(run(remote, Command(("sh", "-c", "echo $PPID")), no_tick).text)
    with pytest.raises(ConnectionLost), Relay(remote, serve(here), no_tick) as relay:  # noqa: PT012
        command = commands.create(there(here, relay, place), "cut", [str(sources)], CreateOptions())
        with remote.start(command, no_tick) as process:
            outputs = iter(process)
            next(output for output in outputs if isinstance(output, str) and "archive_progress" in output)
            os.kill(daemon, signal.SIGKILL)
            list(outputs)
    assert process.pid
    until(lambda: not is_running(process.pid or 0), "The end of the server's borg")
    assert_nothing_is_left(relay)
    assert not list(Path(here.location).glob("lock.*"))

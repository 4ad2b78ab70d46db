"""servers.ssh.remote against a real sshd: getting in, and being kept out."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from phpborg.embedded import Sshd, free_port
from servers.keys import new_key_pair
from servers.ssh import remote as module
from servers.ssh.command import Command
from servers.ssh.remote import HostKey, Login, Remote, see_host_key
from servers.ssh.transport import ConnectionLost, HostKeyChanged, LoginRefused, Unreachable, run
from tests.ssh.conftest import USER
from tests.ssh.watching import no_tick

pytestmark = pytest.mark.e2e


def another_key() -> HostKey:
    return HostKey.parse(new_key_pair("another")[1])


# --- The key of the server --------------------------------------------------------------------


def test_the_key_of_a_server_is_seen_without_logging_in(sshd: Sshd) -> None:
    assert sshd.log
    before = sshd.log.read_text().count("Accepted")
    seen = see_host_key("127.0.0.1", sshd.port)
    assert str(seen) == " ".join(sshd.host_key.with_suffix(".pub").read_text().split()[:2])
    assert sshd.log.read_text().count("Accepted") == before


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_fingerprint_is_the_one_that_ssh_keygen_shows(kind: str, tmp_path: Path, key_pair: tuple[str, str]) -> None:
    server = Sshd(tmp_path / "sshd")
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(server.host_key)], check=True)
    shown = subprocess.check_output(["ssh-keygen", "-lf", f"{server.host_key}.pub"], text=True)
    server.authorized_keys.write_text(f"{key_pair[1]}\n")
    with server:
        seen = see_host_key("127.0.0.1", server.port)
        assert seen.fingerprint == shown.split()[1]
        with Remote(Login("127.0.0.1", server.port, USER, key_pair[0]), seen) as remote:
            assert run(remote, Command(("id", "-un")), no_tick).text == USER


@pytest.mark.parametrize("line", ["", "ssh-ed25519", " "])
def test_what_is_no_host_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="a type and a text"):
        HostKey.parse(line)


def test_a_host_key_survives_being_written(host_key: HostKey) -> None:
    assert HostKey.parse(f"{host_key} a comment\n") == host_key


def test_a_changed_host_key_is_refused_and_named(login: Login, host_key: HostKey) -> None:
    with pytest.raises(HostKeyChanged) as caught:
        Remote(login, another_key())
    assert str(caught.value) == (
        f"The host key of 127.0.0.1 has changed: it now shows ssh-ed25519 {host_key.fingerprint}. Nothing was sent."
    )


def test_a_host_key_of_another_kind_is_a_changed_one(login: Login, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "key")], check=True)
    with pytest.raises(HostKeyChanged, match="it now shows ssh-ed25519 SHA256:"):
        Remote(login, HostKey.parse((tmp_path / "key.pub").read_text()))


def test_nothing_is_tried_with_a_server_whose_key_has_changed(sshd: Sshd, login: Login) -> None:
    before = sshd.log.read_text().count("publickey") if sshd.log else 0
    with pytest.raises(HostKeyChanged):
        Remote(login, another_key())
    assert sshd.log
    assert sshd.log.read_text().count("publickey") == before


# --- Our own key ------------------------------------------------------------------------------


def test_a_login_with_our_key_works(remote: Remote) -> None:
    assert run(remote, Command(("id", "-un")), no_tick).text == USER


def test_a_wrong_key_is_refused_in_words(login: Login, host_key: HostKey) -> None:
    stranger = dataclasses.replace(login, private_key=new_key_pair("stranger")[0])
    with pytest.raises(LoginRefused, match=rf"^127\.0\.0\.1 refused our key for the user {USER}\.$"):
        Remote(stranger, host_key)


def test_an_unknown_user_is_refused_in_words(login: Login, host_key: HostKey) -> None:
    with pytest.raises(LoginRefused, match=r"refused our key for the user nobody-like-that\.$"):
        Remote(dataclasses.replace(login, user="nobody-like-that"), host_key)


def test_no_other_key_of_ours_is_offered(
    login: Login, host_key: HostKey, key_pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_text(key_pair[0])
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LoginRefused):
        Remote(dataclasses.replace(login, private_key=new_key_pair("stranger")[0]), host_key)


def test_the_private_key_is_shown_nowhere(login: Login) -> None:
    secret = login.private_key.splitlines()[1]
    assert secret not in f"{login!r} {login}"
    assert str(login) == f"{USER}@127.0.0.1:{login.port}"


# --- No SSH server there ----------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)


def test_a_closed_port_is_unreachable() -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=rf"^127\.0\.0\.1 cannot be reached on port {port}: Connection refused\.$"):
        see_host_key("127.0.0.1", port)


def test_a_closed_port_is_unreachable_for_a_login(login: Login, host_key: HostKey) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        Remote(dataclasses.replace(login, port=free_port()), host_key)


def test_an_unknown_name_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unreachable, match=r"^The name web-1\.invalid is unknown: Name or service not known\.$"):
        see_host_key("web-1.invalid", 22)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "-", "::1%none", "127.0.0.1 ", "\udcff"])
def test_what_is_no_name_is_unreachable(name: str) -> None:
    with pytest.raises(Unreachable, match=r"(is unknown|cannot be reached on port \d+): .*\.$"):
        see_host_key(name, free_port())


@pytest.mark.usefixtures("hasty")
def test_a_machine_that_does_not_answer_is_unreachable() -> None:
    with full_queue() as port, pytest.raises(Unreachable, match=rf"^127\.0\.0\.1 did not answer on port {port} within"):
        see_host_key("127.0.0.1", port)


@contextlib.contextmanager
def full_queue() -> Iterator[int]:
    """A port that takes no more connections, and does not say so."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# --- The session ------------------------------------------------------------------------------


def test_only_modern_ciphers_are_offered(remote: Remote) -> None:
    options = remote.transport.get_security_options()
    assert not [
        name for name in (*options.ciphers, *options.digests) if "cbc" in name or "md5" in name or "sha1" in name
    ]
    assert (options.ciphers, options.digests) == (module.CIPHERS, module.MACS)


def test_a_dead_peer_is_noticed_by_the_kernel(remote: Remote) -> None:
    connection = remote.transport.sock
    assert isinstance(connection, socket.socket)
    user_timeout = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert user_timeout == module.DEAD_PEER_MILLISECONDS


def test_a_closed_session_is_a_lost_connection(login: Login, host_key: HostKey) -> None:
    with Remote(login, host_key) as session:
        assert session.is_alive
    assert not session.is_alive
    with pytest.raises(ConnectionLost, match=r"^The SSH connection to 127\.0\.0\.1 broke\.$"):
        run(session, Command(("true",)), no_tick)


def test_many_commands_share_a_session(remote: Remote) -> None:
    for number in range(30):
        assert run(remote, Command(("echo", str(number))), no_tick).text == str(number)

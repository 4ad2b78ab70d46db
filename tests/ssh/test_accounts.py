"""An SSH account's files over SFTP, its authorized_keys as text, and OpenSSH's own client with a key in memory."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from phpborg.embedded import Sshd
from servers.keys import new_key_pair
from servers.ssh import authorized, files
from servers.ssh.memory import MemoryFile
from servers.ssh.openssh import Identity, known_hosts_line, rsh
from servers.ssh.remote import HostKey, Login, Remote, see_host_key
from servers.ssh.transport import NoFiles
from tests.ssh.conftest import USER

OURS = "ssh-ed25519 AAAAours phpborg@web-1"
OTHER = 'from="192.0.2.1" ssh-ed25519 AAAAother ada'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("account")


@pytest.fixture(scope="module")
def account(home: Path, key_pair: tuple[str, str]) -> Iterator[Sshd]:
    options = [f"Subsystem sftp internal-sftp -d {home}", f"SetEnv HOME={home}"]
    with Sshd(home / "sshd", options=options) as sshd:
        sshd.authorized_keys.write_text(f"{key_pair[1]}\n")
        yield sshd


@pytest.fixture
def session(account: Sshd, key_pair: tuple[str, str]) -> Iterator[Remote]:
    host_key = see_host_key("127.0.0.1", account.port)
    with Remote(Login("127.0.0.1", account.port, USER, key_pair[0]), host_key) as remote:
        yield remote


# --- Files ------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_file_is_replaced_as_a_whole_and_is_its_owners(session: Remote, home: Path) -> None:
    with files.session(session) as sftp:
        assert files.read(sftp, ".ssh/authorized_keys") == b""
        files.replace(sftp, ".ssh/authorized_keys", b"one\n")
        files.replace(sftp, ".ssh/authorized_keys", b"two\n")
        assert files.read(sftp, ".ssh/authorized_keys") == b"two\n"
        assert files.names(sftp, ".ssh") == ["authorized_keys"]
        assert files.names(sftp, "nowhere") == []
        assert files.is_folder(sftp, str(home))
        assert not files.is_folder(sftp, str(home / "nowhere"))
    assert (home / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (home / ".ssh/authorized_keys").stat().st_mode & 0o777 == 0o600


@pytest.mark.e2e
def test_what_the_account_refuses_is_said(session: Remote, home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(NoFiles, match="refused it over SFTP"), files.session(session) as sftp:
        files.replace(sftp, "file/in/it", b"x")


@pytest.mark.e2e
def test_an_account_without_sftp_is_said(remote: Remote) -> None:
    with pytest.raises(NoFiles, match="has no SFTP"), files.session(remote):
        pass


# --- authorized_keys --------------------------------------------------------------------------


def test_a_line_is_added_and_taken_out_and_others_stay() -> None:
    line = authorized.forced(OURS, "borg serve --append-only")
    assert line == f'restrict,command="borg serve --append-only" {OURS}'
    once = authorized.with_line(OTHER, line)  # without a line feed at its end
    assert once == f"{OTHER}\n{line}\n"
    assert authorized.with_line("", line) == f"{line}\n"
    assert authorized.without_key(once, OURS) == f"{OTHER}\n"
    assert authorized.without_key(f"# AAAAoursNot\n{once}", OURS) == f"# AAAAoursNot\n{OTHER}\n"
    assert authorized.without_comment(once, "phpborg@web-1") == f"{OTHER}\n"
    assert authorized.without_comment(f"\n# phpborg@web-1 not\n{once}", "ada") == f"\n# phpborg@web-1 not\n{line}\n"
    assert authorized.forced(OURS, 'borg "serve"') == f'restrict,command="borg \\"serve\\"" {OURS}'


# --- OpenSSH ----------------------------------------------------------------------------------


def say(command: str, port: int) -> subprocess.CompletedProcess[str]:
    words = [*shlex.split(command), "-p", str(port), f"{USER}@127.0.0.1", "echo", "in"]
    return subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False)


@pytest.mark.e2e
def test_ssh_logs_in_with_a_key_and_a_host_key_that_are_on_no_disk(account: Sshd, key_pair: tuple[str, str]) -> None:
    seen = see_host_key("127.0.0.1", account.port)
    identity = Identity("127.0.0.1", account.port, key_pair[0], seen)
    assert say(identity.rsh, account.port).stdout == "in\n"
    assert "PRIVATE" not in identity.rsh


@pytest.mark.e2e
def test_ssh_talks_to_no_other_host_key_and_asks_nothing(account: Sshd, key_pair: tuple[str, str]) -> None:
    other = HostKey.parse(new_key_pair("x")[1])
    identity = Identity("127.0.0.1", account.port, key_pair[0], other)
    answer = say(identity.rsh, account.port)
    assert (answer.stdout, answer.returncode) == ("", 255)
    assert "Host key verification failed" in answer.stderr


@pytest.mark.e2e
def test_ssh_tries_no_other_key(account: Sshd) -> None:
    seen = see_host_key("127.0.0.1", account.port)
    identity = Identity("127.0.0.1", account.port, new_key_pair("x")[0], seen)
    answer = say(identity.rsh, account.port)
    assert "Permission denied (publickey)" in answer.stderr


def test_known_hosts_names_the_port_when_it_is_another_one() -> None:
    key = HostKey("ssh-ed25519", "AAAA")
    assert known_hosts_line("box.example.com", 22, key) == "box.example.com ssh-ed25519 AAAA\n"
    assert known_hosts_line("::1", 23, key) == "[::1]:23 ssh-ed25519 AAAA\n"


def test_a_path_with_a_space_stays_one_word() -> None:
    words = shlex.split(rsh("/home/a b/key", "/home/a b/known"))
    assert words[words.index("-i") + 1] == "/home/a b/key"
    assert 'UserKnownHostsFile="/home/a b/known"' in words


def test_a_file_in_memory_is_read_by_our_children_and_gone_with_its_object() -> None:
    with MemoryFile("BORG_KEY ab\n") as key:
        for _ in range(2):  # borg opens it twice
            shown = subprocess.run(["cat", key.path], check=True, capture_output=True, timeout=10).stdout
            assert shown == b"BORG_KEY ab\n"
    assert not Path(key.path).exists()
    forgotten = MemoryFile("x")
    path = forgotten.path
    del forgotten
    assert not Path(path).exists()

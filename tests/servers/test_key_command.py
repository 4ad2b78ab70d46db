"""The two lines that an administrator copies to the server."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from servers.models import Server

pytestmark = pytest.mark.django_db


def type_it(server: Server, home: Path) -> list[str]:
    """Run the key command as a user of `home` would; returns the lines of authorized_keys."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        ["sh", "-c", server.key_command], env={"HOME": str(home), "PATH": os.environ["PATH"]}, check=True,
        capture_output=True, timeout=30,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"", b"")
    return (home / ".ssh/authorized_keys").read_text().splitlines()


def test_the_key_command_lets_us_in_and_restricts_us(server: Server, tmp_path: Path) -> None:
    assert f"restrict {server.public_key}" in type_it(server, tmp_path / "home")


def test_the_key_command_makes_files_that_sshd_accepts(server: Server, tmp_path: Path) -> None:
    type_it(server, tmp_path / "home")
    assert stat.S_IMODE((tmp_path / "home/.ssh").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "home/.ssh/authorized_keys").stat().st_mode) == 0o600


@pytest.mark.parametrize("before", ["ssh-ed25519 AAAA somebody@else\n", "ssh-ed25519 AAAA somebody@else"])
def test_the_key_command_leaves_other_keys_as_they_are(server: Server, tmp_path: Path, before: str) -> None:
    (tmp_path / "home/.ssh").mkdir(parents=True)
    (tmp_path / "home/.ssh/authorized_keys").write_text(before)
    lines = type_it(server, tmp_path / "home")
    assert lines[0] == "ssh-ed25519 AAAA somebody@else"
    assert lines[-1] == f"restrict {server.public_key}"


def test_nothing_in_a_name_that_the_form_lets_through_is_for_the_shell(tmp_path: Path) -> None:
    server = Server.objects.create(name="A1._-", address="192.0.2.1")
    assert type_it(server, tmp_path / "home")[-1].endswith(" phpborg@A1._-")


def test_even_a_name_that_never_passed_the_form_stays_a_word(tmp_path: Path) -> None:
    server = Server.objects.create(name="a'; touch $HOME/x; '$(id)", address="192.0.2.1")
    assert type_it(server, tmp_path / "home")[-1].endswith("$(id)")
    assert not (tmp_path / "home/x").exists()


def test_the_sudoers_line_names_the_borg_that_was_found(server: Server) -> None:
    server.username, server.borg_path = "backup", "/usr/local/bin/borg"
    assert server.sudoers_line == "backup ALL=(root) NOPASSWD:SETENV: /usr/local/bin/borg"


def test_before_a_test_the_sudoers_line_names_the_usual_borg(new_server: Server) -> None:
    assert re.fullmatch(r"root ALL=\(root\) NOPASSWD:SETENV: /usr/bin/borg", new_server.sudoers_line)

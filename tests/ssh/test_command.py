"""servers.ssh.command: a command as data, and as a line that a shell runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from servers.ssh.command import NO_DIRECTORY, PID_MARK, Command, shell_line

NASTY = [
    "a b", "", " ", "'", '"', "'\"'", "$HOME", "$(touch pwned)", "`touch pwned`", "; touch pwned", "&& touch pwned",
    "|| x", "| cat", "> pwned", "< /etc/passwd", "*", "?", "[a-z]", "~", "{a,b}", "!x", "#x", "\\", "\\n", "a\nb", "\n",
    "\ttab", "\r", "-rf", "--", "-c", "A=b", "é😀", "\udcff\udc80", "\x1b[31m", "\x7f", "%s", "$1", "$@", "${IFS}",
    "x" * 10_000,
]  # fmt: skip
PRINT_WORDS = ("printf", r"%s\0")


def in_a_shell(line: bytes, *, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run `line` as sshd does: the whole as one argument of a shell."""
    return subprocess.run(
        ["sh", "-c", line], input=stdin, capture_output=True, check=False, env={"PATH": os.environ["PATH"], **env}
    )


@pytest.fixture
def fake_sudo(tmp_path: Path) -> str:
    """A PATH with a sudo that prints what it was asked to do."""
    sudo = tmp_path / "bin" / "sudo"
    sudo.parent.mkdir()
    sudo.write_text('#!/bin/sh\nprintf "%s\\0" sudo "$@"\n')
    sudo.chmod(0o755)
    return f"{sudo.parent}:{os.environ['PATH']}"


# --- Quoting, proven by a shell ---------------------------------------------------------------


@pytest.mark.parametrize("word", NASTY, ids=ascii)
def test_a_nasty_word_reaches_the_program_as_it_is(word: str, tmp_path: Path) -> None:
    done = in_a_shell(shell_line(Command((*PRINT_WORDS, word, word)), sudo=False))
    assert done.stdout == (os.fsencode(word) + b"\0") * 2
    assert done.returncode == 0


@pytest.mark.parametrize("value", NASTY, ids=ascii)
def test_a_nasty_value_reaches_the_environment_as_it_is(value: str) -> None:
    command = Command(("sh", "-c", 'printf "%s\\0" "$NASTY"'), env={"NASTY": value, "OTHER": "x"})
    assert in_a_shell(shell_line(command, sudo=False)).stdout == os.fsencode(value) + b"\0"


@pytest.mark.parametrize("name", [name for name in NASTY if 0 < len(os.fsencode(name)) < 255], ids=ascii)
def test_a_nasty_directory_is_entered(name: str, tmp_path: Path) -> None:
    directory = tmp_path / name
    os.makedirs(os.fsencode(directory), exist_ok=True)
    done = in_a_shell(shell_line(Command(("sh", "-c", "pwd; printf x"), cwd=str(directory)), sudo=False))
    assert done.stdout == os.fsencode(directory) + b"\nx"


@pytest.mark.parametrize("word", NASTY, ids=ascii)
def test_nothing_but_the_program_runs(word: str, tmp_path: Path) -> None:
    command = Command(("true", word), env={"A": word}, cwd=str(tmp_path))
    subprocess.run(["sh", "-c", shell_line(command, sudo=False)], cwd=tmp_path, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.binary(max_size=20), max_size=4), st.binary(max_size=20))
@hypothesis_settings(max_examples=30)
def test_any_words_reach_the_program_as_they_are(words: list[bytes], value: bytes) -> None:
    words, value = [word.replace(b"\0", b"") for word in words], value.replace(b"\0", b"")
    print_all = ("sh", "-c", 'printf "%s\\0" "$VALUE" "$@"', "sh")
    command = Command((*print_all, *map(os.fsdecode, words)), env={"VALUE": os.fsdecode(value)})
    assert in_a_shell(shell_line(command, sudo=False)).stdout == b"".join(word + b"\0" for word in [value, *words])


# --- Its form ---------------------------------------------------------------------------------


def test_the_process_id_comes_first_and_is_the_programs_own() -> None:
    done = in_a_shell(shell_line(Command(("sh", "-c", "echo late >&2; echo $$")), sudo=False))
    mark, late = done.stderr.decode().splitlines()
    assert (mark, late) == (f"{PID_MARK}{done.stdout.decode().strip()}", "late")


def test_the_exit_code_is_the_programs() -> None:
    assert in_a_shell(shell_line(Command(("sh", "-c", "exit 42")), sudo=False)).returncode == 42


def test_a_program_that_is_not_there_is_the_shells_127() -> None:
    done = in_a_shell(shell_line(Command(("/no/such/program",)), sudo=False))
    assert done.returncode == 127
    assert b"/no/such/program" in done.stderr


@pytest.mark.parametrize("directory", ["/no/such/directory", "/etc/passwd", "--", "$HOME", "-P"])
def test_a_directory_that_cannot_be_entered_has_an_exit_code_of_its_own(directory: str) -> None:
    done = in_a_shell(shell_line(Command(("echo", "ran"), cwd=directory), sudo=False), HOME="/tmp")
    assert (done.returncode, done.stdout) == (NO_DIRECTORY, b"")


def test_standard_input_goes_to_the_program() -> None:
    done = in_a_shell(shell_line(Command(("cat",), cwd="/"), sudo=False), stdin=b"secret\0\xff")
    assert done.stdout == b"secret\0\xff"


def test_the_line_works_in_other_shells_than_sh() -> None:
    line = shell_line(Command((*PRINT_WORDS, "a'b\n$c")), sudo=False)
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"a'b\n$c\0"


def test_sudo_is_asked_without_a_password_and_with_the_environment(fake_sudo: str) -> None:
    command = Command(("borg", "create", "/a b"), env={"LANG": "C", "X": "$y"}, as_root=True)
    done = in_a_shell(shell_line(command, sudo=True), PATH=fake_sudo)
    assert done.stdout.decode().split("\0") == ["sudo", "-n", "LANG=C", "X=$y", "borg", "create", "/a b", ""]


def test_sudo_comes_after_the_directory_and_the_process_id(fake_sudo: str, tmp_path: Path) -> None:
    done = in_a_shell(shell_line(Command(("x",), as_root=True, cwd=str(tmp_path)), sudo=True), PATH=fake_sudo)
    assert done.stdout == b"sudo\0-n\0x\0"
    assert done.stderr.startswith(PID_MARK.encode())


@pytest.mark.parametrize(("as_root", "sudo"), [(False, True), (True, False), (False, False)])
def test_sudo_only_where_both_want_it(as_root: bool, sudo: bool) -> None:
    assert b"sudo" not in shell_line(Command(("id",), as_root=as_root), sudo=sudo)


def test_the_secret_is_not_in_the_line() -> None:
    command = Command(("cat",), stdin=b"hunter2", env={"A": "b"}, cwd="/")
    shown = [shell_line(command, sudo=sudo) for sudo in (True, False)]
    assert not [text for text in [*shown, repr(command).encode(), str(command).encode()] if b"hunter2" in text]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (Command(("borg", "list")), "borg list"),
        (Command(("borg", "a b", "'")), """borg 'a b' ''"'"''"""),
        (Command(("borg",), env={"A": "b", "C": "d e"}), "A=b C='d e' borg"),
        (Command(("borg",), stdin=b"secret", cwd="/x", as_root=True), "borg"),
    ],
)
def test_a_command_is_shown_as_somebody_would_type_it(command: Command, shown: str) -> None:
    assert str(command) == shown


@pytest.mark.parametrize("word", NASTY, ids=ascii)
def test_what_is_shown_can_be_typed(word: str) -> None:
    shown = str(Command((*PRINT_WORDS, word)))
    assert in_a_shell(os.fsencode(shown)).stdout == os.fsencode(word) + b"\0"


@pytest.mark.parametrize("text", ["\0", "a\0b", "a\0"])
@pytest.mark.parametrize("where", ["argv", "env name", "env value", "cwd"])
def test_a_nul_is_refused_wherever_it_is(where: str, text: str) -> None:
    with pytest.raises(ValueError, match="A NUL character cannot be part of a command"):
        Command(
            argv=("x", text if where == "argv" else ""),
            env={text if where == "env name" else "A": text if where == "env value" else ""},
            cwd=text if where == "cwd" else None,
        )


def test_a_nul_may_be_in_standard_input() -> None:
    assert Command(("cat",), stdin=b"a\0b").stdin == b"a\0b"


def test_a_command_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Command(("x",)).argv = ("y",)  # type: ignore[misc]

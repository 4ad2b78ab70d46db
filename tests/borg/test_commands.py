"""backups.borg.commands: borg's command lines, word by word."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.borg import commands
from backups.borg.commands import LISTING_FORMAT, Access, CreateOptions
from servers.ssh.command import Command, shell_line

PASSPHRASE = "s3cret \"pass\" $phrase 'ü' \\"
HERE = Access("/pool/web-1", PASSPHRASE, borg="/opt/borg", base_dir="/var/phpborg/borg")
THERE = Access("ssh://phpborg/pool/web-1", PASSPHRASE, rsh="sh /tmp/phpborg.x/rsh", as_root=True)
SETTINGS = {
    "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "BORG_EXIT_CODES": "modern", "BORG_PASSPHRASE_FD": "0",
    "BORG_DISPLAY_PASSPHRASE": "no", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "no",
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "no",
}  # fmt: skip
NASTY = [
    "-rf", "--rsh=sh", "--", "a b", "'", '"', "$(touch /tmp/x)", "`id`", "a\nb", "a\tb", ";reboot", "|", "&", ">", "*",
    "~", "\\", "!", "#", "{a,b}", "é😀", "\udcff\udc80", "::", "pp:x", "re:.*", "\x1b[31m", " ", "x" * 4000,
]  # fmt: skip

# Each command as a function of an access, so that what holds for all is tested for all.
ALL: dict[str, Callable[[Access], Command]] = {
    "init": commands.init,
    "key_export": commands.key_export,
    "create": lambda access: commands.create(access, "a", ["/etc"], CreateOptions()),
    "list_archives": commands.list_archives,
    "list_files": lambda access: commands.list_files(access, "a"),
    "extract": lambda access: commands.extract(access, "a", ["etc"], directory="/restore"),
    "extract_to_stdout": lambda access: commands.extract_to_stdout(access, "a", "etc/hosts"),
    "export_tar": lambda access: commands.export_tar(access, "a", "etc"),
    "export_files": lambda access: commands.export_files(access, "a", ["etc/hosts"]),
    "export_tar_of": lambda access: commands.export_tar_of(access, "a", ["etc"]),
    "list_contents": lambda access: commands.list_contents(access, "a", ["etc"]),
}
each_command = pytest.mark.parametrize("command_of", ALL.values(), ids=ALL)


# --- Word by word -----------------------------------------------------------------------------


def test_init_makes_an_encrypted_repository() -> None:
    assert commands.init(HERE).argv == (
        "/opt/borg", "init", "--log-json", "--encryption", "repokey-blake2", "/pool/web-1",
    )  # fmt: skip


def test_key_export_prints_the_key() -> None:
    assert commands.key_export(HERE).argv == ("/opt/borg", "key", "export", "--log-json", "/pool/web-1")


def test_create_saves_the_paths() -> None:
    assert commands.create(HERE, "web-1-files", ["/etc", "/home"], CreateOptions()).argv == (
        "/opt/borg", "create", "--log-json", "--progress", "--json", "--lock-wait=60", "--checkpoint-interval=600",
        "--compression=lz4", "--exclude-caches", "/pool/web-1::web-1-files", "--", "/etc", "/home",
    )  # fmt: skip


def test_create_has_all_that_a_plan_asks_for() -> None:
    options = CreateOptions(
        compression="zstd,6", excludes=("*.tmp", "sh:/home/*/.cache"), one_file_system=True, exclude_caches=False,
        upload_kib_per_second=500,
    )  # fmt: skip
    assert commands.create(THERE, "a", ["/"], options).argv == (
        "borg", "create", "--log-json", "--progress", "--json", "--lock-wait=60", "--checkpoint-interval=600",
        "--compression=zstd,6", "--one-file-system", "--upload-ratelimit=500", "--exclude=*.tmp",
        "--exclude=sh:/home/*/.cache", "ssh://phpborg/pool/web-1::a", "--", "/",
    )  # fmt: skip


def test_list_archives_waits_for_nobody() -> None:
    assert commands.list_archives(HERE).argv == (
        "/opt/borg", "list", "--log-json", "--bypass-lock", "--json", "/pool/web-1",
    )  # fmt: skip


def test_list_files_asks_for_every_name_byte_for_byte() -> None:
    command = commands.list_files(HERE, "a")
    assert command.argv == (
        "/opt/borg", "list", "--log-json", "--bypass-lock", f"--format={LISTING_FORMAT}", "/pool/web-1::a",
    )  # fmt: skip
    assert command.env["PYTHONIOENCODING"] == "unicode_escape"


def test_extract_takes_each_path_and_what_is_below_it() -> None:
    command = commands.extract(THERE, "a", ["etc", "home/ada"], directory="/restore")
    assert command.cwd == "/restore"
    assert command.argv == (
        "borg", "extract", "--log-json", "--progress", "--bypass-lock", "ssh://phpborg/pool/web-1::a", "--", "pp:etc",
        "pp:home/ada",
    )  # fmt: skip


def test_extract_without_paths_takes_everything() -> None:
    assert commands.extract(THERE, "a", [], directory="/restore").argv[-2:] == ("ssh://phpborg/pool/web-1::a", "--")


def test_extract_to_stdout_prints_one_file() -> None:
    assert commands.extract_to_stdout(HERE, "a", "etc/hosts").argv == (
        "/opt/borg", "extract", "--log-json", "--bypass-lock", "--stdout", "/pool/web-1::a", "--", "pp:etc/hosts",
    )  # fmt: skip


def test_paths_may_be_listed_and_hashed_alone() -> None:
    assert "--" not in commands.list_files(HERE, "a").argv
    assert commands.list_files(HERE, "a", ["etc", "-rf"]).argv[-4:] == ("/pool/web-1::a", "--", "pp:etc", "pp:-rf")
    assert commands.list_contents(HERE, "a", ["etc"]).argv[-3:] == ("/pool/web-1::a", "--", "pp:etc")
    assert commands.list_contents(HERE, "a", ["etc/x"], only_files=True).argv[-2:] == ("--", "pf:etc/x")
    assert "{bpath}{NUL}{sha256}{NUL}" in commands.list_contents(HERE, "a", []).argv[4]


def test_a_tar_may_have_several_paths_or_all() -> None:
    assert commands.export_tar_of(HERE, "a", ["etc", "srv"]).argv[-5:] == (
        "/pool/web-1::a",
        "-",
        "--",
        "pp:etc",
        "pp:srv",
    )
    assert commands.export_tar_of(HERE, "a", []).argv[-3:] == ("/pool/web-1::a", "-", "--")


def test_export_tar_prints_one_folder() -> None:
    assert commands.export_tar(HERE, "a", "etc").argv == (
        "/opt/borg", "export-tar", "--log-json", "--bypass-lock", "/pool/web-1::a", "-", "--",
        "pp:etc",
    )  # fmt: skip


def test_serve_allows_one_repository_to_be_added_to() -> None:
    command = commands.serve("/opt/borg", "/pool/web-1", base_dir="/var/phpborg/borg")
    assert command.argv == (
        "/opt/borg", "serve", "--append-only", "--restrict-to-repository=/pool/web-1", "--umask=077",
    )  # fmt: skip
    assert command.env == {
        "BORG_BASE_DIR": "/var/phpborg/borg", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC",
    }  # fmt: skip
    assert command.stdin == b""


def test_version_asks_nothing_of_a_repository() -> None:
    assert commands.version("/opt/borg") == Command(("/opt/borg", "--version"))


# --- What holds for all -----------------------------------------------------------------------


@each_command
def test_every_command_has_the_fixed_settings(command_of: Callable[[Access], Command]) -> None:
    env = dict(command_of(HERE).env)
    env.pop("PYTHONIOENCODING", None)
    assert env == SETTINGS | {"BORG_BASE_DIR": "/var/phpborg/borg"}


@each_command
def test_over_a_relay_every_command_knows_its_way(command_of: Callable[[Access], Command]) -> None:
    env = dict(command_of(THERE).env)
    env.pop("PYTHONIOENCODING", None)
    assert env == SETTINGS | {"BORG_RSH": "sh /tmp/phpborg.x/rsh"}


@each_command
@pytest.mark.parametrize("as_root", [True, False])
def test_every_command_is_roots_when_the_access_is(command_of: Callable[[Access], Command], as_root: bool) -> None:
    assert command_of(dataclasses.replace(HERE, as_root=as_root)).as_root is as_root


@each_command
def test_every_command_speaks_json(command_of: Callable[[Access], Command]) -> None:
    assert "--log-json" in command_of(HERE).argv


@each_command
@pytest.mark.parametrize("access", [HERE, THERE], ids=["here", "there"])
def test_the_passphrase_is_in_standard_input_and_nowhere_else(
    command_of: Callable[[Access], Command], access: Access
) -> None:
    command = command_of(access)
    assert command.stdin == PASSPHRASE.encode()
    shown = [repr(command), str(command), repr(access), str(access), f"{command}", f"{command!r}"]
    shown += [*command.argv, *command.env, *command.env.values(), command.cwd or ""]
    shown += [shell_line(command, sudo=sudo).decode() for sudo in (True, False)]
    assert not [text for text in shown if "s3cret" in text or "$phrase" in text]


@each_command
def test_nothing_lets_borg_delete_or_ask(command_of: Callable[[Access], Command]) -> None:
    command = command_of(HERE)
    assert not {"--force", "--save-space", "--repair"} & set(command.argv)
    assert not [name for name in command.env if "I_KNOW" in name or "PASSCOMMAND" in name]


@each_command
def test_an_access_without_a_base_directory_or_a_relay_sets_none(command_of: Callable[[Access], Command]) -> None:
    env = command_of(Access("/pool/web-1")).env
    assert not {"BORG_BASE_DIR", "BORG_RSH"} & set(env)


# --- Nasty names ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_no_path_becomes_an_option_or_a_pattern(name: str) -> None:
    argv = commands.create(HERE, "a", [f"/{name}", f"/etc/{name}"], CreateOptions()).argv
    assert argv[argv.index("--") + 1 :] == (f"/{name}", f"/etc/{name}")


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_no_archive_name_becomes_an_option(name: str) -> None:
    literal = name.replace("{", "{{").replace("}", "}}")  # borg fills in what it takes for placeholders
    made = commands.create(HERE, name, ["/etc"], CreateOptions()).argv
    assert made[made.index("--") - 1] == f"/pool/web-1::{literal}"
    assert commands.list_files(HERE, name).argv[-1] == f"/pool/web-1::{literal}"
    for command in (commands.diff(HERE, name, name), commands.rename(HERE, name, name)):
        assert command.argv[-3:] == ("--", f"/pool/web-1::{literal}", literal)


@pytest.mark.parametrize("pattern", NASTY, ids=ascii)
def test_no_exclude_becomes_an_option(pattern: str) -> None:
    argv = commands.create(HERE, "a", ["/etc"], CreateOptions(excludes=(pattern, pattern))).argv
    assert argv.count(f"--exclude={pattern}") == 2
    assert argv.index(f"--exclude={pattern}") < argv.index("--")


@pytest.mark.parametrize("path", NASTY, ids=ascii)
def test_no_path_to_extract_becomes_an_option_or_a_pattern(path: str) -> None:
    assert commands.extract(HERE, "a", [path], directory="/r").argv[-2:] == ("--", f"pp:{path}")
    assert commands.extract_to_stdout(HERE, "a", path).argv[-2:] == ("--", f"pp:{path}")
    assert commands.export_tar(HERE, "a", path).argv[-2:] == ("--", f"pp:{path}")


@given(st.binary(max_size=60))
def test_any_bytes_of_a_path_reach_borg_as_they_are(path: bytes) -> None:
    path = b"/" + path.replace(b"\0", b"")
    argv = commands.create(HERE, "a", [os.fsdecode(path)], CreateOptions()).argv
    assert os.fsencode(argv[-1]) == path


@pytest.mark.parametrize("paths", [[], [""], ["etc"], ["/etc", ""], ["/etc", "home"], ["-x"], [" /etc"], ["pp:/etc"]])
def test_a_backup_without_paths_from_the_root_is_refused(paths: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one path, each beginning with /"):
        commands.create(HERE, "a", paths, CreateOptions())


@pytest.mark.parametrize(
    "make",
    [
        lambda: commands.create(HERE, "a\0b", ["/etc"], CreateOptions()),
        lambda: commands.create(HERE, "a", ["/e\0tc"], CreateOptions()),
        lambda: commands.create(HERE, "a", ["/etc"], CreateOptions(excludes=("\0",))),
        lambda: commands.list_files(HERE, "\0"),
        lambda: commands.extract(HERE, "a", ["\0"], directory="/r"),
        lambda: commands.extract(HERE, "a", [], directory="/r\0"),
        lambda: commands.serve("borg", "/pool\0", base_dir="/b"),
        lambda: commands.init(Access("/pool", rsh="sh \0")),
    ],
)
def test_a_nul_is_refused(make: Callable[[], Command]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        make()


@pytest.mark.parametrize("rate", [0, 1, 10**6])
def test_no_limit_is_no_flag(rate: int) -> None:
    argv = commands.create(HERE, "a", ["/etc"], CreateOptions(upload_kib_per_second=rate)).argv
    assert (f"--upload-ratelimit={rate}" in argv) is bool(rate)

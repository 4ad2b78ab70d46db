"""servers.facts and servers.keys: what a server can do, and the key with which we get in."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phpborg.embedded import Sshd
from servers import facts
from servers.facts import Space
from servers.keys import new_key_pair
from servers.ssh.command import Command
from servers.ssh.remote import Login, Remote, see_host_key
from servers.ssh.transport import NoSudo
from tests.fakes import Answer, FakeMachine
from tests.ssh.conftest import USER
from tests.ssh.watching import no_tick

BORG = "/usr/bin/borg"


class Machine(FakeMachine):
    """As Remote, with a login that a test may set."""

    def __init__(self, *, sudo: bool = False, **answers: Answer) -> None:
        super().__init__(**answers)
        self.login = Login("web-1", 22, "ada", "", sudo=sudo)


def machine(stdout: str = "", *, code: int = 0, stderr: list[str] | None = None, sudo: bool = False) -> Remote:
    """It answers everything alike."""
    answer = Answer(stdout=stdout.encode("utf-8", "surrogateescape"), stderr=stderr or [], code=code)
    return Machine(sudo=sudo, **{"sh": answer, "df": answer, BORG: answer})  # type: ignore[return-value]


# --- What a server answers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdout", "path"),
    [
        ("\n/usr/bin/borg\n", "/usr/bin/borg"), ("\n/opt/my borg/borg\n", "/opt/my borg/borg"), ("\n", ""), ("", ""),
        ("Welcome!\n\n/usr/local/bin/borg\n", "/usr/local/bin/borg"), ("\nborg\n", ""), ("\nalias borg='x'\n", ""),
        ("\n-rf\n", ""), ("\n/" + "x" * 254, "/" + "x" * 254), ("\n/" + "x" * 255, ""),
        ("/usr/bin/borg\n\n", "/usr/bin/borg"), ("\n/\n", ""),
    ],
    ids=lambda text: ascii(text)[:20],
)  # fmt: skip
def test_borg_is_where_the_server_says_with_a_full_path(stdout: str, path: str) -> None:
    assert facts.find_borg(machine(stdout), no_tick) == path


@pytest.mark.parametrize(
    ("stdout", "root"),
    [("\n0\n", True), ("hi\n\n0\n", True), ("\n1000\n", False), ("\n00\n", False), ("", False), ("\n0 0", False)],
)
def test_root_has_the_number_0(stdout: str, root: bool) -> None:
    assert facts.is_root(machine(stdout), no_tick) is root


@pytest.mark.parametrize(
    ("stdout", "name"),
    [
        ("\nDebian 12", "Debian 12"),
        ("hi\n\nDebian 12\n", "Debian 12"),
        ("\n" + "x" * 500, "x" * 120),
        ("", ""),
        ("\n", ""),
    ],
)
def test_a_system_has_a_name(stdout: str, name: str) -> None:
    assert facts.system(machine(stdout), no_tick) == name


@pytest.mark.parametrize(
    ("stdout", "version"),
    [
        ("borg 1.2.4\n", "1.2.4"), ("noise\nborg 1.4.0b2\n", "1.4.0b2"), ("borg-linux64 1.2.9\n", "1.2.9"), ("", ""),
        ("borg\n", ""), ("1.2.4\n", ""), ("borg 1.2." + "9" * 99, "1.2." + "9" * 16), ("borg 2.0.0b14\n", "2.0.0b14"),
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_borg_has_a_version(stdout: str, version: str) -> None:
    assert facts.borg_version(machine(stdout), BORG, no_tick) == version


@pytest.mark.parametrize(
    ("stderr", "complaint"),
    [
        (["sudo: a password is required"], "sudo: a password is required"),
        (["motd", "sudo: ada is not in the sudoers file", "bye"], "sudo: ada is not in the sudoers file"),
        (["sh: 1: sudo: not found"], "sh: 1: sudo: not found"),
        ([], "no answer"),
        (["x" * 500], "x" * 200),
    ],
)
def test_a_missing_sudo_rule_is_told(stderr: list[str], complaint: str) -> None:
    with pytest.raises(NoSudo) as caught:
        facts.borg_version(machine(code=1, stderr=stderr, sudo=True), BORG, no_tick)
    assert str(caught.value) == f"ada may not run borg as root without a password: {complaint}"


def test_without_sudo_a_missing_borg_is_only_missing() -> None:
    assert facts.borg_version(machine(code=127, stderr=["not found"]), BORG, no_tick) == ""


HEADER = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"


@pytest.mark.parametrize(
    ("stdout", "code", "space"),
    [
        (f"{HEADER}/dev/sda1 1000 400 600 40% /\n", 0, Space("/x", 600 * 1024, 1000 * 1024)),
        (f"motd\n{HEADER}/dev/sda1 1000 400 600 40% /my disk\n", 0, Space("/x", 600 * 1024, 1000 * 1024)),
        (f"{HEADER}/dev/sda1 1000 400 600 40% /\n", 1, None), ("", 0, None), ("\n", 0, None), ("a b c", 0, None),
        (f"{HEADER}/dev/sda1 - - - - /\n", 0, None), (f"{HEADER}x {'9' * 5000} 1 {'9' * 5000} 1% /\n", 0, None),
    ],
    ids=str,
)  # fmt: skip
def test_a_file_system_has_space_or_nobody_knows(stdout: str, code: int, space: Space | None) -> None:
    assert facts.space(machine(stdout, code=code), "/x", no_tick) == space


def test_no_path_becomes_an_option_of_df() -> None:
    asked = machine()
    facts.space(asked, "-x", no_tick)
    assert asked.commands == [  # type: ignore[attr-defined]
        Command(("df", "-kP", "--", "-x"), env={"LC_ALL": "C"})
    ]


# --- What there is to save --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdout", "found"),
    [
        ("\nsystemd\nmariadbd\nsshd\n", ["MariaDB"]), ("\npostgres\nredis-server\n", ["PostgreSQL", "Redis"]),
        ("\n/usr/sbin/mysqld\n  mongod\n", ["MySQL", "MongoDB"]), ("\nmysqldump\nnot postgres\n", []), ("", []),
        ("we like mysqld\n\nvalkey-server\n", ["Valkey"]),
    ],
    ids=ascii,
)  # fmt: skip
def test_databases_are_known_by_their_processes(stdout: str, found: list[str]) -> None:
    assert facts.databases(machine(stdout), no_tick) == found


@pytest.mark.parametrize(
    ("stdout", "found"),
    [
        ("\ndocker 3\n", [{"name": "docker", "running": 3}]), ("\ndocker ?\n", [{"name": "docker", "running": None}]),
        ("\ndocker 0\npodman 2\n", [{"name": "docker", "running": 0}, {"name": "podman", "running": 2}]),
        ("hello docker 7\nlxc 4\n\n", []), ("", []), ("\ndocker 99999999999\n", [{"name": "docker", "running": None}]),
    ],
    ids=ascii,
)  # fmt: skip
def test_containers_are_counted_where_we_are_told(stdout: str, found: list[dict[str, Any]]) -> None:
    assert facts.containers(machine(stdout), no_tick) == found


DF = """motd
Filesystem Type 1024-blocks Used Available Capacity Mounted on
/dev/vda ext4 1000 400 600 40% /
tmpfs tmpfs 1000 0 1000 0% /run
/dev/vdb xfs 2000 400 1600 20% /data of ours
/dev/vdb xfs 2000 400 1600 20% /again
overlay overlay 1000 400 600 40% /var/lib/docker/overlay2/x/merged
tank/home zfs 3000 0 3000 0% /home
/dev/loop1 squashfs 1000 1000 0 100% /snap/core
empty ext4 0 0 0 - /empty
odd ext4 x y z - /odd
"""


def test_disks_are_what_has_room_for_files() -> None:
    assert facts.disks(machine(DF), no_tick) == [
        {"path": "/", "type": "ext4", "free": 600 * 1024, "total": 1000 * 1024},
        {"path": "/data of ours", "type": "xfs", "free": 1600 * 1024, "total": 2000 * 1024},
        {"path": "/home", "type": "zfs", "free": 3000 * 1024, "total": 3000 * 1024},
    ]


def test_a_container_s_own_file_system_is_a_disk() -> None:
    assert [disk["path"] for disk in facts.disks(machine("overlay overlay 1000 400 600 40% /"), no_tick)] == ["/"]


@pytest.mark.parametrize("line", [f"/dev/x ext4 9 9 9 1% /{'x' * 5000}", f"/dev/x ext4 {'9' * 900} 1 1 1% /"])
def test_what_no_df_says_becomes_no_monster(line: str) -> None:
    found = facts.disks(machine(line), no_tick)
    assert len(str(found)) < 200


def test_many_disks_are_not_all_told() -> None:
    text = "".join(f"/dev/x{number} ext4 10 1 9 1% /x{number}\n" for number in range(99))
    assert len(facts.disks(machine(text), no_tick)) == facts.MOST_DISKS


def test_folders_are_proposed_of_those_that_we_know() -> None:
    assert facts.folders(machine("welcome\n/srv\n/etc\n/somewhere\n"), no_tick) == ["/etc", "/srv"]


@pytest.mark.parametrize("sudo", [False, True])
def test_what_is_closed_to_us_is_proposed_where_root_reads_it(tmp_path: Path, *, sudo: bool) -> None:
    """With a real shell: red when an empty folder is proposed, or a closed one without sudo."""
    names = {"full": 0o755, "empty": 0o755, "closed": 0o000}
    for name, mode in names.items():
        (tmp_path / name).mkdir()
        if name != "empty":
            (tmp_path / name / "file").touch()
        (tmp_path / name).chmod(mode)
    paths = tuple(str(tmp_path / name) for name in (*names, "missing"))
    asked = Machine(sudo=sudo)
    facts.folders(asked, no_tick)  # type: ignore[arg-type]
    words = asked.commands[0].argv
    unread = words[2].replace('[ -r "$folder" ]', 'case "$folder" in */closed) false ;; esac')  # root reads everything
    said = subprocess.check_output([*words[:2], unread, *words[3:4], *paths], text=True).split()
    assert [Path(path).name for path in said] == (["full", "closed"] if sudo else ["full"])


def test_another_disk_is_proposed_too_and_the_system_s_own_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = ["/", "/data", "/boot/efi", "/var/lib/docker", "/home", "/homes", "/srv/big"]
    df = "".join(f"/dev/x{number} ext4 10 1 9 1% {path}\n" for number, path in enumerate(mounts))
    found = facts.inventory(machine(f"{df}/etc\n/srv\n"), no_tick)
    assert found["folders"] == ["/etc", "/srv", "/data", "/homes"]


# --- A real server, whose shell talks ----------------------------------------------------------


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory, key_pair: tuple[str, str]) -> Iterator[Remote]:
    noise = "printf 'Welcome!\\nborg is great\\nno end'; echo motd >&2"
    options = [f'ForceCommand {noise}; eval "$SSH_ORIGINAL_COMMAND"']
    with Sshd(tmp_path_factory.mktemp("talking") / "sshd", options=options) as server:
        server.authorized_keys.write_text(f"{key_pair[1]}\n")
        login = Login("127.0.0.1", server.port, USER, key_pair[0])
        with Remote(login, see_host_key("127.0.0.1", server.port)) as remote:
            yield remote


@pytest.mark.e2e
def test_a_real_server_tells_all_though_its_shell_talks(talking: Remote) -> None:
    path = facts.find_borg(talking, no_tick)
    assert Path(path).name == "borg"
    assert facts.borg_version(talking, path, no_tick)[:2] == "1."
    assert facts.is_root(talking, no_tick) is (USER == "root")
    assert len(facts.system(talking, no_tick).splitlines()) == 1
    assert "Welcome" not in facts.system(talking, no_tick)
    space = facts.space(talking, "/", no_tick)
    assert space
    assert 0 < space.free < space.total
    found = facts.inventory(talking, no_tick)
    assert "/" in [disk["path"] for disk in found["disks"]]
    assert "/etc" in found["folders"]
    assert all(disk["free"] <= disk["total"] for disk in found["disks"])


# --- Keys -------------------------------------------------------------------------------------


def test_a_new_key_is_one_that_openssh_reads(tmp_path: Path) -> None:
    private, public = new_key_pair("phpborg@web-1")
    (tmp_path / "key").write_text(private)
    (tmp_path / "key").chmod(0o600)
    derived = subprocess.check_output(["ssh-keygen", "-y", "-f", str(tmp_path / "key")], text=True)
    assert derived.split()[:2] == public.split()[:2]
    assert (public.split()[0], public.split()[2]) == ("ssh-ed25519", "phpborg@web-1")


def test_no_two_keys_are_alike() -> None:
    assert len({new_key_pair("x") for _ in range(20)}) == 20

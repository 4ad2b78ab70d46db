"""A fresh machine: deploy/install.sh to a first backup, phpBorg's own backup and restore, upgrade and rollback.

The machine is this one's file system with an overlay over it, in mount and PID namespaces of its own: what is written
there, and whoever runs there, is gone afterwards. Needs root that may make namespaces: `make test-machine`. It has
Debian's MariaDB and Redis, and no systemd, so the units' commands are started here. What is committed is installed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from phpborg.demo import Api, Story
from phpborg.embedded import Child, Sshd, answers, free_port, wait_until
from tests.deploy import ROOT

PASSWORD = "an administrator's own"
INSTALL_SECONDS = 1200
UNITS = ("phpborg-redis", "phpborg-web", "phpborg-scheduler", "phpborg-worker@")
MAKE = """
set -eu
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount -t proc proc "$1/root/proc"
mount -t tmpfs -o mode=755 tmpfs "$1/root/run"
mkdir -p "$1/root$2"
mount --bind "$2" "$1/root$2"
exec chroot "$1/root" sleep infinity
"""
NEWER = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("phpborg", "0001_first_run")]
    operations = [
        migrations.CreateModel("Newer", [("id", models.BigAutoField(primary_key=True)), ("text", models.TextField())]),
    ]
"""
BROKEN = """
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("phpborg", "0002_newer")]
    operations = [
        migrations.RunSQL("CREATE TABLE half_made (id integer)"),
        migrations.RunSQL("INSERT INTO nowhere VALUES (1)"),
    ]
"""


class Machine:
    """`shared` is a folder that is there as it is here."""

    def __init__(self, place: Path, shared: Path) -> None:
        place.mkdir()
        self._holder = Child(
            "machine",
            ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
             "sh", "-c", MAKE, "sh", str(place), str(shared)],
            log=shared / "machine.log",
        )  # fmt: skip
        self.shared = shared
        self.port = free_port()
        self.log = shared / "services.log"
        self._services: list[Child] = []

    def __enter__(self) -> Self:
        self._holder.start()
        wait_until(self._is_made, seconds=20, what=f"The machine ({self._holder.tail()})")
        return self

    def __exit__(self, *_: object) -> None:
        self._end_services()
        self._holder.kill()  # and with it, by --kill-child, whoever runs there

    def _is_made(self) -> bool:
        assert self._holder.is_alive, self._holder.tail()
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        if not children:
            return False
        self._init = children[0]
        return Path(f"/proc/{self._init}/cmdline").read_bytes().startswith(b"sleep\0")

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self._init}/root")

    def _inside(self, *words: str) -> list[str]:
        return ["nsenter", "--target", self._init, "--mount", "--pid", "--root", "--wd=/", *words]

    def try_to(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        ours = ("PHPBORG_", "DJANGO_", "PYTEST_", "DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ENCRYPTION_KEYS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        env = {**kept, "HOME": "/root", **variables}
        return subprocess.run(
            self._inside(*words), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=INSTALL_SECONDS, check=False,
        )  # fmt: skip

    def run(self, *words: str, **variables: str) -> str:
        """What it said, on either way."""
        ran = self.try_to(*words, **variables)
        assert ran.returncode == 0, (words, ran.stdout[-3000:], ran.stderr[-3000:])
        return ran.stdout + ran.stderr

    def deploy(self, script: str, *words: str) -> str:
        return self.run(f"/opt/phpborg/current/deploy/{script}.sh", *words)

    @property
    def release(self) -> str:
        return os.readlink(self.root / "opt/phpborg/current").rpartition("/")[2]

    @property
    def uid(self) -> int:
        line = re.search(r"^phpborg:[^:]*:(\d+):", (self.root / "etc/passwd").read_text(), re.MULTILINE)
        assert line
        return int(line[1])

    @property
    def env(self) -> dict[str, str]:
        lines = (self.root / "etc/phpborg/env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    # --- What systemd would do --------------------------------------------------------------------

    def command_of(self, unit: str) -> str:
        text = (self.root / f"etc/systemd/system/{unit}.service").read_text()
        (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        return str(line).replace("--supervised systemd", "")

    def start(self) -> None:
        """The units' commands, as their user and with their environment; by their pids they are ended."""
        self.run("install", "-d", "-o", "phpborg", "-m", "700", "/run/phpborg-redis")
        env = "".join(f"export {shlex.quote(f'{name}={value}')}; " for name, value in self.env.items())
        for unit in UNITS:
            script = (
                f"echo $$ >/run/{unit}.pid; umask 077; cd /; {env} export HOME=/var/lib/phpborg; exec setpriv --reuid "
                f"phpborg --regid phpborg --init-groups {self.command_of(unit)}"
            )
            # Of our own environment nothing: pytest's settings are not the machine's.
            plain = ("env", "-i", f"PATH={os.environ['PATH']}:/usr/sbin:/sbin")
            self._services.append(Child(unit, self._inside(*plain, "sh", "-c", script), log=self.log).start())
        wait_until(lambda: answers(self.port), seconds=120, what="The web process")

    def stop(self) -> None:
        for unit in reversed(UNITS):
            self.run("sh", "-c", f"pid=$(cat /run/{unit}.pid); kill $pid; while [ -e /proc/$pid ]; do sleep 0.1; done")
        self._end_services()

    def _end_services(self) -> None:
        while self._services:
            self._services.pop().kill()


@pytest.fixture(scope="module")
def machine(short_dir: Path) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("making a machine needs root")
    shared = short_dir / "shared"
    shared.mkdir(mode=0o755)
    with Machine(short_dir / "machine", shared) as made:
        yield made


@pytest.fixture(scope="module")
def source(machine: Machine) -> Path:
    folder = machine.shared / "source"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"{number}\n" * 1000)
    return folder


def story(machine: Machine, sshd: Sshd, source: Path) -> str:
    """A backup over SSH and its proof; the archive's name."""
    api = Api(f"http://127.0.0.1:{machine.port}", "admin", PASSWORD)
    return Story(api, sshd, machine.shared / "story", source, lambda _: None).play().archive


def archives(machine: Machine) -> list[str]:
    api = Api(f"http://127.0.0.1:{machine.port}", "admin", PASSWORD)
    return [archive["name"] for archive in api.call("GET", "/archives")["results"]]


def commit(tree: Path, name: str, migration: str) -> None:
    (tree / "phpborg/migrations" / name).write_text(textwrap.dedent(migration))
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "-C", tree, "add", "."], check=True)
    subprocess.run(["git", "-C", tree, *who, "commit", "-qm", name], check=True)


@pytest.mark.xdist_group("machine")
class TestMachine:
    """One machine's life, in order: each goes on where the one before has ended."""

    def test_from_nothing_to_a_first_backup(self, machine: Machine, sshd: Sshd, source: Path) -> None:
        """Red without any one of install.sh's steps."""
        subprocess.run(["git", "clone", "-q", ROOT, machine.shared / "tree"], check=True)
        words = (
            f"{machine.shared}/tree/deploy/install.sh",
            "--workers",
            "1",
            "--site",
            f"http://localhost:{machine.port}",
        )
        said = machine.run(*words)
        assert re.search(r"enter this token, which is good once:\s+[0-9a-f]{32}\n", said)
        secrets = [machine.env[name] for name in ("SECRET_KEY", "ENCRYPTION_KEYS")]
        assert [secret for secret in secrets if secret in said] == []
        env = (machine.root / "etc/phpborg/env").stat()
        assert (env.st_mode & 0o777, env.st_uid) == (0o600, 0)
        again = machine.run(*words)  # changes nothing
        assert [machine.env[name] for name in ("SECRET_KEY", "ENCRYPTION_KEYS")] == secrets
        assert "Building" not in again
        pool = machine.shared / "story" / "repositories"
        pool.mkdir(parents=True)
        os.chown(pool, machine.uid, -1)
        pool.chmod(0o700)
        variables = {"PHPBORG_ADMIN_PASSWORD": PASSWORD, "PHPBORG_POOL_PATH": str(pool), "PHPBORG_POOL_NAME": "demo"}
        machine.start()
        machine.run("phpborg", "setup", "--from-env", **variables)
        assert story(machine, sshd, source) in archives(machine)

    def test_nothing_of_the_release_can_be_changed_by_who_runs_it(self, machine: Machine) -> None:
        found = machine.run("setpriv", "--reuid", "phpborg", "--regid", "phpborg", "--init-groups",
                            "find", "/opt/phpborg", "-writable", "-not", "-type", "l", "-print", "-quit")  # fmt: skip
        assert found == ""
        for path in ("etc/phpborg/env", "var/backups/phpborg"):
            if (machine.root / path).exists():
                assert (machine.root / path).stat().st_mode & 0o077 == 0

    def test_its_own_backup_comes_back(self, machine: Machine) -> None:
        """Red when restore.sh leaves what is there, or a dump is taken without its end."""
        before = archives(machine)
        dump = machine.run("sh", "-c", "/opt/phpborg/current/deploy/backup.sh 2>/dev/null").strip()
        machine.stop()
        machine.run("mariadb", "-e", "DROP DATABASE phpborg; CREATE DATABASE phpborg CHARACTER SET utf8mb4")
        machine.run("phpborg", "migrate", "--verbosity", "0")
        machine.deploy("restore", dump)
        machine.start()
        assert archives(machine) == before
        machine.run("sh", "-c", f"gzip -dc {dump} | head -c 20000 | gzip >/var/backups/half.gz")
        half = machine.try_to("/opt/phpborg/current/deploy/restore.sh", "/var/backups/half.gz")
        assert half.returncode != 0
        assert "not whole. Nothing is changed" in half.stderr

    def test_it_goes_to_a_new_machine_with_its_keys(self, machine: Machine, sshd: Sshd, source: Path) -> None:
        """Red with another key: restore.sh puts back what was there."""
        before = archives(machine)
        dump = machine.run("sh", "-c", "/opt/phpborg/current/deploy/backup.sh 2>/dev/null").strip()
        keys = machine.run("sh", "-c", "/opt/phpborg/current/deploy/backup.sh --keys /root 2>/dev/null").strip()
        machine.stop()
        machine.run("rm", "-r", "/etc/phpborg", "/var/lib/phpborg", "/opt/phpborg/current")
        machine.run("mariadb", "-e", "DROP DATABASE phpborg; DROP USER phpborg@localhost")
        words = (f"{machine.shared}/tree/deploy/install.sh", "--site", f"http://localhost:{machine.port}")
        machine.run(*words)  # somebody forgets the keys, and phpBorg makes new ones
        wrong = machine.try_to("/opt/phpborg/current/deploy/restore.sh", dump)
        assert wrong.returncode != 0
        assert "Nothing has changed." in wrong.stderr
        machine.run("mariadb", "-e", "DROP DATABASE phpborg")
        machine.run("tar", "-C", "/", "-xpf", keys)
        machine.run(*words)
        machine.deploy("restore", dump)
        machine.start()
        assert archives(machine) == before
        assert story(machine, sshd, source) in archives(machine)

    def test_an_upgrade_and_the_way_back(self, machine: Machine, sshd: Sshd, source: Path) -> None:
        """Red when rollback.sh leaves the newer release's table, or loses the archive that was made meanwhile."""
        older = machine.release
        tree = machine.shared / "newer"
        subprocess.run(["git", "clone", "-q", ROOT, tree], check=True)
        commit(tree, "0002_newer.py", NEWER)
        machine.stop()
        machine.run(f"{tree}/deploy/install.sh")  # which finds the older one, and upgrades it
        assert machine.release != older
        assert "phpborg_newer" in machine.run("mariadb", "phpborg", "-e", "SHOW TABLES")
        machine.start()
        made = story(machine, sshd, source)
        machine.stop()
        machine.deploy("rollback")
        assert machine.release == older
        assert "phpborg_newer" not in machine.run("mariadb", "phpborg", "-e", "SHOW TABLES")
        machine.start()
        assert made in archives(machine)
        assert story(machine, sshd, source) in archives(machine)

    def test_an_upgrade_that_fails_changes_nothing(self, machine: Machine) -> None:
        """Red without the dump before it: half of the migration stays, because MariaDB takes back no CREATE TABLE."""
        older, before = machine.release, archives(machine)
        tree = machine.shared / "newer"
        number = subprocess.run(["git", "-C", tree, "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True)
        commit(tree, "0003_broken.py", BROKEN)
        broken = subprocess.run(["git", "-C", tree, "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True)
        releases = machine.root / "opt/phpborg/releases"
        built = next(path for path in releases.iterdir() if path.name.endswith(number.stdout.decode().strip()))
        copy = built.with_name(built.name.replace(number.stdout.decode().strip(), broken.stdout.decode().strip()))
        shutil.copytree(built, copy, symlinks=True)  # to build it once more would tell nothing
        shutil.copy(tree / "phpborg/migrations/0003_broken.py", copy / "phpborg/migrations")
        machine.stop()
        failed = machine.try_to(f"{tree}/deploy/upgrade.sh")
        assert failed.returncode != 0
        assert "Nothing has changed" in failed.stderr
        assert machine.release == older
        tables = machine.run("mariadb", "phpborg", "-e", "SHOW TABLES")
        assert "half_made" not in tables
        assert "phpborg_newer" not in tables
        machine.start()
        assert archives(machine) == before
        machine.stop()

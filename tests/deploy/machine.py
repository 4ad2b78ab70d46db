"""A fresh machine: deploy/install.sh to a first backup, phpBorg's own backup and restore, upgrade and rollback.

The machine is this one's file system with an overlay over it, in namespaces of its own: what is written there, and
whoever runs there, is gone afterwards. Needs root that may make namespaces: `make test-machine`. It has Debian's
MariaDB and Redis, and no systemd, so the units' commands are started here. What is committed is installed.

With MACHINE_BASE=<folder>, made by `debootstrap bookworm <folder>`, it is a bare Debian that its own systemd has
booted, with the real units behind nginx. Its network is this machine's: ports 80, 443, 3306 and 8000 must be free.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPSConnection
from pathlib import Path
from typing import Self

import pytest

from phpborg.demo import Api, Story
from phpborg.embedded import Child, Sshd, answers, free_port, wait_until
from tests.deploy import ROOT

PASSWORD = "an administrator's own"
INSTALL_SECONDS = 1200
UNITS = ("phpborg-redis", "phpborg-web", "phpborg-scheduler", "phpborg-worker@")
BASE = os.environ.get("MACHINE_BASE", "")
OVERLAY = """
set -eu
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$3,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p ".$2"
mount --bind "$2" ".$2"
"""
ASLEEP = f"""{OVERLAY}
mount --rbind /dev dev
exec chroot . sleep infinity
"""
# As systemd wants a container to be (https://systemd.io/CONTAINER_INTERFACE); the kernel's settings stay as they are.
BOOTED = f"""{OVERLAY}
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty fuse; do
    touch "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
ln -sf /dev/null etc/systemd/system/networking.service
pivot_root . mnt  # whoever is only in a chroot gets no user namespaces (PrivateUsers=)
cd /
umount --lazy mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""
LAST = max(path.stem for path in (ROOT / "phpborg" / "migrations").glob("[0-9]*.py"))
NEWER = f"""
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("phpborg", "{LAST}")]
    operations = [
        migrations.CreateModel("Newer", [("id", models.BigAutoField(primary_key=True)), ("text", models.TextField())]),
    ]
"""
# As constance's 0003_drop_pickle: nobody has said how to take it back.
FINAL = NEWER.replace("operations = [", "operations = [\n        migrations.RunPython(migrations.RunPython.noop),")
BROKEN = """
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("phpborg", "9998_newer")]
    operations = [
        migrations.RunSQL("CREATE TABLE half_made (id integer)"),
        migrations.RunSQL("INSERT INTO nowhere VALUES (1)"),
    ]
"""


class Machine:
    """`shared` is a folder that is there as it is here."""

    base, made_by, init = "/", ASLEEP, b"sleep\0"

    def __init__(self, place: Path, shared: Path) -> None:
        place.mkdir()
        self._holder = Child(
            "machine",
            [*self._first(), "unshare", "--mount", "--propagation", "private", "--uts", "--ipc", "--cgroup", "--pid",
             "--fork", "--kill-child", "sh", "-c", self.made_by, "sh", str(place), str(shared), self.base],
            log=shared / "machine.log",
        )  # fmt: skip
        self.shared = shared
        self.port = free_port()
        self.site = f"http://localhost:{self.port}"
        self.log = shared / "services.log"
        self._services: list[Child] = []

    def __enter__(self) -> Self:
        self._holder.start()
        wait_until(self._is_made, seconds=20, what=f"The machine ({self._holder.tail()})")
        return self

    def __exit__(self, *_: object) -> None:
        self._end_services()
        self._holder.kill()  # and with it, by --kill-child, whoever runs there

    def _first(self) -> list[str]:
        return []

    def _is_made(self) -> bool:
        assert self._holder.is_alive, self._holder.tail()
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        if not children:
            return False
        self._init = children[0]
        return Path(f"/proc/{self._init}/cmdline").read_bytes().startswith(self.init)

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self._init}/root")

    def _inside(self, *words: str) -> list[str]:
        return ["nsenter", "--target", self._init, "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd=/",
                "env", "-C", "/", *words]  # fmt: skip

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

    def file_of(self, *words: str) -> str:
        """The file that backup.sh has written, which is all that it says on standard output."""
        ran = self.try_to("/opt/phpborg/current/deploy/backup.sh", *words)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout.strip()

    def deploy(self, script: str, *words: str) -> str:
        return self.run(f"/opt/phpborg/current/deploy/{script}.sh", *words)

    @property
    def release(self) -> str:
        return os.readlink(self.root / "opt/phpborg/current").rpartition("/")[2]

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

    def rest(self) -> None:
        """Before a script that stops what systemd runs, and starts it again."""
        self.stop()

    def _end_services(self) -> None:
        while self._services:
            self._services.pop().kill()


class Booted(Machine):
    """A bare Debian, whose systemd runs in a control group of its own."""

    base, made_by, init = BASE, BOOTED, b"/lib/systemd/systemd\0"

    def __init__(self, place: Path, shared: Path) -> None:
        top = subprocess.run(
            ["findmnt", "--noheadings", "--first-only", "--types", "cgroup2", "--output", "TARGET"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        self._group = Path(top, place.parent.name)
        self._group.mkdir()
        super().__init__(place, shared)
        self.site = "https://localhost"

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        events = self._group / "cgroup.events"
        wait_until(lambda: "populated 0" in events.read_text(), seconds=20, what="The machine's end")
        for folder, _folders, _files in os.walk(self._group, topdown=False):
            Path(folder).rmdir()

    def _first(self) -> list[str]:
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(self._group)]

    def _is_made(self) -> bool:
        return super()._is_made() and self.try_to("systemctl", "is-system-running").stdout == "running\n"

    def states(self) -> dict[str, str]:
        units = [f"{unit}1" if unit.endswith("@") else unit for unit in (*UNITS, "nginx", "phpborg-backup.timer")]
        return {unit: self.try_to("systemctl", "is-active", unit).stdout.strip() for unit in units}

    def start(self) -> None:
        """Nothing is started here: that the scripts have done."""
        assert set(self.states().values()) == {"active"}, self.states()
        context = ssl.create_default_context(cadata=(self.root / "etc/phpborg/tls/cert.pem").read_text())
        urllib.request.install_opener(urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)))
        self.context = context

    def stop(self) -> None:
        self.run("systemctl", "stop", "phpborg.target")

    def rest(self) -> None:
        pass


@pytest.fixture(scope="module")
def machine(short_dir: Path) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("making a machine needs root")
    shared = short_dir / "shared"
    shared.mkdir(mode=0o755)
    with (Booted if BASE else Machine)(short_dir / "machine", shared) as made:
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
    api = Api(machine.site, "admin", PASSWORD)
    return Story(api, sshd, machine.shared / "story", source, lambda _: None).play().archive


def archives(machine: Machine) -> list[str]:
    api = Api(machine.site, "admin", PASSWORD)
    return [archive["name"] for archive in api.call("GET", "/archives")["results"]]


def commit_of(tree: Path) -> str:
    words = ["git", "-C", str(tree), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def commit(tree: Path, name: str, migration: str) -> None:
    (tree / "phpborg/migrations" / name).write_text(textwrap.dedent(migration))
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "-C", tree, "add", "."], check=True)
    subprocess.run(["git", "-C", tree, *who, "commit", "-qm", name], check=True)


def pretend(machine: Machine, tree: Path, name: str, migration: str) -> None:
    """One more commit, and its release: a copy of the one before, to build it once more would tell nothing."""
    before = commit_of(tree)
    commit(tree, name, migration)
    (built,) = (machine.root / "opt/phpborg/releases").glob(f"*-{before}")
    copy = built.with_name(built.name.replace(before, commit_of(tree)))
    shutil.copytree(built, copy, symlinks=True, copy_function=os.link)
    shutil.copy(tree / "phpborg/migrations" / name, copy / "phpborg/migrations")


@pytest.mark.xdist_group("machine")
class TestMachine:
    """One machine's life, in order: each goes on where the one before has ended."""

    def test_from_nothing_to_a_first_backup(self, machine: Machine, sshd: Sshd, source: Path) -> None:
        """Red without any one of install.sh's steps."""
        subprocess.run(["git", "clone", "-q", ROOT, machine.shared / "tree"], check=True)
        words = (f"{machine.shared}/tree/deploy/install.sh", "--workers", "1", "--site", machine.site)
        said = machine.run(*words)
        assert re.search(r"enter this token, which is good once:\s+[0-9a-f]{32}\n", said)
        secrets = [machine.env[name] for name in ("SECRET_KEY", "ENCRYPTION_KEYS")]
        assert [secret for secret in secrets if secret in said] == []
        env = (machine.root / "etc/phpborg/env").stat()
        assert (env.st_mode & 0o777, env.st_uid) == (0o600, 0)
        again = machine.run(*words)  # changes nothing
        assert [machine.env[name] for name in ("SECRET_KEY", "ENCRYPTION_KEYS")] == secrets
        assert "Building" not in again
        assert machine.release.endswith(commit_of(machine.shared / "tree"))
        machine.run("install", "-d", "-o", "phpborg", "-g", "phpborg", "-m", "700", "/srv/borg")
        (machine.shared / "story").mkdir()
        variables = {"PHPBORG_ADMIN_PASSWORD": PASSWORD, "PHPBORG_POOL_PATH": "/srv/borg", "PHPBORG_POOL_NAME": "demo"}
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
        dump = machine.file_of()
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
        dump = machine.file_of()
        keys = machine.file_of("--keys", "/root")
        machine.stop()
        machine.run("rm", "-r", "/etc/phpborg", "/var/lib/phpborg", "/opt/phpborg/current")
        machine.run("mariadb", "-e", "DROP DATABASE phpborg; DROP USER phpborg@localhost")
        words = (f"{machine.shared}/tree/deploy/install.sh", "--site", machine.site)
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
        subprocess.run(["git", "clone", "-q", machine.shared / "tree", tree], check=True)
        commit(tree, "9998_newer.py", NEWER)
        machine.rest()
        machine.run(f"{tree}/deploy/install.sh")  # which finds the older one, and upgrades it
        assert machine.release != older
        assert "phpborg_newer" in machine.run("mariadb", "phpborg", "-e", "SHOW TABLES")
        machine.start()
        made = story(machine, sshd, source)
        machine.rest()
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
        pretend(machine, tree, "9999_broken.py", BROKEN)
        machine.rest()
        failed = machine.try_to(f"{tree}/deploy/upgrade.sh")
        assert failed.returncode != 0
        assert "Nothing has changed" in failed.stderr
        assert machine.release == older
        tables = machine.run("mariadb", "phpborg", "-e", "SHOW TABLES")
        assert "half_made" not in tables
        assert "phpborg_newer" not in tables
        machine.start()
        assert archives(machine) == before

    def test_an_upgrade_that_only_the_dump_takes_back(self, machine: Machine) -> None:
        """Red when rollback.sh leaves half of what it has taken back, or takes the dump without being asked."""
        older, before = machine.release, archives(machine)
        tree = machine.shared / "final"
        subprocess.run(["git", "clone", "-q", machine.shared / "tree", tree], check=True)
        pretend(machine, tree, "9998_final.py", FINAL)
        machine.rest()
        machine.run(f"{tree}/deploy/upgrade.sh")
        newest = machine.release
        assert newest.endswith(commit_of(tree))
        failed = machine.try_to("/opt/phpborg/current/deploy/rollback.sh")
        assert f"Nothing has changed: {newest} runs on." in failed.stderr
        assert machine.release == newest
        assert "phpborg_newer" in machine.run("mariadb", "phpborg", "-e", "SHOW TABLES")
        machine.deploy("rollback", "--dump")
        assert machine.release == older
        assert "phpborg_newer" not in machine.run("mariadb", "phpborg", "-e", "SHOW TABLES")
        machine.start()
        assert archives(machine) == before


@pytest.mark.skipif(not BASE, reason="MACHINE_BASE names no Debian that could be booted")
@pytest.mark.xdist_group("machine")
class TestBooted:
    """The same machine's systemd and nginx."""

    def test_the_units_run_behind_their_walls(self, machine: Machine) -> None:
        """Red without the drop-in that hardens them."""
        failed = machine.run("systemctl", "list-units", "--failed", "--quiet", "phpborg*", "nginx*", "mariadb*")
        assert failed == ""
        for unit in ("phpborg-redis", "phpborg-web", "phpborg-scheduler", "phpborg-worker@1"):
            pid = machine.run("systemctl", "show", "--property=MainPID", "--value", unit).strip()
            status = dict(line.split(":\t", 1) for line in machine.run("cat", f"/proc/{pid}/status").splitlines())
            assert (unit, status["CapBnd"].strip("0"), status["NoNewPrivs"], status["Seccomp"]) == (unit, "", "1", "2")
            assert status["Uid"].split()[0] != "0"
        # install.sh ran several times since it was told how many.
        assert machine.try_to("systemctl", "is-enabled", "phpborg-worker@2").returncode != 0

    def test_the_timers_unit_writes_a_dump(self, machine: Machine) -> None:
        """Red when what hardens the other units also keeps this one from the environment's file."""
        before = set((machine.root / "var/backups/phpborg").glob("phpborg-*.gz"))
        machine.run("systemctl", "start", "phpborg-backup.service")
        (dump,) = set((machine.root / "var/backups/phpborg").glob("phpborg-*.gz")) - before
        assert (dump.stat().st_mode & 0o777, dump.stat().st_uid) == (0o600, 0)
        assert "Broken pipe" not in machine.run("journalctl", "--unit=phpborg-backup.service", "--output=cat")

    def test_an_event_comes_through_nginx_at_once(self, machine: Booted, sshd: Sshd, source: Path) -> None:
        """Red with `proxy_buffering on` and no X-Accel-Buffering: the read times out."""
        story(machine, sshd, source)
        api = Api(machine.site, "admin", PASSWORD)
        token = api.call("POST", "/auth/login", username="admin", password=PASSWORD)["access_token"]
        server = api.find("/servers", "demo")
        assert server
        with closing(HTTPSConnection("localhost", context=machine.context, timeout=15)) as connection:
            connection.request("GET", "/api/sse/jobs", headers={"Authorization": f"Bearer {token}"})
            with connection.getresponse() as answer:
                assert answer.status == 200
                job = api.call("POST", f"/servers/{server['id']}/test")
                while job["id"] not in answer.readline().decode():
                    pass
        api.wait(job)

    def test_a_stopped_worker_ends_its_backup_first(self, machine: Machine, sshd: Sshd, source: Path) -> None:
        """Red with systemd's own KillMode and TimeoutStopSec: the job fails."""
        story(machine, sshd, source)
        api = Api(machine.site, "admin", PASSWORD)
        plan = api.find("/plans", "demo")
        assert plan
        (job,) = api.call("POST", "/backups", server_id=plan["server"], plan_id=plan["id"])
        wait_until(lambda: borg_that_saves(source) > 0, seconds=60, what="Borg")
        borg = borg_that_saves(source)
        os.kill(borg, signal.SIGSTOP)  # so that it runs as long as we like
        try:
            machine.run("systemctl", "stop", "--no-block", "phpborg-worker@*")
            wait_until(lambda: self.state(machine) == "deactivating", seconds=20, what="The worker's end")
            assert api.call("GET", f"/jobs/{job['id']}")["status"] == "running"
        finally:
            os.kill(borg, signal.SIGCONT)
        api.wait(job)
        wait_until(lambda: self.state(machine) == "inactive", seconds=60, what="The worker's end")
        machine.run("systemctl", "start", "phpborg.target")  # starts who is missing
        wait_until(lambda: self.state(machine) == "active", seconds=20, what="The worker")

    def state(self, machine: Machine) -> str:
        return machine.try_to("systemctl", "is-active", "phpborg-worker@1").stdout.strip()

    def test_a_mounted_archive_is_seen_by_its_user_outside_of_the_unit(
        self, machine: Machine, sshd: Sshd, source: Path
    ) -> None:
        """Red without mounts.conf, or when the units that run already do not get it: fusermount3 is not let."""
        machine.run(f"{machine.shared}/tree/deploy/install.sh", "--mounts")
        wait_until(lambda: self.state(machine) == "active", seconds=60, what="The worker")
        name = story(machine, sshd, source)
        api = Api(machine.site, "admin", PASSWORD)
        archive = next(archive for archive in api.call("GET", "/archives")["results"] if archive["name"] == name)
        folder = api.wait(api.call("POST", f"/archives/{archive['id']}/mount"))["result"]["path"]
        who = ("setpriv", "--reuid", "phpborg", "--regid", "phpborg", "--init-groups")
        assert machine.run(*who, "cat", f"{folder}{source}/7.txt") == (source / "7.txt").read_text()
        api.wait(api.call("DELETE", f"/archives/{archive['id']}/mount"))
        assert machine.try_to("findmnt", folder).returncode != 0


def borg_that_saves(source: Path) -> int:
    """Its process on the server, which is this machine; 0 when there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if {b"create", os.fsencode(source)} <= set(words) and words[1].endswith(b"/borg"):
                return int(process.name)
    return 0

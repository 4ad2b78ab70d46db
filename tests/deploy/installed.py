"""deploy/install.sh to a first backup, phpBorg's own backup and restore, upgrade and rollback, below another folder.

PHPBORG_ROOT (deploy/lib.sh) needs neither root nor namespaces. A release here is a copy of this tree with its Python
environment; how one is built, with the accounts and daemons of a whole machine, `make test-machine` shows. There is no
systemd, so the command of the installed unit is started here, with the environment that it names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from phpborg.demo import Api, Story
from phpborg.embedded import Child, Sshd, answers, free_port, wait_until
from tests.deploy import ROOT
from tests.deploy.machine import BROKEN, FINAL, NEWER, PASSWORD

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("install")]

LEFT_OUT = ("tests", "var", "node_modules", "*_cache", "__pycache__")


class Installed:
    """What install.sh makes below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.serve: Child | None = None

    def release(self, name: str, **migrations: str) -> Path:
        """As build_release leaves it."""
        folder = self.root / "opt/phpborg/releases" / name
        folder.mkdir(parents=True)
        for path in ROOT.iterdir():
            if path.name.startswith(".") or path.name in LEFT_OUT:
                continue
            if path.is_dir():
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns(*LEFT_OUT))
            else:
                shutil.copy(path, folder)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        for file, text in migrations.items():
            (folder / f"phpborg/migrations/{file}.py").write_text(text)
        (folder / ".complete").touch()
        return folder

    @property
    def current(self) -> Path:
        return (self.root / "opt/phpborg/current").resolve()

    def try_to(self, program: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "PHPBORG_ROOT": str(self.root), **variables}
        return subprocess.run([program, *words], env=env, capture_output=True, text=True, timeout=300, check=False)

    def run(self, program: Path, *words: str, **variables: str) -> str:
        """What it said, on either way."""
        ran = self.try_to(program, *words, **variables)
        assert ran.returncode == 0, (program, words, ran.stdout[-3000:], ran.stderr[-3000:])
        return ran.stdout + ran.stderr

    def deploy(self, script: str, *words: str) -> str:
        return self.run(self.current / f"deploy/{script}.sh", *words)

    def phpborg(self, *words: str, **variables: str) -> str:
        return self.run(self.root / "usr/local/sbin/phpborg", *words, **variables)

    def dump(self) -> str:
        self.deploy("backup", "--keep-days", "30")
        (file,) = (self.root / "var/backups/phpborg").glob(f"phpborg-{self.current.name}-*Z.gz")
        return str(file)

    @property
    def env(self) -> dict[str, str]:
        lines = (self.root / "etc/phpborg/env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    def start(self) -> Self:
        unit = (self.root / "etc/systemd/system/phpborg-serve.service").read_text()
        (command,) = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart=")]
        words = ["env", "-i", f"PATH={os.environ['PATH']}", *(f"{name}={value}" for name, value in self.env.items())]
        serve = Child("serve", [*words, *f"{self.root}{command}".split()], log=self.root / "serve.log").start()
        self.serve = serve
        wait_until(lambda: answers(self.port) or not serve.is_alive, seconds=120, what="phpBorg")
        assert serve.is_alive, serve.tail()
        return self

    def stop(self) -> None:
        if self.serve:
            self.serve.stop(seconds=60)

    def archives(self) -> list[str]:
        return sorted(archive["name"] for archive in self.api().call("GET", "/archives")["results"])

    def api(self) -> Api:
        return Api(f"http://127.0.0.1:{self.port}", "admin", PASSWORD)

    def tables(self) -> str:
        script = "from django.db import connection as c; print(c.introspection.table_names())"
        return self.phpborg("shell", "--no-imports", "-c", script)


@pytest.fixture
def installed(short_dir: Path) -> Iterator[Installed]:
    made = Installed(short_dir / "installed")
    yield made
    made.stop()


def test_from_nothing_to_a_first_backup_and_through_an_upgrade_and_back(
    installed: Installed,
    sshd: Sshd,
    tmp_path: Path,
) -> None:
    """One site's life. Red without any one of the scripts' steps."""
    first = installed.release("1.0")
    pool = tmp_path / "story/repositories"
    pool.mkdir(parents=True, mode=0o700)
    source = tmp_path / "source"
    source.mkdir()
    (source / "a file").write_text("a line\n" * 1000)
    words = ("--embedded", "--workers", "1", "--site", f"http://localhost:{installed.port}")
    given = {"PHPBORG_ADMIN_PASSWORD": PASSWORD, "PHPBORG_POOL_PATH": str(pool), "PHPBORG_POOL_NAME": "demo"}
    said = installed.run(first / "deploy/install.sh", *words, **given)
    before = installed.env
    assert [name for name in ("SECRET_KEY", "ENCRYPTION_KEYS") if before[name] in said] == []
    assert (installed.root / "etc/phpborg/env").stat().st_mode & 0o777 == 0o600
    assert {"phpborg-backup.timer", "phpborg-worker@.service"} <= set(os.listdir(installed.root / "etc/systemd/system"))
    installed.run(first / "deploy/install.sh", *words)
    assert installed.env == before  # once more changes nothing

    installed.start()
    story = Story(installed.api(), sshd, tmp_path / "story", source, lambda _: None)
    made = [story.play().archive]
    assert installed.archives() == made
    dump = installed.dump()
    installed.stop()

    newer = installed.release("2.0", **{"9998_newer": NEWER})
    installed.run(newer / "deploy/install.sh", *words, "--places", "default")  # finds the older one, and upgrades it
    assert installed.current == newer
    places = installed.root / "etc/systemd/system/phpborg-worker@.service.d/20-places.conf"
    assert places.read_text().endswith("/run worker default\n")  # and does what else was asked for
    assert "phpborg_newer" in installed.tables()
    refused = installed.try_to(first / "deploy/upgrade.sh")  # red without check_release: the old code on a new database
    assert refused.returncode != 0
    assert "does not know phpborg.9998_newer" in refused.stderr
    assert installed.current == newer
    of_newer = installed.dump()

    broken = installed.release("3.0", **{"9998_newer": NEWER, "9999_broken": BROKEN})
    failed = installed.try_to(broken / "deploy/upgrade.sh")
    assert "Nothing has changed" in failed.stderr
    assert installed.current == newer
    assert "half_made" not in installed.tables()

    installed.deploy("rollback")
    assert installed.current == first
    assert "phpborg_newer" not in installed.tables()
    refused = installed.try_to(first / "deploy/restore.sh", of_newer)
    assert refused.returncode != 0
    assert "does not know phpborg.9998_newer" in refused.stderr
    assert "phpborg_newer" not in installed.tables()
    installed.phpborg("shell", "--no-imports", "-c", "from accounts.models import User; User.objects.all().delete()")
    installed.deploy("restore", dump)

    there_and_back_by_a_dump(installed)
    installed.start()
    assert installed.archives() == made


def there_and_back_by_a_dump(installed: Installed) -> None:
    """Red when rollback.sh leaves half of what it has taken back, or takes the dump without being asked."""
    first = installed.current
    final = installed.release("4.0", **{"9998_final": FINAL})
    installed.run(final / "deploy/upgrade.sh")
    failed = installed.try_to(final / "deploy/rollback.sh")
    assert "Nothing has changed: 4.0 runs on." in failed.stderr
    assert installed.current == final
    installed.deploy("rollback", "--dump")
    assert installed.current == first
    assert "phpborg_newer" not in installed.tables()

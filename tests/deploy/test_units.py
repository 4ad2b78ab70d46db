"""deploy/systemd: systemd itself reads the units, finds nothing to complain of, and says how closed they are."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy import DEPLOY

UNITS = ["phpborg-web", "phpborg-worker@1", "phpborg-scheduler", "phpborg-serve", "phpborg-redis"]
BACKUP = "phpborg-backup"
MOUNTING = ["phpborg-worker@", "phpborg-scheduler", "phpborg-serve"]
SYSTEMD = Path("/usr/lib/systemd/system")
# Any of them gives a unit its own view of the file system: what it mounts nobody else sees (systemd.exec).
OWN_VIEW = {
    "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectControlGroups", "ProtectKernelLogs",
    "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ReadWritePaths", "ReadOnlyPaths",
    "InaccessiblePaths", "PrivateMounts", "ProtectHostname", "ProtectClock",
}  # fmt: skip
# And any of these keeps setuid programs from what they are for, whatever NoNewPrivileges says.
NO_NEW_PRIVILEGES = {
    "NoNewPrivileges", "SystemCallFilter", "SystemCallArchitectures", "RestrictAddressFamilies", "RestrictNamespaces",
    "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectClock",
    "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "ProtectHostname",
    "CapabilityBoundingSet",
}  # fmt: skip


def options(*files: Path) -> dict[str, str]:
    """The last word on each option of [Service], as systemd merges a unit and its drop-ins."""
    merged: dict[str, str] = {}
    for file in files:
        lines = file.read_text().partition("[Service]")[2].partition("\n[")[0].splitlines()
        merged |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return merged


HARDENING = DEPLOY / "systemd" / "phpborg-.service.d" / "10-hardening.conf"
MOUNTS = DEPLOY / "systemd" / "mounts.conf"


def unit(name: str) -> Path:
    return DEPLOY / "systemd" / f"{name.replace('@1', '@')}.service"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with Debian's units and ours, and something to run where these say that there is."""
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: scripts/install-packages test"
    root = tmp_path_factory.mktemp("machine")
    shutil.copytree(SYSTEMD, root / "usr/lib/systemd/system", symlinks=True)
    (root / "lib").symlink_to("usr/lib")
    ours = root / "etc/systemd/system"
    shutil.copytree(DEPLOY / "systemd", ours)
    (ours / "mounts.conf").unlink()
    for program in ("opt/phpborg/current/deploy/run", "opt/phpborg/current/deploy/backup.sh", "usr/bin/redis-server"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DEPLOY / "run", root / program)
    return root


def analyze(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", f"--root={root}", "--no-pager", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def verify(root: Path) -> str:
    """What systemd complains of; "" when it is content."""
    ran = analyze(root, "verify", "phpborg.target", *(f"{name}.service" for name in UNITS))
    return ran.stdout + ran.stderr + ("" if ran.returncode == 0 else f"exit {ran.returncode}")


def test_systemd_understands_every_line(machine: Path) -> None:
    """Red with `ProtectSystem=ful` in any of them."""
    assert verify(machine) == ""


def test_systemd_understands_them_with_mounts_too(machine: Path) -> None:
    for name in MOUNTING:
        folder = machine / "etc/systemd/system" / f"{name}.service.d"
        folder.mkdir()
        shutil.copy(MOUNTS, folder / "50-mounts.conf")
    assert verify(machine) == ""
    for name in MOUNTING:
        shutil.rmtree(machine / "etc/systemd/system" / f"{name}.service.d")


@pytest.mark.parametrize("name", [*UNITS, BACKUP])
def test_systemd_says_that_it_is_closed(machine: Path, name: str) -> None:
    """Red without the drop-in: 9.2 of 10."""
    threshold = 30 if name == BACKUP else 25  # it is root, with two capabilities
    ran = analyze(machine, "--offline=true", f"--threshold={threshold}", "security", f"{name}.service")
    assert ran.returncode == 0, ran.stdout[-300:]


@pytest.mark.parametrize("name", MOUNTING)
def test_what_is_mounted_can_be_seen_outside(name: str) -> None:
    """Red without one of the lines in mounts.conf: the unit has its own view, or fusermount3 is not let."""
    merged = options(unit(name), HARDENING, MOUNTS)
    undone = {"no", "", "~"}
    assert {option for option in (OWN_VIEW | NO_NEW_PRIVILEGES) & set(merged) if merged[option] not in undone} == set()


@pytest.mark.parametrize("name", ["phpborg-worker@", "phpborg-serve", "phpborg-scheduler"])
def test_a_living_borg_is_seen(name: str) -> None:
    """Red with ProtectProc=invisible: backups/locks.py would take the lock of what it cannot see for a dead one's."""
    assert {"ProtectProc", "ProcSubset", "PrivatePIDs", "PrivateUsers"} & set(options(unit(name), HARDENING)) == set()


@pytest.mark.parametrize("name", ["phpborg-worker@", "phpborg-serve"])
def test_a_stop_tells_the_parent_alone_and_waits(name: str) -> None:
    """Red with systemd's defaults: borg is told to end, too, and everything killed after 90 seconds."""
    merged = options(unit(name))
    assert (merged["KillMode"], merged["TimeoutStopSec"]) == ("mixed", "12h")


def test_its_own_backup_is_roots_and_may_become_the_services_user() -> None:
    """Red without the second drop-in: the first one's User may not read /etc/phpborg/env."""
    folder = DEPLOY / "systemd" / "phpborg-backup.service.d"
    merged = options(unit(BACKUP), HARDENING, *folder.iterdir())
    assert (merged["User"], merged["CapabilityBoundingSet"]) == ("root", "CAP_SETUID CAP_SETGID")
    assert min(path.name for path in folder.iterdir()) > "10-hardening.conf"  # whoever comes later has the last word


@pytest.mark.parametrize("name", ["phpborg-web", "phpborg-scheduler", "phpborg-redis"])
def test_who_needs_no_more_writes_nothing(name: str) -> None:
    """Red with ProtectSystem in the drop-in: it is read after the unit, and its `full` was the last word."""
    assert "ProtectSystem" not in options(HARDENING)
    assert options(unit(name), HARDENING)["ProtectSystem"] == "strict"


@pytest.mark.parametrize("name", UNITS)
def test_each_is_part_of_the_whole(name: str) -> None:
    text = unit(name).read_text()
    assert "PartOf=phpborg.target" in text
    assert "WantedBy=phpborg.target" in text

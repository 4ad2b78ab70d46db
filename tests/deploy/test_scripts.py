"""deploy/*.sh: a shell reads them, and refuses what makes no sense before it does anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy import DEPLOY, ROOT

SCRIPTS = [
    *(DEPLOY / f"{name}.sh" for name in ("install", "upgrade", "rollback", "backup", "restore")),
    DEPLOY / "run", DEPLOY / "phpborg", ROOT / "scripts" / "install-packages",
]  # fmt: skip


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_shellcheck_finds_nothing(script: Path) -> None:
    assert shutil.which("shellcheck"), "shellcheck is missing: scripts/install-packages test"
    command = ["shellcheck", "--external-sources", "--source-path", str(ROOT), str(script)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_it_can_be_run_and_stops_at_its_first_error(script: Path) -> None:
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert "set -euo pipefail" in text or "set -eu" in text


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("install.sh", ["--nonsense"], "usage:"),
        ("install.sh", ["--workers"], "usage:"),
        ("install.sh", ["--workers", "many"], "--workers takes a number."),
        ("install.sh", ["--site", "backup.example.org; rm"], "--site takes an address"),
        ("install.sh", ["--parts", "web,cook"], "There is no part cook"),
        ("upgrade.sh", ["now"], "usage:"),
        ("rollback.sh", ["a", "b"], "usage:"),
        ("rollback.sh", ["--dumb"], "usage:"),
        ("backup.sh", ["--key", "/tmp"], "usage:"),
        ("backup.sh", ["--keys"], "usage:"),
        ("backup.sh", ["--keep-days", "0"], "usage:"),
        ("backup.sh", ["--keep-days", "30", "--keys", "/tmp"], "usage:"),
        ("restore.sh", [], "usage:"),
        ("restore.sh", ["/nowhere/dump.gz"], "is not whole. Nothing is changed."),
    ],
)
def test_it_refuses_what_makes_no_sense(script: str, words: list[str], said: str) -> None:
    if os.geteuid() != 0 and said.startswith(("is", "usage: ")):
        said = "This is for root."
    ran = subprocess.run(["bash", str(DEPLOY / script), *words], capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert said in ran.stderr


def test_no_script_prints_a_secret() -> None:
    """None says more than it does: a trace would show every key that it makes."""
    assert [script.name for script in SCRIPTS if "set -x" in script.read_text()] == []

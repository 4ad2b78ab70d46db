"""A small real repository with three archives, made once, copied for each test that changes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

PASSPHRASE = "small passphrase"
NAMES = ("one", "two", "three")


@dataclass(frozen=True)
class SmallRepository:
    path: Path

    def borg(self, *words: str) -> str:
        """Run borg on it behind phpBorg's back; `::x` stands for the archive x, `::` for the repository."""
        env = {
            **os.environ, "BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(self.path.parent / "other-base"),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES", "TZ": "UTC",
        }  # fmt: skip
        argv = [
            f"{self.path}{word}" if word.startswith("::") and word != "::" else str(self.path) if word == "::" else word
            for word in words
        ]
        done = subprocess.run(["borg", *argv], env=env, check=True, capture_output=True, text=True, timeout=120)
        return done.stdout

    @cached_property
    def as_made(self) -> tuple[str, dict[str, dict[str, Any]]]:
        """Its id and its archives, asked once: copies have the same."""
        listed = json.loads(self.borg("list", "--json", "::"))
        return str(listed["repository"]["id"]), {item["name"]: item for item in listed["archives"]}

    @property
    def id(self) -> str:
        return self.as_made[0]

    def archives(self) -> dict[str, dict[str, Any]]:
        """What borg lists, by name."""
        return {item["name"]: item for item in json.loads(self.borg("list", "--json", "::"))["archives"]}

    def copy(self, to: Path) -> SmallRepository:
        shutil.copytree(self.path, to)
        return SmallRepository(to)

    def flip_a_byte(self) -> None:
        """In the middle of the largest segment."""
        segment = max((path for path in self.path.glob("data/*/*") if path.is_file()), key=lambda p: p.stat().st_size)
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 0xFF
        segment.write_bytes(content)


def make(folder: Path) -> SmallRepository:
    files = folder / "files"
    files.mkdir()
    small = SmallRepository(folder / "small")
    small.borg("init", "--encryption=repokey-blake2", "::")
    for number, name in enumerate(NAMES):
        (files / f"file-{number}").write_bytes(os.urandom(200_000))
        small.borg("create", f"--timestamp=2026-03-0{number + 1}T02:00:00", f"::{name}", str(files))
    return small

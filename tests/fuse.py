"""Mounts for real, where this machine has FUSE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups import mounts


def is_here() -> bool:
    try:
        os.close(os.open(mounts.DEVICE, os.O_RDWR))
    except OSError:
        return False
    return True


# .ci/run knows this reason by its words.
needs_fuse = pytest.mark.skipif(not is_here(), reason="no /dev/fuse here")


@pytest.fixture
def mount_dir(tmp_path: Path, settings: pytest.FixtureRequest) -> Iterator[Path]:
    """Where archives are mounted in this test; its name has what the kernel's list escapes."""
    folder = tmp_path / "mounts of a\ttest"
    settings.MOUNT_DIR = folder  # type: ignore[attr-defined]
    yield folder
    for mounted in mounts.folders():
        assert mounts.take_down(mounted, lambda: None) == ""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from backups.models import Archive
from tests.phpborg.things import made_for


@pytest.fixture
def things(archive: Archive, admin: User, tmp_path: Path) -> dict[str, Any]:
    """What the contract speaks of, with tokens of an administrator."""
    return made_for(admin, archive, tmp_path)

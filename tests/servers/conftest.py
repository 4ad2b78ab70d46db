from typing import Any

import pytest

from servers.models import Server
from tests.conftest import HOST_KEY

OTHER_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGUh4dBKhK4WVHkjSQ0nBJWPTm2KJ4MkVLgT7dVmDBbI"
FINGERPRINT = "SHA256:62WePHeIEuZvMRX4KzviUnaATHzl2q96ZKNgnCpHohM"  # what `ssh-keygen -lf` says of HOST_KEY


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's second thread writes nothing while it runs, so a test inside one transaction can run it."""
    monkeypatch.setattr("jobs.log.FLUSH_SECONDS", 3600.0)


@pytest.fixture
def new_server(db: None) -> Server:
    """One that showed its host key, which nobody has confirmed yet."""
    return Server.objects.create(name="db-1", address="192.0.2.9", host_key_seen=HOST_KEY)


def answers(**changes: Any) -> dict[str, Any]:
    """What somebody types into the form of a server."""
    return {
        "name": "web-2", "address": "web-2.example.com", "port": "22", "username": "root", "use_sudo": "on",
        "tags": "", "enabled": "on", **changes,
    }  # fmt: skip


def body(**changes: Any) -> dict[str, Any]:
    """What a program sends for a new server."""
    return {"name": "web-2", "address": "web-2.example.com", **changes}

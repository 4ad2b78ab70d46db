"""`pytest -p tests.mariadb`: the same tests on a MariaDB that this session starts, and ends.

A pytest plugin, loaded before Django reads its settings. With xdist only the controlling process
starts the server; its workers inherit DATABASE_URL.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_SECONDS = 60
DATABASE_FIXTURES = {"db", "transactional_db"}


@contextlib.contextmanager
def mariadb(*, buffer_pool: str = "64M") -> Iterator[str]:
    """A MariaDB in a temporary directory; yields its DATABASE_URL."""
    directory = Path(tempfile.mkdtemp(prefix="phpborg-mariadb-", dir="/tmp"))
    path = f"{directory}/sock"
    user = ["--user=root"] if os.geteuid() == 0 else []
    data = f"--datadir={directory}/data"
    # --force: also on a machine whose own name cannot be looked up.
    install = [
        "mariadb-install-db",
        "--no-defaults",
        "--force",
        *user,
        data,
        "--auth-root-authentication-method=normal",
    ]
    made = subprocess.run(install, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        raise RuntimeError(f"MariaDB could not be installed: {made.stdout[-2000:]}{made.stderr[-2000:]}")
    server = subprocess.Popen(
        [shutil.which("mariadbd") or "/usr/sbin/mariadbd", "--no-defaults", *user, data, f"--socket={path}",
         "--skip-networking", f"--pid-file={directory}/pid", "--innodb-flush-log-at-trx-commit=0",
         f"--innodb-buffer-pool-size={buffer_pool}", "--character-set-server=utf8mb4", f"--log-error={directory}/log"],
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not listens(path):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MariaDB did not start: {Path(directory, 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield f"mysql://root@/phpborg?unix_socket={path}"
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(directory, ignore_errors=True)


def listens(path: str) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        return sock.connect_ex(path) == 0


_stack = contextlib.ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ["DATABASE_URL"] = _stack.enter_context(mariadb())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only what touches a database can behave differently on another one."""
    touching: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        touches = item.get_closest_marker("django_db") or fixtures & DATABASE_FIXTURES
        (touching if touches else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = touching


def pytest_unconfigure() -> None:
    _stack.close()

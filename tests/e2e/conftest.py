"""The real thing: sshd, Redis, web, workers, scheduler, borg, Chromium; each started here and ended by its pid."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from phpborg.embedded import Child, Sshd, answers, free_port, manage, wait_until
from servers.models import Server

if TYPE_CHECKING:
    from tests.e2e.furnished import Furnished

ROOT = Path(settings.BASE_DIR)
BORGS = {"1.2": ROOT / ".borg/1.2/bin/borg", "1.4": ROOT / ".borg/1.4/bin/borg"}
ADMIN_PASSWORD = "an administrator's own"
JOB_SECONDS = 120
RULES = Path("/etc/sudoers.d/phpborg")
OWN_KEYS = "AuthorizedKeysFile .ssh/authorized_keys"  # of an sshd: each user's own, as everywhere


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e/" in str(item.path):
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A temporary directory with a short path that other users may enter: sockets and sshd need that."""
    directory = Path(tempfile.mkdtemp(prefix="phpborg-e2e-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def sshd(short_dir: Path) -> Iterator[Sshd]:
    with Sshd(short_dir / "sshd") as server:
        server.directory.chmod(0o755)  # sshd reads the keys as the user who logs in
        server.authorized_keys.chmod(0o644)
        yield server


@dataclass
class Site:
    """A running phpBorg, as an administrator's machine has it."""

    url: str
    data_dir: Path
    serve: Child

    def client(self) -> httpx.Client:
        """A program that is signed in."""
        client = httpx.Client(base_url=f"{self.url}/api", timeout=60)
        answer = client.post("/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def decrypt(self, token: str) -> str:
        return Fernet((self.data_dir / "encryption_keys").read_text().strip()).decrypt(token.encode()).decode()


@pytest.fixture(scope="session")
def site(short_dir: Path) -> Iterator[Site]:
    with running_site(short_dir) as site:
        yield site


@contextmanager
def running_site(directory: Path, *, password: str = ADMIN_PASSWORD) -> Iterator[Site]:
    """One with an administrator, or without a `password` one that waits for its first run."""
    port = free_port()
    data_dir = directory / "data"
    env = {
        "PHPBORG_DATA_DIR": str(data_dir), "PHPBORG_PORT": str(port), "PHPBORG_ADMIN_PASSWORD": password,
        "DJANGO_SETTINGS_MODULE": "phpborg.settings", "REDIS_URL": "", "DATABASE_URL": "",
    }  # fmt: skip
    for name in ("REDIS_URL", "DATABASE_URL"):
        os.environ.pop(name, None)
        env.pop(name)
    with manage("serve", "serve", "--workers", "2", env=env, log=directory / "serve.log") as serve:
        wait_until(lambda: answers(port) or not serve.is_alive, seconds=60, what="phpBorg")
        assert serve.is_alive, serve.tail()
        yield Site(f"http://127.0.0.1:{port}", data_dir, serve)


@pytest.fixture(scope="session")
def furnished(sshd: Sshd, short_dir: Path) -> Iterator[Furnished]:
    """A second site, with something of everything in it."""
    from tests.e2e.furnished import furnish  # which waits with what is below

    directory = short_dir / "full"
    directory.mkdir()
    with running_site(directory) as site:
        yield furnish(site, sshd, directory)


def finished(client: httpx.Client, job: Any, status: str = "completed") -> Any:
    """Wait for a job's end through the API and return it."""
    deadline = time.monotonic() + JOB_SECONDS
    while (job := client.get(f"/jobs/{job['id']}").json())["status"] in ("pending", "running"):
        assert time.monotonic() < deadline, f"The job {job['type']} does not end: {job['progress']}"
    log = [line["message"] for line in client.get(f"/jobs/{job['id']}/log").json()]
    assert job["status"] == status, (job["error"], job["advice"], log)
    return job


def until(
    true: Callable[[], Any],
    *,
    seconds: float = 30,
    told: Callable[[], object] = lambda: "The condition never came true.",
) -> Any:
    """Wait for a condition and return what it gave; `told` is asked what a red test shows."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)
    return found


@pytest.fixture
def sudo_user(short_dir: Path) -> Iterator[str]:
    """A Unix user who may run borg as root with sudo, as the server's page tells an administrator to set up."""
    if os.geteuid() != 0:
        pytest.skip("making a user needs root")
    name = f"phpborg{os.getpid()}"
    # With a password of "*" nobody can log in by one, but the account is not locked: sshd refuses those.
    subprocess.run(
        ["useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", name], check=True, capture_output=True
    )
    line = Server(username=name, borg_path="/usr/bin/borg").sudoers_line
    rules = Path("/etc/sudoers.d") / name
    rules.write_text(line + "\n")
    rules.chmod(0o440)
    subprocess.run(["visudo", "-cqf", str(rules)], check=True)
    yield name
    rules.unlink()
    subprocess.run(["userdel", "--remove", "--force", name], check=False, capture_output=True)


@dataclass(frozen=True)
class Person:
    """A Unix user with a password."""

    name: str
    password: str

    @property
    def keys(self) -> Path:
        return Path(f"~{self.name}/.ssh/authorized_keys").expanduser()

    @property
    def rights(self) -> Path:
        """Read before `RULES`: of two lines that fit, sudo takes the last."""
        return RULES.with_name(f"a-{self.name}")

    def may_sudo(self, tag: str = "") -> None:
        self.rights.write_text(f"{self.name} ALL=(ALL) {tag}ALL\n")


@pytest.fixture
def person() -> Iterator[Person]:
    if os.geteuid() != 0:
        pytest.skip("making a user needs root")
    person = Person(f"phpborg-person-{os.getpid()}", f"pass {secrets.token_hex(12)} wörd")
    sealed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=person.password, text=True, check=True, capture_output=True
    ).stdout.strip()
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", "--password", sealed, person.name], check=True)
    yield person
    subprocess.run(["userdel", "--remove", "--force", person.name], check=False, capture_output=True)
    person.rights.unlink(missing_ok=True)


# --- The browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")  # not longer: its event loop would be in the way of other modules' database
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "Debian's chromium is not installed."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--headless", "--no-sandbox", "--disable-background-networking", "--disable-gpu"],
        )
        yield browser
        browser.close()


def is_complaint(message: ConsoleMessage) -> bool:
    """Chromium also reports each answer 400, which is how a form says that it was not filled in right."""
    return message.type == "error" and "status of 400" not in message.text


def log_in(page: Page) -> None:
    page.goto("/login")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/")


@pytest.fixture
def new_page(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Open a browser of one's own, signed in; what its console complains of fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(**options: Any) -> Page:
        context = browser.new_context(
            base_url=site.url, viewport={"width": 1440, "height": 900}, locale="en-GB", accept_downloads=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if is_complaint(message) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        log_in(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def pool_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    return folder

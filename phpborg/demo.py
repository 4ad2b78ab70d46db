"""The story that `manage.py demo` plays: a server, a backup over SSH, a restore, and the proof.

It speaks to the running web process through the API, as anybody's program would.
"""

import filecmp
import getpass
import json
import os
import shutil
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phpborg.embedded import Sshd
from servers.ssh.remote import HostKey

WAIT_SECONDS = 1800


class DemoFailed(Exception):
    """Something is not as it should be; the text says what."""


class Api:
    """A signed-in caller of the API. Raises DemoFailed with the API's own sentence."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = f"{url}/api"
        self._token = ""
        self._token = self.call("POST", "/auth/login", username=username, password=password)["access_token"]

    def call(self, method: str, path: str, /, **body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = json.dumps(body).encode() if method != "GET" else None
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise DemoFailed(f"{method} {path}: {error.code} {error.read().decode(errors='replace')[:500]}") from error

    def find(self, path: str, name: str) -> Any | None:
        return next(
            (item for item in self.call("GET", f"{path}?page_size=500")["results"] if item["name"] == name), None
        )

    def wait(self, job: Any) -> Any:
        """Follow a job to its end. Raises DemoFailed unless it is completed."""
        deadline = time.monotonic() + WAIT_SECONDS
        while job["status"] in ("pending", "running"):
            if time.monotonic() > deadline:
                raise DemoFailed(f"The job {job['type']} does not end.")
            time.sleep(0.1)
            job = self.call("GET", f"/jobs/{job['id']}")
        if job["status"] != "completed":
            raise DemoFailed(f"{job['type']}: {job['status']}. {job['error']} {job['advice']}".strip())
        return job


@dataclass(frozen=True)
class Proof:
    archive: str
    files: int
    bytes: int
    seconds: float


class Story:
    def __init__(self, api: Api, sshd: Sshd, directory: Path, source: Path, tell: Callable[[str], object]) -> None:
        self._api = api
        self._sshd = sshd
        self._directory = directory
        self._source = source
        self._tell = tell

    def play(self) -> Proof:
        """Raises DemoFailed."""
        server = self._server()
        plan = self._plan(server, self._repository(server))
        self._tell(f"Backing up {self._source} over SSH.")
        began = time.monotonic()
        (job,) = self._api.call("POST", "/backups", server_id=server["id"], plan_id=plan["id"])
        result = self._api.wait(job)["result"]
        seconds = time.monotonic() - began
        if result["suspicion"]:
            raise DemoFailed(f"The archive is suspicious: {result['suspicion']}")
        if result["unreadable"]:
            raise DemoFailed(f"{result['unreadable']} files could not be read: {result['unreadable_paths'][:3]}")
        self._tell(f"Restoring {result['name']} and comparing it byte for byte.")
        files, size = self._compare(self._restored(result["archive"]))
        return Proof(result["name"], files, size, seconds)

    def _server(self) -> Any:
        """Register the throwaway sshd as the server "demo", and let ourselves in."""
        where = {"address": "127.0.0.1", "port": self._sshd.port, "username": getpass.getuser(), "use_sudo": False}
        known = self._api.find("/servers", "demo")
        if known:
            server = self._api.call("PATCH", f"/servers/{known['id']}", **where)
        else:
            server = self._api.call("POST", "/servers", name="demo", **where)
        self._sshd.authorized_keys.write_text(f"restrict {server['public_key']}\n")
        path = f"/servers/{server['id']}"
        self._tell(f"Testing the connection to {where['username']}@127.0.0.1:{self._sshd.port}.")
        self._api.wait(self._api.call("POST", f"{path}/test"))
        seen = self._api.call("GET", path)["fingerprint_seen"]
        own = HostKey.parse(self._sshd.host_key.with_suffix(".pub").read_text()).fingerprint
        if seen != own:
            raise DemoFailed(f"The server shows the host key {seen}, but its own is {own}.")
        self._api.call("POST", f"{path}/host-key", fingerprint=own)
        test = self._api.wait(self._api.call("POST", f"{path}/test"))
        for step in test["result"]["steps"]:
            self._tell(f"  {step['text']}")
        return self._api.call("GET", path)

    def _repository(self, server: Any) -> Any:
        folder = self._directory / "repositories"
        folder.mkdir(mode=0o700, exist_ok=True)
        pool = self._api.find("/storage-pools", "demo") or self._api.call(
            "POST", "/storage-pools", name="demo", path=str(folder)
        )
        repository = self._api.find("/repositories", "demo") or self._api.call(
            "POST", "/repositories", name="demo", pool=pool["id"], server=server["id"]
        )
        deadline = time.monotonic() + WAIT_SECONDS
        while repository["state"] == "creating" and time.monotonic() < deadline:
            time.sleep(0.1)
            repository = self._api.call("GET", f"/repositories/{repository['id']}")
        if repository["state"] != "ready":
            raise DemoFailed("The repository could not be made; its job's log tells why.")
        return repository

    def _plan(self, server: Any, repository: Any) -> Any:
        parameters = {"paths": [str(self._source)], "exclude_caches": False}
        source = self._api.find("/sources", "demo")
        if source:
            source = self._api.call("PATCH", f"/sources/{source['id']}", parameters=parameters)
        else:
            source = self._api.call(
                "POST", "/sources", name="demo", server=server["id"], kind="files", parameters=parameters
            )
        return self._api.find("/plans", "demo") or self._api.call(
            "POST", "/plans", name="demo", server=server["id"], repository=repository["id"], sources=[source["id"]]
        )

    def _restored(self, archive: int) -> Path:
        target = self._directory / "restored"
        shutil.rmtree(target, ignore_errors=True)
        self._api.wait(self._api.call("POST", f"/archives/{archive}/restore", directory=str(target)))
        return target

    def _compare(self, target: Path) -> tuple[int, int]:
        """Count files and bytes that are the same in both trees. Raises DemoFailed at the first difference."""
        restored = target / self._source.relative_to("/")
        files = size = 0
        for name in tree(self._source) | tree(restored):
            ours, theirs = self._source / name, restored / name
            problem = difference(ours, theirs)
            if problem:
                raise DemoFailed(f"{ours}: {problem}")
            if stat.S_ISREG(ours.lstat().st_mode):
                files += 1
                size += ours.lstat().st_size
        shutil.rmtree(target)
        return files, size


def tree(top: Path) -> set[str]:
    """Every path below `top`, itself included, relative to it."""
    return {os.path.relpath(path, top) for path in walk(top)}


def walk(top: Path) -> Iterator[str]:
    yield str(top)
    for folder, folders, files in os.walk(top):
        yield from (os.path.join(folder, name) for name in (*folders, *files))  # noqa: PTH118


def difference(ours: Path, theirs: Path) -> str:
    """How two paths differ; "" when they are the same."""
    for path, what in ((ours, "it is in the archive, but no longer on the server"), (theirs, "it was not restored")):
        if not os.path.lexists(path):
            return what
    mode, other = ours.lstat().st_mode, theirs.lstat().st_mode
    if stat.S_IFMT(mode) != stat.S_IFMT(other):
        return "it came back as another kind of thing"
    if stat.S_ISLNK(mode):
        return "" if ours.readlink() == theirs.readlink() else "the link points elsewhere"
    if mode != other:
        return "its mode differs"
    if stat.S_ISREG(mode) and not filecmp.cmp(ours, theirs, shallow=False):
        return "its content differs"
    return ""

"""A site of its own in which there is something of everything: real backups, and rows with hostile names."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext

from phpborg.embedded import Sshd
from tests.e2e.conftest import ROOT, Site, finished, until
from tests.phpborg.test_matrix import PAGES, names_something

HOSTILE_FILE = "<img src=x onerror=alert(1)>.txt"
# One pixel, and a picture.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fcffff3f03000605"
    "02fe8f5f6a5a0000000049454e44ae426082"
)


@dataclass(frozen=True)
class Furnished:
    site: Site
    addresses: dict[str, list[str]]  # of each page that can be looked at, by the name of its URL
    sessions: dict[str, str]  # of one person of each role, and of each language and appearance
    plan: int

    def context(self, browser: Browser, person: str, **options: Any) -> BrowserContext:
        """A browser in which `person` is signed in."""
        options = {"locale": "en-GB", "viewport": {"width": 1440, "height": 900}, **options}
        context = browser.new_context(base_url=self.site.url, **options)
        if person:
            context.add_cookies([{"name": "sessionid", "value": self.sessions[person], "url": self.site.url}])
        return context


def ok(answer: Any) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def make_source(folder: Path) -> Path:
    """Files whose names want to be HTML, commands, or in the way."""
    folder.mkdir()
    inner = folder / "<script>alert(3)<" / "script>"
    inner.mkdir(parents=True)
    (inner / HOSTILE_FILE).write_text("<script>alert(4)</script>\nbody text\n")
    (folder / ("long-" * 45 + ".txt")).write_text("x" * 3000)
    (folder / "\u202egnp.exe").write_text("turned around\n")
    (folder / "pixel.png").write_bytes(PIXEL)
    (folder / "changes.txt").write_text("before\n")
    return folder


def furnish(site: Site, sshd: Sshd, directory: Path) -> Furnished:
    source, pool = make_source(directory / "source"), directory / "pool"
    pool.mkdir()
    with closing(site.client()) as client:
        asked = {
            "name": "web-1", "address": "127.0.0.1", "port": sshd.port, "username": getpass.getuser(),
            "use_sudo": False,
        }  # fmt: skip
        server = ok(client.post("/servers", json=asked))
        with sshd.authorized_keys.open("a") as file:
            file.write(f"restrict {server['public_key']}\n")
        path = f"/servers/{server['id']}"
        finished(client, ok(client.post(f"{path}/test")))
        ok(client.post(f"{path}/host-key", json={"fingerprint": ok(client.get(path))["fingerprint_seen"]}))
        finished(client, ok(client.post(f"{path}/test")))
        disk = ok(client.post("/storage-pools", json={"name": "disk", "path": str(pool)}))
        repository = ok(
            client.post("/repositories", json={"name": "web-1", "pool": disk["id"], "server": server["id"]})
        )
        until(lambda: ok(client.get(f"/repositories/{repository['id']}"))["state"] == "ready", seconds=60)
        asked = {"name": "s", "server": server["id"], "kind": "files", "parameters": {"paths": [str(source)]}}
        saved = ok(client.post("/sources", json=asked))
        asked = {"name": "p", "server": server["id"], "repository": repository["id"], "sources": [saved["id"]]}
        plan = ok(client.post("/plans", json=asked))
        first, _ = back_up(client, plan, source / "changes.txt")
        second, job = back_up(client, plan, source / "changes.txt")
        finished(client, ok(client.post(f"/archives/{second}/diff", json={"other": first})))
        entries = {each["name"]: each for each in files_of(client, second, source)}
        facts = {
            "plan": plan["id"], "job": job, "folders": [entries["<script>alert(3)<"]["id"]],
            "texts": [entries["changes.txt"]["id"], hostile_entry(client, second, source)["id"]],
            "image": entries["pixel.png"]["id"],
        }  # fmt: skip
    facts["names"] = {name: names_something(name) for name in PAGES}
    return Furnished(site, **told_by_furnish(site, facts), plan=plan["id"])


def back_up(client: Any, plan: Any, file: Path) -> tuple[int, str]:
    file.write_text(file.read_text() + "and more\n")
    (job,) = ok(client.post("/backups", json={"server_id": plan["server"], "plan_id": plan["id"]}))
    archive = finished(client, job)["result"]["archive"]
    until(lambda: client.get(f"/archives/{archive}/files").status_code == 200)
    return archive, job["id"]


def files_of(client: Any, archive: int, folder: Path) -> list[Any]:
    found: list[Any] = ok(client.get(f"/archives/{archive}/files", params={"path": str(folder)}))["results"]
    return found


def hostile_entry(client: Any, archive: int, source: Path) -> Any:
    (found,) = files_of(client, archive, source / "<script>alert(3)<" / "script>")
    return found


def told_by_furnish(site: Site, facts: dict[str, Any]) -> dict[str, Any]:
    env = {**os.environ, "PHPBORG_DATA_DIR": str(site.data_dir), "DJANGO_SETTINGS_MODULE": "phpborg.settings"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.furnish"], env=env, cwd=ROOT, input=json.dumps(facts), text=True,
        check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told

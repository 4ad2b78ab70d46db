"""A recovery kit does what it is for: phpBorg is gone, with its database and its keys, and the files come back.

Everything real: the kit is taken out of a running phpBorg as a browser does; then all of that is ended and deleted, and
openssl, borg and ssh are what is left, on a machine that has never seen the repository.
"""

from __future__ import annotations

import getpass
import html
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import pytest

from phpborg.embedded import Sshd, answers
from servers.ssh.remote import HostKey
from tests.backups.accounts import Account
from tests.e2e.conftest import ADMIN_PASSWORD, BORGS, Site, finished, running_site, until
from tests.e2e.machines import same_tree

pytestmark = pytest.mark.xdist_group("kits")

PASSPHRASE = "a file that may lie anywhere"
TOOLS = ("sh", "dirname", "mktemp", "rm", "cp", "ls", "mkdir", "sed", "ssh")


@dataclass
class Left:
    """What there is after phpBorg: the files as they were, two repositories, and of each a printed page and a file."""

    source: Path
    account: Account
    own_key: Path  # of whoever owns the account
    repositories: dict[str, Path]
    pages: dict[str, str]
    folders: dict[str, Path]  # the kits, unpacked


@pytest.fixture(scope="module")
def short() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="phpborg-kit-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def make_source(folder: Path) -> Path:
    (folder / "it's a folder").mkdir(parents=True)
    (folder / "it's a folder" / "noise.bin").write_bytes(os.urandom(3_000_000))
    (folder / "plain.txt").write_text("hello\n")
    (folder / "link").symlink_to("plain.txt")
    (folder / os.fsdecode(b"not utf-8 \xff")).write_bytes(b"bytes")
    return folder


@pytest.fixture(scope="module")
def left(short: Path) -> Iterator[Left]:
    source = make_source(short / "data")
    account = Account(short / "account")
    (short / "site").mkdir()
    home = short / "web"
    home.mkdir()
    with account.sshd:
        with (
            Sshd(home / "sshd", options=[f"SetEnv HOME={home}"]) as sshd,
            running_site(short / "site") as site,
            closing(site.client()) as client,
        ):
            archives = saved_twice(client, sshd, account, source, short / "pool")
            pages = {name: taken_out(site, number) for name, number in archives.items()}
            web = int(site.url.rpartition(":")[2])
        assert not site.serve.is_alive and not answers(web)
        shutil.rmtree(short / "site")
        shutil.rmtree(home)
        own_key = short / "own key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own_key)], check=True)
        account.sshd.authorized_keys.write_text(own_key.with_name("own key.pub").read_text())
        repositories = {"local": short / "pool" / "kit-local", "account": account.home / "repos" / "kit-account"}
        folders = {name: opened(page, short / f"opened {name}") for name, page in pages.items()}
        yield Left(source, account, own_key, repositories, pages, folders)


def ok(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def saved_twice(client: httpx.Client, sshd: Sshd, account: Account, source: Path, pool: Path) -> dict[str, int]:
    """One backup to a folder here, one to an SSH account; the ids of the repositories."""
    asked = {"address": "127.0.0.1", "port": sshd.port, "username": getpass.getuser(), "use_sudo": False}
    server = ok(client.post("/servers", json={"name": "web-1", **asked}))
    with sshd.authorized_keys.open("a") as file:
        file.write(f"restrict {server['public_key']}\n")
    confirmed(client, "servers", server["id"], sshd, [ok(client.post(f"/servers/{server['id']}/test"))])
    finished(client, ok(client.post(f"/servers/{server['id']}/test")))

    pool.mkdir()
    here = ok(client.post("/storage-pools", json={"name": "here", "path": str(pool)}))
    asked = {"address": "127.0.0.1", "port": account.sshd.port, "username": getpass.getuser()}
    there = ok(client.post("/storage-pools", json={"name": "there", "path": str(account.home / "repos"), **asked}))
    with account.sshd.authorized_keys.open("a") as file:
        file.write(f"restrict {there['public_key']}\n")
    confirmed(client, "storage-pools", there["id"], account.sshd, [])

    parameters = {"paths": [str(source)]}
    saved = {"name": "s", "server": server["id"], "kind": "files", "parameters": parameters}
    source_id = ok(client.post("/sources", json=saved))["id"]
    made = {}
    for name, pool_id in (("local", here["id"]), ("account", there["id"])):
        asked = {"name": f"kit-{name}", "pool": pool_id, "server": server["id"]}
        made[name] = ok(client.post("/repositories", json=asked))["id"]
        wait_for(client, made[name], "state", "ready")
        if name == "account":
            wait_for(client, made[name], "server_key", "ssh-ed25519")
        plan = {"name": name, "server": server["id"], "repository": made[name], "sources": [source_id]}
        plan_id = ok(client.post("/plans", json=plan))["id"]
        (job,) = ok(client.post("/backups", json={"server_id": server["id"], "plan_id": plan_id}))
        finished(client, job)
    return made


def wait_for(client: httpx.Client, repository: int, field: str, start: str) -> None:
    until(lambda: ok(client.get(f"/repositories/{repository}"))[field].startswith(start), seconds=60)


def confirmed(client: httpx.Client, kind: str, number: int, sshd: Sshd, jobs: list[Any]) -> None:
    for job in jobs:
        finished(client, job)
    own = HostKey.parse(sshd.host_key.with_suffix(".pub").read_text()).fingerprint
    path = f"/{kind}/{number}"
    until(lambda: ok(client.get(path))["fingerprint_seen"] == own)
    ok(client.post(f"{path}/host-key", json={"fingerprint": own}))


def taken_out(site: Site, repository: int) -> str:
    """The page with the kit, as an administrator gets it in a browser."""
    with httpx.Client(base_url=site.url, follow_redirects=True, timeout=60, headers={"Referer": site.url}) as browser:
        post(browser, "/login", username="admin", password=ADMIN_PASSWORD)
        again = {"file_passphrase": PASSPHRASE, "file_passphrase_again": PASSPHRASE}
        answer = post(browser, f"/repositories/{repository}/kit", password=ADMIN_PASSWORD, **again)
        assert "no-store" in answer.headers["Cache-Control"]
        number = re.search(r'name="kit" value="(\w+)"', answer.text)
        assert number, answer.text
        told = post(browser, f"/repositories/{repository}/kit/stored", kit=number[1])
        assert "is noted as stored." in told.text
        return answer.text


def post(browser: httpx.Client, path: str, **words: str) -> httpx.Response:
    token = browser.cookies.get("csrftoken") or browser.get("/login").cookies.get("csrftoken") or ""
    answer = browser.post(path, data={**words, "csrfmiddlewaretoken": token})
    assert answer.status_code == 200, answer.text
    return answer


def opened(page: str, folder: Path) -> Path:
    """Save the file that the page offers, and open it with the command that is printed on it."""
    folder.mkdir()
    link = re.search(r'href="(data:application/octet-stream;base64,[^"]+)" download="([^"]+)"', page)
    command = re.search(r"openssl enc [^\n<]+", page)
    assert link and command
    with urlopen(html.unescape(link[1])) as file:
        sealed: bytes = file.read()
    assert sha256(sealed).hexdigest() in page
    (folder / link[2]).write_bytes(sealed)
    words = html.unescape(command[0]).replace(" -in ", " -pass stdin -in ")
    subprocess.run(["sh", "-c", words], check=True, cwd=folder, input=PASSPHRASE.encode())
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


# --- A machine that has never seen it ---------------------------------------------------------------


@dataclass
class Machine:
    """Borg, ssh and a shell; nothing of ours, an empty home."""

    home: Path
    bin: Path

    def run(self, kit: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(kit / "restore.sh"), *words], check=False, cwd=self.home, capture_output=True, text=True,
            env={"PATH": str(self.bin), "HOME": str(self.home), "TMPDIR": str(self.home), **env}, timeout=120,
        )  # fmt: skip

    def restored(self, kit: Path, source: Path, **env: str) -> bool:
        """List, take the one archive, compare."""
        listed = self.run(kit, **env)
        assert listed.returncode == 0, listed.stderr
        (line,) = listed.stdout.splitlines()
        done = self.run(kit, line.split()[0], "back", **env)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in self.home.iterdir()] == ["back"]  # nothing else stays behind
        return same_tree(source, self.home / "back" / source.relative_to("/"))


@pytest.fixture(params=BORGS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "clean home", tmp_path / "bin")
    made.home.mkdir()
    made.bin.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (made.bin / name).symlink_to(found)
    (made.bin / "borg").symlink_to(BORGS[request.param])
    return made


def elsewhere(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository, tmp_path / "it's moved" / "repo"))


def test_from_where_it_lies_every_byte_comes_back(left: Left, machine: Machine) -> None:
    assert machine.restored(left.folders["local"], left.source)


def test_from_an_ssh_account_too_with_the_owners_own_key(left: Left, machine: Machine) -> None:
    assert machine.restored(left.folders["account"], left.source, SSH_KEY=str(left.own_key))


def test_another_machine_in_the_place_of_the_account_is_not_trusted(
    left: Left, machine: Machine, tmp_path: Path
) -> None:
    """Red without known_hosts in the kit: ssh would ask, or believe."""
    kit = Path(shutil.copytree(left.folders["account"], tmp_path / "kit"))
    line = (kit / "known_hosts").read_text().split()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    (kit / "known_hosts").write_text(f"{line[0]} {(tmp_path / 'other.pub').read_text()}")
    refused = machine.run(kit, SSH_KEY=str(left.own_key))
    assert refused.returncode != 0
    # The second is all that borg sometimes has to say when ssh has given up.
    assert any(
        words in refused.stderr for words in ("Host key verification failed", "Connection closed by remote host")
    )


@pytest.mark.parametrize("which", ["local", "account"])
def test_it_may_have_been_moved(left: Left, machine: Machine, tmp_path: Path, which: str) -> None:
    """A disk that was carried to another machine, mounted at another path."""
    moved = elsewhere(left.repositories[which], tmp_path)
    assert machine.restored(left.folders[which], left.source, REPO=str(moved))


def test_a_place_may_be_named_from_where_one_is(left: Left, machine: Machine, tmp_path: Path) -> None:
    """Red without $PWD: borg would look for it in the folder into which it restores."""
    moved = elsewhere(left.repositories["local"], tmp_path)
    assert machine.restored(left.folders["local"], left.source, REPO=os.path.relpath(moved, machine.home))


@pytest.mark.parametrize("damage", ["no key", "another key", "no config"])
def test_a_repository_that_has_lost_its_key_gets_it_back(
    left: Left, machine: Machine, tmp_path: Path, damage: str
) -> None:
    kit, moved = left.folders["local"], elsewhere(left.repositories["local"], tmp_path)
    destroy(moved / "config", damage)
    assert machine.run(kit, REPO=str(moved)).returncode != 0
    mended = machine.run(kit, "key", REPO=str(moved))
    assert mended.returncode == 0, mended.stderr
    assert machine.restored(kit, left.source, REPO=str(moved))


def destroy(config: Path, damage: str) -> None:
    text = config.read_text()
    key = re.compile(r"^key = .*\n(?:\s+\S.*\n)*", re.MULTILINE)
    assert key.search(text)
    if damage == "no config":
        config.unlink()
    else:
        config.write_text(key.sub("key = hqlhbGdvcml0aG0=\n" if damage == "another key" else "", text))


def test_at_the_account_itself_the_key_can_be_put_back(left: Left, machine: Machine) -> None:
    config = left.repositories["account"] / "config"
    kept = config.read_bytes()
    destroy(config, "no key")
    try:
        env = {"SSH_KEY": str(left.own_key)}
        assert machine.run(left.folders["account"], **env).returncode != 0
        mended = machine.run(left.folders["account"], "key", **env)
        assert mended.returncode == 0, mended.stderr
        assert machine.restored(left.folders["account"], left.source, **env)
    finally:
        config.write_bytes(kept)


def test_the_commands_on_the_printed_page_do_it_too(left: Left, machine: Machine, tmp_path: Path) -> None:
    """With what somebody types or scans from it: the passphrase, and the key into key.txt."""
    page, moved = left.pages["local"], elsewhere(left.repositories["local"], tmp_path)
    destroy(moved / "config", "no key")
    block = re.search(r"<pre class=\"mono\">(borg key import .*?)</pre>", page, re.DOTALL)
    key = re.search(r"BORG_KEY [^<]+", page)
    passphrase = re.search(r'<p class="mono">([^<]+)</p>', page)
    assert block and key and passphrase
    (machine.home / "key.txt").write_text(html.unescape(key[0]))
    env = {"PATH": str(machine.bin), "HOME": str(machine.home), "BORG_PASSPHRASE": html.unescape(passphrase[1])}
    words = html.unescape(block[1]).replace(str(left.repositories["local"]), "../it\\'s\\ moved/repo")
    importing, listing, restoring = words.strip().splitlines()
    for command in (importing, listing):
        done = subprocess.run(
            ["sh", "-c", command], cwd=machine.home, env=env, capture_output=True, text=True, check=True
        )
    archive = done.stdout.split()[0]
    restoring = restoring.replace("::ARCHIVE", f"::{archive}").replace("../it", "../../it")
    subprocess.run(["sh", "-c", restoring], cwd=machine.home, env=env, check=True)
    assert same_tree(left.source, machine.home / "restored" / left.source.relative_to("/"))


# --- What a tired person does -----------------------------------------------------------------------


def test_it_does_not_restore_over_what_is_there(left: Left, machine: Machine) -> None:
    (machine.home / "there").mkdir()
    (machine.home / "there" / "mine").write_text("mine")
    done = machine.run(left.folders["local"], "web-1-local", "there")
    assert done.returncode == 2
    assert "there is not empty" in done.stderr


def test_settings_of_the_shell_do_not_get_in_the_way(left: Left, machine: Machine, tmp_path: Path) -> None:
    """Red without `unset`: borg would take that passphrase."""
    odd = {"BORG_PASSPHRASE": "another", "BORG_PASSCOMMAND": "false", "BORG_KEY_FILE": "/nowhere", "BORG_RSH": "false"}
    assert machine.restored(left.folders["local"], left.source, **odd)


def test_a_lock_of_the_dead_does_not_keep_it_waiting(left: Left, machine: Machine, tmp_path: Path) -> None:
    """Red without --bypass-lock: phpBorg's machine burned down in the middle of a backup."""
    moved = elsewhere(left.repositories["local"], tmp_path)
    (moved / "lock.exclusive").mkdir()
    (moved / "lock.exclusive" / "burned@1.1-0").touch()
    assert machine.restored(left.folders["local"], left.source, REPO=str(moved))


def test_the_passphrase_is_in_no_command_line(left: Left, machine: Machine, tmp_path: Path) -> None:
    passphrase = (left.folders["local"] / "passphrase.txt").read_text().strip()
    seen = tmp_path / "seen"
    real = (machine.bin / "borg").readlink()
    (machine.bin / "borg").unlink()
    (machine.bin / "borg").write_text(
        f'#!/bin/sh\n/bin/cat /proc/$$/cmdline /proc/$$/environ >>"{seen}"\nexec {real} "$@"\n'
    )
    (machine.bin / "borg").chmod(0o755)
    assert machine.restored(left.folders["local"], left.source)
    assert len(passphrase) > 30
    assert "BORG_PASSPHRASE_FD=3" in seen.read_text() and passphrase not in seen.read_text()


def test_help_is_its_own_first_lines(left: Left, machine: Machine) -> None:
    told = machine.run(left.folders["local"], "--help").stdout
    assert "sh restore.sh ARCHIVE [TARGET]" in told and "set -eu" not in told

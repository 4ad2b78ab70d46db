"""The same story for a program: httpx from the login to a restored file, and what must not be seen meanwhile."""

import getpass
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from backups.zipping import spelled
from phpborg.embedded import Sshd
from servers.ssh.remote import HostKey
from tests.e2e.conftest import Site, finished, until

pytestmark = pytest.mark.xdist_group("site")


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    with closing(site.client()) as client:
        yield client


@pytest.fixture(scope="module")
def source(short_dir: Path) -> Path:
    folder = short_dir / "api source"
    folder.mkdir()
    for number in range(4):
        (folder / f"noise-{number}.bin").write_bytes(os.urandom(10_000_000))
    (folder / "plain.txt").write_text("hello\n")
    os.link(folder / "plain.txt", folder / "the same.txt")
    (folder / os.fsdecode(b"not utf-8 \xff.txt")).write_bytes(b"bytes")
    return folder


def ok(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def server(client: httpx.Client, sshd: Sshd) -> Any:
    """A server as a program registers one: added, seen, confirmed, tested."""
    asked = {
        "name": "api-1",
        "address": "127.0.0.1",
        "port": sshd.port,
        "username": getpass.getuser(),
        "use_sudo": False,
    }
    server = ok(client.post("/servers", json=asked))
    with sshd.authorized_keys.open("a") as file:
        file.write(f"restrict {server['public_key']}\n")
    path = f"/servers/{server['id']}"
    first = finished(client, ok(client.post(f"{path}/test")))
    assert first["result"]["ok"] is False
    own = HostKey.parse(sshd.host_key.with_suffix(".pub").read_text()).fingerprint
    assert ok(client.get(path))["fingerprint_seen"] == own
    assert client.post(f"{path}/host-key", json={"fingerprint": "SHA256:wrong"}).status_code == 400
    ok(client.post(f"{path}/host-key", json={"fingerprint": own}))
    assert finished(client, ok(client.post(f"{path}/test")))["result"]["ok"] is True
    return ok(client.get(path))


@pytest.fixture(scope="module")
def plan(client: httpx.Client, server: Any, source: Path, short_dir: Path) -> Any:
    (short_dir / "api-pool").mkdir()
    pool = ok(client.post("/storage-pools", json={"name": "api", "path": str(short_dir / "api-pool")}))
    repository = ok(client.post("/repositories", json={"name": "api-1", "pool": pool["id"], "server": server["id"]}))
    until(lambda: ok(client.get(f"/repositories/{repository['id']}"))["state"] == "ready", seconds=60)
    parameters = {"paths": [str(source)]}
    saved = ok(
        client.post("/sources", json={"name": "s", "server": server["id"], "kind": "files", "parameters": parameters})
    )
    asked = {"name": "p", "server": server["id"], "repository": repository["id"], "sources": [saved["id"]]}
    return ok(client.post("/plans", json={**asked, "upload_kib_per_second": 8000}))


@pytest.fixture(scope="module")
def running(client: httpx.Client, server: Any, plan: Any) -> Any:
    """A backup in the middle of its transfer."""
    (job,) = ok(client.post("/backups", json={"server_id": server["id"], "plan_id": plan["id"]}))
    until(lambda: ok(client.get(f"/jobs/{job['id']}"))["progress"].get("original", 0) > 0, seconds=60)
    return job


def texts_of_processes() -> Iterator[bytes]:
    """Command line and environment of everything that runs on this machine and lets us look."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            for name in ("cmdline", "environ"):
                try:
                    yield (process / name).read_bytes()
                except OSError:
                    continue


def texts_of_redis(site: Site) -> Iterator[bytes]:
    with redis.Redis(unix_socket_path=str(site.data_dir / "redis.sock")) as connection:
        for key in connection.scan_iter():
            yield bytes(key)
            yield connection.dump(key) or b""  # what Redis holds, whatever its type


def test_while_a_backup_runs_its_passphrase_and_keys_are_nowhere(
    site: Site, client: httpx.Client, running: Any
) -> None:
    with closing(sqlite3.connect(site.data_dir / "phpborg.sqlite3")) as database:
        rows = database.execute(
            "SELECT passphrase_encrypted, key_encrypted, private_key_encrypted FROM backups_repository r"
            " JOIN servers_server s ON s.id = r.server_id WHERE r.id = ?", (running["repository"],),
        )  # fmt: skip
        passphrase, key, private_key = (site.decrypt(token) for token in rows.fetchone())
    key_lines = key.splitlines()[1:3]
    secrets = [text.encode() for text in (passphrase, *key_lines, *private_key.splitlines()[1:3])]
    assert all(len(secret) > 20 for secret in secrets)

    places = {
        "processes": list(texts_of_processes()),
        "redis": list(texts_of_redis(site)),
        "log": [site.serve.log.read_bytes() if site.serve.log else b""],
        "database": [path.read_bytes() for path in site.data_dir.glob("phpborg.sqlite3*")],
        "api": [client.get(path).content for path in (
            f"/jobs/{running['id']}", f"/jobs/{running['id']}/log", "/logs", "/servers", "/repositories", "/archives")],
    }  # fmt: skip
    assert any(b"borg\0create" in text for text in places["processes"]), "no borg is running: the test looks at nothing"
    assert ok(client.get(f"/jobs/{running['id']}"))["status"] == "running"
    found = [place for place, texts in places.items() for text in texts for secret in secrets if secret in text]
    assert found == []


def test_a_program_gets_every_byte_back(client: httpx.Client, running: Any, source: Path, tmp_path: Path) -> None:
    job = finished(client, running)
    archive = ok(client.get(f"/archives/{job['result']['archive']}"))
    assert archive["files"] == 6 and archive["suspicion"] == ""  # borg counts a hard link once
    until(lambda: client.get(f"/archives/{archive['id']}/files").status_code == 200)

    folder = ok(client.get(f"/archives/{archive['id']}/files", params={"path": str(source)}))
    names = {item["name"]: item for item in folder["results"]}
    assert folder["count"] == 7 and "not utf-8 \\xff.txt" in names
    for path in sorted(source.iterdir()):
        entry = names[os.fsencode(path.name).decode("utf-8", "backslashreplace")]
        answer = client.get(f"/archives/{archive['id']}/download", params={"entry": entry["id"]})
        assert answer.content == path.read_bytes(), path.name

    target = tmp_path / "a directory with spaces; $(touch never) 'quoted'"
    finished(client, ok(client.post(f"/archives/{archive['id']}/restore", json={"directory": str(target)})))
    for path in source.iterdir():
        assert (target / path.relative_to("/")).read_bytes() == path.read_bytes()
    assert not list(Path.cwd().glob("never*")) and not (tmp_path / "never").exists()


def test_an_interrupted_download_goes_on_where_it_was(
    client: httpx.Client, running: Any, source: Path, site: Site, tmp_path: Path
) -> None:
    """Red when a range is not heeded: curl would refuse, or write the beginning once more."""
    archive = finished(client, running)["result"]["archive"]
    until(lambda: client.get(f"/archives/{archive}/files").status_code == 200)
    asked, file = {"path": str(source / "noise-1.bin")}, tmp_path / "noise"
    with client.stream("GET", f"/archives/{archive}/download", params=asked) as answer, file.open("wb") as out:
        for piece in answer.iter_raw():
            out.write(piece)
            if out.tell() > 1_000_000:
                break
    assert 1_000_000 < file.stat().st_size < 10_000_000
    words = ["curl", "-sSfG", "-C", "-", "-o", str(file), "-H", f"Authorization: {client.headers['Authorization']}"]
    words += ["--data-urlencode", f"path={asked['path']}", f"{site.url}/api/archives/{archive}/download"]
    subprocess.run(words, check=True)
    assert file.read_bytes() == (source / "noise-1.bin").read_bytes()


@pytest.mark.parametrize(("packing", "unpack"), [("tar.zst", ["tar", "--zstd", "-xf"]), ("zip", ["unzip", "-q"])])
def test_a_program_gets_a_folder_as_it_likes(
    client: httpx.Client, running: Any, source: Path, tmp_path: Path, packing: str, unpack: list[str]
) -> None:
    archive = finished(client, running)["result"]["archive"]
    until(lambda: client.get(f"/archives/{archive}/files").status_code == 200)
    answer = client.get(f"/archives/{archive}/download", params={"path": str(source), "format": packing})
    file = tmp_path / f"folder.{packing}"
    file.write_bytes(answer.content)
    subprocess.run([*unpack, str(file)], cwd=tmp_path, check=True)
    for path in source.iterdir():
        name = spelled(path.name) if packing == "zip" else path.name
        assert (tmp_path / source.relative_to("/") / name).read_bytes() == path.read_bytes(), path.name


def test_a_second_backup_takes_almost_nothing_more(client: httpx.Client, running: Any, plan: Any) -> None:
    finished(client, running)
    (job,) = ok(client.post("/backups", json={"server_id": plan["server"], "plan_id": plan["id"]}))
    result = finished(client, job)["result"]
    assert result["files"] == 6
    assert result["deduplicated"] < 100_000


def test_pressed_twice_it_runs_once(client: httpx.Client, running: Any, plan: Any) -> None:
    finished(client, running)
    asked = {"server_id": plan["server"], "plan_id": plan["id"]}
    first, second = client.post("/backups", json=asked), client.post("/backups", json=asked)
    assert (first.status_code, second.status_code) == (202, 409)
    assert "already" in second.json()["error"]["message"]
    finished(client, first.json()[0])


def test_a_cancelled_backup_ends_and_leaves_no_lock(
    client: httpx.Client, running: Any, plan: Any, source: Path
) -> None:
    finished(client, running)
    (source / "more.bin").write_bytes(os.urandom(80_000_000))
    asked = {"server_id": plan["server"], "plan_id": plan["id"]}
    (job,) = ok(client.post("/backups", json=asked))
    until(lambda: ok(client.get(f"/jobs/{job['id']}"))["progress"].get("original", 0) > 0, seconds=60)
    assert client.delete(f"/jobs/{job['id']}").status_code == 202
    until(lambda: ok(client.get(f"/jobs/{job['id']}"))["status"] == "cancelled", seconds=15)
    assert client.delete(f"/jobs/{job['id']}").status_code == 409
    (source / "more.bin").unlink()
    (again,) = ok(client.post("/backups", json=asked))
    finished(client, again)  # it would wait for a lock for a minute, and then fail

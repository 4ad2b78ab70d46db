"""The whole story for a client that openapi-python-client makes of the schema: nothing of ours but what that says."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import call_command

from phpborg.embedded import Sshd
from servers.ssh.remote import HostKey
from tests.e2e.conftest import ADMIN_PASSWORD, Site, until

pytestmark = pytest.mark.xdist_group("site")

PACKAGE = "generated_client"


@pytest.fixture(scope="module")
def package(short_dir: Path) -> Iterator[ModuleType]:
    schema, folder = short_dir / "schema.json", short_dir / "generated"
    call_command("spectacular", format="openapi-json", file=str(schema))
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text("post_hooks: []\n")  # by itself it would also want to format its code
    argv = [
        str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--path", str(schema),
        "--output-path", str(folder / PACKAGE), "--meta", "none", "--config", str(config),
    ]  # fmt: skip
    made = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (made.returncode, "pieces may be missing" in made.stdout) == (0, False), made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield import_module(PACKAGE)
    sys.path.remove(str(folder))


class Program:
    """Calls what the client has for an operation, as `servers.create`."""

    def __init__(self, url: str, package: ModuleType) -> None:
        self.models: Any = import_module(f"{PACKAGE}.models")
        self._client_class = package.AuthenticatedClient
        self._url = url
        self.client = package.Client(url)

    def operation(self, name: str) -> Any:
        group, _, action = name.partition(".")
        return import_module(f"{PACKAGE}.api.{group}.{group}_{action}")

    def call(self, name: str, *path: Any, **sent: Any) -> Any:
        answer = self.operation(name).sync_detailed(*path, client=self.client, **sent)
        assert answer.status_code < 300, answer.content
        return answer.parsed

    def log_in(self) -> None:
        body = self.models.LoginRequest(username="admin", password=ADMIN_PASSWORD)
        with self.client:
            pair = self.call("auth.login_create", body=body)
        self.client = self._client_class(self._url, token=pair.access_token, timeout=60)

    def follow(self, job: Any) -> list[str]:
        """The states of a job until its end, as the event stream tells them; from the first one on."""
        request = self.operation("sse.jobs_list")._get_kwargs(job=job.id, last_event_id=0)
        states: list[str] = []
        with self.client.get_httpx_client().stream(**request) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    states.append(json.loads(line.removeprefix("data: "))["status"])
                    if states[-1] in ("completed", "failed", "cancelled"):
                        return states
        raise AssertionError(f"The stream ended after {states}.")

    def done(self, job: Any) -> Any:
        """The job, once it has ended well."""
        states = self.follow(job)
        ended = self.call("jobs.retrieve", job.id)
        assert states[-1] == "completed", (ended.error, ended.advice)
        return ended


def test_from_the_login_to_a_restored_file(
    site: Site, sshd: Sshd, package: ModuleType, short_dir: Path, tmp_path: Path
) -> None:
    """Red when an operation, a field or a type of the story is not as the schema says."""
    program = Program(site.url, package)
    program.log_in()
    with program.client:
        the_story(program, sshd, short_dir / "made-pool", tmp_path)


def the_story(program: Program, sshd: Sshd, folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    folder.mkdir()
    source.mkdir()
    (source / "letter.txt").write_text("Dear reader\n")
    assert program.call("auth.me_retrieve").username == "admin"
    server = registered(program, sshd)
    archive = backed_up(program, planned(program, server, folder, source))
    restored_from(program, archive, source / "letter.txt", tmp_path / "back")
    shown = program.call("stats.server_retrieve", server.id)
    assert (shown.archives, shown.state) == (1, "protected")
    assert program.call("stats.dashboard_retrieve").archives >= 1


def registered(program: Program, sshd: Sshd) -> Any:
    """A server: added, seen, confirmed, tested."""
    models, call = program.models, program.call
    asked = models.ServerRequest(
        name="made-1", address="127.0.0.1", port=sshd.port, username=getpass.getuser(), use_sudo=False, tags=["e2e"]
    )
    server = call("servers.create", body=asked, idempotency_key="the first one")
    assert call("servers.create", body=asked, idempotency_key="the first one").id == server.id
    with sshd.authorized_keys.open("a") as file:
        file.write(f"restrict {server.public_key}\n")
    program.done(call("servers.test_create", server.id))
    own = HostKey.parse(sshd.host_key.with_suffix(".pub").read_text()).fingerprint
    assert call("servers.retrieve", server.id).fingerprint_seen == own
    call("servers.host_key_create", server.id, body=models.HostKeyRequest(fingerprint=own))
    tested = program.done(call("servers.test_create", server.id))
    assert tested.result["ok"] is True
    return server


def planned(program: Program, server: Any, folder: Path, source: Path) -> Any:
    """A plan, with all that it needs."""
    models, call = program.models, program.call
    pool = call("storage_pools.create", body=models.StoragePoolRequest(name="made", path=str(folder)))
    repository = call(
        "repositories.create", body=models.RepositoryRequest(name="made-1", pool=pool.id, server=server.id)
    )
    until(lambda: call("repositories.retrieve", repository.id).state == "ready", seconds=60)
    parameters = models.SourceRequestParameters.from_dict({"paths": [str(source)]})
    saved = call(
        "sources.create", body=models.SourceRequest(name="s", server=server.id, kind="files", parameters=parameters)
    )
    asked = models.PlanRequest(
        name="nightly", server=server.id, repository=repository.id, sources=[saved.id], schedule="0 2 * * *"
    )
    plan = call("plans.create", body=asked)
    assert len(plan.next_runs) == 5
    return plan


def backed_up(program: Program, plan: Any) -> Any:
    """The archive of one run, once it can be browsed."""
    models, call = program.models, program.call
    (job,) = call("backups.create", body=models.RunBackupRequest(server_id=plan.server, plan_id=plan.id))
    assert program.follow(job)[0] in ("pending", "running")
    backup = until(lambda: ended(call("backups.retrieve", job.id)), seconds=60)
    assert backup.status == "completed", backup.error
    assert len(call("jobs.log_list", job.id)) >= 3
    archive = call("archives.retrieve", backup.archive)
    assert (archive.files, archive.plan) == (1, plan.id)
    until(lambda: call("archives.retrieve", archive.id).indexed_at, seconds=60)
    return archive


def restored_from(program: Program, archive: Any, file: Path, target: Path) -> None:
    listed = program.call("archives.files_retrieve", archive.id, path=str(file.parent))
    assert [(item.name, item.size) for item in listed.results] == [(file.name, file.stat().st_size)]
    body = program.models.RestoreRequest(directory=str(target), paths=[str(file)])
    program.done(program.call("archives.restore_create", archive.id, body=body))
    assert (target / file.relative_to("/")).read_bytes() == file.read_bytes()


def ended(backup: Any) -> Any:
    return backup if backup.status in ("completed", "failed", "cancelled") else None

"""Real processes on the tests' database and Redis, slow jobs for them, a Redis to stop, and a plan of a real server."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from accounts import encryption
from backups.models import Archive, Plan, Source
from jobs import queue
from jobs.models import Job
from phpborg.embedded import Child, RedisServer, Sshd, answers, free_port, manage, wait_until
from phpborg.stack import web_command
from servers.models import Server
from tests.jobs.conftest import environment
from tests.small import SmallRepository
from tests.ssh.watching import processes_with

PATIENCE_SECONDS = 40  # for a condition that is awaited; nothing waits that long when all is well

Start = Callable[..., Child]


class Web(Child):
    """uvicorn, as `serve` starts it, on a port that stays the same."""

    def __init__(self, log: Path, **env: str) -> None:
        encryption.verify()
        self.port = free_port()
        argv = [str(self.port) if word == str(settings.PORT) else word for word in web_command()]
        settings_module = {"DJANGO_SETTINGS_MODULE": "tests.faults.settings"}
        super().__init__("web", argv, env={**environment(), **settings_module, **env}, log=log)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        self.start()
        wait_until(lambda: answers(self.port), seconds=PATIENCE_SECONDS, what="The web process")


Serve = Callable[..., Web]


@pytest.fixture
def serve(tmp_path: Path, transactional_db: None) -> Iterator[Serve]:
    """Starts a web process; whatever still runs at the end is killed."""
    with ExitStack() as stack:

        def served(**env: str) -> Web:
            web = Web(tmp_path / f"web-{len(os.listdir(tmp_path))}.log", **env)
            stack.callback(web.kill)
            web.up()
            return web

        yield served


@pytest.fixture
def web(serve: Serve) -> Web:
    return serve()


@pytest.fixture
def outage(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The tests' Redis, to be stopped; it runs again afterwards. It keeps nothing on disk: it comes back empty."""
    yield redis_server
    if not redis_server.is_alive:
        redis_server.start()


@pytest.fixture
def start(tmp_path: Path, transactional_db: None) -> Iterator[Start]:
    """Starts a command of manage.py as a process; whatever still runs at the end is killed."""
    encryption.verify()
    with ExitStack() as stack:

        def started(*words: str, **env: str) -> Child:
            log = tmp_path / f"{words[0]}-{len(os.listdir(tmp_path))}.log"
            settings_module = {"DJANGO_SETTINGS_MODULE": "tests.faults.settings"}
            child = manage(words[0], *words, env={**environment(), **settings_module, **env}, log=log)
            stack.callback(child.kill)
            return child.start()

        yield started
        for job in Job.objects.running():
            with_pid(job, signal.SIGKILL)


@pytest.fixture
def slow(tmp_path: Path) -> Callable[..., Job]:
    """Writes a slow job's row and rings for it."""

    def enqueued(*, hold: str | None = None, **values: Any) -> Job:
        folder = tmp_path / f"job-{Job.objects.count()}"
        folder.mkdir()
        job = Job.objects.create(type="slow", payload={"folder": str(folder), "hold": hold}, **values)
        queue.ring(job)
        return job

    return enqueued


# --- A plan of a real server ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """Of whoever logs in to the server; short, and others may enter."""
    folder = Path(tempfile.mkdtemp(prefix="phpborg-home-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sshd(home: Path) -> Iterator[Sshd]:
    with Sshd(home / "sshd", options=[f"SetEnv HOME={home}"]) as sshd:
        yield sshd


@pytest.fixture
def real(plan: Plan, kept: SmallRepository, sshd: Sshd, home: Path, tmp_path: Path) -> Plan:
    """The plan, of a server that is there; no borg but ours has met the repository, a real one with three archives."""
    for folder in (home / ".cache", home / ".config", settings.DATA_DIR / "borg"):
        shutil.rmtree(folder, ignore_errors=True)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"file-{number}").write_bytes(os.urandom(200_000))
    Source.objects.update(parameters={"paths": [str(source)]})
    point(plan.server, sshd)
    return again(plan)


def point(server: Server, sshd: Sshd, **changes: Any) -> None:
    """Let `server` be what answers at `sshd`: its key confirmed, ours let in."""
    host_key = " ".join(sshd.host_key.with_suffix(".pub").read_text().split()[:2])
    values = {
        "address": "127.0.0.1", "port": sshd.port, "username": getpass.getuser(), "use_sudo": False,
        "host_key": host_key, "host_key_seen": host_key, "borg_path": shutil.which("borg"),
    }  # fmt: skip
    Server.objects.filter(pk=server.pk).update(**(values | changes))
    sshd.authorized_keys.write_text(f"restrict {server.public_key}\n")


def again(plan: Plan) -> Plan:
    found: Plan = Plan.objects.with_scope().get(pk=plan.pk)
    return found


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def source_of(plan: Plan) -> Path:
    return Path(plan.sources.get().parameters["paths"][0])


def new_archives() -> list[Archive]:
    """Those that were not there from the start, oldest first."""
    return list(Archive.objects.exclude(name__in=("one", "two", "three")).order_by("id"))


def borgs_of(plan: Plan, word: str = "") -> list[int]:
    """The borg processes of both ends; `word` is one of their command lines."""
    return [pid for pid in processes_with(plan.repository.path) if pid != os.getpid() and has_word(pid, word)]


def has_word(pid: int, word: str) -> bool:
    with suppress(OSError):
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def is_transferring(job: Job) -> bool:
    """Whether borg was started; of its two ends, `serve` is there first."""
    job.refresh_from_db()
    return bool(job.progress.get("phases", [{}])[-1].get("name") == "transfer")


def session_of(plan: Plan) -> int:
    """The sshd process of the session in which the server's borg runs."""
    pid = borgs_of(plan, "create")[0]
    while not has_word(pid, "sshd:"):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


# --- What happens to jobs ---------------------------------------------------------------------------


def let(job: Job, what: str) -> None:
    """Let an attempt `end-1`, or `fail-1`."""
    (Path(job.payload["folder"]) / what).touch()


def wait_for(job: Job, status: str, *, attempt: int | None = None) -> Job:
    """Wait until the row is as told and return it; a running one has said that it has begun."""

    def is_there() -> bool:
        job.refresh_from_db()
        if attempt is not None and job.attempts != attempt:
            return False
        begun = status != "running" or job.lines.filter(attempt=job.attempts).exists()
        return job.status == status and begun

    try:
        wait_until(is_there, seconds=PATIENCE_SECONDS, what=f"The job, {status},")
    except Exception:
        print(vars(job))
        raise
    return job


def pid_of(job: Job) -> int:
    """The process that does the job: a child of the worker's."""
    return int(job.worker.rpartition(":")[2])


def with_pid(job: Job, number: signal.Signals) -> int:
    pid = pid_of(job)
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return pid


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def log_of(job: Job, attempt: int) -> list[str]:
    lines = job.lines.filter(attempt=attempt).order_by("number").values_list("message", flat=True)
    return [line for line in lines if line != "Still here."]


def says(child: Child, text: str, *, times: int = 1) -> bool:
    assert child.log
    return child.log.read_text(errors="replace").count(text) >= times

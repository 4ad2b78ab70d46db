"""Real worker and scheduler processes on the tests' database and Redis, and slow jobs for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from accounts import encryption
from jobs import queue
from jobs.models import Job
from phpborg.embedded import Child, manage, wait_until
from tests.jobs.conftest import environment

PATIENCE_SECONDS = 40  # for a condition that is awaited; nothing waits that long when all is well

Start = Callable[..., Child]


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

"""The worker command: a process that does what was rung for."""

import socket
from contextlib import closing
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from accounts import encryption
from jobs import queue
from jobs.models import Job
from servers.models import Server
from servers.runners import test as connection_test
from tests.jobs.conftest import child, row, rung

BURST_SECONDS = 60


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The queues that the command would serve; nothing is served."""
    asked: list[list[str]] = []

    class Worker:
        def work(self, **options: Any) -> None: ...

    def get_worker(*names: str, **options: Any) -> Worker:
        assert options["serializer"] == "rq.serializers.JSONSerializer"
        asked.append(list(names))
        return Worker()

    monkeypatch.setattr("django_rq.get_worker", get_worker)
    monkeypatch.setattr("jobs.management.commands.worker.connections.close_all", lambda: None)
    return asked


def test_it_serves_every_place_urgent_jobs_first(db: None, served: list[list[str]], settings: Any) -> None:
    settings.WORKER_PLACES = ["default", "cellar"]
    call_command("worker", "default", "cellar", burst=True)
    assert served == [
        ["default.high", "cellar.high", "default.normal", "cellar.normal", "default.low", "cellar.low"],
    ]


def test_what_goes_wrong_at_its_start_does_not_keep_it_from_its_jobs(
    db: None, served: list[list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def breaks() -> None:
        raise OSError("No such device")

    monkeypatch.setattr("jobs.periodic.at_start", [breaks, lambda: done.append("after it")])
    call_command("worker", burst=True)
    assert done == ["after it"]
    assert len(served) == 1
    assert "breaks failed at the worker's start." in caplog.text


def test_it_serves_only_the_places_that_it_is_told(db: None, served: list[list[str]], settings: Any) -> None:
    settings.WORKER_PLACES = ["default", "cellar"]
    call_command("worker", "cellar", burst=True)
    assert served == [["cellar.high", "cellar.normal", "cellar.low"]]


def test_it_refuses_a_place_that_nobody_named(db: None, served: list[list[str]]) -> None:
    with pytest.raises(CommandError, match=r"WORKER_PLACES does not name attic."):
        call_command("worker", "attic")
    assert served == []


@pytest.fixture
def deaf(server: Server) -> Server:
    """A server at an address where nobody listens."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        Server.objects.update(address="127.0.0.1", port=sock.getsockname()[1])
    return Server.objects.get()


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_it_does_what_was_rung_for_and_ends_when_nothing_is_left(deaf: Server, bell: redis.Redis) -> None:
    encryption.verify()
    job = connection_test.TestConnection.enqueue(deaf)
    unknown = row(type="gone")
    queue.ring(unknown)
    with child("worker", "--burst") as process:
        assert process.process
        assert process.process.wait(BURST_SECONDS) == 0, process.tail()
    job.refresh_from_db()
    unknown.refresh_from_db()
    assert (job.status, job.cause, job.attempts) == ("failed", "network", 1)
    assert job.error
    assert job.lines.exists()
    assert job.worker.startswith(f"{socket.gethostname()}:")
    assert unknown.error == "This worker does not know the job type “gone”."
    assert rung() == {}


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_a_worker_with_another_key_than_the_database_ends_in_words(bell: redis.Redis, settings: Any) -> None:
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    encryption.verify()
    job = row()
    queue.ring(job)
    with child("worker", "--burst") as process:
        assert process.process
        assert process.process.wait(BURST_SECONDS) == 1
    assert "The encryption key does not fit the database" in process.tail()
    assert Job.objects.get().status == "pending"

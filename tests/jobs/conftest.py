"""A job type that does what a test says, and ways to look into Redis and to take it away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import redis
from django.conf import settings
from django.db import connection
from django_eventstream import eventstream
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.access import Permission
from jobs import queue
from jobs.errors import Failure
from jobs.models import Job
from jobs.runner import JobRunner
from phpborg.embedded import Child, manage
from servers.models import Server

Act = Callable[[Any], dict[str, Any]]


class Unplugged(Failure):
    advice = "Plug it in."
    cause = "network"  # type: ignore[assignment]


class Probe(JobRunner[Server]):
    """Abstract here: the fixture `probe` makes the type that is registered, for one test."""

    label: ClassVar[Any] = "Probe"
    model = Server
    permission = Permission.BACKUP_CREATE
    act: ClassVar[Act]  # what `run` does
    hold: ClassVar[str | None]
    seen_by_ended: ClassVar[list[tuple[str, bool]]]  # status, and whether it was asked within a transaction

    def run(self) -> dict[str, Any]:
        return type(self).act(self)

    @classmethod
    def holds(cls, job: Job) -> str | None:
        return cls.hold

    @classmethod
    def scope(cls, subject: Server) -> dict[str, Any]:
        return {"server": subject}

    @classmethod
    def ended(cls, job: Job) -> None:
        cls.seen_by_ended.append((job.status, connection.in_atomic_block))


def done(runner: Any) -> dict[str, Any]:
    return {"done": True}


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> type[Probe]:
    """The job type `probe`, registered while the test runs."""
    monkeypatch.setattr(JobRunner, "registry", dict(JobRunner.registry))

    class RegisteredProbe(Probe):
        type = "probe"
        act: ClassVar[Act] = done
        hold = None
        seen_by_ended: ClassVar[list[tuple[str, bool]]] = []

    return RegisteredProbe


def row(**values: Any) -> Job:
    """A job's row, without anything that rings for it."""
    return Job.objects.create(**{"type": "probe", **values})


def running(**values: Any) -> Job:
    """A job that a worker has claimed."""
    job = row(**values)
    assert job.claim("web:1", holds=None)
    return job


def raising(error: BaseException) -> Act:
    def act(runner: Any) -> dict[str, Any]:
        raise error

    return act


@pytest.fixture
def bell() -> Iterator[redis.Redis]:
    """The tests' Redis, empty."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def news(bell: redis.Redis) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Calling it returns the events that were published since the last call."""
    with bell.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe("events_channel")
        pubsub.get_message(timeout=1)  # its own subscription

        def published() -> list[dict[str, Any]]:
            events = []
            while message := pubsub.get_message(timeout=0.1):
                event = json.loads(message["data"])
                events.append({"channel": event["channel"], "event": event["event_type"], **json.loads(event["data"])})
            return events

        yield published


def rung() -> dict[str, list[str]]:
    """The jobs that wait in Redis, by queue."""
    found = {name: queue.rung_in(queue.queue_named(name)) for name in settings.RQ_QUEUES}
    return {name: ids for name, ids in found.items() if ids}


@pytest.fixture
def dead_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where Redis should be; the clients do not try for long."""
    gone = redis.Redis(unix_socket_path=f"{settings.DATA_DIR}/gone.sock", retry=Retry(NoBackoff(), 0))
    monkeypatch.setattr(eventstream, "redis_client", gone)
    monkeypatch.setattr(queue, "connection", lambda: gone)


def child(*words: str) -> Child:
    """A command of manage.py on the tests' own database and Redis."""
    return manage(words[0], *words, env=environment(), log=settings.DATA_DIR / f"{words[0]}.log")


def environment() -> dict[str, str]:
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        url = f"sqlite:///{database['NAME']}"
    else:
        url = f"mysql://root@/{database['NAME']}?unix_socket={database['OPTIONS']['unix_socket']}"
    return {
        "DJANGO_SETTINGS_MODULE": "phpborg.settings", "PHPBORG_DATA_DIR": str(settings.DATA_DIR),
        "DATABASE_URL": url,
    }  # fmt: skip

"""GET /events: the event stream of a page."""

import asyncio
import contextlib
from typing import Any, Self

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.test import AsyncClient, Client
from django_eventstream import views as eventstream_views

from accounts.models import User
from jobs import live
from jobs.models import Job
from tests.jobs.conftest import row

PATIENCE_SECONDS = 20


def test_nobody_is_sent_to_the_login(client: Client, db: None) -> None:
    assert client.get("/events")["Location"].startswith("/login")


def test_a_user_without_the_permission_is_refused(as_viewer: Client, viewer: User) -> None:
    viewer.groups.set([Group.objects.create(name="nobody")])
    assert as_viewer.get("/events").status_code == 403


def test_other_methods_are_refused(as_viewer: Client) -> None:
    assert as_viewer.post("/events").status_code == 405


@pytest.mark.parametrize("job", ["x", "", "7", "00000000-0000-0000-0000-00000000000g", "jobs", "../jobs"])
def test_a_job_that_is_no_uuid_is_404(as_viewer: Client, job: str) -> None:
    assert as_viewer.get("/events", {"job": job}).status_code == 404


def test_a_viewer_gets_a_stream_that_nobody_keeps(as_viewer: Client) -> None:
    answer = as_viewer.get("/events")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/event-stream")
    assert answer["Cache-Control"] == "no-cache"
    assert answer["X-Accel-Buffering"] == "no"


# --- What is in it --------------------------------------------------------------------------------


class Reader:
    """A browser that reads a stream, and leaves when the block ends, as a browser does: without a word."""

    def __init__(self, client: AsyncClient, path: str) -> None:
        self._client, self._path = client, path
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def _read(self) -> None:
        answer: Any = await self._client.get(self._path)
        async for piece in answer.streaming_content:
            self._pieces.put_nowait(piece)

    async def next(self) -> bytes:
        return await asyncio.wait_for(self._pieces.get(), PATIENCE_SECONDS)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        assert b"event: stream-open" in await self.next()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


async def nobody_listens() -> None:
    """Wait until the process has forgotten every stream."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while eventstream_views.get_listener_manager().listeners_by_channel:
            await asyncio.sleep(0.01)


def signed_in(user: User) -> AsyncClient:
    client = AsyncClient()
    client.force_login(user)
    return client


def publish(channel: str, event: str, data: str) -> None:
    """What the process's listener does with a message from Redis."""
    eventstream_views.get_listener_manager().redis_listener._hand_out(channel, event, data)


@pytest.fixture
def _no_redis_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream must not start a listener that outlives the test's event loop."""
    monkeypatch.setattr(eventstream_views.get_listener_manager(), "redis_listener_started", True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_no_redis_listener")
def test_a_page_hears_of_all_jobs_and_of_its_own(viewer: User) -> None:
    job, other = row(), row()
    client = signed_in(viewer)

    async def story() -> list[bytes]:
        async with Reader(client, f"/events?job={job.pk}") as reader:
            publish("jobs", "job", '{"status": "running"}')
            first = await reader.next()
            publish(live.channel_of(other.pk), "not-for-this-page", "{}")
            publish(live.channel_of(job.pk), live.channel_of(job.pk), '{"line": 3}')
            return [first, await reader.next()]

    heard = asyncio.run(story())
    assert heard[0] == b'event: job\ndata: {"status": "running"}\n\n'
    assert heard[1] == f'event: job-{job.pk}\ndata: {{"line": 3}}\n\n'.encode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_no_redis_listener")
def test_a_page_that_closes_leaves_nothing_behind(viewer: User) -> None:
    client = signed_in(viewer)

    async def story() -> None:
        async with Reader(client, "/events"):
            assert live.JOBS in eventstream_views.get_listener_manager().listeners_by_channel
        await nobody_listens()

    asyncio.run(story())


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_no_redis_listener")
def test_a_stream_ends_after_a_while_so_that_the_browser_is_asked_again_who_it_is(
    viewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STREAM_SECONDS", -1)
    client = signed_in(viewer)

    async def story() -> None:
        async with Reader(client, "/events") as reader:
            await reader._task
            await nobody_listens()

    asyncio.run(asyncio.wait_for(story(), PATIENCE_SECONDS))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_no_redis_listener")
def test_whoever_lost_the_permission_meanwhile_gets_no_new_stream(viewer: User) -> None:
    client = signed_in(viewer)

    async def story() -> None:
        async with Reader(client, "/events"):
            await sync_to_async(viewer.groups.clear)()
        answer = await client.get("/events")
        assert answer.status_code == 403

    asyncio.run(story())
    assert Job.objects.count() == 0

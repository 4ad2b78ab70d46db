"""Live events: small, harmless to lose, and read only by whoever may see jobs."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
import redis.retry
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, Group
from django.test import RequestFactory
from django_eventstream import eventstream
from django_eventstream import views as eventstream_views
from django_eventstream.utils import get_channelmanager
from redis.asyncio import Redis as AsyncRedis

from accounts.models import User
from jobs import live
from jobs.models import Job

News = Callable[[], list[dict[str, Any]]]
PATIENCE_SECONDS = 20  # for a condition that is awaited


# --- Sending ------------------------------------------------------------------------------------


def test_a_nudge_says_how_far_the_log_is_and_that_a_job_moves(news: News) -> None:
    job = Job(type="backup")
    live.nudge(job, line=7)
    channel = f"job-{job.pk}"
    assert news() == [
        {"channel": channel, "event": channel, "line": 7},
        {"channel": "jobs", "event": "progress", "job": str(job.pk)},
    ]


def test_an_announcement_goes_to_all_pages_and_to_the_jobs_own(news: News) -> None:
    job = Job(type="backup", error="not for everybody", payload={"secret": 1})
    live.announce(job, "failed")
    said = {"job": str(job.pk), "type": "backup", "status": "failed", "user": None}
    assert news() == [
        {"channel": "jobs", "event": "job", **said},
        {"channel": f"job-{job.pk}", "event": f"job-{job.pk}", **said},
    ]


@pytest.mark.parametrize("error", [redis.RedisError("gone"), ConnectionRefusedError(), TimeoutError()])
def test_without_redis_an_event_is_lost_without_a_word(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def send_event(*args: Any) -> None:
        raise error

    monkeypatch.setattr(live, "send_event", send_event)
    live.nudge(Job(), line=1)
    live.announce(Job(), "failed")


def test_a_sender_without_redis_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat, and every page that starts a job, send events; redis-py would retry for seconds."""
    pauses: list[float] = []
    monkeypatch.setattr(redis.retry, "sleep", pauses.append)
    gone = redis.Redis(unix_socket_path=f"{settings.DATA_DIR}/gone.sock")
    monkeypatch.setattr(eventstream, "redis_client", gone)
    monkeypatch.setattr(eventstream_views.listener_manager, "redis_listener", None)
    live.install()
    live.nudge(Job(), line=1)
    assert [pause for pause in pauses if pause] == []


# --- Who may read ---------------------------------------------------------------------------------


@pytest.fixture
def manager() -> live.ChannelManager:
    manager = get_channelmanager()
    assert isinstance(manager, live.ChannelManager)
    return manager


@pytest.mark.parametrize("role", ["admin", "operator", "viewer"])
def test_whoever_may_see_jobs_may_read(manager: live.ChannelManager, role: str, request: pytest.FixtureRequest) -> None:
    assert manager.can_read_channel(request.getfixturevalue(role), "jobs")


def test_others_may_not(manager: live.ChannelManager, viewer: User) -> None:
    assert not manager.can_read_channel(None, "jobs")
    assert not manager.can_read_channel(AnonymousUser(), "jobs")
    viewer.groups.set([Group.objects.create(name="nobody")])
    assert not manager.can_read_channel(User.objects.get(pk=viewer.pk), "jobs")


def test_a_user_who_is_switched_off_may_not(manager: live.ChannelManager, admin: User) -> None:
    admin.is_active = False
    assert not manager.can_read_channel(admin, "jobs")


def test_channels_are_named_by_the_view_and_not_by_the_request(manager: live.ChannelManager) -> None:
    request = RequestFactory().get("/events?channel=secrets")
    assert manager.get_channels_for_request(request, {"channels": {"jobs"}}) == {"jobs"}


def test_events_are_not_kept(manager: live.ChannelManager) -> None:
    assert not manager.is_channel_reliable("jobs")


# --- Hearing --------------------------------------------------------------------------------------


class Hearing(live.Listener):
    """The web process's listener, with its ear to a list instead of to open pages."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()

    def _hand_out(self, channel: str, event_type: str, data: str) -> None:
        self.heard.put_nowait((channel, event_type, data))

    async def next(self) -> tuple[str, str, str]:
        return await asyncio.wait_for(self.heard.get(), PATIENCE_SECONDS)


@contextlib.asynccontextmanager
async def hearing() -> AsyncIterator[tuple[Hearing, AsyncRedis]]:
    listener, client = Hearing(), AsyncRedis.from_url(settings.REDIS_URL)
    task = asyncio.create_task(listener.start())
    try:
        await until(lambda: client.pubsub_numsub("events_channel"), lambda answer: answer[0][1] > 0)
        yield listener, client
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await listener._redis.aclose()
        await client.aclose()


async def until(ask: Callable[[], Any], good: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not good(await ask()):
            await asyncio.sleep(0.01)


@pytest.fixture
def _open_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two channels that pages have open, and a short pause before the listener comes back."""
    monkeypatch.setattr(live, "RECONNECT_SECONDS", 0.01)
    manager = eventstream_views.get_listener_manager()
    monkeypatch.setattr(manager, "listeners_by_channel", {"jobs": set(), "job-1": set()})


@pytest.mark.usefixtures("bell")
def test_what_a_worker_publishes_is_handed_out() -> None:
    async def story() -> None:
        async with hearing() as (listener, _):
            job = Job(type="backup")
            await asyncio.to_thread(live.announce, job, "completed")
            channel, event, data = await listener.next()
            assert (channel, event) == ("jobs", "job")
            assert '"status": "completed"' in data

    asyncio.run(story())


@pytest.mark.usefixtures("bell", "_open_page")
def test_it_comes_back_after_its_connection_broke_and_lets_pages_look_again() -> None:
    async def story() -> None:
        async with hearing() as (listener, client):
            looks = {("jobs", "job", "{}"), ("job-1", "job-1", "{}")}
            assert {await listener.next(), await listener.next()} == looks
            assert await client.client_kill_filter(_type="pubsub") == 1
            assert {await listener.next(), await listener.next()} == looks
            job = Job()
            await asyncio.to_thread(live.nudge, job, line=3)
            assert await listener.next() == (f"job-{job.pk}", f"job-{job.pk}", '{"line": 3}')

    asyncio.run(story())


@pytest.mark.usefixtures("bell", "_open_page")
def test_it_comes_back_as_often_as_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with hearing() as (listener, client):
            for _ in range(3):
                assert {(await listener.next())[0], (await listener.next())[0]} == {"jobs", "job-1"}
                await client.client_kill_filter(_type="pubsub")
            await listener.next()

    asyncio.run(story())
    assert caplog.text.count("Live events pause, Redis is away") >= 3


@pytest.mark.usefixtures("_open_page")
def test_it_waits_for_a_redis_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        listener = Hearing()
        real, listener._redis = listener._redis, AsyncRedis(unix_socket_path=f"{settings.DATA_DIR}/gone.sock")
        monkeypatch.setattr(listener._redis, "pubsub", failing_then(real.pubsub, times=3))
        task = asyncio.create_task(listener.start())
        assert {(await listener.next())[0], (await listener.next())[0]} == {"jobs", "job-1"}
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await real.aclose()
        await listener._redis.aclose()

    asyncio.run(story())


def failing_then(real: Callable[[], Any], *, times: int) -> Callable[[], Any]:
    left = [None] * times

    def pubsub() -> Any:
        if left:
            left.pop()
            raise redis.ConnectionError("not yet")
        return real()

    return pubsub


def test_our_listener_is_the_one_that_pages_use() -> None:
    assert isinstance(eventstream_views.get_listener_manager().redis_listener, live.Listener)


def test_channels_are_named_after_jobs() -> None:
    number = uuid.uuid4()
    assert live.channel_of(number) == live.channel_of(str(number)) == f"job-{number}"

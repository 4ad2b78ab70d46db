"""What makes pages live: small events over Redis that say "look again", never what there is to see.

`nudge` tells that a job has news, `announce` that its status changed. Pages then fetch what came
after their own cursor. Losing an event is harmless: every live piece also polls slowly.

Two facts about django-eventstream 5.3 shape this module (BORG.md): its Redis listener ends for
good with its connection, and its channel manager lets everybody read everything.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django_eventstream import eventstream as sender
from django_eventstream import send_event
from django_eventstream import views as eventstream
from django_eventstream.channelmanager import ChannelManagerBase
from django_eventstream.event import Event
from redis import RedisError
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.access import Permission, can
from jobs.models import Job
from jobs.outliving import Outliving

logger = logging.getLogger(__name__)

JOBS = "jobs"  # every change of a status, and that running jobs move
STREAM_SECONDS = 600  # then the browser comes back, and is asked again who it is
RECONNECT_SECONDS = 1.0


def channel_of(job_id: UUID | str) -> str:
    return f"job-{job_id}"


def nudge(job: Job, *, line: int) -> None:
    """Tell whoever watches `job` that it has news: lines up to number `line`, or progress."""
    _send(channel_of(job.pk), channel_of(job.pk), {"line": line})
    _send(JOBS, "progress", {"job": str(job.pk)})


def announce(job: Job, status: str) -> None:
    """Tell every page that `job` is now `status`."""
    news = {"job": str(job.pk), "type": job.type, "status": status, "user": job.user_id}
    _send(JOBS, "job", news)
    _send(channel_of(job.pk), channel_of(job.pk), news)


def _send(channel: str, event: str, data: dict[str, Any]) -> None:
    try:
        send_event(channel, event, data)
    except (RedisError, OSError) as error:
        logger.debug("No live event, Redis is away: %s", error)


class ChannelManager(ChannelManagerBase):  # type: ignore[misc]
    """Who may read what; channels are named by the view, never by the request."""

    def get_channels_for_request(self, request: HttpRequest, view_kwargs: dict[str, Any]) -> set[str]:
        return set(view_kwargs["channels"])

    def can_read_channel(self, user: Any, channel: str) -> bool:
        return user is not None and can(user, Permission.BACKUP_VIEW)

    def is_channel_reliable(self, channel: str) -> bool:
        return False  # nudges need no history


def stream(request: HttpRequest, *, job: UUID | None) -> HttpResponseBase:
    """The event stream of a page: all jobs, and one in particular if the page shows one."""
    channels = {JOBS} | ({channel_of(job)} if job else set())
    response: HttpResponseBase = eventstream.events(request, channels=channels)
    if isinstance(response, StreamingHttpResponse):
        return Outliving(_for_a_while(response.streaming_content), headers=response.headers)
    return response


async def _for_a_while(events: Any) -> AsyncIterator[bytes]:
    end = time.monotonic() + STREAM_SECONDS
    try:
        async for chunk in events:
            yield chunk
            if time.monotonic() > end:
                return
    finally:
        await events.aclose()


class Listener(eventstream.RedisListener):  # type: ignore[misc]
    """Hears what workers publish and hands it to this process's streams; comes back after every outage."""

    def __init__(self) -> None:
        self._redis = Redis.from_url(settings.REDIS_URL)
        self._task: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        self._task = asyncio.current_task()  # the loop itself keeps no strong reference
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                logger.warning("Live events pause, Redis is away: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe("events_channel")
            self._look_again()
            async for message in pubsub.listen():
                if message["type"] == "message":
                    event = json.loads(message["data"])
                    self._hand_out(event["channel"], event["event_type"], event["data"])

    def _look_again(self) -> None:
        """What was published while nobody listened is lost: let every open page fetch once."""
        for channel in list(eventstream.get_listener_manager().listeners_by_channel):
            self._hand_out(channel, "job" if channel == JOBS else channel, "{}")

    def _hand_out(self, channel: str, event_type: str, data: str) -> None:
        eventstream.get_listener_manager().add_to_queues(channel, Event(channel, event_type, data))


def install() -> None:
    """Put our listener in the place of django-eventstream's, and let its sender give up at once."""
    eventstream.listener_manager.redis_listener = Listener()
    # With redis-py's ten retries a job's heartbeat, and every page, would wait seconds for a nudge.
    sender.redis_client.set_retry(Retry(NoBackoff(), 0))

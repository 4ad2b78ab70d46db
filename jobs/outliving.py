"""Streams that outlive their request, so that a thousand of them cost a web process little.

Django keeps a thread, a database connection and the whole request for a response until its last byte. An Outliving
response lets go of these once its headers are sent; phpborg/asgi.py has the Handler for it. Any other handler, as that
of tests, treats it as the StreamingHttpResponse that it is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.http import StreamingHttpResponse

Message = Mapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Coroutine[Any, Any, Message]]


class Outliving(StreamingHttpResponse):
    """Its iterator is asynchronous, and holds nothing of the request."""


class Outlet:
    """Passes on what Django sends; of an Outliving response the headers alone."""

    __slots__ = ("_send", "stream")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.stream: Any = None

    async def __call__(self, message: Message) -> None:
        if self.stream is None or message["type"] == "http.response.start":
            await self._send(message)


class Handler(ASGIHandler):
    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        outlet = Outlet(send)
        await super().__call__(scope, receive, outlet)
        if outlet.stream is not None:
            await pour(outlet.stream, receive, send)

    async def send_response(self, response: Any, send: Any) -> None:
        if isinstance(response, Outliving):
            send.stream, response.streaming_content = response.streaming_content, nothing()
        await super().send_response(response, send)


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def pour(stream: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Send all of `stream`, until its end or until the client has gone."""
    me = asyncio.current_task()
    assert me

    def stop(_: object) -> None:
        me.cancel()

    gone = asyncio.create_task(receive())
    gone.add_done_callback(stop)
    with suppress(asyncio.CancelledError):
        async with aclosing(stream) as pieces:  # type: ignore[type-var]  # a generator, as they all are
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    gone.remove_done_callback(stop)
    gone.cancel()

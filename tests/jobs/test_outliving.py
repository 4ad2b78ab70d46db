"""Streams that outlive their request: what is kept of each while it is open, and when it ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIRequest
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import RequestFactory
from django.urls import path

from accounts.models import User
from accounts.tokens import log_in
from jobs import streams
from jobs.models import JobEvent
from jobs.outliving import Handler, Outliving
from tests.jobs.conftest import row

PATIENCE_SECONDS = 20


async def pieces() -> AsyncIterator[bytes]:
    yield b"first"
    yield b"second"


def short(request: HttpRequest) -> HttpResponseBase:
    return Outliving(pieces(), content_type="text/event-stream")


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


urlpatterns = [path("short", short), path("plain", plain)]


def caller(path: str, **headers: str) -> Any:
    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"", "asgi": {"version": "3.0"},
        "headers": [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers.items())],
    }  # fmt: skip
    return ApplicationCommunicator(Handler(), scope)  # type: ignore[no-untyped-call]


async def answer(client: Any) -> dict[str, Any]:
    message: dict[str, Any] = await client.receive_output(PATIENCE_SECONDS)
    return message


async def whole_answer(path: str) -> list[dict[str, Any]]:
    client = caller(path)
    await client.send_input({"type": "http.request"})
    messages = [await answer(client)]
    while messages[-1].get("more_body", True):
        messages.append(await answer(client))
    await client.wait(PATIENCE_SECONDS)
    return messages


async def hang_up(client: Any) -> None:
    await client.send_input({"type": "http.disconnect"})
    await client.wait(PATIENCE_SECONDS)


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_it_is_sent_with_its_headers_and_to_its_end() -> None:
    start, *parts = asyncio.run(whole_answer("/short"))
    assert (start["status"], dict(start["headers"])[b"Content-Type"]) == (200, b"text/event-stream")
    assert [(part["body"], part["more_body"]) for part in parts] == [(b"first", True), (b"second", True), (b"", False)]


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_other_answers_are_what_they_were() -> None:
    start, body = asyncio.run(whole_answer("/plain"))
    assert (start["status"], body["body"], body["more_body"]) == (200, b"hello", False)


@pytest.fixture
def stream(transactional_db: None, viewer: User, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """An open stream of jobs, greeted."""
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.02)
    token = log_in(viewer, RequestFactory().get("/")).access

    async def opened() -> Any:
        client = caller("/api/sse/jobs", authorization=f"Bearer {token}")
        await client.send_input({"type": "http.request"})
        assert (await answer(client))["status"] == 200
        assert (await answer(client))["body"] == b": phpBorg\n\n"
        return client

    return opened


def requests_kept() -> int:
    gc.collect()
    return sum(issubclass(type(found), ASGIRequest) for found in gc.get_objects())  # no isinstance: dead proxies


def test_nothing_is_kept_of_the_request_while_it_is_open(stream: Callable[[], Any]) -> None:
    finished: list[object] = []

    def note(**_: object) -> None:
        finished.append(1)

    async def what() -> int:
        before = requests_kept()
        client = await stream()
        kept = requests_kept()
        await hang_up(client)
        return kept - before

    request_finished.connect(note)
    try:
        assert asyncio.run(what()) == 0
    finally:
        request_finished.disconnect(note)
    assert finished == [1]  # which closed its database connection


def test_it_ends_when_the_client_has_gone(stream: Callable[[], Any]) -> None:
    async def what() -> list[int]:
        client = await stream()
        counts = [len(streams.JOBS._listeners)]
        await hang_up(client)
        return [*counts, len(streams.JOBS._listeners)]

    assert asyncio.run(what()) == [1, 0]


def test_what_happens_later_is_told(stream: Callable[[], Any]) -> None:
    async def what() -> Any:
        client = await stream()
        await sync_to_async(JobEvent.note)((await sync_to_async(row)()).pk, "running")
        while (body := (await answer(client))["body"]).startswith(b":"):
            pass
        await hang_up(client)
        return body

    assert b'"status": "running"' in asyncio.run(what())

"""Lists by cursor: every row once and in its order, on whatever way, with few rows looked at for each page."""

from __future__ import annotations

import itertools
import random
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import paging
from jobs.filters import written_by
from jobs.models import Job, LogLine
from servers.models import Server
from tests.jobs.conftest import row

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def many(server: Server, now: datetime) -> list[Job]:
    """Jobs of all kinds, some of them of the same moment."""
    chance = random.Random(7)
    other = Server.objects.create(name="web-2", address="192.0.2.8")
    jobs = Job.objects.bulk_create(
        Job(
            type=chance.choice(["backup", "backup", "check"]), status=chance.choice(["completed", "failed", "running"]),
            server=chance.choice([server, other]), trigger=chance.choice(["user", "schedule"]),
            created_at=now - chance.randrange(20) * HOUR,
        )
        for _ in range(40)
    )  # fmt: skip
    lines = (
        LogLine(job=job, server=job.server, number=n, at=job.created_at, level=chance.choice([10, 20, 30, 40]),
                message=chance.choice(["A file", "Another one"]))
        for job in jobs for n in range(1, 3)
    )  # fmt: skip
    LogLine.objects.bulk_create(lines)
    return list(Job.objects.all())


def pages(client: APIClient, url: str | None, way: str = "next") -> Iterator[list[Any]]:
    for _ in range(1000):
        if url is None:
            return
        answer = client.get(url)
        assert answer.status_code == 200, answer.content
        yield [found["id"] for found in answer.json()["results"]]
        url = answer.json()[way]
    raise AssertionError("The pages do not end.")


def joined(seen: Iterable[list[Any]]) -> list[Any]:
    return [found for page in seen for found in page]


def fits(found: Any, asked: dict[str, Any]) -> bool:
    return all(getattr(found, name) in (value if isinstance(value, list) else [value]) for name, value in asked.items())


JOBS: list[dict[str, Any]] = [
    {}, {"status": "failed"}, {"status": ["failed", "running"]}, {"trigger": "user"},
    {"status": "failed", "type": "check"}, {"status": ["failed", "running"], "trigger": "user"}, {"type": "nothing"},
    {"type": "nothing", "trigger": "user"}, {"status": ["completed", "failed", "running", "pending", "cancelled"]},
]  # fmt: skip
SPANS: list[tuple[float | None, float | None]] = [(None, None), (15, None), (None, 5), (15, 5)]  # hours ago


@pytest.mark.parametrize("most", [6, 5_000])
def test_every_job_that_is_asked_for_comes_once_and_in_its_order(
    api_viewer: APIClient, many: list[Job], now: datetime, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(paging, "MOST_READ", most)
    for asked, span in itertools.product(JOBS, SPANS):
        since, until = (None if ago is None else now - ago * HOUR for ago in span)
        wanted = [
            str(job.pk) for job in many
            if fits(job, asked) and (since or job.created_at) <= job.created_at < (until or now + HOUR)
        ]  # fmt: skip
        times = {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at}
        query = urlencode({**asked, **times, "page_size": 7}, doseq=True)
        assert joined(pages(api_viewer, f"/api/jobs?{query}")) == wanted, query


@pytest.mark.parametrize("most", [6, 5_000])
def test_the_way_back_passes_the_same(
    api_viewer: APIClient, many: list[Job], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(paging, "MOST_READ", most)
    for asked in JOBS:
        first = url = f"/api/jobs?{urlencode({**asked, 'page_size': 7}, doseq=True)}"
        while further := api_viewer.get(url).json()["next"]:
            url = further
        back = list(pages(api_viewer, url, "previous"))
        assert joined(reversed(back)) == joined(pages(api_viewer, first)), asked


@pytest.mark.parametrize("most", [6, 5_000])
def test_every_line_that_is_asked_for_comes_once_and_in_its_order(
    api_viewer: APIClient, many: list[Job], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(paging, "MOST_READ", most)
    kinds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"level": "debug"}, {}),
        ({"level": "warning"}, {"level": [30, 40]}),
        ({"search": "ANOTHER"}, {"message": "Another one"}),
        ({"level": "info", "search": "file"}, {"level": [20, 30, 40], "message": "A file"}),
    ]
    places: list[dict[str, Any]] = [{}, {"server": many[0].server}, {"job": many[0]}]
    for (asked, wanted), where in itertools.product(kinds, places):
        lines = [line.pk for line in LogLine.objects.order_by("-id") if fits(line, wanted | where)]
        query = urlencode({**asked, **{name: found.pk for name, found in where.items()}, "page_size": 20})
        assert joined(pages(api_viewer, f"/api/logs?{query}")) == lines, query


def test_a_page_for_which_too_many_would_be_read_is_short_and_goes_on(
    api_viewer: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MOST_READ", 10)
    job = row()
    LogLine.objects.bulk_create(LogLine(job=job, number=n, at=timezone.now(), message=f"line {n}") for n in range(25))
    answer = api_viewer.get("/api/logs?search=line 1")
    assert [line["message"] for line in answer.json()["results"]] == [f"line {n}" for n in range(19, 13, -1)]
    seen = list(pages(api_viewer, "/api/logs?search=line 24"))
    assert [len(page) for page in seen] == [1, 0, 0]


def test_what_has_no_index_is_looked_at_row_by_row(api_viewer: APIClient) -> None:
    """Otherwise a database might take an index for it that begins nowhere near the page."""
    with CaptureQueriesContext(connection) as caught:
        api_viewer.get("/api/jobs?type=check&status=failed")
    page = caught.captured_queries[-1]["sql"]
    assert page.count("CASE WHEN") == 1


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "=", "~", urlsafe_b64encode(b"\xff").decode(), *(
        urlsafe_b64encode(text.encode()).decode() for text in (
            "older~x", "older~x~y", "older~1~2~3", "sideways~1", "older~2026-01-01T00:00:00Z", "older~-1~",
            "older~" + "9" * 99,
        )
    )]
)  # fmt: skip
@pytest.mark.parametrize("path", ["jobs", "logs", "backups"])
def test_what_is_no_cursor_is_refused(api_viewer: APIClient, path: str, cursor: str) -> None:
    row(type="backup")
    answer = api_viewer.get(f"/api/{path}", {"cursor": cursor})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == ["cursor"]


def test_a_cursor_of_another_list_is_refused(api_viewer: APIClient) -> None:
    Job.objects.bulk_create(Job(type="backup") for _ in range(3))
    link = api_viewer.get("/api/jobs?page_size=1").json()["next"]
    assert api_viewer.get(link.replace("/jobs", "/logs")).status_code == 400


def test_numbered_pages_are_refused_in_words(api_viewer: APIClient) -> None:
    answer = api_viewer.get("/api/jobs?page=2")
    assert answer.status_code == 400
    assert "next" in answer.json()["error"]["fields"]["page"][0]


def test_lines_of_jobs_that_had_ended_are_older(now: datetime) -> None:
    old, long, new = (row(status=status, created_at=now - hours * HOUR) for status, hours in
                      (("completed", 9), ("running", 8), ("completed", 1)))  # fmt: skip
    Job.objects.filter(pk=old.pk).update(completed_at=now - 7 * HOUR)
    Job.objects.filter(pk=new.pk).update(completed_at=now)
    for job in (long, old, long, new):
        LogLine.objects.create(job=job, number=job.lines.count() + 1, at=now, message="x")
    assert written_by(now - 6 * HOUR) == old.lines.get().pk
    assert written_by(now - 8 * HOUR) == 0


def test_a_row_that_is_deleted_while_a_page_is_read_ends_no_list(api_viewer: APIClient, many: list[Job]) -> None:
    """Red when the page's rows, of which one is gone, say whether there are more."""
    gone: list[Any] = []

    def delete_one(execute: Any, sql: str, parameters: Any, is_many: bool, context: Any) -> Any:
        if not gone and "SELECT" in sql and "jobs_job" in sql and " IN (" in sql and "LIMIT" in sql:
            gone.append(None)  # what follows comes by here too
            gone.append(Job.objects.filter(status="completed")[3].pk)
            Job.objects.filter(pk=gone[1]).delete()
        return execute(sql, parameters, is_many, context)

    with connection.execute_wrapper(delete_one):
        seen = joined(pages(api_viewer, "/api/jobs?status=completed&page_size=5"))
    completed = [str(job.pk) for job in many if job.status == "completed" and job.pk != gone[1]]
    assert seen == completed

"""Downloading a job's log."""

from datetime import UTC, datetime

import pytest
from django.test import Client

from jobs.models import Job, LogLine
from tests.jobs.conftest import row

AT = datetime(2026, 1, 15, 12, 30, 5, tzinfo=UTC)


def with_messages(*messages: str) -> Job:
    job = row(type="backup")
    LogLine.objects.bulk_create(
        LogLine(job=job, number=number, at=AT, message=message) for number, message in enumerate(messages, 1)
    )
    return job


def download(client: Client, job: Job) -> str:
    return client.get(f"/jobs/{job.pk}/log").getvalue().decode()


def test_it_is_a_text_file_with_one_line_per_line(as_viewer: Client) -> None:
    job = with_messages("first", "second")
    LogLine.objects.filter(number=2).update(level=30)
    assert download(as_viewer, job) == "2026-01-15T12:30:05Z info    first\n2026-01-15T12:30:05Z warning second\n"


def test_a_browser_saves_it_and_never_shows_it(as_viewer: Client) -> None:
    job = with_messages("<script>alert(1)</script>")
    answer = as_viewer.get(f"/jobs/{job.pk}/log")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="backup-{job.pk}.log"'
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_letters_of_every_script_are_kept(as_viewer: Client) -> None:
    assert "ключ \U0001f600" in download(as_viewer, with_messages("ключ \U0001f600"))


def test_a_hostile_line_can_neither_forge_another_one_nor_talk_to_a_terminal(as_viewer: Client) -> None:
    forged = "x\n2026-01-15T12:30:05Z error   forged\r\x1b[2J\x07\x9b\ttab"
    text = download(as_viewer, with_messages(forged))
    assert text.splitlines() == [
        r"2026-01-15T12:30:05Z info    x\n2026-01-15T12:30:05Z error   forged\r\x1b[2J\x07\x9b" + "\ttab"
    ]


def test_lines_come_in_their_order_however_many(as_viewer: Client) -> None:
    job = with_messages(*(f"line {number}" for number in range(1, 2501)))
    lines = download(as_viewer, job).splitlines()
    assert [line.rsplit(maxsplit=1)[1] for line in lines] == [str(number) for number in range(1, 2501)]


def test_an_empty_log_is_an_empty_file(as_viewer: Client) -> None:
    assert download(as_viewer, row()) == ""


def test_times_are_utc_whatever_the_persons_zone(as_viewer: Client, viewer: object) -> None:
    type(viewer).objects.update(time_zone="Pacific/Auckland")  # type: ignore[attr-defined]
    assert download(as_viewer, with_messages("x")).startswith("2026-01-15T12:30:05Z")


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_other_methods_are_refused(as_viewer: Client, method: str) -> None:
    assert getattr(as_viewer, method)(f"/jobs/{row().pk}/log").status_code == 405


def test_nobody_is_sent_to_the_login(client: Client, db: None) -> None:
    assert client.get(f"/jobs/{row().pk}/log")["Location"].startswith("/login")

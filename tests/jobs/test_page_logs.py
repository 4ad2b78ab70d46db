"""The page /logs: lines of all jobs, newest first."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups.models import Plan
from jobs.models import Job, LogLine
from tests.jobs.conftest import row

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
HOSTILE = "<img src=x onerror=alert(1)>"


def line(job: Job, number: int, message: str, level: LogLine.Level = LogLine.Level.INFO) -> LogLine:
    return LogLine.objects.create(
        job=job, server=job.server, number=number, at=timezone.now(), level=level, message=message
    )


def shown(answer: Any) -> list[str]:
    return [line.message for line in answer.context["page"].rows]


def test_lines_of_all_jobs_newest_first(as_viewer: Client) -> None:
    line(row(), 1, "one")
    line(row(), 1, "two")
    assert shown(as_viewer.get("/logs")) == ["two", "one"]


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ({"level": "warning"}, ["b"]), ({"search": "A"}, ["a"]), ({"level": "info"}, ["b", "a"]),
        ({"server": "web-1"}, ["b"]), ({"server": "", "level": ""}, ["b", "a"]),
        ({"level": "nonsense"}, []), ({"server": "nowhere"}, []),
    ],
)  # fmt: skip
def test_it_is_filtered(as_viewer: Client, plan: Plan, query: dict[str, str], messages: list[str]) -> None:
    plan.server.name = "web-1"
    plan.server.save()
    line(row(), 1, "a")
    line(row(server=plan.server), 1, "b", LogLine.Level.WARNING)
    assert shown(as_viewer.get("/logs", query)) == messages


def test_it_follows_until_somebody_reads_older_lines_or_pauses(as_viewer: Client) -> None:
    job = row()
    LogLine.objects.bulk_create(LogLine(job=job, number=n, at=timezone.now(), message=str(n)) for n in range(1, 151))
    newest = as_viewer.get("/logs")
    assert "hx-trigger" in newest.content.decode().partition("<section")[2].partition(">")[0]
    older = as_viewer.get("/logs", {"cursor": newest.context["page"].older.text})
    assert shown(older) == [str(n) for n in range(50, 0, -1)]
    for answer in (older, as_viewer.get("/logs", {"paused": "1"})):
        assert "hx-trigger" not in answer.content.decode().partition("<section")[2].partition(">")[0]


def test_what_a_log_says_is_text(as_viewer: Client) -> None:
    line(row(), 1, HOSTILE)
    answer = as_viewer.get("/logs", headers=PARTIAL).content.decode()
    assert HOSTILE not in answer
    assert "&lt;img" in answer
    assert "<html" not in answer


def test_who_may_not_read_logs_sees_none(db: None) -> None:
    from accounts.access import Permission
    from tests.conftest import holder, page_of

    assert page_of(holder("anna", Permission.BACKUP_VIEW)).get("/logs").status_code == 403

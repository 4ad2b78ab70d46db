"""The report of a day or a week: once for each, at seven by the clock on the wall."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.utils import timezone

from alerts import engine, report
from alerts.models import Channel, Incident
from backups.models import BackupHour, Plan, StoragePool
from tests.alerts.conftest import TO, ended, make_channel, make_rule, send_all
from tests.smtp import Post

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


@pytest.mark.parametrize(
    ("kind", "moment", "day"),
    [
        # Paris puts the clock forward on 2026-03-29, a Sunday, and back on 2026-10-25, a Sunday.
        ("daily", datetime(2026, 3, 28, 5, 59, tzinfo=UTC), date(2026, 3, 27)),  # 6:59
        ("daily", datetime(2026, 3, 28, 6, 0, tzinfo=UTC), date(2026, 3, 28)),  # 7:00
        ("daily", datetime(2026, 3, 29, 4, 59, tzinfo=UTC), date(2026, 3, 28)),  # 6:59 in summer
        ("daily", datetime(2026, 3, 29, 5, 0, tzinfo=UTC), date(2026, 3, 29)),  # red with the offset of the evening
        ("daily", datetime(2026, 10, 25, 5, 30, tzinfo=UTC), date(2026, 10, 24)),  # 6:30 in winter
        ("weekly", datetime(2026, 3, 29, 12, 0, tzinfo=UTC), date(2026, 3, 23)),
        ("weekly", datetime(2026, 3, 30, 4, 0, tzinfo=UTC), date(2026, 3, 23)),  # Monday, 6:00
        ("weekly", datetime(2026, 3, 30, 5, 0, tzinfo=UTC), date(2026, 3, 30)),  # Monday, 7:00
    ],
)
def test_which_is_owed(live: Any, kind: str, moment: datetime, day: date) -> None:
    live(TIME_ZONE="Europe/Paris")
    assert report.due_on(kind, moment) == day


def test_of_many_some_are_named(plan: Plan, post: Post) -> None:
    """Red without `unshown`: nobody would know that there are more."""
    channel = make_channel("mail", {"to": TO}, report="weekly", reported_on=date(2026, 1, 1))
    rule = make_rule("backup_failed", channel)
    Incident.objects.bulk_create(
        Incident(rule=rule, subject=f"plan:{n}", name=f"web-{n}/files", event="backup_failed", severity="critical",
                 facts={"error": "The disk is full."}, open_key=f"{n}", opened_at=timezone.now())
        for n in range(report.MOST_SHOWN + 7)
    )  # fmt: skip
    assert report.look() == 1
    send_all()
    text = post.messages[0].get_body(("plain",)).get_content()  # type: ignore[attr-defined]
    assert f"open: {report.MOST_SHOWN + 7}" in text
    assert text.count("The disk is full.") == report.MOST_SHOWN
    assert "And 7 more." in text


@pytest.mark.parametrize("language", ["en", "fr"])
def test_it_is_sent_once(plan: Plan, post: Post, live: Any, language: str) -> None:
    """Red without `reported_on`: each look sends it again."""
    channel = make_channel("mail", {"to": TO}, report="daily", language=language)
    make_channel("mail", {"to": "b@example.org"}, name="without")
    make_rule("backup_failed")
    ended(plan, "failed", error="The disk is full.")
    engine.look()
    BackupHour.objects.create(began_at=timezone.now(), completed=7, failed=2)
    StoragePool.objects.update(total_bytes=1000, free_bytes=431)
    assert report.look() == 0  # one that is new begins with the next
    Channel.objects.filter(pk=channel.pk).update(reported_on=date(2026, 1, 1))
    assert report.look() == 1
    assert report.look() == 0
    [job] = send_all()
    assert job.status == "completed"
    [message] = post.messages
    text = message.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
    assert post.recipients == [TO]
    title = (
        "[critical] phpBorg, daily report: 0 of 1 "
        if language == "en"
        else "[critique] phpBorg, rapport quotidien : 0 sur 1 "
    )
    assert title in message["Subject"]
    assert text.count("The disk is full.") == 2  # of the server that is at risk for it, and of the alert
    assert "43.1" in text
    assert ("completed: 7" if language == "en" else "terminées : 7") in text

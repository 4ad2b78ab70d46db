"""A watchman outside hears of each run of a plan: that it began, and how it ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from alerts import engine, pinging
from alerts.models import Channel, Ping
from backups.models import Plan
from jobs.models import Job
from tests.alerts.conftest import ended, make_channel, make_rule, send_all
from tests.alerts.sink import Sink

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def watched(plan: Plan, sink: Sink) -> Channel:
    channel = make_channel("ping", {"url": f"http://127.0.0.1:{sink.port}/t0ken"})
    pinging.set_pings(channel, [plan])
    return channel


def look() -> None:
    for _look in range(2):
        pinging.look()
        send_all()


def test_each_run_is_told_once(plan: Plan, watched: Channel, sink: Sink) -> None:
    """Red without what was told being kept: each look would tell it again."""
    job = Job.objects.create(type="backup", plan=plan, status="running", subject=f"plan:{plan.pk}")
    look()
    assert [request[:2] for request in sink.requests] == [("HEAD", "/t0ken/start")]
    Job.objects.filter(pk=job.pk).delete()
    ended(plan, "good")
    look()
    ended(plan, "failed")
    look()
    ended(plan, "suspicious")
    look()
    assert [path for _method, path, *_ in sink.requests][1:] == ["/t0ken", "/t0ken/fail", "/t0ken/fail"]


def test_what_ran_before_is_not_told(plan: Plan, sink: Sink) -> None:
    ended(plan, "failed")
    plan.refresh_from_db()
    pinging.set_pings(make_channel("ping", {"url": sink.url}), [plan])
    look()
    assert sink.requests == []


def test_an_alert_is_no_sign_of_life(
    plan: Plan, watched: Channel, sink: Sink, api_admin: APIClient, as_admin: Client
) -> None:
    """Red when a rule takes such a channel, or when what is no run is told as a good one: the watchman would sleep."""
    answer = api_admin.post("/api/alert-rules", {"name": "r", "event": "backup_failed", "channels": [watched.pk]})
    assert answer.status_code == 400
    assert "of no rule" in answer.content.decode()
    make_rule("no_good_backup", watched)  # as if it had stood there before
    Plan.objects.update(last_good_at=timezone.now() - timedelta(days=9))
    engine.look()
    send_all()
    as_admin.post(f"/alerts/channels/{watched.pk}/test")
    send_all()
    assert [path for _method, path, *_ in sink.requests] == ["/t0ken/fail", "/t0ken"]


def test_its_plans_are_named_on_its_page(as_admin: Client, plan: Plan) -> None:
    form = {"name": "dog", "enabled": "on", "language": "en", "url": "https://hc.example/t0ken"}
    assert as_admin.post("/alerts/channels/add/ping", form).status_code == 400
    assert as_admin.post("/alerts/channels/add/ping", {**form, "plans": "web-1/files"}).status_code == 302
    assert Ping.objects.get().plan == plan
    channel = Channel.objects.get()
    page = as_admin.get(f"/alerts/channels/{channel.pk}").content.decode()
    assert "web-1/files" in page
    assert "t0ken" not in page
    kept = {**form, "url": "", "plans": "web-1/files"}
    assert as_admin.post(f"/alerts/channels/{channel.pk}", kept).status_code == 302
    assert Ping.objects.count() == 1


def test_its_plans_are_named_over_the_api(api_admin: APIClient, plan: Plan, mail: Channel) -> None:
    """Red without `plans` in the serializer: a channel that nobody is told by could be made, and no other."""
    body = {"name": "dog", "kind": "ping", "target": {"url": "https://hc.example/t0ken"}}
    assert api_admin.post("/api/alert-channels", body).json()["error"]["fields"] == {"plans": ["Name at least one."]}
    answer = api_admin.post("/api/alert-channels", {**body, "plans": [plan.pk]})
    assert (answer.status_code, answer.json()["plans"]) == (201, [plan.pk])
    assert AuditEntry.objects.get(action="alert_channel.added").detail["after"]["plans"] == ["web-1/files"]
    path = f"/api/alert-channels/{answer.json()['id']}"
    assert api_admin.patch(path, {"enabled": False}).json()["plans"] == [plan.pk]
    other = Plan.objects.get(pk=plan.pk)
    other.pk, other.name = None, "other"
    other.save()
    assert api_admin.patch(path, {"plans": [other.pk]}).json()["plans"] == [other.pk]
    told = AuditEntry.objects.filter(action="alert_channel.changed").order_by("number").last()
    assert told
    # Red while the channel remembers the plans that it had.
    assert (told.detail["before"], told.detail["after"]) == ({"plans": ["web-1/files"]}, {"plans": ["web-1/other"]})
    assert api_admin.patch(path, {"plans": [plan.pk]}).json()["plans"] == [plan.pk]
    assert api_admin.patch(path, {"plans": []}).status_code == 400
    assert api_admin.patch(path, {"report": "daily"}).status_code == 400
    assert api_admin.patch(f"/api/alert-channels/{mail.pk}", {"plans": [plan.pk]}).status_code == 400
    rule = {"name": "r", "event": "backup_failed", "channels": [answer.json()["id"]]}
    assert api_admin.post("/api/alert-rules", rule).status_code == 400
    assert Ping.objects.get().plan == plan

"""Slack, ntfy and the rest, through Apprise: what arrives, where nothing goes, and that nobody hears a token."""

from __future__ import annotations

import json
import logging
from io import StringIO
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from alerts import engine, outbound
from alerts.channels.services import service_of
from alerts.models import Channel, Delivery
from alerts.testing import send_test
from backups.models import Plan
from jobs.models import Job
from tests.alerts.conftest import ended, make_channel, make_rule, send_all
from tests.alerts.sink import Sink, http_sink
from tests.alerts.test_channels import everything
from tests.conftest import run_now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]
TOKEN = "tk_t0kenOfTheTopic0123456789abcd"


def ntfy(sink: Sink) -> Channel:
    return make_channel("apprise", {"url": f"ntfy://{TOKEN}@127.0.0.1:{sink.port}/on-call-topic?auth=token"})


def test_each_alert_once_and_its_recovery_once(plan: Plan, sink: Sink) -> None:
    make_rule("backup_failed", ntfy(sink))
    for outcome in ("failed", "good"):
        ended(plan, outcome, error="The disk is full.")
        for _look in range(2):
            engine.look()
            send_all()
    told = [json.loads(body) for *_rest, body in sink.requests]
    assert [each["title"] for each in told] == ["backup_failed: web-1/files", "Over: backup_failed: web-1/files"]
    assert "The disk is full." in told[0]["message"]
    assert set(Delivery.objects.values_list("status", flat=True)) == {"sent"}


@pytest.mark.parametrize(("status", "ends"), [(500, "pending"), (403, "failed"), (302, "failed")])
def test_what_goes_wrong_is_a_sentence_without_a_token(
    admin: User, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int, ends: str
) -> None:
    """Red without `apprise` or without `urllib3` in LOGGING: at LOG_LEVEL=DEBUG each writes the token."""
    caplog.set_level(logging.DEBUG)  # of the root
    [ours] = [each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler]
    written = StringIO()
    monkeypatch.setattr(ours, "stream", written)
    channel = make_channel("apprise", {"url": f"mmost://127.0.0.1:{sink.port}/{TOKEN}/?channels=on-call-topic"})
    with http_sink() as other:
        sink.status, sink.headers = status, {"Location": other.url}
        job = run_now(send_test(channel, user=admin, trigger=Job.Trigger.USER))
        assert job.status == ends
        assert f"{status}" in job.error
        assert other.requests == []
    assert any(TOKEN in path for _method, path, *_rest in sink.requests)
    told = everything() + written.getvalue()
    assert TOKEN not in told
    assert "on-call-topic" not in told


def test_a_service_inside_is_refused(admin: User, settings: Any) -> None:
    """Red without the watch: Apprise connects where its address says."""
    with http_sink() as sink:
        settings.WEBHOOK_ALLOWED = []
        job = run_now(send_test(ntfy(sink), user=admin, trigger=Job.Trigger.USER))
        assert (job.status, job.error) == ("failed", outbound.NOT_INSIDE)
        assert sink.requests == []


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("json://example.org/", "must begin with one of these"), ("file:///etc/passwd", "must begin with one of these"),
        ("dbus://", "must begin with one of these"), ("mailto://u:p@example.org", "must begin with one of these"),
        ("syslog://", "must begin with one of these"), ("http://[::", "must begin with one of these"),
        ("slack://", "Something is missing"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=/etc/passwd", "may not stand in it: template"),
        ("ntfys://example.org/topic?Attach=http://10.0.0.1/", "may not stand in it: attach"),
        ("ntfys://example.org/topic?redirect=yes", "may not stand in it: redirect"),
        # As Apprise reads it, and urllib does not.
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#a?template=/etc/passwd", "stand in it: template"),
        ("ntfys://example.org/topic?priority=low;attach=/etc/passwd", "may not stand in it: attach"),
        ("https://hooks.example.org/?url=dbus://", "must begin with one of these"),
        ("tgram://99999:", "must begin with one of these"),  # red when what Apprise's parser raises is let through
    ],
)  # fmt: skip
def test_addresses_that_reach_for_something_else(as_admin: Client, url: str, sentence: str) -> None:
    form = {"name": "ops", "enabled": "on", "language": "en", "url": url}
    answer = as_admin.post("/alerts/channels/add/apprise", form)
    assert answer.status_code == 400
    assert sentence in answer.content.decode()


def test_one_address_is_one_service() -> None:
    """Red with Apprise.add(), which takes several addresses out of one text: the second one is judged by nobody."""
    found = service_of("ntfys://example.org/topic,syslog://")
    assert [service.service_name for service in found] == ["ntfy"]


def test_what_is_too_long_for_a_service_is_cut() -> None:
    """Red without `overflow`: Telegram refuses it, and the alert is told to nobody."""
    url = "tgram://123456789:abcdefg_hijklmnop/lead2gold/"
    assert next(iter(service_of(url))).overflow_mode == "truncate"
    assert next(iter(service_of(f"{url}?overflow=split"))).overflow_mode == "split"


@pytest.mark.parametrize(
    "url",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", "tgram://123456789:abcdefg_hijklmnop/lead2gold/",
        "ntfys://ntfy.example.org/topic", "gotifys://gotify.example.org/tokenabcdefghij",
        "workflows://prod.example.org:443/643p0p3r7y/s1gn4tur3/", "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    ],
)  # fmt: skip
def test_addresses_of_services(as_admin: Client, url: str) -> None:
    form = {"name": "ops", "enabled": "on", "language": "en", "url": url}
    assert as_admin.post("/alerts/channels/add/apprise", form).status_code == 302
    assert Channel.objects.get().target() == {"url": url}

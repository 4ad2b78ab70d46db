"""Mail and webhooks: what arrives, what is signed, where nothing goes, and that nobody hears where it leads."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from typing import Any

import pytest
from django.core.serializers import serialize
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from alerts import engine, outbound
from alerts.channels.base import NotDelivered
from alerts.models import Channel, Delivery, Incident
from alerts.testing import send_test
from backups.models import Plan
from jobs import queue
from jobs.models import Job, JobEvent, LogLine
from phpborg.embedded import free_port
from tests.alerts.conftest import SECRET, TO, ended, make_channel, make_rule, send_all
from tests.alerts.sink import Sink, http_sink
from tests.conftest import run_now
from tests.smtp import Post

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


def test_a_webhook_is_signed(plan: Plan, hook: Channel, sink: Sink) -> None:
    """Red with a signature without the time: what was sent once could be sent again for ever."""
    make_rule("backup_failed", hook)
    ended(plan, "failed", error="The disk is full.")
    engine.look()
    send_all()
    [(method, path, headers, body)] = sink.requests
    assert (method, path) == ("POST", "/hook?key=t0ken-of-the-hook")
    stamp = headers["X-phpBorg-Timestamp"].encode()
    wanted = hmac.new(SECRET.encode(), stamp + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-phpBorg-Signature"] == f"sha256={wanted}"
    told = json.loads(body)
    assert (told["kind"], told["count"]) == ("problem", 1)
    assert told["items"][0]["sentence"] == "The backup failed: The disk is full."


def test_it_says_so_in_the_language_of_the_channel(plan: Plan, post: Post) -> None:
    make_rule("backup_failed", make_channel("mail", {"to": TO}, language="fr"))
    ended(plan, "failed")
    engine.look()
    send_all()
    assert "Toutes les alertes" in post.messages[0].get_body(("plain",)).get_content()  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [500, 429])
def test_what_may_pass_is_tried_again(plan: Plan, hook: Channel, sink: Sink, status: int) -> None:
    sink.status = status
    make_rule("backup_failed", hook)
    ended(plan, "failed")
    engine.look()
    [job] = send_all()
    assert (job.status, job.error) == ("pending", f"It answers {status}.")
    sink.status = 204
    Job.objects.update(not_before=None)
    [job] = send_all()
    assert job.status == "completed"
    assert Delivery.objects.get().status == "sent"
    assert len(sink.requests) == 2


def test_the_end_of_all_attempts_stands_in_the_history(admin: User, hook: Channel, sink: Sink) -> None:
    sink.status = 403
    assert run_now(send_test(hook, user=admin, trigger=Job.Trigger.USER)).status == "failed"
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.error) == ("failed", "It answers 403.")


def test_a_job_that_is_run_again_sends_nothing_twice(admin: User, hook: Channel, sink: Sink) -> None:
    job = run_now(send_test(hook, user=admin, trigger=Job.Trigger.USER))
    Job.objects.filter(pk=job.pk).update(status="pending")
    assert run_now(job).status == "completed"
    assert len(sink.requests) == 1


# --- Where nothing goes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.1.2.3", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "[::1]",
        "[::ffff:127.0.0.1]", "[fd00::1]", "[fe80::1]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "2130706433", "0x7f.1",
        "224.0.0.1",
    ],
)  # fmt: skip
def test_machines_inside_are_refused(host: str, settings: Any) -> None:
    settings.WEBHOOK_ALLOWED = []
    with pytest.raises(NotDelivered):
        outbound.send(f"http://{host}:{free_port()}/")


def test_a_webhook_to_this_machine_is_refused_and_nothing_is_sent(admin: User, settings: Any) -> None:
    with http_sink() as sink:
        channel = make_channel("webhook", {"url": sink.url, "secret": SECRET})
        settings.WEBHOOK_ALLOWED = []
        job = run_now(send_test(channel, user=admin, trigger=Job.Trigger.USER))
        assert (job.status, job.error) == ("failed", outbound.NOT_INSIDE)
        assert sink.requests == []


def test_a_name_that_leads_elsewhere_a_moment_later_changes_nothing(
    sink: Sink, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when the connection looks the name up again: the second answer is a machine inside."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *args: Any, **more: Any) -> Any:
        if host == "hook.example":
            asked.append(host)
            return real("127.0.0.1" if len(asked) == 1 else "127.0.0.9", *args, **more)
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert outbound.send(f"http://hook.example:{sink.port}/") == 200
    assert asked == ["hook.example"]
    assert sink.requests[0][2]["Host"] == f"hook.example:{sink.port}"


def test_one_bad_address_among_good_ones_is_enough(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOK_ALLOWED = []
    found = [(2, 1, 6, "", (address, 80)) for address in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(NotDelivered, match="machine inside"):
        outbound.addresses_of("hook.example", 80)


def test_nobody_is_redirected(admin: User, hook: Channel, sink: Sink) -> None:
    """Red with a client that follows: what an answer names would be asked."""
    with http_sink() as other:
        sink.status, sink.headers = 302, {"Location": other.url}
        job = run_now(send_test(hook, user=admin, trigger=Job.Trigger.USER))
        assert "redirect" in job.error
        assert other.requests == []


# --- Secrets ----------------------------------------------------------------------------------------


def everything() -> str:
    """All that is stored in tables that people read, in Redis, and in the log."""
    tables = [Job, JobEvent, LogLine, AuditEntry, Delivery, Incident, Channel]
    rows = "".join(serialize("json", table._default_manager.all()) for table in tables)
    redis = queue.connection()
    kept = [redis.dump(key) for key in redis.scan_iter()]
    return rows + repr(kept)


@pytest.mark.parametrize("is_well", [True, False])
def test_nobody_hears_where_a_channel_leads(
    is_well: bool, api_admin: APIClient, plan: Plan, post: Post, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Red without `without_secrets`: a mail server names the recipient that it refuses."""
    if not is_well:
        post.replies["RCPT"] = f"550 no such user {TO}"
        sink.status = 404
    made = [
        api_admin.post("/api/alert-channels", {"name": kind, "kind": kind, "target": target})
        for kind, target in (("mail", {"to": TO}), ("webhook", {"url": sink.url, "secret": SECRET}))
    ]
    assert [answer.status_code for answer in made] == [201, 201]
    for answer in made:
        assert api_admin.post(f"/api/alert-channels/{answer.json()['id']}/test", {}).status_code == 202
    make_rule("backup_failed", *Channel.objects.all())
    ended(plan, "failed")
    engine.look()
    before = everything()
    jobs = send_all()
    assert {job.status for job in jobs} == {"completed" if is_well else "failed"}
    shown = "".join(
        api_admin.get(path).content.decode()
        for path in ("/api/alert-channels", "/api/alert-deliveries", "/api/jobs", "/api/logs", "/api/audit")
    )
    ours = "".join(
        caplog.handler.format(record) for record in caplog.records if record.name != "mail.log"
    )  # the sink's
    told = before + everything() + shown + ours
    assert [secret for secret in (TO, SECRET, "t0ken-of-the-hook", sink.url) if secret in told] == []

"""Mail and webhooks: what arrives, what is signed, where nothing goes, and that nobody hears where it leads."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.serializers import serialize
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from alerts import engine, outbound
from alerts.channels.base import NotDelivered, NotDeliveredYet
from alerts.models import Channel, Delivery, Incident
from alerts.testing import send_test
from backups.models import Plan
from jobs import queue
from jobs.models import Job, JobEvent, LogLine
from phpborg.embedded import free_port
from tests.alerts.conftest import SECRET, TO, ended, make_channel, make_rule, send_all
from tests.alerts.sink import Sink, http_sink
from tests.conftest import run_now
from tests.smtp import Post, strange_server

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


@pytest.mark.parametrize("then", [b"", b"220-wait\r\n"], ids=["silent", "chatty"])
def test_a_mail_server_that_hangs_keeps_nobody_else_waiting(
    plan: Plan, mail: Channel, hook: Channel, sink: Sink, post: Post, live: Any, then: bytes
) -> None:
    """Red when a look sends by itself: all wait for the server; or when an attempt that hung is the last."""
    make_rule("backup_failed", mail, hook)
    ended(plan, "failed")
    with strange_server(b"220-", then=then) as port:
        live(SMTP_PORT=port, SMTP_TIMEOUT_SECONDS=1)
        engine.look()
        jobs = {Delivery.objects.get(job=job).channel: job for job in send_all()}
    assert (jobs[mail].status, jobs[hook].status) == ("pending", "completed")
    assert "seconds" in jobs[mail].error
    assert len(sink.requests) == 1
    live(SMTP_PORT=post.port, SMTP_TIMEOUT_SECONDS=30)
    Job.objects.update(not_before=None)
    assert [job.status for job in send_all()] == ["completed"]
    assert post.recipients == [TO]
    assert send_all() == []


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
        "224.0.0.1", "[ff02::1]", "[fe80::1%1]", "[::]", "[::7f00:1]", "[::ffff:0:7f00:1]", "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]", "[2001:0:7f00:1::80ff:fffe]", "255.255.255.255", "192.0.2.1", "198.18.0.1", "017700000001",
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_port", [True, False])
def test_machines_inside_are_refused(host: str, has_port: bool, settings: Any) -> None:
    """Red without a port of our own: the last part of an IPv6 address would be taken for one."""
    settings.WEBHOOK_ALLOWED = []
    with pytest.raises(NotDelivered, match="machine inside"):
        outbound.send(f"http://{host}:{free_port()}/" if has_port else f"http://{host}/")


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:93.184.215.14", "64:ff9b::808:808"]
)
def test_the_world_is_not_inside(address: str, settings: Any) -> None:
    settings.WEBHOOK_ALLOWED = []
    assert outbound.may_reach(address)


@pytest.mark.parametrize("address", ["/run/redis.sock", b"/run/redis.sock", ("localhost", 80)])
def test_only_addresses_are_connected_to(address: Any, settings: Any) -> None:
    """Red when what is no address is let through: a socket in the file system is a program of this machine."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with pytest.raises(NotDelivered), outbound.watched(), socket.socket(family) as sock:
        sock.connect(address)


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
    """Red when names are judged instead of what is connected to: the second answer is a machine inside."""
    settings.WEBHOOK_ALLOWED = [ip_network("127.0.0.9/32")]
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *args: Any, **more: Any) -> Any:
        asked.append(host)
        return real("127.0.0.9" if len(asked) == 1 else "127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    socket.getaddrinfo("hook.example", sink.port)
    with pytest.raises(NotDelivered, match="machine inside"):
        outbound.send(f"http://hook.example:{sink.port}/")
    assert asked == ["hook.example"] * 2
    assert sink.requests == []


def test_who_sends_a_byte_now_and_then_is_cut_off(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red without the watch's clock: each byte is an answer in time."""
    monkeypatch.setattr(outbound, "PATIENCE_FOR_ALL_SECONDS", 0.3)
    is_over = threading.Event()

    def drip(server: socket.socket) -> bool:
        with server.accept()[0] as client, suppress(OSError):
            for _piece in range(100):
                if is_over.wait(0.05):
                    return True
                client.sendall(b"H")
            return False
        return True

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as other:
        dripping = other.submit(drip, server)
        try:
            with pytest.raises(NotDeliveredYet, match="in all"):
                outbound.send(f"http://127.0.0.1:{server.getsockname()[1]}/")
        finally:
            is_over.set()
        assert dripping.result(), "It was listened to until the end."


def test_other_connections_are_nobodys_affair(sink: Sink, settings: Any) -> None:
    """Red when the hook judges beyond its watch, or other threads: the database may be a machine inside."""
    settings.WEBHOOK_ALLOWED = []

    def connect() -> None:
        socket.create_connection(("127.0.0.1", sink.port)).close()

    with outbound.watched(), ThreadPoolExecutor(1) as other:
        other.submit(connect).result()
    connect()


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
    # What the mail server of this test logs itself is not ours.
    ours = "".join(caplog.handler.format(record) for record in caplog.records if record.name != "mail.log")
    told = before + everything() + shown + ours
    assert [secret for secret in (TO, SECRET, "t0ken-of-the-hook", sink.url) if secret in told] == []

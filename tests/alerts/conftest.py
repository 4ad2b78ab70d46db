from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from django.utils import timezone

from alerts.models import Channel, Rule
from backups.models import Plan
from jobs.models import Job
from tests.alerts.sink import Sink, http_sink
from tests.conftest import run_now
from tests.smtp import Post, post_office

TO = "oncall-7f3a@example.org"
SECRET = "a signing secret, 32 characters!"


def make_rule(event: str = "backup_failed", *channels: Channel, **changes: Any) -> Rule:
    values = {"name": event, "severity": "critical", "gather_minutes": 0}
    rule = Rule.objects.create(event=event, **(values | changes))
    rule.channels.set(channels)
    return rule


def ended(plan: Plan, outcome: str, **job: Any) -> None:
    """The plan's last backup, as RunBackup.ended keeps it."""
    status = "failed" if outcome == "failed" else "completed"
    last = Job.objects.create(
        type="backup", subject=f"plan:{plan.pk}", plan=plan, server=plan.server, status=status,
        completed_at=timezone.now(), **job,
    )  # fmt: skip
    Plan.objects.filter(pk=plan.pk).update(last_job=last, last_outcome=outcome)


def send_all() -> list[Job]:
    """Do what there is to send, as a worker would."""
    return [run_now(job) for job in Job.objects.due().filter(type="alert").order_by("created_at")]


@pytest.fixture
def post(live: Callable[..., None], settings: Any) -> Iterator[Post]:
    """A real mail server, to which the settings lead."""
    settings.EMAIL_BACKEND = "jobs.mail.LiveBackend"
    with post_office() as office:
        live(
            SMTP_HOST="127.0.0.1", SMTP_TLS="none", MAIL_SENDER="borg@example.org", SMTP_PORT=office.port,
            SMTP_TIMEOUT_SECONDS=5, SITE_URL="http://localhost:8000",
        )  # fmt: skip
        yield office


@pytest.fixture
def sink(settings: Any) -> Iterator[Sink]:
    settings.WEBHOOK_ALLOWED = [ip_network("127.0.0.0/8")]
    with http_sink() as found:
        yield found


def make_channel(kind: str, target: dict[str, Any], **changes: Any) -> Channel:
    channel = Channel(**{"name": f"to {kind}", "kind": kind, **changes})
    channel.set_target(target)
    channel.save()
    return channel


@pytest.fixture
def mail(db: None) -> Channel:
    return make_channel("mail", {"to": TO})


@pytest.fixture
def hook(db: None, sink: Sink) -> Channel:
    return make_channel("webhook", {"url": sink.url, "secret": SECRET})

"""Rules and channels on their pages and over the API; the audit trail has what was before and after."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from alerts import engine
from alerts.events import EventKind
from alerts.models import Channel, Delivery, Rule
from backups.models import Plan
from tests.accounts.test_lists import rows_of
from tests.alerts.conftest import SECRET, TO, ended, make_rule

pytestmark = pytest.mark.django_db
RULE: dict[str, Any] = {
    "name": "Nights", "enabled": "on", "severity": "critical", "scope": "all", "gather_minutes": "5",
    "repeat_hours": "0", "tell_recovery": "on", "quiet": "22:00-07:00", "time_zone": "Europe/Paris", "hours": "30",
}  # fmt: skip


def told(action: str) -> dict[str, Any]:
    detail: dict[str, Any] = AuditEntry.objects.get(action=action).detail
    return detail


def test_a_rule_is_added_changed_and_deleted(as_admin: Client, plan: Plan, mail: Channel) -> None:
    add = {**RULE, "scope": "plans", "plans": "web-1/files", "channels": [mail.pk]}
    assert as_admin.post("/alerts/rules/add/no_good_backup", add).status_code == 302
    rule = Rule.objects.get()
    assert (rule.parameters, list(rule.plans.all()), list(rule.channels.all())) == ({"hours": 30}, [plan], [mail])
    assert as_admin.get(f"/alerts/rules/{rule.pk}").content.decode().count("web-1/files") == 1
    assert as_admin.post(f"/alerts/rules/{rule.pk}", {**add, "hours": "40"}).status_code == 302
    assert told("alert_rule.changed") == {"before": {"parameters.hours": 30}, "after": {"parameters.hours": 40}}
    assert as_admin.post(f"/alerts/rules/{rule.pk}/delete").status_code == 302
    assert told("alert_rule.deleted")["before"]["plans"] == ["web-1/files"]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("quiet", "whenever", "is no window"), ("quiet", "00:00-24:00", "leave no time"), ("hours", "0", "greater"),
        ("scope", "plans", "Name at least one"), ("plans", "web-9/x", "Not known: web-9/x"),
        ("time_zone", "Mars/Base", "There is no time zone “Mars/Base”"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense(as_admin: Client, field: str, value: str, sentence: str) -> None:
    answer = as_admin.post("/alerts/rules/add/no_good_backup", {**RULE, field: value})
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert not Rule.objects.exists()


@pytest.mark.parametrize("event", sorted(EventKind.registry))
def test_every_kind_has_its_form(as_admin: Client, event: str) -> None:
    assert as_admin.get(f"/alerts/rules/add/{event}").status_code == 200


def test_a_pool_rule_with_nothing_to_look_at(as_admin: Client) -> None:
    answer = as_admin.post("/alerts/rules/add/pool_low", {**RULE, "percent": "0", "days": "0"})
    assert answer.status_code == 400
    assert "nobody would ever be told" in answer.content.decode()


def test_where_a_channel_leads_is_entered_anew_or_stays(as_admin: Client) -> None:
    """Red when the address alone can be changed: the old secret would sign for another receiver."""
    url = "https://hook.example/x"
    base = {"name": "ops", "enabled": "on", "language": "en"}
    assert as_admin.post("/alerts/channels/add/webhook", {**base, "url": url}).status_code == 400
    both = {**base, "url": url, "secret": SECRET}
    assert as_admin.post("/alerts/channels/add/webhook", both).status_code == 302
    channel = Channel.objects.get()
    page = as_admin.get(f"/alerts/channels/{channel.pk}").content.decode()
    assert url not in page
    assert SECRET not in page
    assert as_admin.post(f"/alerts/channels/{channel.pk}", {**base, "name": "new"}).status_code == 302
    channel.refresh_from_db()
    assert channel.target() == {"url": url, "secret": SECRET}
    evil = {**base, "url": "https://evil.example/"}
    assert as_admin.post(f"/alerts/channels/{channel.pk}", evil).status_code == 400
    channel.refresh_from_db()
    assert channel.target()["url"] == url
    assert told("alert_channel.added")["destination"] == "set"


@pytest.mark.parametrize("to", ["", "nobody", "a@example.org, b", ", ".join(f"a{n}@example.org" for n in range(21))])
def test_bad_mail_addresses(as_admin: Client, to: str) -> None:
    form = {"name": "ops", "enabled": "on", "language": "en", "to": to}
    assert as_admin.post("/alerts/channels/add/mail", form).status_code == 400


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "https://", "https://u:p@a.example/", "http://a b/", "x", "http://[::"]
)
def test_bad_addresses(as_admin: Client, url: str) -> None:
    form = {"name": "ops", "enabled": "on", "language": "en", "url": url, "secret": SECRET}
    assert as_admin.post("/alerts/channels/add/webhook", form).status_code == 400


def test_a_test_from_the_page(as_admin: Client, mail: Channel) -> None:
    assert as_admin.post(f"/alerts/channels/{mail.pk}/test").status_code == 302
    assert Delivery.objects.get().kind == "test"
    assert AuditEntry.objects.get(action="alert.started").detail["channel"] == "to mail"
    assert TO not in str(AuditEntry.objects.values())


def test_open_alerts_and_history(as_viewer: Client, plan: Plan) -> None:
    make_rule("backup_failed")
    ended(plan, "failed", error="The disk is full.")
    engine.look()
    assert "The disk is full." in as_viewer.get("/alerts").content.decode()
    ended(plan, "good")
    engine.look()
    assert "The disk is full." not in as_viewer.get("/alerts").content.decode()
    assert "The disk is full." in as_viewer.get("/alerts?state=all").content.decode()
    [_head, row] = rows_of(as_viewer.get("/alerts?state=all&format=csv"))
    assert row[0] == "web-1/files"


def test_over_the_api(api_admin: APIClient, mail: Channel, plan: Plan) -> None:
    body = {"name": "n", "event": "no_good_backup", "channels": [mail.pk]}
    answer = api_admin.post("/api/alert-rules", body)
    assert (answer.status_code, answer.json()["parameters"]) == (201, {"hours": 26})
    path = f"/api/alert-rules/{answer.json()['id']}"
    assert api_admin.patch(path, {"parameters": {"hours": 0}}).status_code == 400
    assert api_admin.patch(path, {"parameters": {"huors": 3}}).status_code == 400
    assert api_admin.patch(path, {"event": "suspicious"}).status_code == 400
    assert api_admin.patch(path, {"scope": "plans"}).status_code == 400
    assert api_admin.patch(path, {"scope": "plans", "plans": [plan.pk]}).status_code == 200
    assert api_admin.patch(path, {"quiet": "never"}).status_code == 400
    assert api_admin.delete(path).status_code == 204

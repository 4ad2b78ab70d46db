"""What a message says: kept as plain facts with its delivery, and put into words when it is sent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from alerts.events import EventKind, local, sentence_of
from alerts.models import Channel, Delivery, Incident, Rule
from jobs.config import config

MOST_TOLD = 50  # of two hundred the others are counted


def message_of(rule: Rule, incidents: Sequence[Incident]) -> dict[str, Any]:
    """The facts, for Delivery.message."""
    return {
        "rule": rule.name,
        "severity": rule.severity,
        "items": [item_of(each) for each in incidents[:MOST_TOLD]],
    }


def item_of(incident: Incident) -> dict[str, Any]:
    return {
        "subject": incident.subject, "name": incident.name, "event": incident.event, "facts": incident.facts,
        "since": stamp(incident.opened_at), "until": stamp(incident.closed_at),
    }  # fmt: skip


def stamp(at: datetime | None) -> str:
    return at.isoformat(timespec="seconds") if at else ""


def in_words(delivery: Delivery, channel: Channel) -> dict[str, Any]:
    """The context of a template and the body of a webhook: plain texts and numbers, in the channel's language."""
    message = delivery.message
    with translation.override(channel.language):
        items = [
            {
                "name": item["name"], "subject": item["subject"], "event": item["event"],
                "sentence": sentence_of(item["event"], item["facts"]), "since": item["since"], "until": item["until"],
                "since_local": local(item["since"]), "until_local": local(item["until"]),
            }
            for item in message.get("items", [])
        ]  # fmt: skip
        severity = message.get("severity", "")
        return {
            "kind": delivery.kind, "rule": message.get("rule", ""), "severity": severity,
            "severity_label": str(dict(Rule.Severity.choices).get(severity, severity)),
            "title": title(delivery, items), "count": delivery.count, "items": items,
            "more": max(0, delivery.count - len(items)), "site": config.SITE_URL,
            "address": f"{config.SITE_URL}/alerts",
        }  # fmt: skip


def title(delivery: Delivery, items: Sequence[dict[str, Any]]) -> str:
    """In one line: of one thing its name and what is wrong with it, of many how many."""
    rule = delivery.message.get("rule", "")
    if delivery.kind == Delivery.Kind.TEST:
        return _("phpBorg: a test of the channel “%(name)s”") % {"name": delivery.channel.name}
    if delivery.kind == Delivery.Kind.REPORT:
        return str(delivery.message["title"])
    if delivery.count == 1 and items:
        about = items[0]["name"]
    else:
        about = ngettext("%(n)d alert", "%(n)d alerts", delivery.count) % {"n": delivery.count}
    words = {
        Delivery.Kind.PROBLEM: _("%(rule)s: %(about)s"),
        Delivery.Kind.REPEAT: _("Still so: %(rule)s: %(about)s"),
        Delivery.Kind.PING: "%(about)s",
        Delivery.Kind.RECOVERY: _("Over: %(rule)s: %(about)s"),
    }
    return words[Delivery.Kind(delivery.kind)] % {"rule": rule, "about": about}


def sample(language: str) -> dict[str, Any]:
    """What a template is tried with: one of two things that are wrong, and its error is hostile."""
    item = {
        "subject": "plan:1", "name": "web-1/nightly", "event": "backup_failed", "facts": {"error": "<disk full>"},
        "since": "2026-01-31T02:00:00+00:00", "until": "",
    }  # fmt: skip
    with translation.override(language):
        rule = str(EventKind.registry["backup_failed"].label)
    message = {"rule": rule, "severity": Rule.Severity.CRITICAL, "items": [item]}
    return in_words(Delivery(kind=Delivery.Kind.PROBLEM, count=2, message=message), Channel(language=language))

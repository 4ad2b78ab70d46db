"""What mails say is edited, looked at, and refused with a sentence when it makes no sense; it reaches nothing."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import AuditEntry
from alerts import engine, texts
from alerts.messages import sample
from alerts.models import Channel, MailTemplate
from alerts.sandbox import BadTemplate, render
from backups.models import Plan
from tests.alerts.conftest import ended, make_rule, send_all
from tests.smtp import Post

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]
GOOD = {"subject": "{{ title }}!", "text": "Hello: {{ count }}", "html": "<p>{{ title }}</p>"}


@pytest.mark.parametrize(
    ("language", "title"),
    [("en", "[critical] A backup failed: 2 alerts"), ("fr", "[critique] Une sauvegarde a échoué : 2 alertes")],
)
def test_ours_can_be_filled_in(language: str, title: str) -> None:
    subject, text, html = texts.rendered(texts.OURS[language], sample(language))
    assert subject == title
    assert "<disk full>" in text
    assert "&lt;disk full&gt;" in html
    assert "2026-01-31 02:00 UTC" in text
    assert "2026-01-31 02:00 UTC" in html


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% if x %}", "Line 1: Unclosed tag"),
        ("a\n{{ x|nothing }}", "Line 2: Invalid filter: 'nothing'"),
        ("{% include '/etc/passwd' %}", "Invalid block tag"),
        ("{% extends 'base.html' %}", "Invalid block tag"),
        ("{% load static %}", "Invalid block tag"),
        ("{% debug %}", "Invalid block tag"),
        ("{% url 'alerts' %}", "Invalid block tag"),
        ("{{ x|ljust:1000000000 }}", "Invalid filter"),
        ("{{ x.__class__ }}", "may not begin with underscores"),
        ("{% for a in x %}" * 2 + "{% if 1 %}{% for a in x %}{% endfor %}{% endif %}" + "{% endfor %}" * 2, "Loops"),
        ("{% for a, b, c in n %}{% endfor %}", "It cannot be filled in"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_sentence(source: str, why: str) -> None:
    """Red with Django's own engine: it loads files, and knows tags that lead out of the context."""
    with pytest.raises(BadTemplate) as error:
        render(source, {"x": "text", "n": [1]})
    assert why in str(error.value)


def test_it_is_looked_at_saved_used_and_put_back(as_admin: Client, plan: Plan, mail: Channel, post: Post) -> None:
    answer = as_admin.post("/alerts/templates/en", {**GOOD, "preview": "1"})
    assert "A backup failed: 2 alerts!" in answer.content.decode()
    assert not MailTemplate.objects.exists()
    assert as_admin.post("/alerts/templates/en", GOOD).status_code == 302
    make_rule("backup_failed", mail)
    ended(plan, "failed")
    engine.look()
    send_all()
    assert post.messages[0]["Subject"] == "backup_failed: web-1/files!"
    assert as_admin.post("/alerts/templates/en", {"reset": "1"}).status_code == 302
    assert not MailTemplate.objects.exists()
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"alert_template.changed", "alert_template.reset"} <= actions


def test_what_is_looked_at_is_text_of_the_page(as_admin: Client) -> None:
    """Red when what was rendered counts as safe: the page would run it, and the frame would end at the first quote."""
    hostile = {"subject": "<img src=x>", "text": "<script>alert(1)</script>", "html": '<p class="x">{{ title }}</p>'}
    shown = as_admin.post("/alerts/templates/en", {**hostile, "preview": "1"}).content.decode()
    assert "&lt;img src=x&gt;</b>" in shown
    assert ">&lt;script&gt;" in shown
    assert 'srcdoc="&lt;p class=&quot;x&quot;&gt;A backup failed' in shown


def test_a_mistake_is_told_at_its_field_and_not_stored(as_admin: Client) -> None:
    answer = as_admin.post("/alerts/templates/fr", {**GOOD, "text": "{% if %}"})
    assert answer.status_code == 400
    assert "Unexpected end of expression" in answer.content.decode()
    assert not MailTemplate.objects.exists()


def test_a_template_that_is_good_no_more_keeps_no_alert_back(plan: Plan, mail: Channel, post: Post) -> None:
    MailTemplate.objects.create(language="en", subject="{% nothing %}", text="", html="")
    make_rule("backup_failed", mail)
    ended(plan, "failed")
    engine.look()
    send_all()
    assert len(post.messages) == 1

"""The page that starts a job of any type: its parameters as a form, then the job's page."""

from typing import Any

import pytest
from django import forms
from django.contrib.messages import get_messages
from django.test import Client

from accounts.access import Permission
from accounts.models import User
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from tests.jobs.conftest import Probe


class DepthForm(forms.Form):
    depth = forms.IntegerField(min_value=1, help_text="How deep.")


@pytest.fixture
def deep(probe: type[Probe]) -> type[Probe]:
    probe.form = DepthForm
    return probe


def path(server: Server, job_type: str = "probe") -> str:
    return f"/jobs/start/{job_type}/{server.pk}"


def test_the_page_asks_for_the_types_parameters(as_operator: Client, deep: type[Probe], server: Server) -> None:
    html = as_operator.get(path(server)).content.decode()
    assert "Probe: web-1" in html
    assert 'name="depth"' in html
    assert "How deep." in html
    assert not Job.objects.exists()


def test_the_button_starts_the_job(as_operator: Client, operator: User, deep: type[Probe], server: Server) -> None:
    answer = as_operator.post(path(server), {"depth": "3", "type": "backup", "user": "1", "unknown": "x"})
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}"
    assert (job.type, job.payload, job.user, job.trigger) == ("probe", {"depth": 3}, operator, "user")


ELSEWHERE = ("", "//evil.example", "/\\evil.example", "https://evil.example/", "javascript:alert(1)", "evil")


@pytest.mark.parametrize(
    ("back", "leads_to"), [("/servers/7/access", "/servers/7/access"), *((wrong, "/jobs/") for wrong in ELSEWHERE)]
)
def test_a_page_that_shows_the_job_has_its_visitor_back(
    as_operator: Client, probe: type[Probe], server: Server, back: str, leads_to: str
) -> None:
    """And no other site has."""
    assert as_operator.post(path(server), {"back": back})["Location"].startswith(leads_to)


def test_a_type_without_parameters_is_started_by_the_button_alone(
    as_operator: Client, probe: type[Probe], server: Server
) -> None:
    assert as_operator.get(path(server)).status_code == 200
    assert as_operator.post(path(server)).status_code == 302
    assert Job.objects.get().payload == {}


@pytest.mark.parametrize("depth", ["", "0", "x", "9" * 5000, "\0"])
def test_a_wrong_parameter_is_named(as_operator: Client, deep: type[Probe], server: Server, depth: str) -> None:
    answer = as_operator.post(path(server), {"depth": depth})
    assert answer.status_code == 400
    assert "depth" in answer.context["form"].errors
    assert not Job.objects.exists()


def test_a_second_one_leads_to_the_first(as_operator: Client, probe: type[Probe], server: Server) -> None:
    first = probe.enqueue(server)
    answer = as_operator.post(path(server))
    assert answer["Location"] == f"/jobs/{first.pk}"
    assert [str(message) for message in get_messages(answer.wsgi_request)] == ["Probe is already waiting here."]
    assert Job.objects.count() == 1


def test_a_refusal_is_told_on_the_form(
    as_operator: Client, probe: type[Probe], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(subject: Any) -> None:
        raise Refused("<b>It rains.</b>")

    monkeypatch.setattr(probe, "refuse", staticmethod(refuse))
    answer = as_operator.post(path(server))
    assert answer.status_code == 400
    assert "&lt;b&gt;It rains.&lt;/b&gt;" in answer.content.decode()


def test_a_viewer_cannot_start(as_viewer: Client, probe: type[Probe], server: Server) -> None:
    assert as_viewer.get(path(server)).status_code == 403
    assert as_viewer.post(path(server)).status_code == 403
    assert not Job.objects.exists()


def test_a_type_needs_its_own_permission(as_operator: Client, as_admin: Client, server: Server) -> None:
    assert as_operator.post(path(server, "server_test")).status_code == 403
    assert as_admin.post(path(server, "server_test")).status_code == 302


def test_nobody_is_sent_to_the_login(client: Client, probe: type[Probe], server: Server) -> None:
    assert client.get(path(server))["Location"].startswith("/login")
    assert client.post(path(server))["Location"].startswith("/login")


def test_what_does_not_exist_is_404(as_admin: Client, probe: type[Probe], server: Server) -> None:
    for wrong in ("/jobs/start/nothing/1", "/jobs/start/probe/999999", f"/jobs/start/probe/{'9' * 30}"):
        assert as_admin.get(wrong).status_code == 404, wrong
        assert as_admin.post(wrong).status_code == 404, wrong


def test_what_one_may_not_see_is_404(as_viewer: Client, viewer: User, probe: type[Probe], server: Server) -> None:
    probe.permission = Permission.LOGS_VIEW
    group = viewer.groups.get()
    group.permissions.remove(*group.permissions.filter(codename="server.view"))
    assert as_viewer.post(path(server)).status_code == 404
    assert not Job.objects.exists()


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_refused(as_operator: Client, probe: type[Probe], server: Server, method: str) -> None:
    assert getattr(as_operator, method)(path(server)).status_code == 405

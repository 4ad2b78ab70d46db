"""POST /api/jobs: start a job of any type."""

import json
from typing import Any

import pytest
from django import forms
from rest_framework.test import APIClient

from accounts.access import Permission
from accounts.models import User
from backups.models import Archive
from jobs.models import Job
from servers.models import Server
from tests.jobs.conftest import Probe


class DepthForm(forms.Form):
    depth = forms.IntegerField(min_value=1)
    note = forms.CharField(required=False, max_length=20)


@pytest.fixture
def deep(probe: type[Probe]) -> type[Probe]:
    probe.form = DepthForm
    return probe


def start(client: APIClient, subject: Any, job_type: Any = "probe", **parameters: Any) -> Any:
    return client.post("/api/jobs", {"type": job_type, "subject": subject, "parameters": parameters})


def fields_of(answer: Any) -> set[str]:
    assert answer.status_code == 400, answer.content
    assert answer.json()["error"]["code"] == "invalid"
    return set(answer.json()["error"]["fields"])


def test_a_job_is_started_with_its_parameters(
    api_operator: APIClient, operator: User, deep: type[Probe], server: Server
) -> None:
    answer = start(api_operator, server.pk, depth=3)
    job = Job.objects.get()
    assert answer.status_code == 202
    assert (answer.json()["id"], answer.json()["status"], answer.json()["user"]) == (str(job.pk), "pending", "otto")
    assert (job.type, job.trigger, job.user) == ("probe", "api", operator)
    assert job.payload == {"depth": 3, "note": ""}


def test_parameters_may_be_left_out(api_operator: APIClient, probe: type[Probe], server: Server) -> None:
    assert api_operator.post("/api/jobs", {"type": "probe", "subject": server.pk}).status_code == 202


def test_a_type_that_does_not_exist_is_named(api_operator: APIClient, server: Server) -> None:
    answer = start(api_operator, server.pk, "nonsense")
    assert fields_of(answer) == {"type"}
    assert answer.json()["error"]["fields"]["type"] == ["There is no job type “nonsense”."]


@pytest.mark.parametrize(
    "parameters", [{}, {"depth": 0}, {"depth": "x"}, {"depth": None}, {"depth": [1]}, {"depth": {}}]
)
def test_a_wrong_parameter_is_named(
    api_operator: APIClient, deep: type[Probe], server: Server, parameters: dict[str, Any]
) -> None:
    assert fields_of(start(api_operator, server.pk, **parameters)) == {"depth"}
    assert not Job.objects.exists()


def test_a_parameter_that_does_not_exist_is_refused(api_operator: APIClient, deep: type[Probe], server: Server) -> None:
    answer = start(api_operator, server.pk, depth=1, detph=2, user="ada")
    assert fields_of(answer) == {"detph", "user"}
    assert answer.json()["error"]["fields"]["detph"] == ["There is no such parameter."]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"type": "probe"}, {"subject": 1}, {"type": "probe", "subject": "x"}, {"type": "probe", "subject": None},
        {"type": "probe", "subject": [1]}, {"type": "x" * 41, "subject": 1}, {"type": ["probe"], "subject": 1},
        {"type": "probe", "subject": 1, "parameters": []}, {"type": "probe", "subject": 1, "parameters": "x"}, [], "x",
    ],
)  # fmt: skip
def test_a_body_that_makes_no_sense_is_400(api_operator: APIClient, probe: type[Probe], body: Any) -> None:
    assert fields_of(api_operator.post("/api/jobs", body))


def test_a_subject_that_does_not_exist_is_404(api_operator: APIClient, probe: type[Probe]) -> None:
    assert start(api_operator, 999_999).status_code == 404


@pytest.mark.parametrize("subject", [0, -1, 2**63, 10**30])
def test_a_subject_that_cannot_exist_is_400(api_operator: APIClient, probe: type[Probe], subject: int) -> None:
    assert fields_of(start(api_operator, subject)) == {"subject"}


def test_a_subject_that_one_may_not_see_is_404(
    api_viewer: APIClient, viewer: User, probe: type[Probe], server: Server
) -> None:
    probe.permission = Permission.LOGS_VIEW
    group = viewer.groups.get()
    group.permissions.remove(*group.permissions.filter(codename="server.view"))
    assert start(api_viewer, server.pk).status_code == 404
    assert not Job.objects.exists()


def test_a_viewer_cannot_start(api_viewer: APIClient, probe: type[Probe], server: Server) -> None:
    answer = start(api_viewer, server.pk)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "permission_denied"
    assert not Job.objects.exists()


def test_a_type_needs_its_own_permission(api_operator: APIClient, api_admin: APIClient, server: Server) -> None:
    assert start(api_operator, server.pk, "server_test").status_code == 403
    assert start(api_admin, server.pk, "server_test").status_code == 202


def test_nobody_cannot_start(server: Server) -> None:
    assert start(APIClient(), server.pk).status_code == 401


def test_a_second_one_is_409_in_words(api_operator: APIClient, probe: type[Probe], server: Server) -> None:
    start(api_operator, server.pk)
    answer = start(api_operator, server.pk)
    assert answer.status_code == 409
    assert answer.json() == {"error": {"code": "conflict", "message": "Probe is already waiting here.", "fields": {}}}


# --- Hostile parameters ---------------------------------------------------------------------------


def send(client: APIClient, body: dict[str, Any]) -> Any:
    """As a program would that can write half of a character in JSON."""
    return client.post("/api/jobs", json.dumps(body).encode(), content_type="application/json")


@pytest.mark.parametrize(
    ("parameters", "field"), [({"depth": 1, "note": "\ud800"}, "note"), ({"depth": 1, "\ud800": 1}, "\\ud800")]
)
def test_half_of_a_character_is_refused(
    api_operator: APIClient, deep: type[Probe], server: Server, parameters: dict[str, Any], field: str
) -> None:
    answer = send(api_operator, {"type": "probe", "subject": server.pk, "parameters": parameters})
    assert fields_of(answer) == {field}
    assert not Job.objects.exists()


def test_half_of_a_character_in_a_restore_does_not_break_the_list_for_everybody(
    api_admin: APIClient, archive: Archive
) -> None:
    parameters = {"directory": "/srv/\ud800"}
    answer = send(api_admin, {"type": "restore", "subject": archive.pk, "parameters": parameters})
    assert answer.status_code == 400
    assert api_admin.get("/api/jobs").status_code == 200


@pytest.mark.parametrize("note", ["\0", "x" * 10_000])
def test_other_odd_texts_are_refused_by_the_field(
    api_operator: APIClient, deep: type[Probe], server: Server, note: str
) -> None:
    assert fields_of(start(api_operator, server.pk, depth=1, note=note)) == {"note"}


def test_markup_in_a_parameter_is_only_text(api_operator: APIClient, deep: type[Probe], server: Server) -> None:
    answer = start(api_operator, server.pk, depth=1, note="<b>x</b>")
    assert answer["Content-Type"] == "application/json"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer.json()["payload"]["note"] == "<b>x</b>"

"""Pressing “Back up now”, on the page and over the API."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from backups.models import Plan, Repository
from jobs.models import Job
from servers.models import Server
from tests.servers.conftest import OTHER_HOST_KEY

pytestmark = pytest.mark.django_db

REFUSALS: list[tuple[type[Any], dict[str, Any], str]] = [
    (Plan, {"enabled": False}, "The plan files is paused."),
    (Server, {"enabled": False}, "web-1 is switched off. Switch it on first."),
    (Server, {"host_key": ""}, "Nobody has confirmed the host key of web-1 yet. Test the connection, then confirm it."),
    (
        Server,
        {"host_key_seen": OTHER_HOST_KEY},
        "The host key of web-1 has changed. An administrator must look at it first.",
    ),
    (Repository, {"state": "creating"}, "The repository web-1 is still being made."),
    (Repository, {"state": "failed"}, "The repository web-1 could not be made. Look at its page."),
]


def run(client: Client, plan: Plan) -> Any:
    return client.post(f"/plans/{plan.pk}/run", follow=True)


# --- The button -------------------------------------------------------------------------------


def test_the_button_leads_to_the_job_that_it_started(as_operator: Client, operator: User, plan: Plan) -> None:
    answer = as_operator.post(f"/plans/{plan.pk}/run")
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}"
    assert (job.type, job.status, job.trigger, job.user) == ("backup", "pending", "user", operator)
    assert (job.plan, job.server, job.repository) == (plan, plan.server, plan.repository)
    assert (job.place, job.subject, job.payload) == (plan.repository.pool.place, f"plan:{plan.pk}", {})


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_second_press_leads_to_the_job_that_is_there(as_operator: Client, plan: Plan, status: str) -> None:
    run(as_operator, plan)
    Job.objects.update(status=status, started_at="2026-01-01T00:00:00Z")
    answer = run(as_operator, plan)
    job = Job.objects.get()
    assert answer.redirect_chain[-1][0] == f"/jobs/{job.pk}"
    assert f"Backup is already {job.get_status_display()} here." in answer.getvalue().decode()


@pytest.mark.parametrize(("model", "changes", "sentence"), REFUSALS)
def test_what_stands_in_the_way_is_said(
    as_operator: Client, plan: Plan, model: type[Any], changes: dict[str, Any], sentence: str
) -> None:
    model.objects.update(**changes)
    answer = run(as_operator, plan)
    assert answer.redirect_chain[-1][0] == f"/plans/{plan.pk}"
    assert sentence in answer.getvalue().decode()
    assert not Job.objects.exists()


def test_a_viewer_has_no_button_and_may_not_press_it(as_viewer: Client, plan: Plan) -> None:
    assert f"/plans/{plan.pk}/run" not in as_viewer.get(f"/plans/{plan.pk}").getvalue().decode()
    assert as_viewer.post(f"/plans/{plan.pk}/run").status_code == 403
    assert not Job.objects.exists()


def test_a_backup_takes_a_post(as_operator: Client, plan: Plan) -> None:
    assert as_operator.get(f"/plans/{plan.pk}/run").status_code == 405
    assert not Job.objects.exists()


# --- POST /api/backups ------------------------------------------------------------------------


def started(answer: Any) -> list[str]:
    """The names of the plans that were started."""
    assert answer.status_code == 202
    return [Job.objects.get(pk=job["id"]).plan.name for job in answer.json()]  # type: ignore[union-attr]


def refused(answer: Any, status: int) -> Any:
    assert answer.status_code == status
    assert not Job.objects.exists()
    return answer.json()["error"]


def test_a_program_starts_one_plan(api_operator: APIClient, operator: User, plan: Plan, second_plan: Plan) -> None:
    answer = api_operator.post("/api/backups", {"server_id": plan.server_id, "plan_id": second_plan.pk})
    assert started(answer) == ["home"]
    assert (Job.objects.get().trigger, Job.objects.get().user) == ("api", operator)


def test_without_a_plan_every_enabled_one_starts(api_operator: APIClient, plan: Plan, second_plan: Plan) -> None:
    Plan.objects.create(name="off", server=plan.server, repository=plan.repository, enabled=False)
    assert sorted(started(api_operator.post("/api/backups", {"server_id": plan.server_id}))) == ["files", "home"]


def test_a_type_chooses_plans_that_save_such_a_source(api_operator: APIClient, plan: Plan) -> None:
    body = {"server_id": plan.server_id, "type": "files"}
    plan.sources.add(plan.server.sources.create(name="more", parameters={"paths": ["/srv"]}))
    assert started(api_operator.post("/api/backups", body)) == ["files"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"server_id": 999}, "server_id"),
        ({"server_id": "web-1"}, "server_id"),
        ({"server_id": None}, "server_id"),
        ({"plan_id": 999}, "plan_id"),
        ({"plan_id": "files"}, "plan_id"),
        ({"type": "tape"}, "server_id"),
        ({"type": ""}, "type"),
    ],
)
def test_bad_input_starts_nothing(api_operator: APIClient, plan: Plan, changes: dict[str, Any], field: str) -> None:
    error = refused(api_operator.post("/api/backups", {"server_id": plan.server_id, **changes}), 400)
    assert set(error["fields"]) == {field}


def test_without_a_server_nothing_starts(api_operator: APIClient, plan: Plan) -> None:
    assert set(refused(api_operator.post("/api/backups", {}), 400)["fields"]) == {"server_id"}


def test_a_plan_of_another_server_is_none_of_this_one(
    api_operator: APIClient, plan: Plan, other_server: Server
) -> None:
    error = refused(api_operator.post("/api/backups", {"server_id": other_server.pk, "plan_id": plan.pk}), 400)
    assert error["fields"] == {"plan_id": ["This server has no such plan."]}


def test_a_server_without_a_plan_has_nothing_to_start(api_operator: APIClient, server: Server) -> None:
    error = refused(api_operator.post("/api/backups", {"server_id": server.pk}), 400)
    assert error["fields"] == {"server_id": ["No enabled plan of this server fits."]}


@pytest.mark.parametrize(("model", "changes", "sentence"), REFUSALS)
def test_what_stands_in_the_way_is_409_and_said(
    api_operator: APIClient, plan: Plan, model: type[Any], changes: dict[str, Any], sentence: str
) -> None:
    model.objects.update(**changes)
    error = refused(api_operator.post("/api/backups", {"server_id": plan.server_id, "plan_id": plan.pk}), 409)
    assert error == {"code": "conflict", "message": sentence, "fields": {}}


def test_if_one_is_refused_none_is_started(api_operator: APIClient, plan: Plan, second_plan: Plan) -> None:
    in_the_way = Job.objects.create(type="backup", plan=second_plan, subject=f"plan:{second_plan.pk}")
    answer = api_operator.post("/api/backups", {"server_id": plan.server_id})
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "Backup is already waiting here."
    assert list(Job.objects.all()) == [in_the_way]


def test_a_viewer_starts_nothing(api_viewer: APIClient, plan: Plan) -> None:
    refused(api_viewer.post("/api/backups", {"server_id": plan.server_id}), 403)

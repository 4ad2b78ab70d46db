"""DELETE /api/jobs/{id} cancels, POST /api/jobs/{id}/retry does it again."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from jobs.models import Job
from servers.models import Server
from tests.jobs.conftest import Probe, row, running

News = Callable[[], list[dict[str, Any]]]


def error_of(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.content
    assert set(answer.json()["error"]) == {"code", "message", "fields"}
    return str(answer.json()["error"]["message"])


# --- Cancel ---------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(api_operator: APIClient) -> None:
    job = row()
    answer = api_operator.delete(f"/api/jobs/{job.pk}")
    assert answer.status_code == 202
    assert (answer.json()["id"], answer.json()["status"]) == (str(job.pk), "cancelled")


def test_a_running_job_is_asked_to_stop(api_operator: APIClient) -> None:
    answer = api_operator.delete(f"/api/jobs/{running().pk}")
    assert answer.status_code == 202
    assert answer.json()["status"] == "running"
    assert answer.json()["cancel_requested_at"] is not None


def test_asking_twice_is_no_mistake(api_operator: APIClient) -> None:
    job = running()
    assert api_operator.delete(f"/api/jobs/{job.pk}").status_code == 202
    assert api_operator.delete(f"/api/jobs/{job.pk}").status_code == 202


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_has_ended_is_409(api_operator: APIClient, status: str) -> None:
    job = row(status=status)
    answer = api_operator.delete(f"/api/jobs/{job.pk}")
    job.refresh_from_db()
    assert error_of(answer, 409) == "The job has already ended."
    assert answer.json()["error"]["code"] == "conflict"
    assert job.status == status


def test_pages_hear_of_a_cancel(api_operator: APIClient, news: News) -> None:
    api_operator.delete(f"/api/jobs/{row().pk}")
    assert [event["status"] for event in news() if event["channel"] == "jobs"] == ["cancelled"]


def test_a_viewer_cannot_cancel(api_viewer: APIClient) -> None:
    job = row()
    assert error_of(api_viewer.delete(f"/api/jobs/{job.pk}"), 403) == "You may not do this."
    job.refresh_from_db()
    assert job.status == "pending"


def test_nobody_cannot_cancel(db: None) -> None:
    assert error_of(APIClient().delete(f"/api/jobs/{row().pk}"), 401)
    assert Job.objects.get().status == "pending"


def test_a_job_that_does_not_exist_is_404(api_operator: APIClient) -> None:
    assert error_of(api_operator.delete(f"/api/jobs/{uuid.uuid4()}"), 404)
    assert error_of(api_operator.post(f"/api/jobs/{uuid.uuid4()}/retry"), 404)


@pytest.mark.parametrize("method", ["put", "patch", "post"])
def test_a_job_cannot_be_written(api_admin: APIClient, method: str) -> None:
    job = row()
    assert error_of(getattr(api_admin, method)(f"/api/jobs/{job.pk}", {"status": "completed"}), 405)
    job.refresh_from_db()
    assert job.status == "pending"


# --- Again ----------------------------------------------------------------------------------------


@pytest.fixture
def ended(probe: type[Probe], server: Server) -> Job:
    return row(subject=f"server:{server.pk}", server=server, status="failed", payload={"depth": 3})


def retry(client: APIClient, job: Job) -> Any:
    return client.post(f"/api/jobs/{job.pk}/retry")


def test_an_ended_job_is_done_again_as_a_new_one(api_operator: APIClient, operator: User, ended: Job) -> None:
    answer = retry(api_operator, ended)
    new = Job.objects.exclude(pk=ended.pk).get()
    assert answer.status_code == 202
    assert (answer.json()["id"], answer.json()["status"]) == (str(new.pk), "pending")
    assert (new.trigger, new.user, new.payload) == ("retry", operator, {"depth": 3})


@pytest.mark.parametrize("status", ["pending", "running"])
def test_what_has_not_ended_is_not_done_again(api_operator: APIClient, ended: Job, status: str) -> None:
    Job.objects.update(status=status)
    assert error_of(retry(api_operator, ended), 409) == "The job has not ended yet."
    assert Job.objects.count() == 1


def test_another_one_in_the_way_is_409(api_operator: APIClient, ended: Job) -> None:
    row(subject=ended.subject)
    assert error_of(retry(api_operator, ended), 409) == "Probe is already waiting here."


def test_what_was_deleted_is_409(api_operator: APIClient, ended: Job) -> None:
    Job.objects.update(subject="server:999999")
    assert error_of(retry(api_operator, ended), 409) == "What the job was for has been deleted."


def test_a_job_that_was_for_nothing_is_not_retried(api_operator: APIClient, ended: Job) -> None:
    """Red when the empty id is asked for: a 500, which schemathesis found."""
    Job.objects.filter(pk=ended.pk).update(subject="")
    assert error_of(retry(api_operator, ended), 409) == "What the job was for has been deleted."


def test_a_type_that_is_gone_is_404(api_admin: APIClient) -> None:
    assert error_of(retry(api_admin, row(type="gone", status="failed")), 404)


def test_a_viewer_cannot_do_it_again(api_viewer: APIClient, ended: Job) -> None:
    assert error_of(retry(api_viewer, ended), 403)
    assert Job.objects.count() == 1


def test_a_type_needs_its_own_permission(api_operator: APIClient, api_admin: APIClient, server: Server) -> None:
    job = row(type="server_test", subject=f"server:{server.pk}", status="failed")
    assert error_of(retry(api_operator, job), 403)
    assert retry(api_admin, job).status_code == 202


def test_doing_it_again_is_a_post(api_operator: APIClient, ended: Job) -> None:
    assert error_of(api_operator.get(f"/api/jobs/{ended.pk}/retry"), 405)
    assert Job.objects.count() == 1

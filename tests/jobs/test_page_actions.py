"""Cancelling a job and running it again, from its page; and the toast that tells how it ended."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.messages import get_messages
from django.test import Client
from django.utils import timezone

from accounts.models import User
from jobs.models import Job
from servers.models import Server
from tests.conftest import page_of
from tests.jobs.conftest import Probe, row, running

News = Callable[[], list[dict[str, Any]]]
ACTIONS = ["cancel", "retry"]


def press(client: Client, job: Job, button: str) -> Any:
    return client.post(f"/jobs/{job.pk}/{button}")


def told(answer: Any) -> list[str]:
    return [str(message) for message in get_messages(answer.wsgi_request)]


@pytest.fixture
def ended(probe: type[Probe], server: Server) -> Job:
    return row(subject=f"server:{server.pk}", server=server, status="failed", payload={"depth": 3})


# --- Both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("button", ACTIONS)
def test_a_link_does_nothing(as_operator: Client, button: str) -> None:
    job = row()
    assert as_operator.get(f"/jobs/{job.pk}/{button}").status_code == 405
    assert Job.objects.get().status == "pending"


@pytest.mark.parametrize("button", ACTIONS)
def test_nobody_is_sent_to_the_login(client: Client, db: None, button: str) -> None:
    assert press(client, row(), button)["Location"].startswith("/login")
    assert Job.objects.get().status == "pending"


@pytest.mark.parametrize("button", ACTIONS)
def test_what_does_not_exist_is_404(as_operator: Client, button: str) -> None:
    assert press(as_operator, Job(pk=uuid.uuid4()), button).status_code == 404
    assert as_operator.post(f"/jobs/7/{button}").status_code == 404


@pytest.mark.parametrize("button", ACTIONS)
def test_a_form_of_another_site_does_nothing(operator: User, button: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    assert press(client, row(), button).status_code == 403
    assert Job.objects.get().status == "pending"


# --- Cancel ---------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(as_operator: Client) -> None:
    job = row()
    answer = press(as_operator, job, "cancel")
    job.refresh_from_db()
    assert answer["Location"] == f"/jobs/{job.pk}"
    assert job.status == "cancelled"
    assert told(answer) == ["The job is being cancelled."]


def test_a_running_job_is_asked_to_stop(as_operator: Client) -> None:
    job = running()
    press(as_operator, job, "cancel")
    job.refresh_from_db()
    assert (job.status, job.cancel_requested_at is not None) == ("running", True)
    html = as_operator.get(f"/jobs/{job.pk}").content.decode()
    assert "Cancelling" in html
    assert "disabled" in html


def test_pages_hear_that_a_waiting_job_is_cancelled(as_operator: Client, news: News) -> None:
    job = row()
    press(as_operator, job, "cancel")
    assert [event["status"] for event in news() if event["channel"] == "jobs"] == ["cancelled"]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_has_ended_stays_as_it_is(as_operator: Client, status: str) -> None:
    job = row(status=status)
    answer = press(as_operator, job, "cancel")
    job.refresh_from_db()
    assert told(answer) == ["The job had already ended."]
    assert job.status == status


def test_a_viewer_cannot_cancel(as_viewer: Client) -> None:
    job = row()
    assert press(as_viewer, job, "cancel").status_code == 403
    job.refresh_from_db()
    assert job.status == "pending"


# --- Run again ------------------------------------------------------------------------------------


def test_an_ended_job_is_run_again_as_a_new_one(as_operator: Client, operator: User, ended: Job) -> None:
    answer = press(as_operator, ended, "retry")
    new = Job.objects.exclude(pk=ended.pk).get()
    assert answer["Location"] == f"/jobs/{new.pk}"
    assert (new.status, new.user, new.trigger, new.payload) == ("pending", operator, "retry", {"depth": 3})


def test_one_that_stands_in_the_way_is_shown(as_operator: Client, ended: Job) -> None:
    other = row(subject=ended.subject)
    answer = press(as_operator, ended, "retry")
    assert answer["Location"] == f"/jobs/{other.pk}"
    assert told(answer) == ["Probe is already waiting here."]
    assert Job.objects.count() == 2


@pytest.mark.parametrize("status", ["pending", "running"])
def test_what_has_not_ended_is_not_run_again(as_operator: Client, ended: Job, status: str) -> None:
    Job.objects.update(status=status)
    answer = press(as_operator, ended, "retry")
    assert answer["Location"] == f"/jobs/{ended.pk}"
    assert told(answer) == ["The job has not ended yet."]


def test_what_was_deleted_is_not_run_again(as_operator: Client, ended: Job) -> None:
    Job.objects.update(subject="server:999999")
    assert told(press(as_operator, ended, "retry")) == ["What the job was for has been deleted."]


def test_a_viewer_cannot_run_again(as_viewer: Client, ended: Job) -> None:
    assert press(as_viewer, ended, "retry").status_code == 403
    assert Job.objects.count() == 1


def test_a_job_needs_the_permission_of_its_own_type(as_operator: Client, as_admin: Client, server: Server) -> None:
    test = row(type="server_test", subject=f"server:{server.pk}", status="failed")
    assert press(as_operator, test, "retry").status_code == 403
    assert press(as_admin, test, "retry").status_code == 302
    assert Job.objects.filter(type="server_test").count() == 2


def test_a_type_that_is_gone_cannot_be_run_again(as_admin: Client) -> None:
    assert press(as_admin, row(type="gone", status="failed"), "retry").status_code == 403


# --- The toast ------------------------------------------------------------------------------------


def toast(client: Client, job: Job) -> Any:
    return client.get(f"/jobs/{job.pk}/toast")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_whoever_started_a_job_is_told_how_it_ended(operator: User, server: Server, status: str) -> None:
    job = row(
        type="backup", user=operator, server=server, status=status, error="<b>Oh</b>", completed_at=timezone.now()
    )
    html = toast(page_of(operator), job).content.decode()
    assert f"/jobs/{job.pk}" in html
    assert "Backup · web-1" in html
    assert "&lt;b&gt;Oh&lt;/b&gt;" in html


def test_nobody_else_is_told(as_admin: Client, operator: User) -> None:
    answer = toast(as_admin, row(user=operator, status="failed"))
    assert (answer.status_code, answer.content) == (204, b"")


def test_of_a_job_that_nobody_started_nobody_is_told(as_admin: Client) -> None:
    assert toast(as_admin, row(user=None, status="failed")).status_code == 204


@pytest.mark.parametrize("status", ["pending", "running"])
def test_of_a_job_that_goes_on_nobody_is_told(operator: User, status: str) -> None:
    assert toast(page_of(operator), row(user=operator, status=status)).status_code == 204


def test_of_a_job_that_does_not_exist_nobody_is_told(as_operator: Client) -> None:
    assert toast(as_operator, Job(pk=uuid.uuid4())).status_code == 204


def test_whoever_may_only_start_and_not_see_gets_no_toast(viewer: User) -> None:
    group = Group.objects.create(name="blind")
    group.permissions.add(Permission.objects.get(codename="backup.create"))
    viewer.groups.set([group])
    assert toast(page_of(viewer), row(user=viewer, status="failed")).status_code == 403

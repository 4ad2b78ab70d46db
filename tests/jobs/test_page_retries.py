"""A job with several attempts, as pages, the downloaded log and the API show it; and "try again now"."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from jobs.models import Job, LogLine
from servers.models import Server
from tests.jobs.conftest import Probe, row

pytestmark = pytest.mark.django_db


def waiting(**values: Any) -> Job:
    """A job whose first attempt failed four minutes and a bit before the second one."""
    later = timezone.now() + timedelta(minutes=4, seconds=30)
    return row(
        **{"type": "backup", "attempts": 1, "max_attempts": 3, "not_before": later, "error": "No way.", **values}
    )


def write(job: Job, *attempts: int, first: int = 1) -> None:
    LogLine.objects.bulk_create(
        LogLine(job=job, number=number, attempt=attempt, at=timezone.now(), message=f"line {number}")
        for number, attempt in enumerate(attempts, first)
    )


def html_of(answer: Any) -> str:
    return str(answer.getvalue().decode()) if answer.streaming else str(answer.content.decode())


# --- What is shown --------------------------------------------------------------------------------


def test_the_page_says_which_attempt_failed_why_and_when_the_next_one_comes(as_viewer: Client) -> None:
    html = html_of(as_viewer.get(f"/jobs/{waiting().pk}"))
    assert "Attempt 1 of 3 failed, the next one" in html
    assert ">in 4 min</time>" in html
    assert "No way." in html


def test_the_list_says_so_too(as_viewer: Client) -> None:
    waiting()
    html = html_of(as_viewer.get("/jobs"))
    assert "Attempt 1 of 3 failed, the next one" in html


def test_a_running_attempt_says_which_it_is(as_viewer: Client) -> None:
    job = row(status="running", attempts=2, max_attempts=3, started_at=timezone.now())
    assert "Attempt 2 of 3." in html_of(as_viewer.get(f"/jobs/{job.pk}"))


def test_an_ended_job_says_how_many_it_took(as_viewer: Client) -> None:
    now = timezone.now()
    several = row(status="completed", attempts=2, max_attempts=3, started_at=now, completed_at=now)
    one = row(status="completed", attempts=1, max_attempts=3, started_at=now, completed_at=now)
    assert "It took 2 attempts." in html_of(as_viewer.get(f"/jobs/{several.pk}"))
    assert "attempts" not in html_of(as_viewer.get(f"/jobs/{one.pk}"))


def headings(html: str) -> list[str]:
    found = html.split('<li class="gap attempt">')[1:]
    return [piece.partition("</li>")[0] for piece in found]


def test_each_attempt_has_its_heading_in_the_log(as_viewer: Client) -> None:
    job = row(attempts=3, max_attempts=3, log_lines=5)
    write(job, 1, 1, 2, 3, 3)
    html = html_of(as_viewer.get(f"/jobs/{job.pk}"))
    assert headings(html) == ["Attempt 1", "Attempt 2", "Attempt 3"]
    assert html.index("line 2") < html.index("Attempt 2") < html.index("line 3")


def test_what_follows_live_gets_a_heading_only_where_an_attempt_begins(as_viewer: Client) -> None:
    job = row(status="running", attempts=2, log_lines=4, started_at=timezone.now())
    write(job, 1, 1, 2, 2)
    after = {number: headings(html_of(as_viewer.get(f"/jobs/{job.pk}/live?after={number}"))) for number in range(4)}
    assert after == {0: ["Attempt 1", "Attempt 2"], 1: ["Attempt 2"], 2: ["Attempt 2"], 3: []}


def test_a_job_with_one_attempt_has_no_headings(as_viewer: Client) -> None:
    job = row(attempts=1, log_lines=2)
    write(job, 1, 1)
    assert headings(html_of(as_viewer.get(f"/jobs/{job.pk}"))) == []
    assert "# Attempt" not in html_of(as_viewer.get(f"/jobs/{job.pk}/log"))


def test_the_downloaded_log_keeps_attempts_apart(as_viewer: Client) -> None:
    job = row(attempts=2, log_lines=3)
    write(job, 1, 2, 2)
    words = [line.split()[-1] for line in html_of(as_viewer.get(f"/jobs/{job.pk}/log")).splitlines()]
    assert words == ["1", "1", "2", "2", "3"]
    assert html_of(as_viewer.get(f"/jobs/{job.pk}/log")).startswith("# Attempt 1\n")


def test_a_log_that_is_no_longer_kept_says_so(as_viewer: Client) -> None:
    job = row(status="completed", log_lines=7, started_at=timezone.now(), completed_at=timezone.now())
    assert "The log of this job is no longer kept." in html_of(as_viewer.get(f"/jobs/{job.pk}"))
    write(job, 1)
    assert "no longer kept" not in html_of(as_viewer.get(f"/jobs/{job.pk}"))


# --- Try again now --------------------------------------------------------------------------------


def press(client: Client, job: Job) -> Any:
    return client.post(f"/jobs/{job.pk}/now")


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("operator", True), ("admin", True)])
def test_the_button_is_for_those_who_may(role: str, may: bool, request: pytest.FixtureRequest) -> None:
    client, job = request.getfixturevalue(f"as_{role}"), waiting()
    assert (f"/jobs/{job.pk}/now" in html_of(client.get(f"/jobs/{job.pk}"))) == may
    assert press(client, job).status_code == (302 if may else 403)
    job.refresh_from_db()
    assert (job.not_before is None) == may


def test_the_button_is_not_there_for_one_that_waits_for_a_worker(as_admin: Client) -> None:
    job = row(type="backup")
    assert f"/jobs/{job.pk}/now" not in html_of(as_admin.get(f"/jobs/{job.pk}"))
    answer = press(as_admin, job)
    told = [str(message) for message in get_messages(answer.wsgi_request)]
    assert told == ["The job does not wait for another attempt."]


def test_a_link_does_nothing_and_nobody_is_sent_to_the_login(as_admin: Client, client: Client) -> None:
    job = waiting()
    assert as_admin.get(f"/jobs/{job.pk}/now").status_code == 405
    assert press(client, job)["Location"].startswith("/login")
    assert Job.objects.get().not_before


def test_a_type_that_needs_more_is_refused_to_those_who_have_less(as_operator: Client, server: Server) -> None:
    job = waiting(type="server_test", server=server)
    assert press(as_operator, job).status_code == 403


@pytest.mark.parametrize("path", ["/jobs/00000000-0000-4000-8000-000000000000/now", "/jobs/x/now"])
def test_what_does_not_exist_is_404(as_admin: Client, path: str) -> None:
    assert as_admin.post(path).status_code == 404


# --- The API --------------------------------------------------------------------------------------


def test_the_api_tells_when_the_next_attempt_comes(api_viewer: APIClient) -> None:
    shown = api_viewer.get(f"/api/jobs/{waiting().pk}").json()
    assert (shown["status"], shown["attempts"], shown["max_attempts"]) == ("pending", 1, 3)
    assert shown["not_before"]


def test_the_api_starts_it_now_and_refuses_a_second_time(api_operator: APIClient) -> None:
    job = waiting()
    answer = api_operator.post(f"/api/jobs/{job.pk}/now")
    assert (answer.status_code, answer.json()["not_before"]) == (202, None)
    assert api_operator.post(f"/api/jobs/{job.pk}/now").status_code == 409
    assert api_operator.get(f"/api/jobs/{job.pk}/now").status_code == 405


def test_the_api_asks_for_the_permission_of_the_type(
    api_viewer: APIClient, api_operator: APIClient, probe: type[Probe]
) -> None:
    assert api_viewer.post(f"/api/jobs/{waiting().pk}/now").status_code == 403
    assert api_operator.post(f"/api/jobs/{waiting(type='gone').pk}/now").status_code == 404
    assert api_operator.post(f"/api/jobs/{waiting(type='probe').pk}/now").status_code == 202

"""Every page answers, for whoever may see it."""

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from backups.models import Archive
from jobs.models import Job
from tests.conftest import make_archive


@pytest.fixture
def job(archive: Archive) -> Job:
    return Job.objects.create(
        type="backup", server=archive.server, repository=archive.repository, plan=archive.plan,
        subject=f"plan:{archive.plan_id}",
    )  # fmt: skip


def paths(archive: Archive, job: Job) -> list[str]:
    server, plan, repository = archive.server, archive.plan, archive.repository
    assert plan
    return [
        "/", "/servers", f"/servers/{server.pk}",
        *(f"/servers/{server.pk}?tab={tab}" for tab in ("plans", "archives", "jobs", "access")),
        "/statistics", "/search", "/search?q=nothing", "/logs", "/servers?state=at-risk",
        "/servers?ordering=-seen_at", "/plans?search=x",
        "/repositories?search=x", "/archives?search=x", "/jobs?server=nowhere",
        "/plans", f"/plans/{plan.pk}", f"/plans/{plan.pk}/retention", "/retention-policies",

        "/repositories", f"/repositories/{repository.pk}",
        f"/pools/{repository.pool_id}", "/archives", f"/archives/{archive.pk}", f"/archives/{archive.pk}/diff",
        "/jobs", f"/jobs/{job.pk}",
        f"/jobs/{job.pk}/live?after=0", "/jobs/strip", f"/jobs/{job.pk}/log", "/profile", "/profile/password",
    ]  # fmt: skip


def manager_paths(archive: Archive) -> list[str]:
    server, plan = archive.server, archive.plan
    assert plan
    return [
        "/servers/add", f"/servers/{server.pk}/edit", f"/servers/{server.pk}/access",
        f"/servers/{server.pk}/access/steps", f"/servers/{server.pk}/delete", f"/servers/{server.pk}/plans/add",
        f"/plans/{plan.pk}/edit", f"/plans/{plan.pk}/delete", "/repositories/add", "/repositories/import", "/pools/add",
        f"/pools/{archive.repository.pool_id}/edit", f"/archives/{archive.pk}/restore",
        f"/archives/{archive.pk}/delete", f"/jobs/start/rename/{archive.pk}",
        "/retention-policies/add", f"/repositories/{archive.repository_id}/edit",
        f"/repositories/{archive.repository_id}/kit",
        f"/jobs/start/server_test/{server.pk}", "/admin/", "/admin/backups/repository/", "/admin/jobs/job/",
    ]  # fmt: skip


def test_a_viewer_sees_every_page_that_changes_nothing(as_viewer: Client, archive: Archive, job: Job) -> None:
    make_archive(job.plan, suspicion="The archive is empty.")  # type: ignore[arg-type]
    for path in paths(archive, job):
        assert as_viewer.get(path).status_code == 200, path


def test_a_viewer_is_refused_where_things_change(as_viewer: Client, archive: Archive) -> None:
    for path in manager_paths(archive):
        answer = as_viewer.get(path)
        assert answer.status_code in (302, 403), path  # 302: the admin sends to its login
        assert answer.status_code == 403 or "/admin/login" in answer["Location"], path


def test_an_administrator_sees_everything(as_admin: Client, archive: Archive, job: Job) -> None:
    for path in [*paths(archive, job), *manager_paths(archive)]:
        assert as_admin.get(path).status_code == 200, path


def test_nobody_is_sent_to_the_login(client: Client, archive: Archive, job: Job) -> None:
    for path in [*paths(archive, job), *manager_paths(archive)]:
        answer = client.get(path)
        assert answer.status_code == 302, path
        assert "/login" in answer["Location"], path


def test_pages_have_no_inline_script_or_style(as_admin: Client, archive: Archive, job: Job) -> None:
    for path in [*paths(archive, job), *manager_paths(archive)]:
        if path.startswith("/admin"):
            continue
        html = as_admin.get(path).getvalue().decode()
        assert " style=" not in html, path
        assert " onclick=" not in html, path
        assert "<script>" not in html, path


def test_the_content_security_policy_allows_nothing_inline(as_admin: Client) -> None:
    policy = as_admin.get("/")["Content-Security-Policy"]
    assert "script-src 'self';" in policy + ";"
    assert "unsafe" not in policy


def test_a_form_that_was_sent_without_a_session_leads_back_to_the_page_that_showed_it(client: Client, job: Job) -> None:
    """Red when it leads to the form's address, which takes only POST. A page elsewhere has no say."""
    form, shown = f"/jobs/{job.pk}/cancel", f"/jobs/{job.pk}?a=1"
    for referer, back in ((f"http://testserver{shown}", shown), (f"https://elsewhere.example{shown}", form)):
        answer = client.post(form, headers={"referer": referer})
        assert answer["Location"] == reverse("login", query={"next": back})


def test_a_part_that_is_gone_is_said_in_a_sentence_and_not_with_a_page(as_viewer: Client) -> None:
    """Red when the whole page of the error is put into the one that is open."""
    answer = as_viewer.get(f"/jobs/{uuid4()}/live", headers={"HX-Request": "true"})
    assert answer.status_code == 404
    assert "This is gone" in answer.content.decode() and "<html" not in answer.content.decode()


def test_a_state_that_there_is_not_finds_no_server(as_viewer: Client, archive: Archive) -> None:
    """Red when it is left out: a list of all servers would be taken for those at risk."""
    assert as_viewer.get("/servers?state=at+risk").context["rows"] == []
    assert len(as_viewer.get("/servers").context["rows"]) == 1

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from backups.models import Plan, Repository, Source
from jobs.models import Job, LogLine
from servers.models import Server
from tests.conftest import make_archive
from tests.servers.conftest import answers

pytestmark = pytest.mark.django_db


def delete(client: Client, server: Server, *, typed: str = "web-1") -> str:
    return client.post(f"/servers/{server.pk}/delete", {"name": typed}, follow=True).getvalue().decode()


def test_who_typed_the_name_deletes_the_server(as_admin: Client, admin: User, server: Server) -> None:
    html = delete(as_admin, server)
    assert not Server.objects.exists()
    assert "web-1 is deleted. Nothing was changed on the machine." in html
    entry = AuditEntry.objects.get(action="server.deleted")
    assert (entry.user, entry.target) == (admin, "web-1")


@pytest.mark.parametrize("typed", ["", "WEB-1", "web-1 ", "web"])
def test_who_typed_another_name_deletes_nothing(as_admin: Client, server: Server, typed: str) -> None:
    html = delete(as_admin, server, typed=typed)
    assert Server.objects.filter(pk=server.pk).exists()
    assert "Type the server&#x27;s name to confirm." in html


def test_the_page_says_what_goes_and_asks_for_the_name(as_admin: Client, server: Server) -> None:
    html = as_admin.get(f"/servers/{server.pk}/delete").getvalue().decode()
    assert "its key pair, its jobs and their logs" in html
    assert "Type “web-1” to confirm" in html


def test_its_sources_jobs_and_logs_go_with_it(as_admin: Client, server: Server) -> None:
    Source.objects.create(name="etc", server=server, parameters={"paths": ["/etc"]})
    job = Job.objects.create(type="server_test", server=server, status=Job.Status.COMPLETED)
    LogLine.objects.create(job=job, number=1, at=job.created_at, message="hello")
    delete(as_admin, server)
    assert not (Source.objects.exists() or Job.objects.exists() or LogLine.objects.exists())


def test_a_server_with_repositories_stays_and_the_page_says_why(as_admin: Client, repository: Repository) -> None:
    html = delete(as_admin, repository.server)
    assert "web-1 still has: 1 repository. Delete the plans first" in html
    assert Repository.objects.filter(pk=repository.pk).exists()
    assert not AuditEntry.objects.filter(action="server.deleted").exists()


def test_a_server_with_plans_keeps_everything_that_belongs_to_it(as_admin: Client, plan: Plan) -> None:
    delete(as_admin, plan.server)
    plan.refresh_from_db()
    assert plan.sources.count() == 1


def test_the_api_answers_409_and_says_what_is_in_the_way(api_admin: APIClient, plan: Plan) -> None:
    answer = api_admin.delete(f"/api/servers/{plan.server_id}")
    assert answer.status_code == 409
    make_archive(plan)
    make_archive(plan)
    answer = api_admin.delete(f"/api/servers/{plan.server_id}")
    assert answer.json()["error"] == {
        "code": "conflict", "fields": {},
        "message": "web-1 still has: 1 repository, 1 plan, 2 archives. Delete the plans first, then the archives, then "
        "the repositories; what lies on a disk stays there until you remove it.",
    }  # fmt: skip
    assert Plan.objects.filter(pk=plan.pk).exists()


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_server_with_an_unfinished_job_stays(api_admin: APIClient, server: Server, status: str) -> None:
    Job.objects.create(type="server_test", server=server, status=status)
    answer = api_admin.delete(f"/api/servers/{server.pk}")
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        409, "A job of web-1 is still running or waiting. Cancel it first.",
    )  # fmt: skip
    assert Server.objects.exists()


def test_the_api_deletes_a_server_without_any(api_admin: APIClient, admin: User, server: Server) -> None:
    assert api_admin.delete(f"/api/servers/{server.pk}").status_code == 204
    assert not Server.objects.exists()
    assert AuditEntry.objects.get(action="server.deleted").user == admin


def test_only_who_manages_servers_deletes_one(
    as_operator: Client, as_viewer: Client, api_operator: APIClient, server: Server
) -> None:
    assert as_operator.post(f"/servers/{server.pk}/delete", {"name": "web-1"}).status_code == 403
    assert as_viewer.post(f"/servers/{server.pk}/delete", {"name": "web-1"}).status_code == 403
    assert api_operator.delete(f"/api/servers/{server.pk}").status_code == 403
    assert Server.objects.exists()


def test_a_server_that_is_gone_is_404(as_admin: Client, api_admin: APIClient, server: Server) -> None:
    delete(as_admin, server)
    assert as_admin.post(f"/servers/{server.pk}/delete", {"name": "web-1"}).status_code == 404
    assert api_admin.delete(f"/api/servers/{server.pk}").status_code == 404


def test_after_it_another_may_have_its_name(as_admin: Client, server: Server) -> None:
    delete(as_admin, server)
    as_admin.post("/servers/add", answers(name="web-1"))
    assert Server.objects.get().public_key != server.public_key

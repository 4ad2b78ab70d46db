import pytest
from django.test import Client

from accounts.models import AuditEntry, User
from backups.models import Archive, Plan, Repository, Source
from jobs.models import Job
from tests.conftest import make_archive

pytestmark = pytest.mark.django_db


def delete(client: Client, plan: Plan) -> str:
    return client.post(f"/plans/{plan.pk}/delete", follow=True).getvalue().decode()


def test_a_plan_goes_and_its_archives_stay(as_admin: Client, archive: Archive) -> None:
    assert archive.plan
    html = delete(as_admin, archive.plan)
    assert "The plan is deleted. Its archives are still there." in html
    archive.refresh_from_db()
    assert archive.plan is None
    assert (Plan.objects.count(), Repository.objects.count(), Source.objects.count()) == (0, 1, 1)


def test_the_page_says_what_stays(as_admin: Client, archive: Archive) -> None:
    assert archive.plan
    page = f"/plans/{archive.plan.pk}/delete"
    assert "Its archive stays in the repository web-1" in as_admin.get(page).getvalue().decode()
    make_archive(archive.plan)
    assert "Its 2 archives stay in the repository web-1" in as_admin.get(page).getvalue().decode()


def test_deleting_is_audited(as_admin: Client, admin: User, plan: Plan) -> None:
    delete(as_admin, plan)
    entry = AuditEntry.objects.get(action="plan.deleted")
    assert (entry.user, entry.target) == (admin, "web-1/files")


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_plan_with_an_unfinished_job_stays_and_the_page_says_why(as_admin: Client, plan: Plan, status: str) -> None:
    Job.objects.create(type="backup", plan=plan, status=status, started_at="2026-01-01T00:00:00Z")
    assert "A job of this plan is still running or waiting. Cancel it first." in delete(as_admin, plan)
    assert Plan.objects.exists()


def test_its_ended_jobs_stay(as_admin: Client, plan: Plan) -> None:
    job = Job.objects.create(type="backup", plan=plan, status="completed")
    Plan.objects.update(last_job=job)
    delete(as_admin, plan)
    job.refresh_from_db()
    assert job.plan is None


def test_pages_of_an_archive_without_a_plan_still_answer(as_admin: Client, archive: Archive) -> None:
    assert archive.plan
    delete(as_admin, archive.plan)
    for path in ("/archives", f"/archives/{archive.pk}", f"/archives/{archive.pk}/restore"):
        assert as_admin.get(path).status_code == 200


def test_looking_deletes_nothing(as_admin: Client, plan: Plan) -> None:
    as_admin.get(f"/plans/{plan.pk}/delete")
    assert Plan.objects.exists()

"""What a repository's page says when something is wrong, and what a person decides there."""

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from backups.models import Archive, Plan, Repository
from jobs.models import Job
from tests.conftest import make_archive

pytestmark = pytest.mark.django_db


def page(client: Client, repository: Repository) -> str:
    answer = client.get(f"/repositories/{repository.pk}")
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_well_repository_says_nothing(as_admin: Client, repository: Repository) -> None:
    shown = page(as_admin, repository)
    assert 'role="alert"' not in shown.partition("<template")[0]
    assert "every 7 days" in shown


def test_damage_and_frost_are_shown_in_words(as_viewer: Client, repository: Repository) -> None:
    Repository.objects.update(damage="The check found damage: <b>.", frozen="An archive is there.")
    shown = page(as_viewer, repository)
    assert "The check found damage: &lt;b&gt;." in shown
    assert "An archive is there." in shown
    assert "damaged" in shown
    assert "/accept" not in shown  # a viewer decides nothing
    assert "damaged" in as_viewer.get("/repositories").content.decode()


def test_a_person_decides_and_that_is_audited(as_admin: Client, plan: Plan) -> None:
    make_archive(plan, name="kept")
    make_archive(plan, name="gone", vanished_at=timezone.now())
    Repository.objects.update(frozen="An archive is gone.")
    assert "strike off what is gone (one archive)" in page(as_admin, plan.repository)
    as_admin.post(f"/repositories/{plan.repository_id}/accept")
    assert Repository.objects.get().frozen == ""
    assert list(Archive.objects.values_list("name", flat=True)) == ["kept"]
    entry = AuditEntry.objects.get(action="repository.accepted")
    assert entry.detail == {"why": "An archive is gone.", "struck_off": ["gone"]}


@pytest.mark.parametrize("path", ["accept", "edit"])
def test_only_who_may_manage_decides(as_operator: Client, repository: Repository, path: str) -> None:
    assert as_operator.post(f"/repositories/{repository.pk}/{path}", {"check_days": 1}).status_code == 403
    Repository.objects.update(frozen="Odd.")
    as_operator.post(f"/repositories/{repository.pk}/accept")
    assert Repository.objects.get().frozen == "Odd."


def test_how_often_it_is_checked_can_be_changed(as_admin: Client, repository: Repository) -> None:
    url = f"/repositories/{repository.pk}/edit"
    assert as_admin.post(url, {"check_days": "-1", "verify_days": "x"}).status_code == 400
    assert as_admin.post(url, {"check_days": "0", "verify_days": "90"}).status_code == 302
    repository.refresh_from_db()
    assert (repository.check_days, repository.verify_days) == (0, 90)
    assert AuditEntry.objects.get(action="repository.changed").detail == {
        "before": {"check_days": 7, "verify_days": 0}, "after": {"check_days": 0, "verify_days": 90},
    }  # fmt: skip
    assert "every 90 days" in page(as_admin, repository)


def test_a_check_starts_from_a_form_and_a_comparison_from_a_button(as_operator: Client, repository: Repository) -> None:
    assert "How thoroughly" in as_operator.get(f"/jobs/start/check/{repository.pk}").content.decode()
    as_operator.post(f"/jobs/start/check/{repository.pk}", {"depth": "data"})
    as_operator.post(f"/jobs/start/compare/{repository.pk}")
    assert {(job.type, job.payload.get("depth")) for job in Job.objects.all()} == {("check", "data"), ("compare", None)}
    assert as_operator.post(f"/jobs/start/compact/{repository.pk}").status_code == 403


def test_archives_say_what_speaks_against_them(as_viewer: Client, plan: Plan) -> None:
    odd = make_archive(plan, quarantine="phpBorg did not make this archive.")
    gone = make_archive(plan, vanished_at=timezone.now())
    assert "put aside" in as_viewer.get("/archives").content.decode()
    assert "phpBorg did not make this archive." in as_viewer.get(f"/archives/{odd.pk}").content.decode()
    assert "phpBorg did not delete it" in as_viewer.get(f"/archives/{gone.pk}").content.decode()


def test_the_api_tells_the_same(api_viewer: APIClient, repository: Repository) -> None:
    Repository.objects.update(damage="A byte.", frozen="Odd.")
    shown = api_viewer.get(f"/api/repositories/{repository.pk}").json()
    assert (shown["damage"], shown["frozen"], shown["check_days"], shown["checked_at"]) == ("A byte.", "Odd.", 7, None)


# --- A suspicious archive ----------------------------------------------------------------------------


def test_a_person_may_say_that_a_suspicious_archive_is_as_it_should_be(as_admin: Client, plan: Plan) -> None:
    job = Job.objects.create(type="backup", status="completed", plan=plan, result={"suspicion": "It is small."})
    archive = make_archive(plan, suspicion="It is small.", job=job)
    Plan.objects.update(last_job=job)
    assert "it is as it should be" in as_admin.get(f"/archives/{archive.pk}").content.decode()
    assert "It is small." in as_admin.get(f"/plans/{plan.pk}").content.decode()
    assert as_admin.post(f"/archives/{archive.pk}/trust").status_code == 302
    plan.refresh_from_db()
    assert plan.last_good_archive() == archive
    assert plan.last_good_at == archive.taken_at
    assert "It is small." not in as_admin.get(f"/plans/{plan.pk}").content.decode()
    entry = AuditEntry.objects.get(action="archive.trusted")
    assert (entry.target, entry.detail) == (archive.name, {"suspicion": "It is small."})


def test_an_operator_decides_no_such_thing(as_operator: Client, plan: Plan) -> None:
    archive = make_archive(plan, suspicion="It is small.")
    assert as_operator.post(f"/archives/{archive.pk}/trust").status_code == 403
    assert "/trust" not in as_operator.get(f"/archives/{archive.pk}").content.decode()

"""Repositories on the page and over the API; making one is test_init_repository."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import encryption
from accounts.models import AuditEntry, User
from backups.models import Archive, Plan, Repository, StoragePool
from jobs.models import Job
from servers.models import Server
from tests.conftest import for_program, make_archive

pytestmark = pytest.mark.django_db

NAME = "Use letters, digits, dots, dashes and underscores"
BAD = [
    ("name", "", "required|blank"),
    ("name", "a b", NAME),
    ("name", "../etc", NAME),
    ("name", "a/b", NAME),
    ("name", "a::b", NAME),
    ("name", "..", NAME),
    ("name", "--option", NAME),
    ("name", "a\nb", NAME),
    ("name", "$(id)", NAME),
    ("name", "x" * 61, "60 characters"),
    ("name", "x" * 10_000, "60 characters"),
    ("pool", "999", "not one of the available choices|object does not exist"),
    ("pool", "", "required|whole number"),
    ("server", "999", "not one of the available choices|object does not exist"),
    ("server", "x", "not one of the available choices|whole number"),
]


def says(errors: Any, expected: str) -> bool:
    return any(part in str(errors) for part in expected.split("|"))


@pytest.fixture
def sent(server: Server, pool: StoragePool) -> dict[str, Any]:
    return {"name": "web-1", "server": server.pk, "pool": pool.pk}


# --- Adding -----------------------------------------------------------------------------------


def test_a_new_repository_is_made_by_a_job(as_admin: Client, admin: User, sent: dict[str, Any]) -> None:
    answer = as_admin.post("/repositories/add", sent)
    repository, job = Repository.objects.get(), Job.objects.get()
    assert answer["Location"] == f"/repositories/{repository.pk}"
    assert (repository.state, repository.passphrase_encrypted) == ("creating", "")
    assert (job.type, job.repository, job.server, job.user) == ("init", repository, repository.server, admin)
    assert AuditEntry.objects.get(action="repository.added").target == "web-1"


def test_a_new_repository_of_the_api_too(api_admin: APIClient, admin: User, sent: dict[str, Any]) -> None:
    answer = api_admin.post("/api/repositories", sent)
    assert answer.status_code == 201
    assert (answer.json()["state"], Job.objects.get().trigger) == ("creating", "api")
    assert AuditEntry.objects.get(action="repository.added").user == admin


@pytest.mark.parametrize(("field", "value", "sentence"), BAD)
def test_the_page_refuses_it_in_words(
    as_admin: Client, sent: dict[str, Any], field: str, value: str, sentence: str
) -> None:
    answer = as_admin.post("/repositories/add", {**sent, field: value})
    assert answer.status_code == 400
    assert says(answer.context["form"].errors[field], sentence)
    assert not (Repository.objects.exists() or Job.objects.exists())


@pytest.mark.parametrize(("field", "value", "sentence"), BAD)
def test_the_api_refuses_it_in_words(
    api_admin: APIClient, sent: dict[str, Any], field: str, value: str, sentence: str
) -> None:
    answer = api_admin.post("/api/repositories", {**sent, field: for_program(field, value)})
    assert answer.status_code == 400
    assert says(answer.json()["error"]["fields"][field], sentence)
    assert not (Repository.objects.exists() or Job.objects.exists())


def test_a_name_is_taken_once_in_a_pool(
    as_admin: Client, api_admin: APIClient, repository: Repository, sent: dict[str, Any]
) -> None:
    page = as_admin.post("/repositories/add", sent)
    api = api_admin.post("/api/repositories", sent)
    assert (page.status_code, api.status_code) == (400, 400)
    assert "already exists." in page.getvalue().decode()
    assert says(api.json()["error"]["fields"][""], "must make a unique set.")
    assert Repository.objects.count() == 1


def test_another_pool_may_have_the_same_name(as_admin: Client, repository: Repository, sent: dict[str, Any]) -> None:
    other = StoragePool.objects.create(name="disk-2", path="/srv/two")
    assert as_admin.post("/repositories/add", {**sent, "pool": other.pk}).status_code == 302


def test_a_repository_that_fails_to_be_saved_whole_is_not_saved_at_all(
    as_admin: Client, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no job today")

    monkeypatch.setattr("backups.views.repositories.InitRepository.enqueue", broken)
    with pytest.raises(RuntimeError):
        as_admin.post("/repositories/add", sent)
    assert not Repository.objects.exists()


# --- Reading ----------------------------------------------------------------------------------


def test_no_page_and_no_answer_has_its_passphrase_or_key(
    as_admin: Client, api_admin: APIClient, repository: Repository
) -> None:
    hidden = ["s3cret passphrase", "BORG_KEY", repository.passphrase_encrypted, repository.key_encrypted]
    for client, path in (
        (as_admin, f"/repositories/{repository.pk}"),
        (as_admin, "/repositories"),
        (as_admin, f"/admin/backups/repository/{repository.pk}/change/"),
        (api_admin, f"/api/repositories/{repository.pk}"),
        (api_admin, "/api/repositories"),
    ):
        text = client.get(path).content.decode()
        assert "web-1" in text
        assert not [secret for secret in hidden if secret in text], path


def test_a_repository_shows_no_secret_of_itself(repository: Repository) -> None:
    assert repository.passphrase() == "s3cret passphrase"
    assert encryption.decrypt(repository.key_encrypted) == "BORG_KEY ..."
    assert "s3cret" not in repr(repository) + str(repository) + repr(vars(repository))


@pytest.mark.parametrize(("state", "shown"), [("creating", "running"), ("ready", "protected"), ("failed", "at-risk")])
def test_each_state_has_its_look(as_viewer: Client, repository: Repository, state: str, shown: str) -> None:
    Repository.objects.filter(pk=repository.pk).update(state=state)
    repository.refresh_from_db()
    assert repository.state_shown == shown
    assert f"state-{shown}" in as_viewer.get(f"/repositories/{repository.pk}").getvalue().decode()


def test_one_that_could_not_be_made_says_why_and_can_be_tried_again(as_admin: Client, repository: Repository) -> None:
    Repository.objects.filter(pk=repository.pk).update(state="failed")
    Job.objects.create(type="init", repository=repository, status="failed", error="No <room>.", advice="Make some.")
    html = as_admin.get(f"/repositories/{repository.pk}").getvalue().decode()
    assert "No &lt;room&gt;." in html
    assert "Make some." in html
    assert f"/jobs/start/init/{repository.pk}" in html


def test_its_page_lists_its_archives(as_viewer: Client, archive: Archive) -> None:
    page = as_viewer.get(f"/repositories/{archive.repository_id}").context["page"]
    assert list(page) == [archive]


def test_its_page_tells_how_it_grows(as_viewer: Client, archive: Archive, plan: Plan) -> None:
    """Red when other archives count, or old ones."""
    now = timezone.now()
    Archive.objects.update(deduplicated_bytes=2_000_000)
    make_archive(plan, start=now - timedelta(days=29), deduplicated_bytes=1_500_000)
    make_archive(plan, start=now - timedelta(days=31), deduplicated_bytes=7_000_000)
    page = as_viewer.get(archive.repository.get_absolute_url())
    assert page.context["added"] == 3_500_000
    assert "Added by the archives of the last 30 days</dt><dd>3.5 MB" in page.content.decode()
    Archive.objects.all().delete()
    assert as_viewer.get(archive.repository.get_absolute_url()).context["added"] == 0


def test_the_list_tells_when_each_was_checked(as_viewer: Client, repository: Repository) -> None:
    Repository.objects.update(checked_at=timezone.now() - timedelta(days=3))
    assert "3 days ago" in as_viewer.get("/repositories").content.decode()


def test_the_list_counts_archives(as_viewer: Client, archive: Archive) -> None:
    assert archive.plan
    make_archive(archive.plan)
    page = as_viewer.get("/repositories").context["page"]
    assert [row.archive_count for row in page] == [2]


@pytest.mark.parametrize(
    ("original", "deduplicated", "share"), [(0, 0, None), (100, 25, 0.75), (100, 100, 0.0), (100, 150, -0.5)]
)
def test_what_was_spared(original: int, deduplicated: int, share: float | None) -> None:
    assert Repository(original_bytes=original, deduplicated_bytes=deduplicated).saved_share == share


# --- Who --------------------------------------------------------------------------------------


def test_only_who_manages_backups_adds_one(
    as_operator: Client, as_viewer: Client, api_operator: APIClient, api_viewer: APIClient, sent: dict[str, Any]
) -> None:
    for page in (as_operator, as_viewer):
        assert page.post("/repositories/add", sent).status_code == 403
    for api in (api_operator, api_viewer):
        assert api.post("/api/repositories", sent).status_code == 403
    assert not Repository.objects.exists()


def test_what_is_not_there_is_404(as_admin: Client, api_admin: APIClient) -> None:
    assert as_admin.get("/repositories/999").status_code == 404
    assert api_admin.get("/api/repositories/999").status_code == 404


def test_making_one_takes_the_right_to_manage(
    as_operator: Client, as_admin: Client, api_operator: APIClient, repository: Repository
) -> None:
    Repository.objects.filter(pk=repository.pk).update(state="failed")
    assert as_operator.post(f"/jobs/start/init/{repository.pk}").status_code == 403
    assert api_operator.post("/api/jobs", {"type": "init", "subject": repository.pk}).status_code == 403
    assert as_admin.post(f"/jobs/start/init/{repository.pk}").status_code == 302
    assert Job.objects.filter(type="init").count() == 1

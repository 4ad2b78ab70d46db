"""What a program may change of a repository, and what becomes of it when it is struck off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from backups.catalog.store import file_of
from backups.models import Plan, Repository, StoragePool
from jobs.models import Job
from servers.models import Server
from tests.conftest import make_archive

pytestmark = pytest.mark.django_db


def url(repository: Repository, query: str = "") -> str:
    return f"/api/repositories/{repository.pk}{query}"


def sentence(answer: Any, status: int = 409) -> str:
    assert answer.status_code == status, answer.content
    told: str = answer.json()["error"]["message"]
    return told


# --- Changing -------------------------------------------------------------------------------------


def test_how_often_it_is_checked_can_be_changed(api_admin: APIClient, repository: Repository) -> None:
    answer = api_admin.patch(url(repository), {"check_days": 30, "verify_days": 90})
    assert answer.status_code == 200
    repository.refresh_from_db()
    assert (repository.check_days, repository.verify_days) == (30, 90)
    entry = AuditEntry.objects.get(action="repository.changed")
    assert (entry.target, entry.detail["after"]) == ("web-1", {"check_days": 30, "verify_days": 90})


def test_put_takes_it_as_it_is_told(api_admin: APIClient, repository: Repository) -> None:
    told = api_admin.get(url(repository)).json()
    whole = {name: told[name] for name in ("name", "pool", "server")} | {"check_days": 0}
    assert api_admin.put(url(repository), whole).json()["check_days"] == 0


@pytest.mark.parametrize("field", ["name", "pool", "server"])
def test_what_and_where_it_is_stays(
    api_admin: APIClient, repository: Repository, tmp_path: Path, other_server: Server, field: str
) -> None:
    other = StoragePool.objects.create(name="other", path=str(tmp_path))
    answer = api_admin.patch(
        url(repository), {field: {"name": "x", "pool": other.pk, "server": other_server.pk}[field]}
    )
    assert list(answer.json()["error"]["fields"]) == [field]
    assert "stays what and where it is" in answer.json()["error"]["fields"][field][0]
    assert answer.status_code == 400


# --- Striking off ---------------------------------------------------------------------------------


def test_with_a_plan_it_stays(api_admin: APIClient, plan: Plan) -> None:
    assert sentence(api_admin.delete(url(plan.repository))) == "The plan files saves into it. Delete that first."


def test_with_archives_it_stays_and_says_how_many(api_admin: APIClient, plan: Plan) -> None:
    for _ in range(3):
        make_archive(plan)
    repository = plan.repository
    plan.delete()
    answer = api_admin.delete(url(repository, "?leave_data=true"))
    assert sentence(answer) == "web-1 still has: 3 archives. Delete those first."
    assert Repository.objects.exists()


@pytest.mark.parametrize("status", ["pending", "running"])
def test_with_an_unfinished_job_it_stays(api_admin: APIClient, repository: Repository, status: str) -> None:
    Job.objects.create(type="check", repository=repository, status=status)
    answer = api_admin.delete(url(repository, "?leave_data=true"))
    assert sentence(answer) == "A job of web-1 is still running or waiting. Cancel it first."


@pytest.mark.parametrize("query", ["", "?leave_data=false"])
def test_what_would_be_lost_is_said_before(api_admin: APIClient, repository: Repository, query: str) -> None:
    told = sentence(api_admin.delete(url(repository, query)))
    assert told.startswith(f"What lies at {repository.path} would stay there, and its passphrase would be forgotten")
    assert Repository.objects.exists()


def test_who_knows_that_strikes_it_off_and_nothing_else_happens(
    api_admin: APIClient, repository: Repository, django_capture_on_commit_callbacks: Any
) -> None:
    folder = Path(repository.path)
    folder.mkdir()
    listing = file_of(repository.pk)
    listing.parent.mkdir(parents=True)
    listing.touch()
    with django_capture_on_commit_callbacks(execute=True):
        assert api_admin.delete(url(repository, "?leave_data=true")).status_code == 204
    assert not listing.exists()
    assert folder.is_dir()
    assert not Repository.objects.exists()
    entry = AuditEntry.objects.get(action="repository.forgotten")
    assert (entry.target, entry.detail["left"], entry.detail["before"]["pool"]) == ("web-1", str(folder), "disk")


def test_one_that_was_never_made_has_nothing_to_lose(api_admin: APIClient, repository: Repository) -> None:
    Repository.objects.update(state=Repository.State.FAILED)
    assert api_admin.delete(url(repository)).status_code == 204


def test_one_that_is_being_made_stays(api_admin: APIClient, repository: Repository) -> None:
    Repository.objects.update(state=Repository.State.CREATING)
    Job.objects.create(type="init", subject=f"repository:{repository.pk}", repository=repository)
    assert sentence(api_admin.delete(url(repository))) == "The repository web-1 is still being made."


@pytest.mark.parametrize("query", ["?leave_data=yes", "?leave_data=", "?leave_date=true"])
def test_a_slip_of_the_pen_strikes_off_nothing(api_admin: APIClient, repository: Repository, query: str) -> None:
    assert api_admin.delete(url(repository, query)).status_code == 400
    assert Repository.objects.exists()

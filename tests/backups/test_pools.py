"""Storage pools on the page and over the API."""

from pathlib import Path
from typing import Any

import pytest
from django.shortcuts import get_object_or_404
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from backups.models import Repository, StoragePool
from jobs.models import Job

pytestmark = pytest.mark.django_db

PATH = "Enter a path from the root, of letters, digits and . _ @ + - only, as /srv/borg."
DOTS = "The path must not have a “.” or “..” in it."
NAME = "Use letters, digits, dots, dashes and underscores"
LIE_THERE = "Repositories lie there: their servers would take them for strangers elsewhere."

BAD = [
    ("path", "srv/borg", PATH),
    ("path", "./borg", PATH),
    ("path", "/", PATH),
    ("path", "/srv/my borg", PATH),
    ("path", "/srv/'borg'", PATH),
    ("path", '/srv/"borg"', PATH),
    ("path", "/srv/$(id)", PATH),
    ("path", "/srv/borg\n/etc", PATH),
    ("path", "/srv/b::a", PATH),
    ("path", "/srv//borg", PATH),
    ("path", "ssh://host/srv", PATH),
    ("path", "/srv/borg;id", PATH),
    ("path", "/srv/börg", PATH),
    ("path", "/srv/../etc", DOTS),
    ("path", "/srv/./borg", DOTS),
    ("path", "/srv/..", DOTS),
    ("path", "/srv/.", DOTS),
    ("path", "/srv/./", DOTS),
    ("path", "/" + "x" * 200, "200 characters"),
    ("path", "/" + "x" * 10_000, "200 characters"),
    ("path", "", "required|blank"),
    ("name", "", "required|blank"),
    ("name", "a b", NAME),
    ("name", "x" * 61, "60 characters"),
    ("name", "--option", NAME),
]


def says(errors: Any, expected: str) -> bool:
    return any(part in str(errors) for part in expected.split("|"))


def sent(**changes: str) -> dict[str, str]:
    return {"name": "disk-2", "path": "/srv/borg", **changes}


# --- Adding -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "value", "sentence"), BAD)
def test_the_page_refuses_it_in_words_at_the_field(as_admin: Client, field: str, value: str, sentence: str) -> None:
    answer = as_admin.post("/pools/add", sent(**{field: value}))
    assert answer.status_code == 400
    assert set(answer.context["form"].errors) == {field}
    assert says(answer.context["form"].errors[field], sentence)
    assert not (StoragePool.objects.exists() or Job.objects.exists())


@pytest.mark.parametrize(("field", "value", "sentence"), BAD)
def test_the_api_refuses_it_in_words_at_the_field(api_admin: APIClient, field: str, value: str, sentence: str) -> None:
    answer = api_admin.post("/api/storage-pools", sent(**{field: value}))
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}
    assert says(answer.json()["error"]["fields"], sentence)
    assert not (StoragePool.objects.exists() or Job.objects.exists())


@pytest.mark.parametrize("path", ["/srv/borg", "/srv/.hidden/a..b", "/mnt/disk@1/b_o-r+g"])
def test_a_plain_path_is_taken(as_admin: Client, api_admin: APIClient, path: str) -> None:
    assert as_admin.post("/pools/add", sent(path=path)).status_code == 302
    assert api_admin.post("/api/storage-pools", sent(name="disk-3", path=path + "x/")).status_code == 201
    assert sorted(StoragePool.objects.values_list("path", flat=True)) == [path, path + "x"]


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_path_is_taken_once_whatever_its_end(
    as_admin: Client, api_admin: APIClient, pool: StoragePool, ending: str
) -> None:
    page = as_admin.post("/pools/add", sent(path=pool.path + ending))
    api = api_admin.post("/api/storage-pools", sent(path=pool.path + ending))
    assert (page.status_code, api.status_code) == (400, 400)
    assert says(page.context["form"].errors["path"], "A storage pool is there already.")
    assert says(api.json()["error"]["fields"]["path"], "A storage pool is there already.")


def test_a_name_is_taken_once(as_admin: Client, api_admin: APIClient, pool: StoragePool) -> None:
    assert as_admin.post("/pools/add", sent(name=pool.name)).status_code == 400
    assert api_admin.post("/api/storage-pools", sent(name=pool.name)).status_code == 400
    assert StoragePool.objects.count() == 1


def test_a_new_pool_is_looked_at_by_a_worker(as_admin: Client, admin: User) -> None:
    answer = as_admin.post("/pools/add", sent())
    pool, job = StoragePool.objects.get(), Job.objects.get()
    assert answer["Location"] == f"/pools/{pool.pk}"
    assert (job.type, job.subject, job.user, job.place) == ("pool_check", f"storagepool:{pool.pk}", admin, "default")
    assert "A worker is looking at the folder." in as_admin.get(f"/pools/{pool.pk}").getvalue().decode()


def test_a_new_pool_of_the_api_is_looked_at_too(api_admin: APIClient) -> None:
    answer = api_admin.post("/api/storage-pools", sent())
    assert (answer.status_code, Job.objects.get().trigger) == (201, "api")


def test_adding_is_audited(as_admin: Client, api_admin: APIClient, admin: User) -> None:
    as_admin.post("/pools/add", sent())
    api_admin.post("/api/storage-pools", sent(name="disk-3", path="/srv/three"))
    entries = AuditEntry.objects.filter(action="pool.added", user=admin)
    assert sorted(entry.target for entry in entries) == ["disk-2", "disk-3"]


# --- Places -----------------------------------------------------------------------------------


def test_the_only_place_is_not_asked_for(as_admin: Client, settings: Any) -> None:
    settings.WORKER_PLACES = ["paris"]
    assert "place" not in as_admin.get("/pools/add").context["form"].fields
    as_admin.post("/pools/add", sent())
    assert (StoragePool.objects.get().place, Job.objects.get().place) == ("paris", "paris")


def test_a_place_that_nobody_serves_is_refused(as_admin: Client, api_admin: APIClient, settings: Any) -> None:
    settings.WORKER_PLACES = ["paris", "lyon"]
    page = as_admin.post("/pools/add", sent(place="rome"))
    assert page.context["form"].errors["place"] == ["WORKER_PLACES does not name “rome”."]
    api = api_admin.post("/api/storage-pools", sent(place="rome"))
    assert api.json()["error"]["fields"]["place"] == ["WORKER_PLACES does not name “rome”."]
    assert as_admin.post("/pools/add", sent(place="lyon")).status_code == 302
    assert Job.objects.get().place == "lyon"


def test_a_pool_of_the_api_without_a_place_is_where_workers_are(api_admin: APIClient, settings: Any) -> None:
    settings.WORKER_PLACES = ["paris", "lyon"]
    api_admin.post("/api/storage-pools", sent())
    assert StoragePool.objects.get().place == "paris"


# --- Changing ---------------------------------------------------------------------------------


def test_an_empty_pool_may_move(as_admin: Client, api_admin: APIClient, pool: StoragePool, tmp_path: Path) -> None:
    as_admin.post(f"/pools/{pool.pk}/edit", sent(name=pool.name, path=f"{tmp_path}/a"))
    pool.refresh_from_db()
    assert pool.path == f"{tmp_path}/a"
    assert api_admin.patch(f"/api/storage-pools/{pool.pk}", {"path": f"{tmp_path}/b"}).status_code == 200
    entry = AuditEntry.objects.filter(action="pool.changed").last()
    assert entry
    assert entry.target == pool.name


def test_a_pool_with_repositories_does_not_move(
    as_admin: Client, api_admin: APIClient, repository: Repository, tmp_path: Path
) -> None:
    pool = repository.pool
    page = as_admin.post(f"/pools/{pool.pk}/edit", {"name": "disk", "path": f"{tmp_path}/a"})
    api = api_admin.patch(f"/api/storage-pools/{pool.pk}", {"path": f"{tmp_path}/a"})
    assert page.context["form"].errors["path"] == [LIE_THERE]
    assert api.json()["error"]["fields"]["path"] == [LIE_THERE]
    pool.refresh_from_db()
    assert pool.path == f"{tmp_path}/pool"


def test_a_refused_form_says_which_pool_it_is_about(as_admin: Client, repository: Repository, tmp_path: Path) -> None:
    pool = repository.pool
    page = as_admin.post(f"/pools/{pool.pk}/edit", {"name": "other", "path": f"{tmp_path}/a"})
    assert f"Edit the storage pool {pool.name}" in page.content.decode()


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_pool_with_repositories_may_be_renamed(
    as_admin: Client, api_admin: APIClient, repository: Repository, ending: str
) -> None:
    pool = repository.pool
    page = as_admin.post(f"/pools/{pool.pk}/edit", {"name": "disk-9", "path": pool.path + ending})
    api = api_admin.patch(f"/api/storage-pools/{pool.pk}", {"name": "disk-8", "path": pool.path + ending})
    assert (page.status_code, api.status_code) == (302, 200)
    before = pool.path
    pool.refresh_from_db()
    assert (pool.name, pool.path) == ("disk-8", before)


def test_a_change_is_looked_at_once_even_if_a_look_is_on_its_way(as_admin: Client, pool: StoragePool) -> None:
    for _ in range(2):
        answer = as_admin.post(f"/pools/{pool.pk}/edit", {"name": "disk", "path": pool.path}, follow=True)
    assert Job.objects.filter(type="pool_check").count() == 1
    assert "A check of this pool is already on its way." in answer.getvalue().decode()


# --- Deleting, reading, who -------------------------------------------------------------------


def test_a_pool_with_repositories_is_not_deleted(api_admin: APIClient, repository: Repository) -> None:
    answer = api_admin.delete(f"/api/storage-pools/{repository.pool_id}")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "disk still has: 1 repository. Delete those first."
    assert StoragePool.objects.exists()


def test_an_empty_pool_is_deleted_and_audited(api_admin: APIClient, pool: StoragePool) -> None:
    assert api_admin.delete(f"/api/storage-pools/{pool.pk}").status_code == 204
    assert not StoragePool.objects.exists()
    assert AuditEntry.objects.get(action="pool.deleted").target == "disk"


def test_what_a_look_found_cannot_be_sent(api_admin: APIClient) -> None:
    found: dict[str, Any] = {"problem": "none", "free_bytes": 7, "checked_at": "2026-01-01T00:00:00Z"}
    answer = api_admin.post("/api/storage-pools", sent(**found))
    assert (answer.status_code, set(answer.json()["error"]["fields"])) == (400, set(found))
    assert not StoragePool.objects.exists()


def test_only_who_manages_backups_changes_pools(
    as_operator: Client, api_operator: APIClient, api_viewer: APIClient, pool: StoragePool
) -> None:
    assert as_operator.post("/pools/add", sent()).status_code == 403
    assert as_operator.post(f"/pools/{pool.pk}/edit", sent()).status_code == 403
    for client in (api_operator, api_viewer):
        assert client.post("/api/storage-pools", sent()).status_code == 403
        assert client.patch(f"/api/storage-pools/{pool.pk}", {"name": "x"}).status_code == 403
        assert client.delete(f"/api/storage-pools/{pool.pk}").status_code == 403
        assert client.get(f"/api/storage-pools/{pool.pk}").status_code == 200
    assert StoragePool.objects.get().name == "disk"


def test_a_pool_that_is_not_there_is_404(as_admin: Client, api_admin: APIClient) -> None:
    assert as_admin.get("/pools/999").status_code == 404
    assert as_admin.get("/pools/999/edit").status_code == 404
    assert api_admin.get("/api/storage-pools/999").status_code == 404
    assert as_admin.delete("/pools/add").status_code == 405


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({}, "not looked at"),
        ({"checked_at": "2026-01-01T00:00Z", "problem": "The folder <x> is gone."}, "cannot be used"),
        ({"checked_at": "2026-01-01T00:00Z", "free_bytes": 25, "total_bytes": 100}, "ready"),
    ],
)
def test_its_page_says_how_it_is(as_viewer: Client, pool: StoragePool, found: dict[str, Any], word: str) -> None:
    StoragePool.objects.filter(pk=pool.pk).update(**found)
    html = as_viewer.get(f"/pools/{pool.pk}").getvalue().decode()
    assert word in html
    assert ("The folder &lt;x&gt; is gone." in html) == ("problem" in found)
    assert ("75 %" in html) == ("free_bytes" in found)


def test_a_look_that_ends_while_the_page_is_made_is_not_missed(
    as_viewer: Client, pool: StoragePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when the pool is read before its check: "not looked at", for ever, as nothing looks again."""
    job = Job.objects.create(type="pool_check", subject=f"storagepool:{pool.pk}", status="running")

    def read_before_it_ended(*args: Any, **kwargs: Any) -> StoragePool:
        found: StoragePool = get_object_or_404(*args, **kwargs)
        Job.objects.filter(pk=job.pk).update(status="completed")
        return found

    monkeypatch.setattr("backups.views.pools.get_object_or_404", read_before_it_ended)
    assert "A worker is looking at the folder" in as_viewer.get(f"/pools/{pool.pk}").getvalue().decode()

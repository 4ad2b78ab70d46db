"""Storage pools at SSH accounts, on the page and over the API; what happens there is test_direct."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from backups.models import Repository, StoragePool
from jobs.models import Job
from servers.models import Server
from tests.conftest import HOST_KEY, for_program

pytestmark = pytest.mark.django_db

SENT = {
    "name": "box", "address": "box.example.com", "port": 23, "username": "u1234", "path": "./borg",
    "borg_command": "borg-1.4",
}  # fmt: skip
BAD = [
    ("address", "", "required"),
    ("address", "a b", "host name or an IP address"),
    ("address", "-oProxyCommand=id", "host name or an IP address"),
    ("username", "", "required|Enter the user"),
    ("username", "a b", "not a name that a Unix user can have"),
    ("username", "-l", "not a name that a Unix user can have"),
    ("path", "relative", "Enter a path from the root"),
    ("path", "../up", "Enter a path from the root"),
    ("path", "./a/../b", "must not have"),
    ("path", "/a b", "Enter a path from the root"),
    ("port", "0", "greater than or equal to 1"),
    ("port", "70000", "less than or equal to 65535"),
    ("borg_command", "borg; id", "Enter a name or a path"),
    ("borg_command", "borg id", "Enter a name or a path"),
]


@pytest.fixture
def box() -> StoragePool:
    return StoragePool.objects.create(**SENT, host_key_seen=HOST_KEY)


def says(errors: Any, expected: str) -> bool:
    return any(part in str(errors) for part in expected.split("|"))


def test_an_account_gets_a_key_of_its_own_and_is_looked_at(as_admin: Client) -> None:
    answer = as_admin.post("/pools/add-account", SENT)
    pool, job = StoragePool.objects.get(), Job.objects.get()
    assert answer["Location"] == f"/pools/{pool.pk}"
    assert job.type == "pool_check"
    assert pool.public_key.endswith("phpborg@box")
    assert "PRIVATE KEY" in pool.private_key()
    assert "PRIVATE" not in pool.private_key_encrypted
    after = AuditEntry.objects.get(action="pool.added").detail["after"]
    assert (after["username"], after["address"], after["path"]) == ("u1234", "box.example.com", "./borg")
    page = as_admin.get(f"/pools/{pool.pk}").getvalue().decode()
    assert pool.public_key in page
    assert "u1234@box.example.com:./borg" in page


def test_the_api_does_the_same(api_admin: APIClient) -> None:
    answer = api_admin.post("/api/storage-pools", SENT)
    assert answer.status_code == 201
    told = answer.json()
    assert told["public_key"].endswith("phpborg@box")
    assert told["public_key"] in told["key_command"]
    assert "private" not in str(told).lower()


@pytest.mark.parametrize(("field", "value", "expected"), BAD)
def test_bad_input_is_refused_at_its_field(
    as_admin: Client, api_admin: APIClient, field: str, value: str, expected: str
) -> None:
    page = as_admin.post("/pools/add-account", SENT | {field: value})
    assert page.status_code == 400
    assert says(page.context["form"].errors[field], expected)
    if (field, value) != ("address", ""):  # to the API that is a folder on the worker's machine
        api = api_admin.post("/api/storage-pools", SENT | {field: for_program(field, value)})
        assert api.status_code == 400
        assert says(api.json()["error"]["fields"][field], expected)


def test_the_same_path_at_another_account_is_another_place(as_admin: Client, box: StoragePool) -> None:
    taken = as_admin.post("/pools/add-account", SENT | {"name": "again"})
    assert says(taken.context["form"].errors["path"], "A storage pool is there already.")
    assert as_admin.post("/pools/add-account", SENT | {"name": "again", "username": "u1235"}).status_code == 302


def test_where_repositories_lie_does_not_change(
    as_admin: Client, api_admin: APIClient, box: StoragePool, server: Server
) -> None:
    Repository.objects.create(name="web-1", pool=box, server=server)
    for field, value in [("address", "other.example.com"), ("port", 24), ("username", "u2"), ("path", "./other")]:
        page = as_admin.post(f"/pools/{box.pk}/edit", SENT | {field: value})
        assert says(page.context["form"].errors[field], "Repositories lie there")
        api = api_admin.patch(f"/api/storage-pools/{box.pk}", {field: value})
        assert says(api.json()["error"]["fields"][field], "Repositories lie there")
    assert as_admin.post(f"/pools/{box.pk}/edit", SENT | {"name": "bigger-box"}).status_code == 302


def test_a_confirmed_host_key_is_pinned_and_the_servers_learn_it(
    as_admin: Client, box: StoragePool, server: Server
) -> None:
    Repository.objects.create(name="web-1", pool=box, server=server, state="ready", server_key="ssh-ed25519 AAAA x")
    Repository.objects.create(name="web-2", pool=box, server=server, state="ready")
    assert as_admin.post(f"/pools/{box.pk}/host-key", {"fingerprint": "SHA256:other"}).status_code == 302
    box.refresh_from_db()
    assert box.host_key == ""
    assert box.fingerprint_seen in as_admin.get(f"/pools/{box.pk}").getvalue().decode()
    as_admin.post(f"/pools/{box.pk}/host-key", {"fingerprint": box.fingerprint_seen})
    box.refresh_from_db()
    assert box.host_key == HOST_KEY
    assert sorted(Job.objects.values_list("type", "repository__name")) == [("give_key", "web-1"), ("pool_check", None)]
    assert AuditEntry.objects.get(action="host_key.confirmed").target == "box"


def test_the_api_confirms_it_too(api_admin: APIClient, api_operator: APIClient, box: StoragePool) -> None:
    url, seen = f"/api/storage-pools/{box.pk}/host-key", {"fingerprint": box.fingerprint_seen}
    assert api_operator.post(url, seen).status_code == 403
    assert api_admin.post(url, {"fingerprint": "x"}).status_code == 400
    assert api_admin.post(url, seen).json()["fingerprint"] == box.fingerprint_seen


def test_another_address_may_have_another_host_key(as_admin: Client, box: StoragePool) -> None:
    as_admin.post(f"/pools/{box.pk}/edit", SENT | {"address": "other.example.com"})
    box.refresh_from_db()
    assert (box.address, box.host_key_seen) == ("other.example.com", "")


def test_who_may_only_look_sees_no_key(as_viewer: Client, box: StoragePool) -> None:
    page = as_viewer.get(f"/pools/{box.pk}").getvalue().decode()
    assert box.public_key not in page
    assert as_viewer.get("/pools/add-account").status_code == 403
    assert as_viewer.post(f"/pools/{box.pk}/host-key", {"fingerprint": box.fingerprint_seen}).status_code == 403


def test_a_repository_tells_what_its_server_lacks(
    as_admin: Client, as_viewer: Client, box: StoragePool, server: Server
) -> None:
    repository = Repository.objects.create(name="web-1", pool=box, server=server, state="ready", borg_id="ab" * 32)
    page = as_admin.get(f"/repositories/{repository.pk}").getvalue().decode()
    assert "web-1 has no key for this repository yet." in page
    assert f'action="/jobs/start/give_key/{repository.pk}"' in page
    assert (
        f'action="/jobs/start/give_key/{repository.pk}"'
        not in as_viewer.get(repository.get_absolute_url()).getvalue().decode()
    )
    assert "ssh://u1234@box.example.com:23/./borg/web-1" in page
    Job.objects.create(
        type="give_key", repository=repository, status="failed", error="No <way>.", result={"line": "restrict,x y"}
    )
    page = as_admin.get(f"/repositories/{repository.pk}").getvalue().decode()
    assert "No &lt;way&gt;." in page
    assert "restrict,x y" in page


@pytest.mark.parametrize(("address", "path", "url"), [
    ("box.example.com", "/srv/borg", "ssh://u1234@box.example.com:23/srv/borg"),
    ("box.example.com", "./borg", "ssh://u1234@box.example.com:23/./borg"),
    ("box.example.com", ".", "ssh://u1234@box.example.com:23/."),
    ("2001:db8::1", "/borg", "ssh://u1234@[2001:db8::1]:23/borg"),
    ("", "/srv/borg", "/srv/borg"),
])  # fmt: skip
def test_a_place_is_written_as_borg_reads_it(address: str, path: str, url: str) -> None:
    assert StoragePool(address=address, path=path, port=23, username="u1234").url == url

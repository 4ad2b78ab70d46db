import pytest
from rest_framework.test import APIClient

from accounts import encryption
from accounts.models import AuditEntry, User
from jobs.models import Job
from servers.models import Server, Tag
from tests.conftest import HOST_KEY
from tests.servers.conftest import FINGERPRINT, body

pytestmark = pytest.mark.django_db


def names(client: APIClient, query: str = "") -> list[str]:
    return [row["name"] for row in client.get(f"/api/servers{query}").json()["results"]]


# --- Reading ----------------------------------------------------------------------------------


def test_a_viewer_reads_servers(api_viewer: APIClient, server: Server) -> None:
    answer = api_viewer.get(f"/api/servers/{server.pk}")
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["name"], shown["address"], shown["port"]) == ("web-1", "192.0.2.7", 22)
    assert shown["fingerprint"] == shown["fingerprint_seen"] == FINGERPRINT
    assert shown["public_key"] == server.public_key
    assert shown["key_command"] == server.key_command


def test_no_answer_has_a_private_key(api_admin: APIClient, server: Server) -> None:
    for path in ("/api/servers", f"/api/servers/{server.pk}"):
        text = api_admin.get(path).content.decode()
        assert "private" not in text.lower()
        assert server.private_key_encrypted not in text
        assert encryption.decrypt(server.private_key_encrypted) not in text


def test_the_list_is_paged_and_sorted_by_name(api_viewer: APIClient) -> None:
    for number in range(3):
        Server.objects.create(name=f"s{2 - number}", address="192.0.2.1")
    first = api_viewer.get("/api/servers?page_size=2").json()
    assert (first["count"], [row["name"] for row in first["results"]]) == (3, ["s0", "s1"])
    assert first["next"].endswith("/api/servers?page=2&page_size=2")
    assert names(api_viewer, "?page_size=2&page=2") == ["s2"]


def test_filters_choose(api_viewer: APIClient, server: Server, new_server: Server) -> None:
    new_server.tags.add(Tag.objects.create(name="prod"))
    Server.objects.filter(pk=server.pk).update(enabled=False)
    assert names(api_viewer, "?search=WEB") == ["web-1"]
    assert names(api_viewer, "?search=192.0.2.9") == ["db-1"]
    assert names(api_viewer, "?tag=PROD") == ["db-1"]
    assert names(api_viewer, "?enabled=false") == ["web-1"]
    assert names(api_viewer, "?search=%25") == []


def test_a_filter_with_a_typo_is_refused(api_viewer: APIClient, server: Server) -> None:
    answer = api_viewer.get("/api/servers?serach=web")
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {"serach": ["There is no such filter here."]}


# --- Writing ----------------------------------------------------------------------------------


def test_adding_over_the_api_makes_a_key_pair_and_is_audited(api_admin: APIClient, admin: User) -> None:
    answer = api_admin.post("/api/servers", body(tags=["Prod", "prod", "web"]))
    assert answer.status_code == 201
    shown = answer.json()
    assert shown["tags"] == ["prod", "web"]
    assert "restrict ssh-ed25519 " in shown["key_command"]
    entry = AuditEntry.objects.get(action="server.added")
    assert (entry.user, entry.target) == (admin, "web-2")


def test_what_is_read_only_cannot_be_sent(api_admin: APIClient) -> None:
    ours = {"id": 77, "public_key": "mine", "fingerprint": FINGERPRINT, "borg_path": "/tmp/evil", "test_ok": True}
    inside = {"private_key_encrypted": "mine", "host_key": HOST_KEY, "host_key_seen": HOST_KEY}
    answer = api_admin.post("/api/servers", body(**ours, **inside))
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {
        **{key: ["This is shown, and cannot be set."] for key in ours},
        **{key: ["There is no such field."] for key in inside},
    }
    assert not Server.objects.exists()


def test_a_put_takes_what_a_get_has_shown_and_a_patch_only_what_it_changes(
    api_admin: APIClient, server: Server
) -> None:
    shown = api_admin.get(f"/api/servers/{server.pk}").json()
    answer = api_admin.put(f"/api/servers/{server.pk}", {**shown, "borg_path": "/tmp/evil", "name": "web-2"})
    assert (answer.status_code, answer.json()) == (200, {**shown, "name": "web-2"})
    assert api_admin.patch(f"/api/servers/{server.pk}", {"borg_path": "/tmp/evil"}).status_code == 400


def test_a_patch_changes_what_it_names(api_admin: APIClient, server: Server) -> None:
    server.tags.add(Tag.objects.create(name="prod"))
    assert api_admin.patch(f"/api/servers/{server.pk}", {"enabled": False}).status_code == 200
    server.refresh_from_db()
    assert (server.enabled, server.name, server.tags.count()) == (False, "web-1", 1)
    detail = AuditEntry.objects.get(action="server.changed").detail
    assert detail == {"before": {"enabled": True}, "after": {"enabled": False}}


def test_a_put_without_tags_keeps_them_and_with_none_takes_them_away(api_admin: APIClient, server: Server) -> None:
    server.tags.add(Tag.objects.create(name="prod"))
    api_admin.put(f"/api/servers/{server.pk}", body())
    assert server.tags.count() == 1
    api_admin.put(f"/api/servers/{server.pk}", body(tags=[]))
    assert server.tags.count() == 0


def test_bad_input_in_a_patch_changes_nothing(api_admin: APIClient, server: Server) -> None:
    answer = api_admin.patch(f"/api/servers/{server.pk}", {"name": "web-9", "tags": ["a b"]})
    assert answer.status_code == 400
    server.refresh_from_db()
    assert server.name == "web-1"


# --- Testing the connection -------------------------------------------------------------------


def test_a_test_is_queued_and_answered_with_202(api_admin: APIClient, admin: User, server: Server) -> None:
    answer = api_admin.post(f"/api/servers/{server.pk}/test")
    assert answer.status_code == 202
    job = Job.objects.get()
    assert answer.json()["id"] == str(job.pk)
    assert (job.type, job.server, job.user, job.trigger) == ("server_test", server, admin, "api")


def test_a_second_test_is_refused_while_one_waits(api_admin: APIClient, server: Server) -> None:
    api_admin.post(f"/api/servers/{server.pk}/test")
    answer = api_admin.post(f"/api/servers/{server.pk}/test")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "Connection test is already waiting here."
    assert Job.objects.count() == 1


# --- Who, where, how --------------------------------------------------------------------------


def test_only_who_manages_servers_changes_any(api_operator: APIClient, api_viewer: APIClient, server: Server) -> None:
    one = f"/api/servers/{server.pk}"
    for client in (api_operator, api_viewer):
        assert client.post("/api/servers", body()).status_code == 403
        assert client.put(one, body()).status_code == 403
        assert client.patch(one, {"name": "x"}).status_code == 403
        assert client.delete(one).status_code == 403
        assert client.post(f"{one}/test").status_code == 403
    assert list(Server.objects.values_list("name", flat=True)) == ["web-1"]
    assert not Job.objects.exists()


def test_nobody_is_401(server: Server) -> None:
    answer = APIClient().get("/api/servers")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_authenticated"


def test_who_has_no_role_sees_nothing(django_user_model: type[User], server: Server) -> None:
    client = APIClient()
    client.force_authenticate(django_user_model.objects.create_user("nobody"))
    assert client.get("/api/servers").status_code == 403
    assert client.get(f"/api/servers/{server.pk}").status_code == 403


def test_what_is_not_there_is_404_in_json(api_admin: APIClient) -> None:
    for path in ("/api/servers/999", f"/api/servers/{10**30}", "/api/servers/x"):
        answer = api_admin.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


def test_a_method_that_a_route_does_not_know_is_405(api_admin: APIClient, server: Server) -> None:
    answer = api_admin.get(f"/api/servers/{server.pk}/test")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"

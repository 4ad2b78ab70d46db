import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from servers.models import Server
from tests.conftest import HOST_KEY
from tests.servers.conftest import answers

pytestmark = pytest.mark.django_db


def as_it_is(server: Server, **changes: str) -> dict[str, str]:
    return answers(**{"name": server.name, "address": server.address, **changes})


def test_what_is_changed_is_saved_and_said(as_admin: Client, server: Server) -> None:
    answer = as_admin.post(f"/servers/{server.pk}/edit", as_it_is(server, name="web-9", tags="prod"), follow=True)
    server.refresh_from_db()
    assert (server.name, [tag.name for tag in server.tags.all()]) == ("web-9", ["prod"])
    assert "web-9 is saved." in answer.getvalue().decode()


def test_the_audit_trail_says_what_changed(as_admin: Client, server: Server) -> None:
    as_admin.post(f"/servers/{server.pk}/edit", as_it_is(server, port="2222", username="backup"))
    assert AuditEntry.objects.get(action="server.changed").detail == {
        "before": {"port": 22, "username": "root"},
        "after": {"port": 2222, "username": "backup"},
    }


def test_the_form_shows_what_is_saved(as_admin: Client, server: Server) -> None:
    as_admin.post(f"/servers/{server.pk}/edit", as_it_is(server, tags="prod web"))
    form = as_admin.get(f"/servers/{server.pk}/edit").context["form"]
    assert form["name"].value() == "web-1"
    assert 'value="prod web"' in str(form["tags"])


def test_a_switch_that_is_left_out_is_off(as_admin: Client, server: Server) -> None:
    sent = {key: value for key, value in as_it_is(server).items() if key not in ("enabled", "use_sudo")}
    as_admin.post(f"/servers/{server.pk}/edit", sent)
    server.refresh_from_db()
    assert (server.enabled, server.use_sudo) == (False, False)


@pytest.mark.parametrize("change", [{"address": "192.0.2.99"}, {"port": "2222"}])
def test_a_server_that_moved_keeps_the_confirmed_key_but_forgets_the_seen_one(
    as_admin: Client, server: Server, change: dict[str, str]
) -> None:
    as_admin.post(f"/servers/{server.pk}/edit", as_it_is(server, **change))
    server.refresh_from_db()
    assert (server.host_key, server.host_key_seen) == (HOST_KEY, "")


@pytest.mark.parametrize("change", [{"address": "192.0.2.99"}, {"port": 2222}])
def test_the_api_forgets_the_seen_key_too(api_admin: APIClient, server: Server, change: dict[str, object]) -> None:
    assert api_admin.patch(f"/api/servers/{server.pk}", change).status_code == 200
    server.refresh_from_db()
    assert (server.host_key, server.host_key_seen) == (HOST_KEY, "")


def test_who_only_renames_it_keeps_both_keys(as_admin: Client, api_admin: APIClient, server: Server) -> None:
    as_admin.post(f"/servers/{server.pk}/edit", as_it_is(server, name="web-9"))
    api_admin.patch(f"/api/servers/{server.pk}", {"name": "web-8", "address": server.address, "port": server.port})
    server.refresh_from_db()
    assert (server.name, server.host_key, server.host_key_seen) == ("web-8", HOST_KEY, HOST_KEY)


def test_bad_input_changes_nothing_and_the_page_keeps_the_old_name(as_admin: Client, server: Server) -> None:
    answer = as_admin.post(f"/servers/{server.pk}/edit", as_it_is(server, name="a b", address="192.0.2.99"))
    assert answer.status_code == 400
    assert answer.context["server"].name == "web-1"
    server.refresh_from_db()
    assert (server.name, server.address, server.host_key_seen) == ("web-1", "192.0.2.7", HOST_KEY)
    assert not AuditEntry.objects.filter(action="server.changed").exists()


def test_a_server_cannot_take_the_name_of_another(as_admin: Client, server: Server, new_server: Server) -> None:
    answer = as_admin.post(f"/servers/{server.pk}/edit", as_it_is(server, name=new_server.name))
    assert answer.context["form"].errors["name"] == ["Server with this Name already exists."]


def test_it_may_keep_its_own_name(as_admin: Client, server: Server) -> None:
    assert as_admin.post(f"/servers/{server.pk}/edit", as_it_is(server)).status_code == 302


def test_only_who_manages_servers_edits_one(as_operator: Client, as_viewer: Client, server: Server) -> None:
    for client in (as_operator, as_viewer):
        assert client.post(f"/servers/{server.pk}/edit", as_it_is(server, name="x")).status_code == 403
        assert client.get(f"/servers/{server.pk}/edit").status_code == 403


def test_a_server_that_is_not_there_is_404(as_admin: Client) -> None:
    assert as_admin.get("/servers/999/edit").status_code == 404
    assert as_admin.get(f"/servers/{10**30}/edit").status_code == 404

"""Confirming what a server showed: only by the fingerprint that somebody looked at."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from jobs.models import Job
from servers.models import Server
from servers.ssh.remote import HostKey
from tests.conftest import HOST_KEY
from tests.servers.conftest import FINGERPRINT, OTHER_HOST_KEY

pytestmark = pytest.mark.django_db
OTHER_FINGERPRINT = HostKey.parse(OTHER_HOST_KEY).fingerprint


def confirm(client: Client, server: Server, fingerprint: str = FINGERPRINT) -> str:
    """Press the button, and return the page that follows."""
    return client.post(f"/servers/{server.pk}/host-key", {"fingerprint": fingerprint}, follow=True).getvalue().decode()


def test_confirming_pins_the_key_and_tests_again(as_admin: Client, admin: User, new_server: Server) -> None:
    confirm(as_admin, new_server)
    new_server.refresh_from_db()
    assert new_server.host_key == HOST_KEY
    job = Job.objects.get()
    assert (job.type, job.server, job.user) == ("server_test", new_server, admin)


def test_a_test_that_is_on_its_way_is_not_started_twice(as_admin: Client, new_server: Server) -> None:
    confirm(as_admin, new_server)
    confirm(as_admin, new_server)
    assert Job.objects.count() == 1


def test_confirming_is_audited_with_what_was_trusted_before(as_admin: Client, admin: User, server: Server) -> None:
    server.remember_host_key(HostKey.parse(OTHER_HOST_KEY))
    confirm(as_admin, server, OTHER_FINGERPRINT)
    entry = AuditEntry.objects.get(action="host_key.confirmed")
    assert (entry.user, entry.target) == (admin, "web-1")
    assert entry.detail == {"fingerprint": OTHER_FINGERPRINT, "before": FINGERPRINT}


def test_a_first_confirmation_had_nothing_before(as_admin: Client, new_server: Server) -> None:
    confirm(as_admin, new_server)
    assert AuditEntry.objects.get(action="host_key.confirmed").detail["before"] == ""


def test_a_key_that_changed_since_somebody_looked_is_not_confirmed(as_admin: Client, new_server: Server) -> None:
    assert FINGERPRINT in as_admin.get(f"/servers/{new_server.pk}/access").getvalue().decode()
    new_server.remember_host_key(HostKey.parse(OTHER_HOST_KEY))
    html = confirm(as_admin, new_server)
    new_server.refresh_from_db()
    assert new_server.host_key == ""
    assert "The server now shows another key than the one that you looked at. Look again." in html
    assert OTHER_FINGERPRINT in html
    assert not AuditEntry.objects.filter(action="host_key.confirmed").exists()
    assert not Job.objects.exists()


@pytest.mark.parametrize("fingerprint", ["", "SHA256:x", "<script>"])
def test_no_or_another_fingerprint_confirms_nothing(as_admin: Client, new_server: Server, fingerprint: str) -> None:
    confirm(as_admin, new_server, fingerprint)
    new_server.refresh_from_db()
    assert new_server.host_key == ""


def test_only_who_manages_servers_confirms(as_operator: Client, as_viewer: Client, new_server: Server) -> None:
    for client in (as_operator, as_viewer):
        assert client.post(f"/servers/{new_server.pk}/host-key", {"fingerprint": FINGERPRINT}).status_code == 403
    new_server.refresh_from_db()
    assert new_server.host_key == ""


def test_confirming_takes_a_post(as_admin: Client, new_server: Server) -> None:
    assert as_admin.get(f"/servers/{new_server.pk}/host-key?fingerprint={FINGERPRINT}").status_code == 405
    assert as_admin.post("/servers/999/host-key").status_code == 404


# --- The same over the API --------------------------------------------------------------------


def test_a_program_confirms_by_the_fingerprint(api_admin: APIClient, admin: User, new_server: Server) -> None:
    answer = api_admin.post(f"/api/servers/{new_server.pk}/host-key", {"fingerprint": FINGERPRINT})
    assert answer.status_code == 200
    assert answer.json()["fingerprint"] == FINGERPRINT
    entry = AuditEntry.objects.get(action="host_key.confirmed")
    assert (entry.user, entry.detail) == (admin, {"fingerprint": FINGERPRINT, "before": ""})


@pytest.mark.parametrize("sent", [{"fingerprint": OTHER_FINGERPRINT}, {}, {"fingerprint": ""}, {"fingerprint": ["x"]}])
def test_a_program_with_the_wrong_fingerprint_is_told_so(
    api_admin: APIClient, new_server: Server, sent: dict[str, object]
) -> None:
    answer = api_admin.post(f"/api/servers/{new_server.pk}/host-key", sent)
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {"fingerprint"}
    new_server.refresh_from_db()
    assert new_server.host_key == ""


def test_the_api_asks_for_the_role_too(api_operator: APIClient, api_viewer: APIClient, new_server: Server) -> None:
    for client in (api_operator, api_viewer):
        answer = client.post(f"/api/servers/{new_server.pk}/host-key", {"fingerprint": FINGERPRINT})
        assert answer.status_code == 403


def test_the_api_answers_other_methods_and_servers(api_admin: APIClient, new_server: Server) -> None:
    assert api_admin.get(f"/api/servers/{new_server.pk}/host-key").status_code == 405
    assert api_admin.post("/api/servers/999/host-key", {"fingerprint": FINGERPRINT}).status_code == 404

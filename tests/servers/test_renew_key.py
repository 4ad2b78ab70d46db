"""Renewing a server's key: who may, where it is offered, what waits for it; what it does: e2e/test_renew_key.py."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from servers.runners.let_in import LetIn
from servers.runners.renew_key import RenewKey
from tests.conftest import HOST_KEY
from tests.servers.conftest import OTHER_HOST_KEY

pytestmark = pytest.mark.django_db


def access_of(client: Client, server: Server) -> str:
    return client.get(f"/servers/{server.pk}?tab=access").getvalue().decode()


def test_who_manages_servers_starts_it_from_the_page(as_admin: Client, as_operator: Client, server: Server) -> None:
    address = f"/jobs/start/renew_key/{server.pk}"
    assert f'action="{address}"' in access_of(as_admin, server)
    assert address not in access_of(as_operator, server)
    assert as_operator.post(address).status_code == 403
    answer = as_admin.post(address)
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}"
    assert (job.type, job.server, job.payload) == ("renew_key", server, {})


def test_before_the_host_key_is_confirmed_it_is_not_offered(as_admin: Client, new_server: Server) -> None:
    assert "renew_key" not in access_of(as_admin, new_server)


@pytest.mark.parametrize("changes", [{"host_key": ""}, {"host_key_seen": OTHER_HOST_KEY}, {"enabled": False}])
def test_a_machine_that_nobody_vouched_for_gets_none(server: Server, changes: dict[str, object]) -> None:
    Server.objects.filter(pk=server.pk).update(**changes)
    server.refresh_from_db()
    with pytest.raises(Refused):
        RenewKey.enqueue(server)


def test_a_program_starts_it_and_sees_since_when(api_admin: APIClient, server: Server) -> None:
    answer = api_admin.post("/api/jobs", {"type": "renew_key", "subject": server.pk})
    assert answer.status_code == 202
    shown = api_admin.get(f"/api/servers/{server.pk}").json()
    assert shown["key_made_at"] == shown["created_at"]


def test_a_key_that_is_left_over_is_told_of(as_viewer: Client, server: Server) -> None:
    """Whoever looks is told, not only who may do something about it."""
    assert "Another key of ours" not in access_of(as_viewer, server)
    Server.objects.update(leftover_public_key="ssh-ed25519 AAAA phpborg@web-1")
    assert "Another key of ours may still be in authorized_keys" in access_of(as_viewer, server)


def test_nothing_else_writes_a_key_there_meanwhile(server: Server, new_server: Server) -> None:
    """Red when the way in by a password holds nothing: it would put the old key back."""
    Server.objects.filter(pk=new_server.pk).update(host_key=HOST_KEY)
    new_server.refresh_from_db()
    renewal, way_in, elsewhere = RenewKey.enqueue(server), LetIn.enqueue(server), RenewKey.enqueue(new_server)
    assert RenewKey.holds(renewal) == LetIn.holds(way_in) != RenewKey.holds(elsewhere)

from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEntry, User
from jobs.models import Job
from servers.models import Server, Tag
from tests.servers.conftest import answers

pytestmark = pytest.mark.django_db


def test_a_new_server_leads_to_its_access_page_with_the_test_started(as_admin: Client, admin: User) -> None:
    answer = as_admin.post("/servers/add", answers())
    server, job = Server.objects.get(), Job.objects.get()
    assert answer["Location"] == f"/servers/{server.pk}/access"
    assert (job.type, job.status, job.server, job.user) == ("server_test", "pending", server, admin)


def test_the_access_page_shows_what_to_do_and_how_far_the_test_is(as_admin: Client) -> None:
    answer = as_admin.post("/servers/add", answers(username="backup"), follow=True)
    html, server = answer.getvalue().decode(), Server.objects.get()
    assert server.public_key in html
    assert server.sudoers_line in html
    assert "The test waits for a free worker." in html
    assert [step["state"] for step in answer.context["steps"]] == ["waiting"] * 7


def test_root_needs_no_sudoers_line(as_admin: Client) -> None:
    answer = as_admin.post("/servers/add", answers(), follow=True)
    assert "sudoers" not in answer.getvalue().decode()


def test_adding_is_audited(as_admin: Client, admin: User) -> None:
    as_admin.post("/servers/add", answers())
    entry = AuditEntry.objects.get(action="server.added")
    assert (entry.user, entry.target) == (admin, "web-2")


def test_tags_are_words_in_small_letters_each_once(as_admin: Client) -> None:
    Tag.objects.create(name="web")
    as_admin.post("/servers/add", answers(tags=" Web, db  web\tDB,,prod "))
    assert [tag.name for tag in Server.objects.get().tags.all()] == ["db", "prod", "web"]
    assert Tag.objects.count() == 3


def test_a_server_that_fails_to_be_saved_whole_is_not_saved_at_all(
    as_admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no job today")

    monkeypatch.setattr("servers.views.TestConnection.enqueue", broken)
    with pytest.raises(RuntimeError):
        as_admin.post("/servers/add", answers(tags="web"))
    assert not Server.objects.exists()
    assert not AuditEntry.objects.filter(action="server.added").exists()


@pytest.mark.parametrize(("came_from", "shown"), [
    ("http://testserver/servers/add", "/servers/add?#again"),
    ("http://testserver/servers/add?a=1", "/servers/add?a=1&amp;#again"),
    ("http://evil.example/servers/add", None),
    ("http://testserver//evil.example/", None),
    ("", None),
])  # fmt: skip
def test_a_form_that_has_expired_is_opened_again_where_it_stood(admin: User, came_from: str, shown: str | None) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    page = client.post("/servers/add", answers(), headers={"Referer": came_from}).content.decode()
    assert ("Open the form again" in page) == bool(shown)
    assert shown is None or f'href="{shown}"' in page


@pytest.mark.parametrize("method", ["get", "post"])
def test_only_who_manages_servers_adds_one(as_operator: Client, as_viewer: Client, method: str) -> None:
    for client in (as_operator, as_viewer):
        assert getattr(client, method)("/servers/add", answers()).status_code == 403
    assert not Server.objects.exists()


def test_nobody_is_sent_to_the_login(client: Client) -> None:
    answer = client.post("/servers/add", answers())
    assert answer["Location"] == "/login?next=%2Fservers%2Fadd"
    assert not Server.objects.exists()


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_the_page_takes_no_other_method(as_admin: Client, method: str) -> None:
    assert getattr(as_admin, method)("/servers/add").status_code == 405


def test_without_our_form_token_nothing_is_added(admin: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    answer = client.post("/servers/add", answers())
    assert answer.status_code == 403
    assert "This form has expired" in answer.getvalue().decode()
    assert not Server.objects.exists()

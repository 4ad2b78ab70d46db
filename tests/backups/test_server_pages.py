"""The list of servers, and the page of one with its tabs."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from backups.models import Archive, Plan
from jobs.models import Job
from servers.models import Server, Tag

pytestmark = pytest.mark.django_db


def listed(client: Client, query: str = "") -> list[str]:
    answer = client.get(f"/servers{query}")
    assert answer.status_code == 200
    return [row["server"].name for row in answer.context["rows"]]


def test_servers_are_found_by_name_address_and_tag(as_viewer: Client, server: Server, other_server: Server) -> None:
    other_server.tags.add(Tag.objects.create(name="prod"), Tag.objects.create(name="db"))
    assert listed(as_viewer) == ["db-1", "web-1"]
    assert listed(as_viewer, "?search=WEB") == ["web-1"]
    assert listed(as_viewer, "?search=2.9") == ["db-1"]
    assert listed(as_viewer, "?search=PROD") == ["db-1"]
    assert listed(as_viewer, "?search=%20web-1%20") == ["web-1"]
    assert listed(as_viewer, "?search=pro") == []


def test_what_nothing_fits_says_so_with_what_was_asked_escaped(as_viewer: Client, server: Server) -> None:
    html = as_viewer.get("/servers?search=%22%3E%3Cscript%3E").getvalue().decode()
    assert "No server fits" in html
    assert 'value="&quot;&gt;&lt;script&gt;"' in html


def test_without_any_the_page_says_what_a_server_is(as_admin: Client, as_viewer: Client) -> None:
    assert "/servers/add" in as_admin.get("/servers").getvalue().decode()
    html = as_viewer.get("/servers").getvalue().decode()
    assert "No server yet" in html
    assert "/servers/add" not in html


def test_a_long_list_is_paged(as_viewer: Client) -> None:
    for number in range(51):
        Server(name=f"s{number:02}", address="192.0.2.1", public_key="x").save()
    assert len(listed(as_viewer)) == 50
    assert listed(as_viewer, "?page=2") == ["s50"]


@pytest.mark.parametrize(
    ("tab", "text"),
    [
        ("overview", "Last good backup"), ("plans", "Add plan"), ("archives", "Archive</th>"), ("jobs", "Backup"),
        ("access", "Our public key"), ("nonsense", "Last good backup"), ("", "Last good backup"),
    ],
)  # fmt: skip
def test_each_tab_shows_its_own(as_admin: Client, archive: Archive, tab: str, text: str) -> None:
    Job.objects.create(type="backup", server=archive.server, plan=archive.plan)
    answer = as_admin.get(f"/servers/{archive.server_id}?tab={tab}")
    assert answer.status_code == 200
    assert text in answer.getvalue().decode()


def test_what_runs_is_shown_on_top(as_viewer: Client, plan: Plan) -> None:
    job = Job.objects.create(
        type="backup", server=plan.server, plan=plan, status="running", started_at="2026-01-01T00:00Z",
        progress={"percent": 40, "original": 1000},
    )  # fmt: skip
    html = as_viewer.get(f"/servers/{plan.server_id}").getvalue().decode()
    assert f"/jobs/{job.pk}" in html
    assert "about 40 %" in html


def test_with_one_plan_the_page_has_its_button(as_operator: Client, plan: Plan) -> None:
    assert f'action="/plans/{plan.pk}/run"' in as_operator.get(f"/servers/{plan.server_id}").getvalue().decode()


def test_buttons_are_for_who_may_press_them(as_viewer: Client, as_operator: Client, plan: Plan) -> None:
    html = as_viewer.get(f"/servers/{plan.server_id}").getvalue().decode()
    assert "/run" not in html
    for client in (as_viewer, as_operator):
        html = client.get(f"/servers/{plan.server_id}?tab=access").getvalue().decode()
        for path in ("edit", "delete", "access"):
            assert f"/servers/{plan.server_id}/{path}" not in html


def test_no_page_of_a_server_has_its_private_key(as_admin: Client, server: Server) -> None:
    paths = [f"/servers/{server.pk}?tab=access", f"/servers/{server.pk}/access", f"/servers/{server.pk}/edit"]
    for path in [*paths, f"/admin/servers/server/{server.pk}/change/"]:
        text = as_admin.get(path).getvalue().decode()
        assert "PRIVATE" not in text
        assert server.private_key_encrypted not in text


def test_a_server_that_is_not_there_is_404(as_viewer: Client) -> None:
    assert as_viewer.get("/servers/999").status_code == 404


def test_servers_are_for_who_may_see_them(client: Client, server: Server, django_user_model: type[User]) -> None:
    client.force_login(django_user_model.objects.create_user("nobody"))
    for path in ("/servers", f"/servers/{server.pk}"):
        assert client.get(path).status_code == 403


def test_the_list_of_plans_shows_each_with_its_state(as_viewer: Client, plan: Plan, second_plan: Plan) -> None:
    rows: list[dict[str, Any]] = as_viewer.get("/plans").context["rows"]
    assert [row["plan"] for row in rows] == [plan, second_plan]
    assert {row["health"].state for row in rows} == {"unknown"}


def test_the_page_of_a_plan_shows_what_it_saves(as_viewer: Client, plan: Plan) -> None:
    plan.sources.update(parameters={"paths": ["/<b>", "/etc"], "excludes": ["*.tmp"]})
    html = as_viewer.get(f"/plans/{plan.pk}").getvalue().decode()
    assert "/&lt;b&gt;<br>" in html
    assert "without *.tmp" in html
    assert "everything is kept" in html

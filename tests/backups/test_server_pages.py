"""The list of servers, and the page of one with its tabs."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from backups.models import Archive, Plan, Repository, RetentionPolicy
from jobs.models import Job
from servers.models import Server, Tag

pytestmark = pytest.mark.django_db


def listed(client: Client, query: str = "") -> list[str]:
    answer = client.get(f"/servers{query}")
    assert answer.status_code == 200
    return [row.server.name for row in answer.context["rows"]]


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


def test_the_list_tells_what_a_server_s_safety_rests_on(as_viewer: Client, plan: Plan, second_plan: Plan) -> None:
    """Of several plans the one that is longest ago; what is next; what they take."""
    now = timezone.now()
    days = {number: now - timedelta(days=number) for number in range(1, 9)}
    Repository.objects.update(checked_at=days[3], deduplicated_bytes=2_500_000)
    retention = RetentionPolicy.objects.create(name="a")  # a database that was emptied has no "Standard"
    Plan.objects.filter(pk=plan.pk).update(
        last_good_at=days[1],
        tidied_at=days[4],
        proved_at=days[5],
        retention=retention,
        next_run_at=now + timedelta(hours=5),
    )
    Plan.objects.filter(pk=second_plan.pk).update(
        last_good_at=days[2],
        proved_at=days[6],
        proof_overdue_at=days[1],
        next_run_at=now + timedelta(hours=3),
    )
    row = as_viewer.get("/servers").context["rows"][0]
    assert [(mark.label, mark.at, mark.is_owed) for mark in row.marks] == [
        ("Backup", days[2], False),
        ("Check", days[3], False),
        ("Retention", days[4], False),
        ("Restore test", days[6], True),
    ]
    assert (row.next_run_at, row.size) == (now + timedelta(hours=3), 2_500_000)
    html = as_viewer.get("/servers").content.decode()
    assert "needs a look" in html
    assert "2.5 MB" in html
    Plan.objects.filter(pk=second_plan.pk).update(enabled=False)
    row = as_viewer.get("/servers").context["rows"][0]
    assert (row.next_run_at, row.marks[0].at) == (now + timedelta(hours=5), days[1])
    Server.objects.update(enabled=False)
    assert as_viewer.get("/servers").context["rows"][0].next_run_at is None


def test_a_server_without_plans_has_no_ages(as_viewer: Client, server: Server) -> None:
    row = as_viewer.get("/servers").context["rows"][0]
    assert [mark.at for mark in row.marks] == [None] * 4
    assert (row.next_run_at, row.size) == (None, None)


def test_a_server_s_size_over_time(as_viewer: Client, plan: Plan, second_plan: Plan) -> None:
    """Red when two backups of one plan count twice, or those of two plans once."""
    now = timezone.now()
    for days_ago, of, original, new in (
        (1, plan, 1_000, 10), (1, plan, 3_000, 20), (1, second_plan, 500, 5), (2, plan, 2_000, 7),
    ):  # fmt: skip
        Job.objects.create(
            type="backup",
            status="completed",
            server=plan.server,
            plan=of,
            created_at=now - timedelta(days=days_ago),
            result={"original": original, "deduplicated": new, "suspicion": ""},
        )
    Job.objects.create(type="backup", status="failed", server=plan.server, plan=plan, created_at=now)
    answer = as_viewer.get(plan.server.get_absolute_url())
    assert [(day.data_bytes, day.added_bytes, day.completed) for day in answer.context["sizes"]] == [
        (2_000, 7, 1), (3_500, 35, 3),
    ]  # fmt: skip
    assert 'id="sizes"' in answer.content.decode()
    Job.objects.filter(result__original=2_000).delete()
    assert 'id="sizes"' not in as_viewer.get(plan.server.get_absolute_url()).content.decode(), "One day makes no line."


def test_the_open_list_is_given_its_table_alone(as_viewer: Client, server: Server) -> None:
    part = as_viewer.get("/servers", headers={"HX-Request": "true", "HX-Request-Type": "partial"})
    assert part.templates[0].name == "servers/_list.html"
    assert f'id="server-{server.pk}"' in part.content.decode()
    assert 'hx-get="/servers?state=unknown"' in as_viewer.get("/servers?state=unknown").content.decode()

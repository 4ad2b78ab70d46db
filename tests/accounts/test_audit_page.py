"""The audit trail on a page, over the API, as files and as the command prints it."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts import audit
from accounts.access import Permission
from accounts.chain import append
from accounts.models import AuditEntry, User
from tests.conftest import holder, page_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def trail(db: None) -> list[AuditEntry]:
    """Of three days, a week before the login of whoever looks."""
    rows = [
        ("login", "ada", "203.0.113.5", "", 0), ("plan.changed", "ada", "203.0.113.5", "web-1/files", 1),
        ("login.failed", "otto", "2001:db8::1", "", 24), ("restore.started", "otto", None, "db-1-nightly-3", 30),
        ("server.deleted", "nina", "203.0.113.6", "otto-2", 48),
    ]  # fmt: skip
    entries = [
        AuditEntry(action=action, username=who, address=address, target=target, at=NOON + timedelta(hours=hours))
        for action, who, address, target, hours in rows
    ]
    append(*entries)
    return entries


def shown(answer: Any) -> list[str]:
    return [entry.action for entry in answer.context["page"].rows]


FILTERS: list[tuple[dict[str, str], list[str]]] = [
    ({"username": "ada"}, ["plan.changed", "login"]),
    ({"action": "plan.changed"}, ["plan.changed"]),
    ({"address": "203.0.113.5"}, ["plan.changed", "login"]),
    ({"address": "2001:DB8:0::1"}, ["login.failed"]),
    ({"search": "WEB-1"}, ["plan.changed"]),
    ({"search": "otto"}, ["server.deleted", "restore.started", "login.failed"]),
    ({"since": "2026-03-03"}, ["server.deleted", "restore.started", "login.failed"]),
    ({"until": "2026-03-03"}, ["restore.started", "login.failed", "plan.changed", "login"]),
    ({"since": "2026-03-03", "until": "2026-03-03"}, ["restore.started", "login.failed"]),
    ({"until": "2026-03-02T12:30:00Z"}, ["login"]),
    ({"username": "otto", "action": "login.failed", "address": "2001:db8::1"}, ["login.failed"]),
    ({"username": "nobody"}, []),
]
NONSENSE = [{"address": "somewhere"}, {"since": "soon"}, {"until": "2026-02-30"}, {"search": "a\0b"}]


@pytest.mark.parametrize(("query", "actions"), FILTERS)
def test_the_page_and_the_api_are_filtered_alike(
    as_admin: Client, api_admin: APIClient, trail: list[AuditEntry], query: dict[str, str], actions: list[str]
) -> None:
    """Red where one of the filters is left out."""
    assert shown(as_admin.get("/audit", {"username": "", "action": "", **query})) == actions
    answer = api_admin.get("/api/audit", query)
    assert [row["action"] for row in answer.json()["results"]] == actions


@pytest.mark.parametrize("query", NONSENSE)
def test_a_filter_that_makes_no_sense_finds_nothing_and_says_so(
    as_admin: Client, api_admin: APIClient, trail: list[AuditEntry], query: dict[str, str]
) -> None:
    answer = as_admin.get("/audit", query)
    assert (shown(answer), answer.content.decode().count("alert-warning")) == ([], 1)
    refused = api_admin.get("/api/audit", query)
    assert (refused.status_code, set(refused.json()["error"]["fields"])) == (400, set(query))


def test_a_day_is_the_persons_own(admin: User, trail: list[AuditEntry]) -> None:
    """Red with days in UTC: in Auckland the third of March begins at eleven in the morning of the second."""
    User.objects.filter(pk=admin.pk).update(time_zone="Pacific/Auckland")
    answer = page_of(admin).get("/audit", {"until": "2026-03-02"})
    assert shown(answer) == []
    answer = page_of(admin).get("/audit", {"until": "2026-03-03"})
    assert shown(answer) == ["plan.changed", "login"]
    assert "2026-03-03 01:00:00" in answer.content.decode()


def test_pages_go_on_by_cursor(as_admin: Client) -> None:
    append(*(AuditEntry(action="x", target=str(number)) for number in range(120)))
    page, found = as_admin.get("/audit").context["page"], []
    found += [entry.target for entry in page.rows]
    while page.older:
        page = as_admin.get("/audit", {"cursor": page.older.text}).context["page"]
        found += [entry.target for entry in page.rows]
    assert found == [str(number) for number in range(119, -1, -1)]


def test_it_says_what_was_before_and_after(as_admin: Client, admin: User) -> None:
    """Red without the table: the details would be JSON."""
    detail = {"before": {"port": 22, "tags": [HOSTILE]}, "after": {"port": 2222, "tags": []}, "api_token": "ab12"}
    audit.record("server.changed", user=admin, target="web-1", detail=detail)
    html = as_admin.get("/audit").content.decode()
    table = html.partition("<details")[2].partition("</details>")[0].replace("\n", "")
    assert "<td>22</td><td>2222</td>" in table
    assert "&lt;img src=x onerror=alert(1)&gt;</td><td>–</td>" in table
    assert '<td colspan="2">ab12</td>' in table
    assert HOSTILE not in html
    assert "Server changed" in html


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({"before": False, "after": True}, "<td>no</td><td>yes</td>"),
        ({"before": "SHA256:old", "fingerprint": "SHA256:new"}, '<td colspan="2">SHA256:new</td>'),
        ({"parameters": {"hours": 2}}, "{&quot;hours&quot;: 2}"),
        ({"archives": ["one", "two"]}, "one, two"),
    ],
)
def test_details_of_every_kind_can_be_read(as_admin: Client, detail: dict[str, Any], words: str) -> None:
    audit.record("x", detail=detail)
    assert words in as_admin.get("/audit").content.decode()


def test_jobs_are_called_as_everywhere(as_admin: Client) -> None:
    audit.record("restore.started")
    audit.record("nobody.knows")
    html = as_admin.get("/audit").content.decode()
    assert "Restore: started" in html
    assert "nobody.knows" in html


def test_it_says_where_nothing_fits_and_where_nothing_is(as_admin: Client) -> None:
    assert "No entry fits" in as_admin.get("/audit", {"username": "x"}).content.decode()
    assert "No entry yet" in as_admin.get("/audit").content.decode()


@pytest.mark.parametrize("permission", [each for each in Permission if each != Permission.USER_MANAGE])
def test_only_who_manages_users_sees_it(db: None, permission: Permission) -> None:
    client = page_of(holder("sam", permission))
    assert client.get("/audit").status_code == 403
    assert client.get("/api/audit").status_code == 403
    if permission == Permission.BACKUP_VIEW:
        assert 'href="/audit"' not in client.get("/").content.decode()


def test_who_may_finds_it_in_the_navigation(as_admin: Client) -> None:
    assert 'href="/audit"' in as_admin.get("/").content.decode()


def test_a_page_of_the_api_goes_on_and_has_what_the_digest_is_made_of(
    api_admin: APIClient, trail: list[AuditEntry]
) -> None:
    first = api_admin.get("/api/audit?page_size=3").json()
    second = api_admin.get(first["next"]).json()
    assert [row["number"] for row in (*first["results"], *second["results"])] == [5, 4, 3, 2, 1]
    assert second["next"] is None
    row, entry = second["results"][0], trail[1]
    assert (row["digest"], row["user"], row["username"]) == (entry.digest, None, "ada")
    assert (row["address"], row["target"], row["detail"]) == ("203.0.113.5", "web-1/files", {})


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({}, "audit_newest"), ({"since": "2026-03-01"}, "audit_newest"), ({"action": "x"}, "audit_newest_by_action"),
        ({"username": "ada"}, "audit_newest_by_username"), ({"address": "203.0.113.5"}, "audit_newest_by_address"),
    ],
)  # fmt: skip
def test_a_page_of_a_million_is_read_from_an_index(api_admin: APIClient, query: dict[str, str], index: str) -> None:
    """Red without that index: all rows of the table, or of the filter, would be sorted."""
    if connection.vendor != "sqlite":
        return  # MariaDB sorts a few thousand, and takes the index of a hundred thousand
    append(*(AuditEntry(action="x", username="ada", address="203.0.113.5") for _ in range(2_500)))
    with CaptureQueriesContext(connection) as caught:
        assert len(api_admin.get("/api/audit", query).json()["results"]) == 50
    asked = [sql["sql"] for sql in caught if "accounts_auditentry" in sql["sql"] and "ORDER BY" in sql["sql"]]
    page = [sql for sql in asked if '"id" IN (' not in sql][-1]  # what chooses the rows, maybe their keys alone
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {page}")
        plan = str(cursor.fetchall())
    assert index in plan
    assert "TEMP B-TREE" not in plan


# --- Files ----------------------------------------------------------------------------------------


def text_of(answer: Any) -> str:
    async def read() -> bytes:
        return b"".join([piece async for piece in answer])

    return async_to_sync(read)().decode()


def test_all_that_is_asked_for_comes_as_csv(as_admin: Client, trail: list[AuditEntry]) -> None:
    append(AuditEntry(action="plan.changed", username="=cmd()", detail={"before": {"a": 1}}))
    answer = as_admin.get("/audit", {"action": "plan.changed", "format": "csv"})
    heads, newest, older = csv.reader(StringIO(text_of(answer).removeprefix("\ufeff")))
    assert heads[0] == "Number"
    assert (newest[0], newest[2], json.loads(newest[6])) == ("6", "'=cmd()", {"before": {"a": 1}})
    assert older[:6] == ["2", "2026-03-02T13:00:00+00:00", "ada", "203.0.113.5", "plan.changed", "web-1/files"]


def test_all_that_is_asked_for_comes_as_json_lines(as_admin: Client, trail: list[AuditEntry]) -> None:
    append(*(AuditEntry(action="login", username="ada", at=NOON) for _ in range(1_200)))
    answer = as_admin.get("/audit", {"username": "ada", "format": "jsonl"})
    assert answer.streaming
    assert answer["Content-Disposition"].endswith('.jsonl"')
    rows = [json.loads(line) for line in text_of(answer).splitlines()]
    assert (len(rows), {row["username"] for row in rows}) == (1_202, {"ada"})


def printed(*arguments: str) -> list[dict[str, Any]]:
    said = StringIO()
    call_command("export_audit", *arguments, stdout=said)
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_the_command_prints_it_the_oldest_first(trail: list[AuditEntry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.chain.ROWS_AT_ONCE", 2)
    assert [row["number"] for row in printed()] == [1, 2, 3, 4, 5]
    assert [row["number"] for row in printed("--since", "2026-03-03")] == [3, 4, 5]
    assert [row["number"] for row in printed("--since", "2026-03-03T13:00:00Z", "--until", "2026-03-03")] == [4]
    (row, *_) = printed()
    assert set(row) == {"number", "at", "user", "username", "address", "action", "target", "detail", "digest"}


def test_what_is_no_day_is_a_wrong_use(db: None) -> None:
    with pytest.raises(CommandError, match="--until takes a day") as refused:
        printed("--until", "soon")
    assert refused.value.returncode == 2

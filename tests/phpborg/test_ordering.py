"""`?ordering=`: on every list what the schema says, stable, and for long lists only what an index has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from backups.models import Archive, Plan
from servers.models import Server
from tests.conftest import make_archive
from tests.phpborg.things import filled

pytestmark = pytest.mark.django_db

BOTH = {
    "/api/servers": ("name", "created_at", "seen_at"),
    "/api/archives": ("start",),
    "/api/restore-tests": ("at",),
    "/api/repositories": ("name", "created_at", "deduplicated_bytes"),
    "/api/storage-pools": ("name", "created_at", "free_bytes"),
    "/api/plans": ("name", "created_at", "next_run_at", "last_good_at"),
    "/api/sources": ("name", "created_at"),
    "/api/users": ("username",),
    "/api/roles": ("name",),
    "/api/tokens": ("name", "created_at"),
    "/api/alerts": ("opened_at",),
    "/api/alert-rules": ("name", "created_at"),
    "/api/alert-channels": ("name", "created_at"),
    "/api/alert-deliveries": ("created_at",),
}
# A million rows and more: newest first, as their indexes and cursors have them.
NEWEST_FIRST = {
    "/api/jobs": "-created_at", "/api/backups": "-created_at", "/api/servers/{server}/backups": "-created_at",
    "/api/logs": "-id", "/api/audit": "-at",
}  # fmt: skip
CASES = [(path, name) for path, names in BOTH.items() for name in names]


def shown(client: APIClient, path: str, query: str) -> list[Any]:
    answer = client.get(f"{path}?{query}")
    assert answer.status_code == 200, answer.content
    rows: list[Any] = answer.json()["results"]
    return rows


def test_the_schema_names_each(api_admin: APIClient) -> None:
    paths = api_admin.get("/api/schema", headers={"Accept": "application/json"}).json()["paths"]
    told = {
        path.replace("{server_pk}", "{server}"): set(parameter["schema"]["enum"])
        for path, methods in paths.items()
        for parameter in methods.get("get", {}).get("parameters", [])
        if parameter["name"] == "ordering" and not path.endswith(("/files", "/diff"))
    }
    both = {path: {sign + name for name in names for sign in ("", "-")} for path, names in BOTH.items()}
    assert told == both | {path: {name} for path, name in NEWEST_FIRST.items()}


@pytest.mark.parametrize(("path", "name"), CASES)
def test_a_list_is_ordered_as_asked(api_admin: APIClient, things: dict[str, Any], path: str, name: str) -> None:
    there = shown(api_admin, path, f"ordering={name}")
    # What is not known comes first.
    keys = [(row[name] is not None, row[name] or 0, row.get("id")) for row in there]
    assert keys == sorted(keys)
    assert shown(api_admin, path, f"ordering=-{name}") == there[::-1]


@pytest.mark.parametrize(("path", "name"), NEWEST_FIRST.items())
def test_long_lists_have_their_one_order(api_admin: APIClient, things: dict[str, Any], path: str, name: str) -> None:
    path = filled(path, things)
    assert shown(api_admin, path, f"ordering={name}") == api_admin.get(path).json()["results"]


def test_what_is_alike_stands_on_one_page_and_no_other(api_admin: APIClient, plan: Plan) -> None:
    now = timezone.now()
    Server.objects.bulk_create(Server(name=f"s{n}", address="192.0.2.1", seen_at=now) for n in range(7))
    for ordering in ("seen_at", "-seen_at"):
        seen: list[int] = []
        answer = api_admin.get(f"/api/servers?ordering={ordering}&page_size=3")
        while True:
            seen += [row["id"] for row in answer.json()["results"]]
            if answer.json()["next"] is None:
                break
            answer = api_admin.get(answer.json()["next"])
        assert len(seen) == len(set(seen)) == 8


def test_filters_and_orders_go_together(api_admin: APIClient, plan: Plan) -> None:
    now = timezone.now()
    made = [make_archive(plan, start=now - timedelta(days=days)) for days in (2, 3, 1)]
    rows = shown(api_admin, "/api/archives", f"ordering=start&server={plan.server_id}")
    assert [row["id"] for row in rows] == [made[1].pk, made[0].pk, made[2].pk]


@pytest.mark.parametrize("query", ["ordering=start", "ordering=-start", "ordering=start&server={server}", "search=w"])
def test_archives_are_read_from_an_index(api_admin: APIClient, archive: Archive, query: str) -> None:
    with CaptureQueriesContext(connection) as asked:
        shown(api_admin, "/api/archives", query.format(server=archive.server_id))
    order = next(
        one["sql"] for one in asked.captured_queries if "ORDER BY" in one["sql"] and "backups_archive" in one["sql"]
    )
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{order}")
        plan = str(cursor.fetchall())
    assert "archive_newest" in plan or "archive_by_name" in plan
    assert "TEMP B-TREE" not in plan
    assert "filesort" not in plan

"""Every list and every statistics route asks the database as often for many rows as for few, and not often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import URLResolver, get_resolver
from rest_framework.test import APIClient

from accounts.chain import append
from accounts.models import ApiToken, AuditEntry, User
from alerts.models import Channel, Delivery, Incident, Rule
from jobs.config import config
from jobs.models import Job
from phpborg.fleet import Fleet, Size
from servers.models import Server

MOST = 12

# Each route with how many queries it takes: two of them are for who asks.
PAGED = {
    "servers": 6, "servers/{server}/backups": 7, "backups": 4, "archives": 6, "repositories": 6, "storage-pools": 5,
    "sources": 5, "plans": 6, "restore-tests": 5, "jobs": 3, "logs": 3, "tokens": 4, "users": 6, "audit": 3,
    "stats/efficiency": 6, "alerts": 5, "alert-rules": 9, "alert-channels": 6, "alert-deliveries": 5,
}  # fmt: skip
WHOLE = {"roles": 6, "jobs/running": 3, "jobs/{job}/log": 4, "stats/dashboard": 9, "stats/server/{server}": 7}
# What is no list: what must be asked for something (FILTERS), streams, one's own account, the description of the API.
OTHERS = {"files", "auth/me", "schema", "docs", "logs/tail", "sse/jobs", "sse/backups", "sse/logs", "settings"}
FILTERS = [
    "servers?search=web&tag=web&enabled=true", "archives?suspicious=false&pinned=false&since=2020-01-01&search=web",
    "archives?server={server}", "jobs?status=failed&status=cancelled&status=pending&status=running&trigger=user",
    "jobs?type=backup&server={server}&plan={server}&repository={server}&status=completed&since=2020-01-01",
    "backups?search=lock&status=failed&server={server}", "servers/{server}/backups?search=lock&status=failed",
    "files?search=hosts&server={server}&before=2030-01-01",
    "audit?username=ada&action=login&address=192.0.2.7&since=2026-01-01&until=2030-01-01&search=x",
    "logs?level=warning&server={server}&since=2020-01-01&search=x", "logs?level=info&job={job}&since=2020-01-01",
]  # fmt: skip


@pytest.fixture
def names(db: None, admin: User) -> dict[str, Any]:
    """A fleet, and what stands for the words in the paths."""
    Fleet(Size(servers=55, jobs=700, archives=120, log_lines=400)).make()
    for number in range(60):
        ApiToken.make(admin, name=f"t{number}", permissions=[], expires_at=None)
    rule = Rule.objects.create(name="a", event="backup_failed")
    channel = Channel.objects.create(name="a", kind="mail")
    Rule.objects.bulk_create(Rule(name=f"r{n}", event="backup_failed") for n in range(60))
    Channel.objects.bulk_create(Channel(name=f"c{n}", kind="mail") for n in range(60))
    Incident.objects.bulk_create(
        Incident(rule=rule, subject=f"plan:{n}", name="x", event=rule.event, severity="info") for n in range(60)
    )
    Delivery.objects.bulk_create(Delivery(rule=rule, channel=channel, kind="problem") for n in range(60))
    append(*(AuditEntry(action="login", username="ada", address="192.0.2.7") for _ in range(60)))
    busiest = Server.objects.earliest("pk")
    job = Job.objects.latest("log_lines").pk
    config.read()  # as nearly always somebody has done within the last second
    return {"server": busiest.pk, "job": job}


def queries(client: APIClient, path: str) -> int:
    with CaptureQueriesContext(connection) as caught:
        answer = client.get(f"/api/{path}")
    assert answer.status_code == 200, answer.content
    return len(caught)


def lists(resolver: Any, prefix: str = "") -> Iterator[str]:
    """Every path below /api that answers to GET, but for those about one thing."""
    for each in resolver.url_patterns:
        path = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from lists(each, path)
        elif path.startswith("api/") and "<int:pk>" not in path and "<uuid:pk>" not in path:
            view = getattr(each.callback, "cls", None) or getattr(each.callback, "view_class", None)
            if view and "get" in (getattr(each.callback, "actions", None) or dir(view)):
                yield path.removeprefix("api/").replace("<int:server_pk>", "{server}")


def test_every_list_stands_here() -> None:
    about_one = {"jobs/{job}/log", "stats/server/{server}"}
    assert set(lists(get_resolver())) - OTHERS == {*PAGED, *WHOLE} - about_one


def test_a_long_page_takes_as_many_queries_as_a_short_one(api_admin: APIClient, names: dict[str, Any]) -> None:
    for path, number in PAGED.items():
        url = path.format(**names)
        assert [queries(api_admin, f"{url}?page_size={size}") for size in (3, 50)] == [number, number], path
        assert number <= MOST


def test_the_last_page_takes_as_many_queries_as_the_first(api_admin: APIClient, names: dict[str, Any]) -> None:
    for path, number in PAGED.items():
        url = f"{path.format(**names)}?page_size=20"
        while further := api_admin.get(f"/api/{url}").json()["next"]:
            url = further.partition("/api/")[2]
        assert queries(api_admin, url) == number, path


def test_what_has_no_pages_takes_a_few_queries(api_admin: APIClient, names: dict[str, Any]) -> None:
    few = {path: queries(api_admin, path.format(**names)) for path in WHOLE}
    more = Job.objects.filter(status="completed").values_list("pk", flat=True)[:30]
    Job.objects.filter(pk__in=list(more)).update(status="running")
    assert few == {path: queries(api_admin, path.format(**names)) for path in WHOLE} == WHOLE
    assert max(few.values()) <= MOST


def test_a_search_of_all_servers_looks_at_them_once(api_admin: APIClient, names: dict[str, Any]) -> None:
    """Red when it counts them first, and then chooses."""
    assert queries(api_admin, "servers?search=e") == queries(api_admin, "servers") - 1


def test_filters_together_take_no_more_than_there_may_be(api_admin: APIClient, names: dict[str, Any]) -> None:
    for path in FILTERS:
        assert queries(api_admin, path.format(**names)) <= MOST, path


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        ("pinned=false", ("archive_newest_by_pinned", "archive_newest_by_pinned", "INTEGER PRIMARY KEY")),
        ("server=1&suspicious=false", ("server_id", "server", "INTEGER PRIMARY KEY")),
    ],
)
def test_sqlite_takes_the_index_that_leaves_few(api_admin: APIClient, query: str, indexes: tuple[str, ...]) -> None:
    """Count, keys, rows. Red when the rows are asked for with all that chose them, or a server's by what most are."""
    if connection.vendor != "sqlite":
        return  # MariaDB knows how many there are of what
    server = Server.objects.earliest("pk").pk
    with CaptureQueriesContext(connection) as captured:
        assert api_admin.get(f"/api/archives?{query.replace('server=1', f'server={server}')}").status_code == 200
    asked = [sql["sql"] for sql in captured if 'FROM "backups_archive"' in sql["sql"]]
    assert len(asked) == len(indexes)
    for sql, index in zip(asked, indexes, strict=True):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = cursor.fetchall()[0][-1]
        assert index in plan, (sql, plan)

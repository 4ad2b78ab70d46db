"""Every list, every statistics route and every page on a fleet (phpborg/fleet.py), on the database of DATABASE_URL.

`python -m tests.bench api` starts this once for each kind of database, each with an empty one.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

WARM, ASKED = 2, 20
FLEET = os.environ.get("BENCH_FLEET", "{}")  # a smaller one while something is tried out, as {"servers": 100, ...}


@dataclass(frozen=True)
class Case:
    """A route with what is asked of it, and where its first, its middle and its last page are."""

    path: str
    asked: str = ""
    pages: tuple[str, ...] = ("",)

    @property
    def name(self) -> str:
        return f"{self.path}?{self.asked}" if self.asked else self.path

    def urls(self) -> Iterator[str]:
        for page in self.pages:
            query = "&".join(filter(None, (self.asked, page)))
            yield f"{self.path if self.path.startswith('/') else f'/api/{self.path}'}?{query}"


def measure() -> dict[str, Any]:
    from django.core.management import call_command

    import phpborg.asgi  # noqa: F401  # as the web process does, which sets Django up

    call_command("migrate", verbosity=0)
    began = time.perf_counter()
    if not os.environ.get("BENCH_HAS_FLEET"):
        call_command("make_fleet", **json.loads(FLEET), stdout=sys.stderr)
    made = time.perf_counter() - began
    client = signed_in()
    routes = {case.name: told(client, case) for case in cases(client)}
    print(json.dumps(worst(routes)), file=sys.stderr, flush=True)
    browser = person()
    shown = {case.name: told(browser, case) for case in for_people()}
    return {"fleet_s": round(made, 1), **worst(routes), "routes": routes, "pages": {**worst(shown), "each": shown}}


def worst(found: dict[str, Any]) -> dict[str, Any]:
    """Of first and last pages; those in the middle, of lists with a million rows, are told by themselves."""
    middles = [each["p95_ms"][1] for each in found.values() if len(each["p95_ms"]) == 3]
    return {
        "worst_p95_ms": max(max(each["p95_ms"][0], each["p95_ms"][-1]) for each in found.values()),
        "worst_middle_p95_ms": max(middles, default=0),
        "most_queries": max(max(each["queries"]) for each in found.values()),
    }


def signed_in() -> Any:
    from django.contrib.auth.models import Group
    from django.test import RequestFactory
    from rest_framework.test import APIClient

    from accounts import tokens
    from accounts.models import User

    user, _ = User.objects.get_or_create(username="bench")
    user.groups.add(Group.objects.get(name="ROLE_ADMIN"))
    pair = tokens.log_in(user, RequestFactory().get("/"))
    return APIClient(HTTP_HOST="localhost", HTTP_AUTHORIZATION=f"Bearer {pair.access}")


def person() -> Any:
    from django.test import Client

    from accounts.models import User

    client = Client(HTTP_HOST="localhost")
    client.force_login(User.objects.get(username="bench"))
    return client


def told(client: Any, case: Case) -> dict[str, Any]:
    """Of each page: milliseconds (p95), and how often the database was asked."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    times, queries = [], []
    for url in case.urls():
        for _ in range(WARM):
            client.get(url)
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(url)
        assert answer.status_code == 200, (url, answer.content[:500])
        queries.append(len(captured))
        times.append(p95([seconds(client.get, url) for _ in range(ASKED)]))
    return {"p95_ms": times, "queries": queries}


def seconds(what: Callable[..., object], *words: Any) -> float:
    began = time.perf_counter()
    what(*words)
    return time.perf_counter() - began


def p95(values: list[float]) -> float:
    return round(sorted(values)[int(len(values) * 0.95) - 1] * 1000, 1)


# --- What is asked ----------------------------------------------------------------------------


def cases(client: Any) -> Iterator[Case]:
    yield from (Case(f"stats/{name}") for name in ("dashboard", *servers_stats()))
    yield from (Case(path, asked, pages(client, path, asked)) for path, asked in numbered())
    yield from (Case(path, asked, cursors(path)) for path, asked in walked())
    yield from (Case(path) for path in ("roles", "tokens", "jobs/running", long_log(0), long_log(5_000)))


def for_people() -> Iterator[Case]:
    """Every page that shows more when there is more, its last page too."""
    from backups.models import Archive, Plan, StoragePool
    from servers.models import Server

    quiet, busy = two_servers()
    pool = StoragePool.objects.order_by("pk")[0].pk
    yield from (Case(path) for path in ("/", "/statistics", "/jobs/strip", "/profile"))
    lists: dict[str, tuple[Any, list[dict[str, Any]]]] = {
        "/servers": (Server, [{"search": "web"}, {"state": "at-risk"}, {"state": "protected"}]),
        "/plans": (Plan, [{"search": "web"}, {"ordering": "-last_good_at"}, {"ordering": "next_run_at"}]),
        "/repositories": (Server, [{"search": "web"}, {"ordering": "-deduplicated_bytes"}, {"kit": "missing"}]),
        "/archives": (Archive, [{"search": "web-"}, {"suspicious": "true"}, {"server": quiet}, {"ordering": "start"}]),
    }  # fmt: skip
    for path, (model, asked) in lists.items():
        last = -(-model._default_manager.count() // 50)
        yield Case(path, "", ("", f"page={last // 2}", f"page={last}"))
        yield from (Case(path, urlencode(each)) for each in asked)
    walks: dict[str, list[dict[str, Any]]] = {
        "/jobs": [{"status": "failed"}, {"type": "check"}, {"server": busy, "status": "failed"}],
        "/logs": [{"level": "warning"}, {"search": "nowhere"}, {"server": busy}],
    }
    for path, each_asked in walks.items():
        yield Case(path, "", cursors(path.strip("/")))
        yield from (Case(path, urlencode(each)) for each in each_asked)
    tabs = ("overview", "plans", "archives", "jobs", "access")
    yield from (Case(f"/servers/{pk}", f"tab={tab}") for pk in (quiet, busy) for tab in tabs)
    archive = Archive.objects.order_by("-start")[0]
    yield from (
        Case(path)
        for path in (
            f"/plans/{quiet}", f"/plans/{quiet}/retention", f"/plans/{quiet}/restore-tests", f"/repositories/{quiet}",
            f"/pools/{pool}", f"/archives/{archive.pk}", f"/archives/{archive.pk}/diff", f"/jobs/{archive.job_id}",
            f"/archives/{archive.pk}/restore", f"/servers/{quiet}/plans/add", "/files", "/retention-policies",
            "/search?q=web-0",
        )
    )  # fmt: skip


def servers_stats() -> list[str]:
    quiet, busy = two_servers()
    return [f"server/{quiet}", f"server/{busy}"]


def two_servers() -> tuple[int, int]:
    """One as most are, and the one with the most jobs."""
    from servers.models import Server

    pks = Server.objects.order_by("pk").values_list("pk", flat=True)
    return pks[len(pks) // 2], pks[0]


def long_log(after: int) -> str:
    from jobs.models import Job

    job = Job.objects.order_by("-log_lines").values_list("pk", flat=True)[0]
    return f"jobs/{job}/log?after={after}"


def numbered() -> Iterator[tuple[str, str]]:
    """Lists with numbered pages, plain, in each order, and with each filter."""
    from phpborg.api import router
    from servers.models import Server

    quiet, busy = two_servers()
    name = Server.objects.get(pk=quiet).name
    filters: dict[str, list[dict[str, Any]]] = {
        "servers": [{"search": name}, {"search": "web"}, {"search": "10.0.3"}, {"tag": "berlin"}, {"enabled": "true"}],
        "archives": [
            {"server": quiet}, {"server": busy}, {"plan": quiet}, {"repository": quiet}, {"suspicious": "true"},
            {"suspicious": "false"}, {"pinned": "true"}, {"pinned": "false"}, {"since": days(30)}, {"until": days(30)},
            {"search": name}, {"search": "web-"}, {"search": "nowhere"}, {"search": name, "since": days(30)},
            {"server": quiet, "suspicious": "false"},
        ],
        "repositories": [], "storage-pools": [], "sources": [], "plans": [],
        "users": [{"search": "person-01"}, {"role": "ROLE_ADMIN"}, {"is_active": "true"}],
        "stats/efficiency": [],
    }  # fmt: skip
    orderings = {prefix: getattr(view, "orderings", ()) for prefix, view, _ in router.registry}
    for path, asked in filters.items():
        yield path, ""
        yield from ((path, urlencode({"ordering": ordering})) for ordering in orderings.get(path, ()))
        yield from ((path, urlencode(each)) for each in asked)


def walked() -> Iterator[tuple[str, str]]:
    """Lists by cursor, plain, with each filter, and with some of them together."""
    from jobs.models import LogLine

    quiet, busy = two_servers()
    newest = LogLine.objects.order_by("pk").last()
    assert newest
    of_all: list[dict[str, Any]] = [
        {"server": quiet}, {"server": busy}, {"plan": quiet}, {"repository": quiet}, {"status": "failed"},
        {"status": "completed"}, {"status": "running"}, {"status": ["failed", "cancelled"]}, {"since": days(30)},
        {"until": days(30)}, {"since": days(60), "until": days(30)}, {"server": quiet, "status": "failed"},
        {"server": busy, "status": "cancelled"},
    ]  # fmt: skip
    filters: dict[str, list[dict[str, Any]]] = {
        "jobs": [
            *of_all, {"type": "check"}, {"type": "nothing"}, {"trigger": "user"}, {"trigger": "retry"},
            {"type": "prune", "status": "failed"}, {"type": "check", "trigger": "api", "status": "failed"},
        ],
        "backups": [*of_all, {"search": "lock"}, {"search": "nowhere"}],
        f"servers/{quiet}/backups": [{"status": "failed"}],
        f"servers/{busy}/backups": [{"status": "failed"}, {"search": "nowhere"}],
        "logs": [
            {"level": "info"}, {"level": "warning"}, {"level": "error"}, {"job": newest.job_id}, {"server": quiet},
            {"server": busy}, {"since": days(1 / 24)}, {"since": days(30)}, {"search": "mail"}, {"search": "nowhere"},
            {"server": busy, "search": "nowhere"}, {"level": "warning", "search": "nowhere"},
            {"level": "error", "server": busy, "since": days(30)},
        ],
    }  # fmt: skip
    for path, asked in filters.items():
        yield path, ""
        yield from ((path, urlencode(each, doseq=True)) for each in asked)


def days(ago: float) -> str:
    from django.utils import timezone

    return (timezone.now() - timedelta(days=ago)).isoformat()


def pages(client: Any, path: str, asked: str) -> tuple[str, ...]:
    count = client.get(f"/api/{path}?{asked}").json()["count"]
    last = max(1, -(-count // 50))
    return "page=1", f"page={(last + 1) // 2}", f"page={last}"


def cursors(path: str) -> tuple[str, ...]:
    """The first page; one in the middle of everything; the last that there can be."""
    from accounts.paging import Cursor, order_of
    from jobs.models import Job, LogLine

    rows = LogLine.objects.order_by("-id") if path == "logs" else Job.objects.order_by("-created_at", "-id")
    names = order_of(rows)
    count = rows.count()
    middle, last = (rows.reverse().values_list(*names)[place] for place in (count // 2, min(count - 1, 50)))
    return "", *(urlencode({"cursor": Cursor(position).text}) for position in (middle, last))


if __name__ == "__main__":
    print(json.dumps(measure()))

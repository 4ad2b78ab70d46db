"""The contract of the API: every route with every method, who may, and what it answers; in the order of API.md."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from accounts.access import ROLES, Permission
from accounts.models import ApiToken, User
from backups.models import Archive
from tests.phpborg.things import filled, made_for

METHODS = ("get", "post", "put", "patch", "delete")
PUBLIC, SIGNED_IN = "public", "signed in"
VIEW, CREATE, RESTORE, DELETE, MANAGE = (
    Permission.BACKUP_VIEW, Permission.BACKUP_CREATE, Permission.BACKUP_RESTORE, Permission.BACKUP_DELETE,
    Permission.BACKUP_MANAGE,
)  # fmt: skip
SEE_SERVERS, MANAGE_SERVERS = Permission.SERVER_VIEW, Permission.SERVER_MANAGE
MANAGE_USERS, SEE_LOGS = Permission.USER_MANAGE, Permission.LOGS_VIEW
CONFIG = Permission.CONFIG_MANAGE


class Row(NamedTuple):
    """One line of the contract: `answers` is the status for whoever may, with this body."""

    method: str
    path: str  # the first name in braces is the id of the path, others stand for things (tests/phpborg/things.py)
    needs: str | Permission
    answers: int
    body: Any = None

    @property
    def route(self) -> str:
        """The path as the schema has it."""
        return re.sub(r"\{\w+\}", "{id}", self.path.partition("?")[0])


SERVER = {"name": "db-2", "address": "192.0.2.44"}
POOL = {"name": "more", "path": "/srv/more"}
REPOSITORY = {"name": "web-1", "pool": "{pool}", "server": "{server}"}
SOURCE = {"name": "home", "server": "{server}", "kind": "files", "parameters": {"paths": ["/home"]}}
PLAN = {"name": "nightly", "server": "{server}", "repository": "{repository}", "sources": ["{source}"]}
RULE = {"name": "nights", "event": "no_good_backup", "parameters": {"hours": 30}, "channels": ["{channel}"]}
CHANNEL = {"name": "team", "kind": "mail", "target": {"to": "team@example.org"}}
USER = {"username": "uma", "password": "a long and odd password", "roles": ["ROLE_VIEWER"]}
SETTINGS = {
    "site_url": "http://localhost:8000", "time_zone": "UTC",
    "plan_schedule": "0 2 * * *", "plan_time_zone": "", "plan_retention": "", "plan_compression": "lz4",
    "plan_proof_days": 30, "plan_proof_files": 200,
    "job_retry_seconds": [60, 300, 900], "job_log_lines": 10_000, "job_keep_days": 365, "log_keep_days": 90,
    "compact_after_days": 3, "check_max_seconds": 86_400, "pool_low_percent": 10, "pool_low_gb": 5,
    "smtp_host": "", "smtp_port": 587, "smtp_tls": "starttls", "smtp_user": "", "mail_sender": "",
    "smtp_timeout_seconds": 20,
}  # fmt: skip

CONTRACT = [
    # Logging in
    Row("post", "/api/auth/login", PUBLIC, 200, {"username": "sam", "password": "{password}"}),
    Row("post", "/api/auth/login", PUBLIC, 200, {
        "username": "tina", "password": "{password}", "code": "{recovery_code}",
    }),
    Row("post", "/api/auth/refresh", PUBLIC, 200, {"refresh_token": "{refresh}"}),
    Row("post", "/api/auth/logout", SIGNED_IN, 204, {"refresh_token": "{refresh}"}),
    Row("get", "/api/auth/me", SIGNED_IN, 200),

    # Servers
    Row("get", "/api/servers", SEE_SERVERS, 200),
    Row("post", "/api/servers", MANAGE_SERVERS, 201, SERVER),
    Row("get", "/api/servers/{server}", SEE_SERVERS, 200),
    Row("put", "/api/servers/{server}", MANAGE_SERVERS, 200, SERVER),
    Row("patch", "/api/servers/{server}", MANAGE_SERVERS, 200, {"port": 2222}),
    Row("delete", "/api/servers/{server}", MANAGE_SERVERS, 409),
    Row("delete", "/api/servers/{empty_server}", MANAGE_SERVERS, 204),
    Row("post", "/api/servers/{server}/test", MANAGE_SERVERS, 202, {}),
    Row("post", "/api/servers/{server}/host-key", MANAGE_SERVERS, 200, {"fingerprint": "{fingerprint}"}),
    Row("get", "/api/servers/{server}/backups", VIEW, 200),

    # Backups
    Row("get", "/api/backups", VIEW, 200),
    Row("get", "/api/backups/{job}", VIEW, 200),
    Row("post", "/api/backups", CREATE, 202, {"server_id": "{server}", "type": "files"}),
    Row("post", "/api/backups", CREATE, 202, {"server_id": "{server}", "plan_id": "{plan}"}),

    # Archives
    Row("get", "/api/archives", VIEW, 200),
    Row("get", "/api/archives/{archive}", VIEW, 200),
    Row("get", "/api/archives/{archive}/files?path=etc", VIEW, 200),
    Row("get", "/api/archives/{archive}/files?search=host", VIEW, 200),
    Row("get", "/api/archives/{archive}/download?path=etc", RESTORE, 503),  # no worker is there to send it
    Row("get", "/api/archives/{archive}/download?path=etc&format=zip", RESTORE, 503),
    Row("post", "/api/archives/{archive}/mount", RESTORE, 202, {"hours": 2}),
    Row("delete", "/api/archives/{mounted}/mount", RESTORE, 202),
    Row("post", "/api/archives/{archive}/restore", RESTORE, 202, {"directory": "/srv/back", "paths": ["etc"]}),
    Row("post", "/api/archives/{archive}/restore", RESTORE, 202, {
        "paths": ["etc"], "server": "{server}", "where": "beside", "existing": "skip", "owners": False, "verify": True,
        "dry_run": True,
    }),
    Row("post", "/api/archives/{archive}/index", VIEW, 202, {}),
    Row("delete", "/api/archives/{archive}/prune", DELETE, 202),
    Row("put", "/api/archives/{archive}", MANAGE, 200, {"comment": "Before the move.", "pinned": True}),
    Row("patch", "/api/archives/{archive}", MANAGE, 200, {"pinned": True}),
    Row("post", "/api/archives/{archive}/rename", MANAGE, 202, {"name": "before-the-move"}),
    Row("post", "/api/archives/{archive}/diff", VIEW, 202, {"other": "{compared}"}),
    Row("get", "/api/archives/{archive}/diff?other={compared}&path=etc", VIEW, 200),
    Row("get", "/api/archives/{archive}/diff?other={mounted}", VIEW, 409),

    # Files, in all archives
    Row("get", "/api/files?search=hosts", VIEW, 200),

    # Jobs
    Row("get", "/api/jobs", VIEW, 200),
    Row("get", "/api/jobs/running", VIEW, 200),
    Row("get", "/api/jobs/{job}", VIEW, 200),
    Row("get", "/api/jobs/{job}/log?after=0", VIEW, 200),
    # The permission of the type, here a backup; so it is with the two that run one again.
    Row("post", "/api/jobs", CREATE, 202, {"type": "backup", "subject": "{plan}", "parameters": {}}),
    Row("delete", "/api/jobs/{running}", CREATE, 202),
    Row("delete", "/api/jobs/{job}", CREATE, 409),
    Row("post", "/api/jobs/{job}/retry", CREATE, 202, {}),
    Row("post", "/api/jobs/{running}/retry", CREATE, 409, {}),
    Row("post", "/api/jobs/{waiting}/now", CREATE, 202, {}),

    # Logs, and what is told as it happens
    Row("get", "/api/logs", SEE_LOGS, 200),
    Row("get", "/api/logs/tail", SEE_LOGS, 200),
    Row("get", "/api/sse/logs", SEE_LOGS, 200),
    Row("get", "/api/sse/jobs", VIEW, 200),
    Row("get", "/api/sse/backups", VIEW, 200),

    # Numbers
    Row("get", "/api/stats/dashboard", VIEW, 200),
    Row("get", "/api/stats/server/{server}", VIEW, 200),
    Row("get", "/api/stats/efficiency", VIEW, 200),

    # Repositories, storage pools, plans, sources
    Row("get", "/api/repositories", VIEW, 200),
    Row("post", "/api/repositories", MANAGE, 201, {**REPOSITORY, "name": "web-2"}),
    Row("get", "/api/repositories/{repository}", VIEW, 200),
    Row("put", "/api/repositories/{repository}", MANAGE, 200, REPOSITORY),
    Row("patch", "/api/repositories/{repository}", MANAGE, 200, {"check_days": 30}),
    Row("delete", "/api/repositories/{repository}", MANAGE, 409),
    Row("delete", "/api/repositories/{empty_repository}?leave_data=true", MANAGE, 204),
    Row("post", "/api/repositories/import", MANAGE, 202, {**REPOSITORY, "name": "old-1", "passphrase": "x"}),
    Row("post", "/api/repositories/{repository}/kit/stored", MANAGE, 200, {"kit": "{kit}"}),
    Row("get", "/api/storage-pools", VIEW, 200),
    Row("post", "/api/storage-pools", MANAGE, 201, POOL),
    Row("get", "/api/storage-pools/{pool}", VIEW, 200),
    Row("put", "/api/storage-pools/{unused_pool}", MANAGE, 200, POOL),
    Row("patch", "/api/storage-pools/{pool}", MANAGE, 200, {"name": "disk-2"}),
    Row("delete", "/api/storage-pools/{pool}", MANAGE, 409),
    Row("delete", "/api/storage-pools/{account}", MANAGE, 204),
    Row("post", "/api/storage-pools/{account}/host-key", MANAGE, 200, {"fingerprint": "{account_fingerprint}"}),
    Row("get", "/api/plans", VIEW, 200),
    Row("post", "/api/plans", MANAGE, 201, PLAN),
    Row("get", "/api/plans/{plan}", VIEW, 200),
    Row("put", "/api/plans/{plan}", MANAGE, 200, PLAN),
    Row("patch", "/api/plans/{plan}", MANAGE, 200, {"enabled": False}),
    Row("delete", "/api/plans/{unused_plan}", MANAGE, 204),
    Row("get", "/api/plans/{plan}/retention", VIEW, 200),
    Row("post", "/api/plans/{plan}/prove", CREATE, 202, {"archive": "random", "files": 50}),
    Row("get", "/api/restore-tests", VIEW, 200),
    Row("get", "/api/restore-tests/{proof}", VIEW, 200),
    Row("get", "/api/sources", VIEW, 200),
    Row("post", "/api/sources", MANAGE, 201, SOURCE),
    Row("get", "/api/sources/{source}", VIEW, 200),
    Row("put", "/api/sources/{source}", MANAGE, 200, SOURCE),
    Row("patch", "/api/sources/{source}", MANAGE, 200, {"name": "all"}),
    Row("delete", "/api/sources/{source}", MANAGE, 409),
    Row("delete", "/api/sources/{unused_source}", MANAGE, 204),

    # Alerts
    Row("get", "/api/alerts", VIEW, 200),
    Row("get", "/api/alerts/{alert}", VIEW, 200),
    Row("get", "/api/alert-rules", CONFIG, 200),
    Row("post", "/api/alert-rules", CONFIG, 201, RULE),
    Row("get", "/api/alert-rules/{rule}", CONFIG, 200),
    Row("put", "/api/alert-rules/{rule}", CONFIG, 200, {"name": "nights", "event": "backup_failed"}),
    Row("patch", "/api/alert-rules/{rule}", CONFIG, 200, {"repeat_hours": 24}),
    Row("delete", "/api/alert-rules/{rule}", CONFIG, 204),
    Row("get", "/api/alert-channels", CONFIG, 200),
    Row("post", "/api/alert-channels", CONFIG, 201, CHANNEL),
    Row("get", "/api/alert-channels/{channel}", CONFIG, 200),
    Row("put", "/api/alert-channels/{channel}", CONFIG, 200, {"name": "on-call", "kind": "webhook"}),
    Row("patch", "/api/alert-channels/{channel}", CONFIG, 200, {"enabled": False}),
    Row("delete", "/api/alert-channels/{channel}", CONFIG, 204),
    Row("post", "/api/alert-channels/{channel}/test", CONFIG, 202, {}),
    Row("get", "/api/alert-deliveries", CONFIG, 200),

    # People and machines
    Row("get", "/api/users", MANAGE_USERS, 200),
    Row("post", "/api/users", MANAGE_USERS, 201, USER),
    Row("get", "/api/users/{user}", MANAGE_USERS, 200),
    Row("put", "/api/users/{user}", MANAGE_USERS, 200, USER),
    Row("patch", "/api/users/{user}", MANAGE_USERS, 200, {"is_active": False}),
    Row("delete", "/api/users/{user}", MANAGE_USERS, 204),
    Row("delete", "/api/users/{veteran}", MANAGE_USERS, 200),  # who has done something is switched off instead
    Row("get", "/api/roles", MANAGE_USERS, 200),
    Row("get", "/api/audit", MANAGE_USERS, 200),
    Row("get", "/api/tokens", SIGNED_IN, 200),  # their own
    Row("post", "/api/tokens", SIGNED_IN, 201, {"name": "weekly", "permissions": ["backup.view"]}),
    Row("delete", "/api/tokens/{token}", SIGNED_IN, 204),

    # Settings
    Row("get", "/api/settings", CONFIG, 200),
    Row("put", "/api/settings", CONFIG, 200, {**SETTINGS, "smtp_password": "a long and odd password"}),

    # What describes it all
    Row("get", "/api/schema", SIGNED_IN, 200),
    Row("get", "/api/docs", SIGNED_IN, 200),
]  # fmt: skip


def patterns(resolver: Any, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for each in resolver.url_patterns:
        path = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from patterns(each, path)
        else:
            yield path, each


def routes() -> list[tuple[str, URLPattern]]:
    """Every route below /api, without the last one, which catches what is none."""
    found = [(path, pattern) for path, pattern in patterns(get_resolver()) if path.startswith("api")]
    assert found[-1][0] == "api/^.*$"
    return found[:-1]


def template_of(path: str) -> str:
    return "/" + re.sub(r"<\w+:\w+>", "{id}", path)


NAMES = {template_of(path): str(pattern.name) for path, pattern in routes()}
# A route or a method that does not stand in the contract fails a test, here and in test_matrix.py.
ROUTES: dict[str, dict[str, str | Permission]] = {}
for _row in CONTRACT:
    ROUTES.setdefault(NAMES[_row.route], {})[_row.method] = _row.needs


def asked(client: APIClient, method: str, path: str, body: Any) -> Any:
    """The answer to one request, of which nothing stays."""
    client.raise_request_exception = False
    with transaction.atomic():
        answer = getattr(client, method)(path, body if method != "get" else None)
        transaction.set_rollback(True)
    return answer


def answer_to(row: Row, client: APIClient, things: dict[str, Any]) -> Any:
    return asked(client, row.method, filled(row.path, things), filled(row.body, things))


# --- The table is whole ---------------------------------------------------------------------------


def test_every_route_stands_in_the_contract() -> None:
    assert set(NAMES) == {row.route for row in CONTRACT}


def test_every_method_stands_in_the_contract() -> None:
    for path, pattern in routes():
        callback = pattern.callback
        actions = getattr(callback, "actions", None)
        view = getattr(callback, "cls", None) or callback.view_class  # type: ignore[attr-defined]
        found = set(actions or [method for method in METHODS if hasattr(view, method)]) & set(METHODS)
        assert found == {row.method for row in CONTRACT if row.route == template_of(path)}, path


def test_every_action_of_a_viewset_names_its_permission() -> None:
    for _, pattern in routes():
        actions = getattr(pattern.callback, "actions", None)
        if actions:
            permissions = pattern.callback.cls.permissions  # type: ignore[attr-defined]
            assert set(actions.values()) <= set(permissions), pattern.name


# --- And true -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["admin", "operator", "viewer"])
def test_a_role_gets_in_where_the_contract_says_and_nowhere_else(
    role: str, archive: Archive, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    client: APIClient = request.getfixturevalue(f"api_{role}")
    things = made_for(request.getfixturevalue(role), archive, tmp_path)
    wrong = []
    for row in CONTRACT:
        answer = answer_to(row, client, things)
        may = row.needs in (PUBLIC, SIGNED_IN) or row.needs in ROLES[f"ROLE_{role.upper()}"]
        if answer.status_code != (row.answers if may else 403):
            wrong.append((row.method, row.path, answer.status_code, b"" if answer.streaming else answer.content[:300]))
    assert wrong == []


def test_nobody_gets_in_but_where_everybody_does(things: dict[str, Any]) -> None:
    wrong = []
    for row in CONTRACT:
        answer = answer_to(row, APIClient(), things)
        good = answer.status_code == (row.answers if row.needs == PUBLIC else 401)
        if not good or (row.needs != PUBLIC and not answer["WWW-Authenticate"].startswith("Bearer")):
            wrong.append((row.method, row.path, answer.status_code))
    assert wrong == []


def test_whoever_has_no_role_sees_nothing(things: dict[str, Any], api_viewer: APIClient, viewer: User) -> None:
    viewer.groups.set([Group.objects.create(name="nobody")])
    for row in CONTRACT:
        if isinstance(row.needs, Permission):
            status = answer_to(row, api_viewer, things).status_code
            assert status in (403, 404), (row, status)  # 404: what one may not see


def test_other_methods_are_405(things: dict[str, Any], api_admin: APIClient) -> None:
    for row in CONTRACT:
        for method in set(METHODS) - set(ROUTES[NAMES[row.route]]):
            answer = asked(api_admin, method, filled(row.path, things), {})
            assert answer.status_code == 405, (method, row.path, answer.status_code)
            assert answer.json()["error"]["code"] == "method_not_allowed"


def test_options_is_no_mistake_of_ours(things: dict[str, Any], api_admin: APIClient) -> None:
    """Red with DRF's descriptions: 500 where an answer is a stream or a page, or where there is no object's id."""
    found = {row.path: asked(api_admin, "options", filled(row.path, things), None).status_code for row in CONTRACT}
    assert {path: status for path, status in found.items() if status != 405} == {}


def test_a_browser_of_an_allowed_origin_is_told_so_before_it_asks(things: dict[str, Any], settings: Any) -> None:
    """Red when OPTIONS never gets past us: no page of another origin could call the API."""
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    for origin, told in (("https://app.example", "https://app.example"), ("https://evil.example", None)):
        headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        answer = APIClient().options("/api/servers", headers=headers)
        assert (answer.status_code, answer.get("Access-Control-Allow-Origin")) == (200, told)


def test_every_error_has_the_one_shape(things: dict[str, Any], api_admin: APIClient) -> None:
    for client in (api_admin, APIClient()):
        for row in CONTRACT:
            answer = asked(client, row.method, filled(row.path, things), {})
            if answer.status_code >= 400:
                assert answer["Content-Type"] == "application/json", row
                assert set(answer.json()) == {"error"}, row
                assert set(answer.json()["error"]) == {"code", "message", "fields"}, row


def test_no_route_shows_a_secret(things: dict[str, Any], api_admin: APIClient, archive: Archive) -> None:
    server, repository = archive.server, archive.repository
    secrets = [
        server.private_key_encrypted, repository.passphrase_encrypted, repository.key_encrypted, "s3cret passphrase",
        "t0ken", "s3cret of the hook",
        "BORG_KEY", "PRIVATE KEY", "_encrypted", ApiToken.objects.get().sha256,
        User.objects.get(username="sam").password,
    ]  # fmt: skip
    for row in CONTRACT:
        answer = answer_to(row, api_admin, things)
        if not answer.streaming and NAMES[row.route] != "api_docs":
            text = answer.content.decode()
            assert not [secret for secret in secrets if secret in text], row


# --- The schema's page ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/schema", "/api/docs"])
def test_nobody_reads_the_documentation(client: Client, db: None, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_authenticated"


def test_the_documentation_has_no_inline_script_and_loads_nothing_from_elsewhere(as_viewer: Client) -> None:
    answer = as_viewer.get("/api/docs")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", html) == []
    assert re.findall(r"\son\w+=", html) == []


def test_the_documentations_script_is_served_by_us(as_viewer: Client) -> None:
    html = as_viewer.get("/api/docs").content.decode()
    own = [source for source in re.findall(r'<script[^>]*\bsrc="([^"]+)"', html) if not source.startswith("/static/")]
    assert len(own) == 1
    answer = as_viewer.get(own[0].replace("&amp;", "&"))
    assert answer.status_code == 200
    assert "javascript" in answer["Content-Type"]


def test_only_the_documentation_may_style_itself_inline(as_viewer: Client) -> None:
    docs, page = as_viewer.get("/api/docs"), as_viewer.get("/jobs")
    assert "'unsafe-inline'" not in page["Content-Security-Policy"]
    script = next(part for part in docs["Content-Security-Policy"].split("; ") if part.startswith("script-src"))
    assert "unsafe" not in script

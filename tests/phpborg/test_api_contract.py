"""Every route of the API, with every method, for every role and for nobody."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from rest_framework.test import APIClient

from accounts.access import ROLES, Permission
from accounts.models import ApiToken, User
from backups.models import Archive
from jobs.models import Job
from tests.conftest import PASSWORD

METHODS = ("get", "post", "put", "patch", "delete")
PUBLIC, SIGNED_IN = "public", "signed in"
VIEW, CREATE, RESTORE, MANAGE = (
    Permission.BACKUP_VIEW, Permission.BACKUP_CREATE, Permission.BACKUP_RESTORE, Permission.BACKUP_MANAGE,
)  # fmt: skip
SEE_SERVERS, MANAGE_SERVERS = Permission.SERVER_VIEW, Permission.SERVER_MANAGE
MANAGE_USERS = Permission.USER_MANAGE

# API.md. A route or a method that does not stand here fails this test.
ROUTES: dict[str, dict[str, str | Permission]] = {
    "api_login": {"post": PUBLIC},
    "api_refresh": {"post": PUBLIC},
    "api_logout": {"post": SIGNED_IN},
    "api_me": {"get": SIGNED_IN},
    "api_schema": {"get": SIGNED_IN},
    "api_docs": {"get": SIGNED_IN},
    "archive-prune": {"delete": Permission.BACKUP_DELETE},
    "plan-retention": {"get": VIEW},
    "repository-import": {"post": MANAGE},
    "server-list": {"get": SEE_SERVERS, "post": MANAGE_SERVERS},
    "server-detail": {
        "get": SEE_SERVERS, "put": MANAGE_SERVERS, "patch": MANAGE_SERVERS, "delete": MANAGE_SERVERS,
    },
    "server-test": {"post": MANAGE_SERVERS},
    "server-host-key": {"post": MANAGE_SERVERS},
    "storage-pool-host-key": {"post": Permission.BACKUP_MANAGE},
    "server-backup-list": {"get": VIEW},
    "backup-list": {"get": VIEW, "post": CREATE},
    "backup-detail": {"get": VIEW},
    "archive-list": {"get": VIEW},
    "archive-detail": {"get": VIEW},
    "archive-files": {"get": VIEW},
    "archive-index": {"post": VIEW},
    "archive-download": {"get": RESTORE},
    "archive-restore": {"post": RESTORE},
    "repository-list": {"get": VIEW, "post": MANAGE},
    "repository-detail": {"get": VIEW},
    "storage-pool-list": {"get": VIEW, "post": MANAGE},
    "storage-pool-detail": {"get": VIEW, "put": MANAGE, "patch": MANAGE, "delete": MANAGE},
    "source-list": {"get": VIEW, "post": MANAGE},
    "source-detail": {"get": VIEW, "put": MANAGE, "patch": MANAGE, "delete": MANAGE},
    "plan-list": {"get": VIEW, "post": MANAGE},
    "plan-detail": {"get": VIEW, "put": MANAGE, "patch": MANAGE, "delete": MANAGE},
    "job-list": {"get": VIEW, "post": CREATE},  # the permission of the type, here a backup
    "job-running": {"get": VIEW},
    "job-detail": {"get": VIEW, "delete": CREATE},
    "job-log": {"get": VIEW},
    "job-retry": {"post": CREATE},  # the same
    "job-now": {"post": CREATE},  # the same
    "log-list": {"get": Permission.LOGS_VIEW},
    "log-tail-list": {"get": Permission.LOGS_VIEW},
    "sse-job-list": {"get": VIEW},
    "sse-backup-list": {"get": VIEW},
    "sse-log-list": {"get": Permission.LOGS_VIEW},
    "stats-dashboard": {"get": VIEW},
    "stats-server": {"get": VIEW},
    "stats-efficiency": {"get": VIEW},
    "token-list": {"get": SIGNED_IN, "post": SIGNED_IN},  # their own
    "token-detail": {"delete": SIGNED_IN},  # the same
    "user-list": {"get": MANAGE_USERS, "post": MANAGE_USERS},
    "user-detail": {"get": MANAGE_USERS, "put": MANAGE_USERS, "patch": MANAGE_USERS, "delete": MANAGE_USERS},
    "role-list": {"get": MANAGE_USERS},
}  # fmt: skip


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


@pytest.fixture
def paths(archive: Archive) -> dict[str, str]:
    """The address of every route, of things that exist."""
    plan = archive.plan
    assert plan
    job = Job.objects.create(
        type="backup", status="failed", server=plan.server, plan=plan, repository=plan.repository,
        subject=f"plan:{plan.pk}",
    )  # fmt: skip
    somebody = User.objects.create_user("sam", password=PASSWORD)
    token, _ = ApiToken.make(somebody, name="nightly", permissions=[VIEW], expires_at=None)
    pks = {
        "user": somebody.pk, "token": token.pk,
        "server": plan.server.pk, "backup": job.pk, "archive": archive.pk, "repository": archive.repository.pk,
        "storage-pool": archive.repository.pool.pk, "source": plan.sources.get().pk, "plan": plan.pk, "job": job.pk,
        "stats": plan.server.pk,
    }  # fmt: skip
    found = {}
    for path, pattern in routes():
        name = str(pattern.name)
        kwargs: dict[str, Any] = {}
        if "server_pk" in path:
            kwargs["server_pk"] = plan.server.pk
        elif ":pk>" in path:
            kwargs["pk"] = next(
                pk for base, pk in pks.items() if re.fullmatch(rf"{base}-(detail|[a-z]+|host-key)", name)
            )
        found[name] = reverse(name, kwargs=kwargs)
    return found


def body_of(name: str) -> dict[str, Any]:
    """What has to be sent so that the question "may they?" is asked at all."""
    return {"type": "backup", "subject": Job.objects.get().plan_id} if name == "job-list" else {}


def asked(client: APIClient, method: str, path: str, body: dict[str, Any]) -> Any:
    """The answer to one request, of which nothing stays."""
    client.raise_request_exception = False
    with transaction.atomic():
        answer = getattr(client, method)(path, body if method != "get" else None)
        transaction.set_rollback(True)
    return answer


def test_every_route_stands_in_the_table() -> None:
    assert {pattern.name for _, pattern in routes()} == set(ROUTES)


def test_every_method_stands_in_the_table() -> None:
    for _, pattern in routes():
        name, callback = str(pattern.name), pattern.callback
        actions = getattr(callback, "actions", None)
        view = getattr(callback, "cls", None) or callback.view_class  # type: ignore[attr-defined]
        found = set(actions or [method for method in METHODS if hasattr(view, method)]) & set(METHODS)
        assert found == set(ROUTES[name]), name


def test_every_action_of_a_viewset_names_its_permission() -> None:
    for _, pattern in routes():
        actions = getattr(pattern.callback, "actions", None)
        if actions:
            permissions = pattern.callback.cls.permissions  # type: ignore[attr-defined]
            assert set(actions.values()) <= set(permissions), pattern.name


@pytest.mark.parametrize("role", ["admin", "operator", "viewer"])
def test_a_role_gets_in_where_the_contract_says_and_nowhere_else(
    role: str, paths: dict[str, str], request: pytest.FixtureRequest
) -> None:
    client: APIClient = request.getfixturevalue(f"api_{role}")
    ApiToken.objects.update(user=request.getfixturevalue(role))  # of others' one knows nothing
    wrong = []
    for name, needs in ROUTES.items():
        for method, need in needs.items():
            answer = asked(client, method, paths[name], body_of(name))
            may = need in (PUBLIC, SIGNED_IN) or need in ROLES[f"ROLE_{role.upper()}"]
            good = answer.status_code in (200, 201, 202, 204, 400, 409) if may else answer.status_code == 403
            if not good:
                wrong.append((name, method, answer.status_code, answer.content[:200]))
    assert wrong == []


def test_nobody_gets_in_but_where_everybody_does(paths: dict[str, str]) -> None:
    wrong = []
    for name, needs in ROUTES.items():
        for method, need in needs.items():
            answer = asked(APIClient(), method, paths[name], body_of(name))
            good = answer.status_code == 400 if need == PUBLIC else answer.status_code == 401
            if not good or (need != PUBLIC and not answer["WWW-Authenticate"].startswith("Bearer")):
                wrong.append((name, method, answer.status_code))
    assert wrong == []


def test_whoever_has_no_role_sees_nothing(paths: dict[str, str], api_viewer: APIClient, viewer: User) -> None:
    viewer.groups.set([Group.objects.create(name="nobody")])
    for name, needs in ROUTES.items():
        for method, need in needs.items():
            if isinstance(need, Permission):
                status = asked(api_viewer, method, paths[name], body_of(name)).status_code
                assert status in (403, 404), (name, method, status)  # 404: what one may not see


def test_other_methods_are_405(paths: dict[str, str], api_admin: APIClient) -> None:
    for name, needs in ROUTES.items():
        for method in set(METHODS) - set(needs):
            answer = asked(api_admin, method, paths[name], {})
            assert answer.status_code == 405, (name, method, answer.status_code)
            assert answer.json()["error"]["code"] == "method_not_allowed"


def test_every_error_has_the_one_shape(paths: dict[str, str], api_admin: APIClient) -> None:
    for client in (api_admin, APIClient()):
        for name, needs in ROUTES.items():
            for method in needs:
                answer = asked(client, method, paths[name], {})
                if answer.status_code >= 400:
                    assert answer["Content-Type"] == "application/json", (name, method)
                    assert set(answer.json()) == {"error"}, (name, method)
                    assert set(answer.json()["error"]) == {"code", "message", "fields"}, (name, method)


def test_no_route_shows_a_secret(paths: dict[str, str], api_admin: APIClient, archive: Archive) -> None:
    server, repository = archive.server, archive.repository
    secrets = [
        server.private_key_encrypted, repository.passphrase_encrypted, repository.key_encrypted, "s3cret passphrase",
        "BORG_KEY", "PRIVATE KEY", "_encrypted", ApiToken.objects.get().sha256,
        User.objects.get(username="sam").password,
    ]  # fmt: skip
    for name, needs in ROUTES.items():
        if "get" in needs and not (answer := asked(api_admin, "get", paths[name], {})).streaming:
            text = answer.content.decode()
            assert not [secret for secret in secrets if secret in text], name


# --- The schema and its page ----------------------------------------------------------------------


def test_the_schema_is_made_without_warnings(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    call_command("spectacular", validate=True, fail_on_warn=True, format="openapi-json", file=str(file))
    schema = json.loads(file.read_text())
    assert schema["openapi"].startswith("3.1")


def test_the_schema_describes_every_route_and_method(api_viewer: APIClient) -> None:
    described = api_viewer.get("/api/schema", headers={"Accept": "application/json"}).json()["paths"]
    found = {(path, method) for path, methods in described.items() for method in methods}
    wanted = {
        ("/" + re.sub(r"<\w+:(\w+)>", r"{\1}", path).replace("{pk}", "{id}"), method)
        for path, pattern in routes() if pattern.name not in ("api_schema", "api_docs")
        for method in ROUTES[str(pattern.name)]
    }  # fmt: skip
    assert found == wanted


def test_the_schema_says_what_is_public_and_what_needs_a_token(api_viewer: APIClient) -> None:
    schema = api_viewer.get("/api/schema", headers={"Accept": "application/json"}).json()
    assert schema["components"]["securitySchemes"]["bearer"]["bearerFormat"] == "JWT"
    assert {"bearer": []} in schema["paths"]["/api/jobs"]["get"]["security"]
    assert {"bearer": []} not in schema["paths"]["/api/auth/login"]["post"].get("security", [])


def test_the_schema_says_where_a_key_makes_a_request_safe_to_repeat(api_viewer: APIClient) -> None:
    paths = api_viewer.get("/api/schema", headers={"Accept": "application/json"}).json()["paths"]
    heeding = {
        path
        for path, methods in paths.items()
        if "Idempotency-Key" in {parameter["name"] for parameter in methods.get("post", {}).get("parameters", [])}
    }
    secret = {"/api/auth/login", "/api/auth/refresh", "/api/auth/logout", "/api/tokens"}
    assert heeding == {path for path, methods in paths.items() if "post" in methods} - secret


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

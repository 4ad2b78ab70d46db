"""Every URL of the site that is not the API's (tests/phpborg/test_api_contract.py), with every role and with nobody."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.access import ROLES, Permission
from accounts.models import ApiToken, User
from alerts.models import Channel, Rule
from backups.models import Archive, RetentionPolicy
from jobs.models import Job
from tests.conftest import PASSWORD, make_archive, make_proof, make_user, page_of
from tests.phpborg.test_api_contract import ROUTES, asked

PUBLIC, SIGNED_IN = "public", "signed in"
Need = str | Permission
VIEW, CREATE, RESTORE = Permission.BACKUP_VIEW, Permission.BACKUP_CREATE, Permission.BACKUP_RESTORE
DELETE, MANAGE = Permission.BACKUP_DELETE, Permission.BACKUP_MANAGE
SEE_SERVERS, MANAGE_SERVERS = Permission.SERVER_VIEW, Permission.SERVER_MANAGE
CONFIG = Permission.CONFIG_MANAGE
METHODS = ("get", "post", "put", "patch", "delete")
LOOK, ACT, FILL_IN = ("get",), ("post",), ("get", "post")

# Who may, and how it is asked. A URL that does not stand here fails a test.
PAGES: dict[str, tuple[Need, tuple[str, ...]]] = {
    "dashboard": (VIEW, LOOK), "search": (VIEW, LOOK),
    "login": (PUBLIC, FILL_IN), "logout": (PUBLIC, ACT),
    "settings": (Permission.CONFIG_MANAGE, FILL_IN), "settings_mail_test": (Permission.CONFIG_MANAGE, FILL_IN),
    "profile": (SIGNED_IN, FILL_IN), "password_change": (SIGNED_IN, FILL_IN),
    "api_tokens": (SIGNED_IN, FILL_IN), "api_token_revoke": (SIGNED_IN, ACT),
    "audit": (Permission.USER_MANAGE, LOOK),
    "users": (Permission.USER_MANAGE, LOOK), "user_add": (Permission.USER_MANAGE, FILL_IN),
    "user_edit": (Permission.USER_MANAGE, FILL_IN), "user_delete": (Permission.USER_MANAGE, FILL_IN),
    "user_factor_reset": (Permission.USER_MANAGE, ACT), "role_factor": (Permission.USER_MANAGE, ACT),
    "factor": (SIGNED_IN, FILL_IN), "factor_codes": (SIGNED_IN, FILL_IN), "factor_remove": (SIGNED_IN, FILL_IN),
    "login_code": (PUBLIC, FILL_IN),
    "password_forgotten": (PUBLIC, FILL_IN), "password_reset": (PUBLIC, FILL_IN),
    "login_end": (SIGNED_IN, ACT), "logins_end": (SIGNED_IN, ACT),
    "user_login_end": (Permission.USER_MANAGE, ACT), "user_logins_end": (Permission.USER_MANAGE, ACT),
    "user_token_revoke": (Permission.USER_MANAGE, ACT),
    "roles": (Permission.USER_MANAGE, LOOK), "role_add": (Permission.USER_MANAGE, FILL_IN),
    "role_edit": (Permission.USER_MANAGE, FILL_IN), "role_delete": (Permission.USER_MANAGE, FILL_IN),
    "healthz": (PUBLIC, LOOK), "readyz": (PUBLIC, LOOK),
    "events": (VIEW, LOOK),

    "servers": (SEE_SERVERS, LOOK), "server": (SEE_SERVERS, LOOK), "server_add": (MANAGE_SERVERS, FILL_IN),
    "server_edit": (MANAGE_SERVERS, FILL_IN), "server_access": (MANAGE_SERVERS, LOOK),
    "server_steps": (MANAGE_SERVERS, LOOK), "server_host_key": (MANAGE_SERVERS, ACT),
    "server_knock": (MANAGE_SERVERS, ACT), "server_let_in": (MANAGE_SERVERS, ACT),
    "server_delete": (MANAGE_SERVERS, FILL_IN),

    "plans": (VIEW, LOOK), "plan": (VIEW, LOOK), "plan_retention": (VIEW, LOOK), "plan_runs": (MANAGE, LOOK),
    "plan_add": (MANAGE, FILL_IN), "plan_edit": (MANAGE, FILL_IN), "plan_delete": (MANAGE, FILL_IN),
    "plan_run": (CREATE, ACT), "plan_proofs": (VIEW, LOOK), "proof": (VIEW, LOOK), "proof_download": (VIEW, LOOK),
    "retention_policies": (VIEW, LOOK), "retention_policy_add": (MANAGE, FILL_IN),
    "retention_policy_edit": (MANAGE, FILL_IN),

    "repositories": (VIEW, LOOK), "repository": (VIEW, LOOK), "repository_add": (MANAGE, FILL_IN),
    "repository_import": (MANAGE, FILL_IN), "repository_edit": (MANAGE, FILL_IN),
    "repository_forget": (MANAGE, ACT), "repository_accept": (MANAGE, ACT),
    # The first needs the permission to restore as well: tests/backups/test_kit.py.
    "repository_kit": (MANAGE, FILL_IN), "repository_kit_stored": (MANAGE, ACT),
    "pool": (VIEW, LOOK), "pool_add": (MANAGE, FILL_IN), "account_add": (MANAGE, FILL_IN),
    "pool_edit": (MANAGE, FILL_IN), "pool_host_key": (MANAGE, ACT),

    "alerts": (VIEW, LOOK), "alert_rules": (CONFIG, LOOK), "alert_rule_add": (CONFIG, FILL_IN),
    "alert_rule_edit": (CONFIG, FILL_IN), "alert_rule_delete": (CONFIG, ACT), "alert_channels": (CONFIG, LOOK),
    "alert_channel_add": (CONFIG, FILL_IN), "alert_channel_edit": (CONFIG, FILL_IN),
    "alert_channel_test": (CONFIG, ACT), "alert_channel_delete": (CONFIG, ACT), "alert_deliveries": (CONFIG, LOOK),
    "alert_template": (CONFIG, FILL_IN),

    "find": (VIEW, LOOK), "statistics": (VIEW, LOOK), "logs": (Permission.LOGS_VIEW, LOOK),
    "archives": (VIEW, LOOK), "archive": (VIEW, LOOK), "archive_browse": (VIEW, LOOK), "archive_folder": (VIEW, LOOK),
    "archive_download": (RESTORE, LOOK), "archive_preview": (RESTORE, LOOK), "archive_image": (RESTORE, LOOK),
    "archive_restore": (RESTORE, FILL_IN), "archive_delete": (DELETE, FILL_IN),
    "archive_pin": (MANAGE, ACT), "archive_comment": (MANAGE, ACT), "archive_trust": (MANAGE, ACT),
    "archive_diff": (VIEW, FILL_IN), "archive_differences": (VIEW, FILL_IN),

    "jobs": (VIEW, LOOK), "jobs_strip": (VIEW, LOOK), "job": (VIEW, LOOK), "job_live": (VIEW, LOOK),
    "job_toast": (VIEW, LOOK), "job_log": (Permission.LOGS_VIEW, LOOK), "job_cancel": (CREATE, ACT),
    # The permission of the type, here a backup.
    "job_now": (CREATE, ACT), "job_retry": (CREATE, ACT), "job_start": (CREATE, FILL_IN),
}  # fmt: skip
GUARDED = {name: row for name, row in PAGES.items() if row[0] != PUBLIC}
# Guarded by a token and by addresses, not by roles: tests/phpborg/test_metrics.py.
BY_ADDRESS = {"metrics"}
# Guarded by a token, and gone afterwards: tests/phpborg/test_first_run.py.
BY_TOKEN = {"setup"}
ADMIN_PUBLIC = {"login", "logout"}


def patterns(resolver: Any, prefix: str = "", space: str = "") -> Iterator[tuple[str, str, URLPattern]]:
    """Address, namespace and pattern of everything there is."""
    for each in resolver.url_patterns:
        path = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from patterns(each, path, each.namespace or space)
        else:
            yield path, space, each


def names(space: str) -> set[str | None]:
    return {
        each.name for path, found, each in patterns(get_resolver()) if found == space and not path.startswith("api/")
    }


@pytest.fixture
def addresses(archive: Archive) -> dict[str, str]:
    """Of every page, of things that exist."""
    plan = archive.plan
    assert plan
    job = Job.objects.create(
        type="backup", status="failed", server=plan.server, plan=plan, repository=plan.repository,
        subject=f"plan:{plan.pk}",
    )  # fmt: skip
    sam = User.objects.create_user("sam", password=PASSWORD)
    token, _ = ApiToken.make(sam, name="nightly", permissions=[VIEW], expires_at=None)
    pks = {
        "server": plan.server.pk, "plan": plan.pk, "retention": RetentionPolicy.objects.get_or_create(name="a")[0].pk,
        "repository": archive.repository.pk, "pool": archive.repository.pool.pk, "archive": archive.pk, "job": job.pk,
        "api": token.pk, "proof": make_proof(archive).pk, "user": sam.pk,
        "role": Group.objects.create(name="restorers").pk,
    }  # fmt: skip
    rule = Rule.objects.create(name="a", event="backup_failed")
    channel = Channel.objects.create(name="a", kind="mail")
    special: dict[str, dict[str, Any]] = {
        "plan_add": {"server_pk": plan.server.pk}, "archive_folder": {"pk": archive.pk, "folder": 0},
        "archive_differences": {"pk": archive.pk, "other": make_archive(plan).pk},
        **{name: {"pk": archive.pk, "entry": 1} for name in ("archive_download", "archive_preview", "archive_image")},
        "alert_rule_add": {"event": "backup_failed"}, "alert_channel_add": {"kind": "mail"},
        "alert_template": {"language": "en"},
        **{f"alert_rule_{act}": {"pk": rule.pk} for act in ("edit", "delete")},
        **{f"alert_channel_{act}": {"pk": channel.pk} for act in ("edit", "delete", "test")},
        "login_end": {"name": "x"},
        "user_login_end": {"pk": sam.pk, "name": "x"}, "user_token_revoke": {"pk": sam.pk, "token": token.pk},
        "job_start": {"job_type": "backup", "pk": plan.pk},
    }  # fmt: skip
    found = {}
    for path, space, pattern in patterns(get_resolver()):
        if space or path.startswith("api/") or pattern.name in BY_ADDRESS | BY_TOKEN:
            continue
        name = str(pattern.name)
        kwargs = special.get(name) or ({"pk": pks[name.partition("_")[0]]} if "<" in path else {})
        found[name] = reverse(name, kwargs=kwargs)
    return found


def names_something(name: str) -> bool:
    """Whether the address of a page says of what it is."""
    return any("<" in path for path, space, each in patterns(get_resolver()) if not space and each.name == name)


def outcome(client: Client, method: str, address: str) -> str:
    """What a person would say of the answer."""
    answer = asked(client, method, address, {})  # type: ignore[arg-type]
    if answer.status_code == 302 and "/login" in answer["Location"]:
        return "login"
    # 400: nothing was filled in; 204, 503: there is nothing to say, and no worker
    known = {**dict.fromkeys((200, 204, 302, 400, 503), "in"), 403: "forbidden", 405: "method"}
    return known.get(answer.status_code, str(answer.status_code))


def test_every_page_stands_in_the_table(db: None) -> None:
    assert names("") == set(PAGES) | BY_ADDRESS | BY_TOKEN


def test_every_url_is_a_page_s_the_api_s_or_the_admin_s() -> None:
    api = [each.name for path, _, each in patterns(get_resolver()) if path.startswith("api/")]
    assert set(api) == {*ROUTES, None}  # the one without a name catches what is none
    spaces = {space for _, space, _ in patterns(get_resolver())}
    assert spaces == {"", "admin"}


def with_role(role: str) -> User:
    return make_user("rolf", role) if role in ROLES else User.objects.create_user("rolf", password=PASSWORD)


@pytest.mark.parametrize("role", ["ROLE_ADMIN", "ROLE_OPERATOR", "ROLE_VIEWER", "no role"])
def test_a_role_gets_in_where_the_table_says_and_nowhere_else(role: str, addresses: dict[str, str]) -> None:
    """With nothing filled in: who may not is told so before anything is said of that."""
    user = with_role(role)
    ApiToken.objects.update(user=user)  # of another's one nobody knows
    client, may_do = page_of(user), ROLES.get(role, frozenset())
    wrong = {}
    for name, (need, methods) in GUARDED.items():
        for method in METHODS:
            expected = (
                "method" if method not in methods else "in" if need == SIGNED_IN or need in may_do else "forbidden"
            )
            if (found := outcome(client, method, addresses[name])) != expected:
                wrong[name, method] = found
    assert wrong == {}


def test_nobody_is_sent_to_the_login(addresses: dict[str, str]) -> None:
    """With a method that a page does not know one may be told that first."""
    wrong = {}
    for name, (need, methods) in PAGES.items():
        for method in METHODS:
            expected = {"login"} if need != PUBLIC or name in ("logout", "login_code") else {"in"}
            if method not in methods:
                expected = {"login", "method"}
            if (found := outcome(Client(), method, addresses[name])) not in expected:
                wrong[name, method] = found
    assert wrong == {}


# --- The admin: what it shows of each table to whom is in tests/accounts/test_admin.py --------------


@pytest.fixture
def admin_addresses(archive: Archive) -> dict[str, str]:
    """Every URL of the admin; which row is asked for does not matter for who may ask."""
    found = {}
    for path, space, pattern in patterns(get_resolver()):
        if space != "admin" or pattern.name in ADMIN_PUBLIC:
            continue
        filled = re.sub(r"<path:object_id>|<id>|<int:content_type_id>|<path:object_id>", "1", path)
        filled = filled.replace("(?P<url>.*)$", "nothing").replace("^(?P<app_label>", "").rstrip("$")
        found[path] = "/" + re.sub(r"[a-z|]+\)/", "jobs/", filled) if "app_label" in path else "/" + filled
    return found


@pytest.mark.parametrize("role", ["ROLE_OPERATOR", "ROLE_VIEWER", "no role", "nobody"])
def test_only_who_may_change_settings_gets_into_the_admin(role: str, admin_addresses: dict[str, str]) -> None:
    client = Client()
    if role != "nobody":
        client = page_of(with_role(role))
    assert len(admin_addresses) > 50
    wrong = {}
    for path, address in admin_addresses.items():
        for method in METHODS:
            if (found := outcome(client, method, address)) not in ("login", "forbidden"):
                wrong[path, method] = found
    assert wrong == {}


def test_an_administrator_gets_into_all_of_the_admin(admin_addresses: dict[str, str]) -> None:
    """And is told by the admin itself what it does not let anybody add or change, and what is not there."""
    client = page_of(make_user("rolf", "ROLE_ADMIN"))
    found = {path: outcome(client, "get", address) for path, address in admin_addresses.items()}
    assert {path: what for path, what in found.items() if what not in ("in", "forbidden", "404", "method")} == {}
    assert [path for path, what in found.items() if what == "in" and path.endswith("/")]

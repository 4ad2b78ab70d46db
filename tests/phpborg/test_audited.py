"""What people do is in the audit trail, by page, API, admin and command: before, after, from where, and no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from accounts import audit, encryption
from accounts.access import Permission
from accounts.models import ApiToken, AuditEntry, TokenFamily, User
from backups import catalog
from backups.downloads import start_download
from backups.models import Archive, Plan, Repository, RetentionPolicy, Source, StoragePool
from backups.runners.create import RunBackup
from jobs.models import Job
from phpborg import actions
from servers.models import Server, Tag
from tests.backups.replay import entry
from tests.conftest import PASSWORD

FROM = "203.0.113.5"


def trail(**which: Any) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(**which).order_by("number"))


def only(action: str) -> AuditEntry:
    (found,) = trail(action=action)
    return found


def there(client: Client) -> Client:
    """The same, at a machine whose address is known."""
    client.defaults["REMOTE_ADDR"] = FROM
    return client


@pytest.fixture
def listed(archive: Archive) -> Archive:
    catalog.build(archive, [entry(b"etc/"), entry(b"etc/hosts", size=7)])
    return archive


# --- Before and after -----------------------------------------------------------------------------


def test_a_plan_edited_on_its_page(as_admin: Client, admin: User, plan: Plan) -> None:
    """Red with names of fields alone; what of the page is the source's is an entry of its own."""
    policy = RetentionPolicy.objects.create(name="short")
    there(as_admin).post(f"/plans/{plan.pk}/edit", {
        "name": "files", "repository": plan.repository_id, "compression": "zstd", "upload_kib_per_second": "500",
        "retention": policy.pk, "files-paths": "/etc\r\n/srv", "files-excludes": "*.tmp",
    })  # fmt: skip
    changed, source = only("plan.changed"), only("source.changed")
    assert (changed.user, changed.address, changed.target) == (admin, FROM, "web-1/files")
    assert changed.detail == {
        "before": {"retention": None, "enabled": True, "compression": "lz4", "upload_kib_per_second": 0},
        "after": {"retention": "short", "enabled": False, "compression": "zstd", "upload_kib_per_second": 500},
    }
    assert source.detail["before"] == {"parameters.paths": ["/etc"]}
    assert source.detail["after"]["parameters.paths"] == ["/etc", "/srv"]


def test_a_plan_changed_over_the_api(api_admin: APIClient, admin: User, plan: Plan) -> None:
    """With what another row is called, before and after, and its sources."""
    server, more = plan.server, Source.objects.create(name="var", server=plan.server, parameters={"paths": ["/var"]})
    other = Repository.objects.create(name="second", pool=plan.repository.pool, server=server)
    body = {"repository": other.pk, "sources": [plan.sources.get().pk, more.pk], "schedule": "0 4 * * *"}
    assert api_admin.patch(f"/api/plans/{plan.pk}", body, REMOTE_ADDR=FROM).status_code == 200
    changed = only("plan.changed")
    assert (changed.user, changed.address, changed.target) == (admin, FROM, "web-1/files")
    assert changed.detail == {
        "before": {"repository": "web-1", "schedule": "", "sources": ["etc"]},
        "after": {"repository": "second", "schedule": "0 4 * * *", "sources": ["etc", "var"]},
    }


def test_what_changes_nothing_is_no_change(api_admin: APIClient, as_admin: Client, plan: Plan) -> None:
    api_admin.patch(f"/api/plans/{plan.pk}", {"enabled": True})
    api_admin.patch(f"/api/servers/{plan.server_id}", {"port": 22})
    assert trail(action__endswith=".changed") == []


def test_what_is_deleted_is_told_as_it_was(api_admin: APIClient, as_admin: Client, plan: Plan) -> None:
    api_admin.delete(f"/api/plans/{plan.pk}")
    before = only("plan.deleted").detail["before"]
    assert (before["repository"], before["sources"], only("plan.deleted").target) == ("web-1", ["etc"], "web-1/files")
    Repository.objects.all().delete()
    as_admin.post(f"/servers/{plan.server_id}/delete", {"name": "web-1"})
    assert only("server.deleted").detail["before"]["address"] == "192.0.2.7"


def test_a_change_that_fails_leaves_no_entry(api_admin: APIClient, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red without one transaction for both: neither a change without its entry, nor an entry without its change."""

    def breaks(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("accounts.chain.append", breaks)
    api_admin.raise_request_exception = False
    for path, body in ((f"/api/plans/{plan.pk}", {"enabled": False}), (f"/api/servers/{plan.server_id}", {"port": 1})):
        assert api_admin.patch(path, body).status_code == 500
    assert (Plan.objects.get().enabled, Server.objects.get().port) == (True, 22)


@pytest.mark.parametrize(
    ("path", "sent", "action"),
    [
        ("/pools/{pool}/edit", {"name": "disk-2", "path": "{path}"}, "pool.changed"),
        ("/retention-policies/{retention}/edit",
         {"name": "b", "keep_within": "", "keep_last": "3", "keep_hourly": "0", "keep_daily": "7", "keep_weekly": "4",
          "keep_monthly": "12", "keep_yearly": "0", "most_deletions": "100"}, "retention.changed"),
        ("/profile", {"first_name": "Ada", "theme": "dark"}, "profile.changed"),
    ],
)  # fmt: skip
def test_a_form_tells_before_and_after(
    as_admin: Client, pool: StoragePool, path: str, sent: dict[str, str], action: str
) -> None:
    names = {"pool": pool.pk, "retention": RetentionPolicy.objects.create(name="a").pk, "path": pool.path}
    told = {name: value.format(**names) for name, value in sent.items()}
    assert as_admin.post(path.format(**names), told).status_code == 302
    detail = only(action).detail
    assert set(detail) == {"before", "after"}
    assert set(detail["before"]) == set(detail["after"]) <= set(sent)
    assert len(detail["after"]) >= 1


# --- The admin ------------------------------------------------------------------------------------


def test_what_is_changed_in_the_admin_is_recorded(as_admin: Client, admin: User, viewer: User) -> None:
    """Red without AuditedAdmin: Django's own log knows neither address nor values."""
    tag, role = Tag.objects.create(name="blue"), Group.objects.create(name="night")
    more = DjangoPermission.objects.get(codename=Permission.BACKUP_CREATE)
    there(as_admin).post(f"/admin/servers/tag/{tag.pk}/change/", {"name": "red"})
    as_admin.post(f"/admin/auth/group/{role.pk}/change/", {"name": "night", "permissions": [more.pk]})
    as_admin.post(
        f"/admin/accounts/user/{viewer.pk}/change/", {"username": "vera", "is_active": "", "groups": [role.pk]}
    )
    entries = {each.action: each for each in trail(user=admin)}
    assert entries["tag.changed"].detail == {"before": {"name": "blue"}, "after": {"name": "red"}}
    assert entries["tag.changed"].address == FROM
    assert entries["role.changed"].detail == {
        "before": {"permissions": []},
        "after": {"permissions": ["backup.create"]},
    }
    assert entries["user.changed"].detail == {
        "before": {"is_active": True, "groups": ["ROLE_VIEWER"]}, "after": {"is_active": False, "groups": ["night"]},
    }  # fmt: skip


def test_what_is_added_and_deleted_there_too(as_admin: Client, api_viewer: APIClient, viewer: User) -> None:
    as_admin.post("/admin/auth/group/add/", {"name": "night", "permissions": []})
    role = Group.objects.get(name="night")
    as_admin.post(f"/admin/auth/group/{role.pk}/delete/", {"post": "yes"})
    token = ApiToken.make(viewer, name="nightly", permissions=[], expires_at=None)[0]
    as_admin.post(f"/admin/accounts/apitoken/{token.pk}/delete/", {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [TokenFamily.objects.get().pk], "post": "yes"}
    as_admin.post("/admin/accounts/tokenfamily/", chosen)
    as_admin.post(f"/admin/accounts/user/{viewer.pk}/delete/", {"post": "yes"})
    actions = [each.action for each in trail()]
    assert actions == ["role.added", "role.deleted", "api_token.deleted", "api_login.deleted", "user.deleted"]
    assert only("role.deleted").detail["before"] == {"name": "night"}


def test_what_the_admin_takes_back_was_never_done(as_admin: Client, admin: User) -> None:
    """Red when it is recorded outside of the transaction: the last administrator stays one."""
    role = Group.objects.get(name="ROLE_ADMIN")
    as_admin.post(f"/admin/auth/group/{role.pk}/delete/", {"post": "yes"})
    as_admin.post(f"/admin/accounts/user/{admin.pk}/change/", {"username": "ada", "is_active": "on", "groups": []})
    assert trail() == []


# --- Coming and going -----------------------------------------------------------------------------


def test_logins_and_logouts_by_every_door(client: Client, admin: User) -> None:
    there(client).post("/login", {"username": "ada", "password": PASSWORD})
    client.post("/logout")
    client.post("/logout")  # nobody is there any more
    client.post("/login?next=/admin/", {"username": "ada", "password": "wrong"})
    client.post("/login?next=/admin/", {"username": "ada", "password": PASSWORD})
    new = "another good password 7"
    client.post("/admin/password_change/", {"old_password": PASSWORD, "new_password1": "x", "new_password2": "y"})
    client.post("/admin/password_change/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    client.post("/admin/logout/")
    pair = APIClient().post("/api/auth/login", {"username": "ada", "password": new}).json()
    api = APIClient(HTTP_AUTHORIZATION=f"Bearer {pair['access_token']}")
    api.post("/api/auth/logout", {"refresh_token": pair["refresh_token"]})
    assert [(each.action, each.username) for each in trail()] == [
        (action, "ada")
        for action in (
            "login",
            "logout",
            "login.failed",
            "login",
            "password.changed",
            "logout",
            "login.api",
            "logout.api",
        )
    ]
    assert {each.address for each in trail(action="logout")} == {FROM}


# --- Jobs -----------------------------------------------------------------------------------------


def test_a_job_that_somebody_starts_is_recorded_with_the_address(
    as_operator: Client, operator: User, plan: Plan
) -> None:
    """Red without the request that is being answered (AuditMiddleware): no runner sees one."""
    there(as_operator).post(f"/plans/{plan.pk}/run")
    started = only("backup.started")
    assert (started.user, started.address, started.target) == (operator, FROM, "web-1/files")
    assert started.detail == {"job": str(Job.objects.get().pk)}


def test_by_an_api_token_with_its_prefix(operator: User, plan: Plan) -> None:
    token, text = ApiToken.make(operator, name="n", permissions=["backup.create", "server.view"], expires_at=None)
    machine = APIClient(HTTP_AUTHORIZATION=f"Bearer {text}")
    assert machine.post("/api/backups", {"server_id": plan.server_id}, REMOTE_ADDR=FROM).status_code == 202
    started = only("backup.started")
    assert (started.user, started.address, started.detail["api_token"]) == (operator, FROM, token.prefix)


def test_what_phpborg_starts_itself_is_not(plan: Plan) -> None:
    RunBackup.enqueue(plan, trigger=Job.Trigger.SCHEDULE)
    assert trail() == []


def test_what_is_started_at_a_console_is_nobodys_but_recorded(plan: Plan) -> None:
    with pytest.raises(SystemExit):
        call_command("backup", "web-1")
    assert (only("backup.started").username, only("backup.started").address) == ("", None)


def test_whoever_cancels_or_hurries_a_job_is_recorded(as_operator: Client, api_operator: APIClient, plan: Plan) -> None:
    job = RunBackup.enqueue(plan, trigger=Job.Trigger.SCHEDULE)
    Job.objects.update(not_before="2030-01-01T00:00:00Z")
    as_operator.post(f"/jobs/{job.pk}/now")
    there(as_operator).post(f"/jobs/{job.pk}/cancel")
    as_operator.post(f"/jobs/{job.pk}/cancel")  # it has ended: nothing was done
    assert [(each.action, each.target) for each in trail()] == [
        ("backup.hurried", "web-1/files"), ("backup.cancelled", "web-1/files"),
    ]  # fmt: skip
    assert only("backup.cancelled").address == FROM
    other = RunBackup.enqueue(plan, trigger=Job.Trigger.SCHEDULE)
    assert api_operator.delete(f"/api/jobs/{other.pk}").status_code == 202
    assert len(trail(action="backup.cancelled")) == 2


def test_a_restore_says_what_and_where_to(as_admin: Client, api_admin: APIClient, listed: Archive) -> None:
    """Red with the numbers of the listing alone, which nobody can read when the archive is gone."""
    number = catalog.Catalog(listed).find(b"etc/hosts")
    assert number
    sent = {"server": listed.server_id, "where": "directory", "directory": "/srv/back", "existing": "skip",
            "owners": "True", "entry": [number.id]}  # fmt: skip
    answer = there(as_admin).post(f"/archives/{listed.pk}/restore", sent)
    assert answer.status_code == 302, answer.context["form"].errors
    started = only("restore.started")
    assert (started.target, started.address) == (listed.name, FROM)
    assert (started.detail["paths"], started.detail["onto"]) == (["/etc/hosts"], "web-1")
    assert started.detail["parameters"]["directory"] == "/srv/back"


def test_a_download_says_which_file(admin: User, listed: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backups.downloads.refuse_without_worker", lambda: None)
    monkeypatch.setattr("backups.downloads.FIRST_PIECE_SECONDS", 0.01)
    item = catalog.Catalog(listed).find(b"etc/hosts")
    assert item
    with pytest.raises(Exception, match="No worker was free"):
        start_download(listed, item.id, user=admin, trigger=Job.Trigger.USER)
    assert (only("download.started").target, only("download.started").detail["paths"]) == (listed.name, ["/etc/hosts"])


def test_several_plans_of_a_server_are_all_started_or_none(api_operator: APIClient, plan: Plan) -> None:
    """Red when one is refused after others were started, and when each would lock the trail before the next plan."""
    second = Plan.objects.create(name="b", server=plan.server, repository=plan.repository)
    second.sources.add(plan.sources.get())
    assert api_operator.post("/api/backups", {"server_id": plan.server_id}).status_code == 202
    assert [each.target for each in trail()] == ["web-1/b", "web-1/files"]
    Job.objects.filter(plan=plan).update(status="completed")
    assert api_operator.post("/api/backups", {"server_id": plan.server_id}).status_code == 409
    assert (Job.objects.count(), len(trail())) == (2, 2)


def test_every_action_has_words() -> None:
    """Red for an action that phpborg/actions.py does not know: people would read `plan.changed`."""
    call = re.compile(r"""(?:audit\.record|record_change|_recorded)\(\s*"([a-z_.]+)\"""")
    files = [path for app in ("accounts", "backups", "jobs", "phpborg", "servers") for path in Path(app).rglob("*.py")]
    found = {action for path in files for action in call.findall(path.read_text())}
    assert len(found) > 30
    assert found <= set(actions.ACTIONS)


# --- Nobody's secrets -----------------------------------------------------------------------------


def test_no_entry_has_a_secret(
    client: Client, admin: User, viewer: User, repository: Repository, pool: StoragePool
) -> None:
    """Every form and route that takes or makes a secret, right and wrong; then all of the trail is read.

    Red when facts() leaves in what is called a secret.
    """
    api = APIClient()
    secret = {name: f"very-odd-{name}-77" for name in ("wrong", "new", "user", "admin_user", "ssh", "file", "borg")}
    key = f"BORG_KEY {'ab' * 32}\nhqlhbGdvcml0aG2mc2hhMjU2\n"
    server = repository.server
    client.post("/login", {"username": "ada", "password": secret["wrong"]})
    client.post("/login", {"username": "ada", "password": PASSWORD})
    pair = api.post("/api/auth/login", {"username": "ada", "password": PASSWORD}).json()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {pair['access_token']}")
    made = client.post("/profile/tokens", {"name": "t", "permissions": ["backup.view"], "lifetime": "30"})
    token = api.post("/api/tokens", {"name": "t", "permissions": ["backup.view"]}).json()["token"]
    nina = {"username": "nina", "password": secret["user"], "roles": ["ROLE_VIEWER"]}
    number = api.post("/api/users", nina).json()["id"]
    api.patch(f"/api/users/{number}", {"password": secret["new"], "first_name": "N"})
    sent = {"username": "mia", "password1": secret["admin_user"], "password2": secret["admin_user"]}
    client.post("/admin/accounts/user/add/", {**sent, "usable_password": "true"})
    client.post(f"/admin/accounts/user/{viewer.pk}/password/", {
        "password1": secret["new"], "password2": secret["new"], "usable_password": "true", "set-password": "1",
    })  # fmt: skip
    client.post("/servers/add", {"name": "db-9", "address": "192.0.2.90", "port": "22", "username": "root", "tags": ""})
    client.post(f"/servers/{server.pk}/let-in", {"password": secret["ssh"]})
    client.post("/pools/add-account", {
        "name": "box", "address": "192.0.2.8", "port": "22", "username": "u1", "path": "./borg", "borg_command": "",
    })  # fmt: skip
    imported = {"server": server.pk, "pool": pool.pk, "name": "old", "passphrase": secret["borg"], "key": key}
    client.post("/repositories/import", imported)
    api.post("/api/repositories/import", {**imported, "name": "older"})
    kit = {"password": PASSWORD, "file_passphrase": secret["file"], "file_passphrase_again": secret["file"]}
    client.post(f"/repositories/{repository.pk}/kit", {**kit, "password": secret["wrong"]})
    client.post(f"/repositories/{repository.pk}/kit", kit)
    client.post("/profile/password", {
        "old_password": PASSWORD, "new_password1": secret["new"] + "x", "new_password2": secret["new"] + "x",
    })  # fmt: skip
    api.post("/api/auth/refresh", {"refresh_token": pair["refresh_token"]})
    done = {each.action for each in trail()}
    assert {
        "login.failed", "login", "login.api", "api_token.made", "user.added", "user.changed", "user.password_set",
        "server.added", "server.let_in", "pool.added", "import.started", "kit.taken_out", "password.changed",
        "token.refused",
    } <= done  # fmt: skip
    encrypted = [
        *Server.objects.values_list("private_key_encrypted", flat=True),
        *StoragePool.objects.values_list("private_key_encrypted", flat=True),
        *Repository.objects.values_list("passphrase_encrypted", flat=True),
        *Repository.objects.values_list("key_encrypted", flat=True),
    ]
    secrets = [
        *secret.values(), PASSWORD, key.split("\n")[1], token, made.context["made_text"], pair["refresh_token"],
        *(text for text in encrypted if text),
        *(line for text in encrypted if text for line in encryption.decrypt(text).splitlines() if len(line) > 8),
        *User.objects.values_list("password", flat=True), *ApiToken.objects.values_list("sha256", flat=True),
        *TokenFamily.objects.values_list("session_hash", flat=True),
    ]  # fmt: skip
    assert len(secrets) > 25
    kept = str(list(AuditEntry.objects.values()))
    assert [each for each in secrets if each in kept] == []


def test_facts_name_nothing_secret(repository: Repository, admin: User) -> None:
    """Red without SECRET: a user's hash is a field like any other."""
    for thing in (repository, repository.server, repository.pool, admin):
        assert not [name for name in audit.facts(thing) if audit.SECRET.search(name)]


def test_a_secret_that_is_handed_over_all_the_same_is_hidden(db: None) -> None:
    told = {"before": {"mail_password": "old", "port": 25}, "after": {"mail_password": "new", "port": 26}}
    assert audit.record("settings.changed", detail=told).detail == {
        "before": {"mail_password": "...", "port": 25}, "after": {"mail_password": "...", "port": 26},
    }  # fmt: skip


def test_no_entry_is_a_book(db: None) -> None:
    detail = audit.record("x", detail={"text": "x" * 10_000, "list": list(range(1_000))}).detail
    assert (len(detail["text"]), len(detail["list"]), detail["list"][-1]) == (2_003, 101, "... 1000")


def test_nothing_of_a_request_outlives_it(as_admin: Client, plan: Plan) -> None:
    """Red when the request stays set: what a worker records in this process would have its address."""
    there(as_admin).post(f"/plans/{plan.pk}/run")
    assert audit.record("x").address is None


def test_settings_are_recorded_as_before(api_admin: APIClient) -> None:
    values = {**api_admin.get("/api/settings").json(), "job_keep_days": 30}
    assert api_admin.put("/api/settings", values).status_code == 200
    assert only("settings.changed").detail == {"before": {"job_keep_days": 365}, "after": {"job_keep_days": 30}}

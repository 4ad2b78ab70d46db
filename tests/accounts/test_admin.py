"""The Django admin: open for administrators alone, and without a secret in it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import audit, encryption
from accounts.access import Permission
from accounts.models import ApiToken, AuditEntry, EncryptionCanary, TokenFamily, User
from accounts.people import administrators
from alerts.models import Channel, Delivery, Incident, MailTemplate, Rule
from backups.models import Archive, Mount, Plan, Repository, RestoreTest, RetentionPolicy, Source, StoragePool
from jobs.models import Job, LogLine
from servers.models import Server, Tag
from tests.conftest import PASSWORD, holder, make_proof, make_user, page_of

PLAIN = "recognisable-plain-text"
# Whoever adds a table to the admin says here what may be done with it: added, changed, deleted.
EVERYTHING, CHANGED, ENDED, SEEN = (True, True, True), (False, True, False), (False, False, True), (False, False, False)
TABLES: dict[type[Model], tuple[bool, bool, bool]] = {
    User: EVERYTHING, Group: EVERYTHING, TokenFamily: ENDED, ApiToken: ENDED, AuditEntry: SEEN, Job: SEEN,
    LogLine: SEEN, Server: SEEN, Tag: CHANGED, StoragePool: SEEN, Repository: SEEN, Source: SEEN,
    RetentionPolicy: CHANGED, Plan: SEEN, Archive: SEEN, Mount: SEEN, RestoreTest: SEEN,
    Rule: SEEN, Channel: SEEN, Incident: SEEN, Delivery: SEEN, MailTemplate: SEEN,
}  # fmt: skip


@pytest.fixture
def rows(archive: Archive, admin: User) -> dict[type[Model], Model]:
    """One row of every table, with secrets in it wherever a secret belongs."""
    server, repository, plan = archive.server, archive.repository, archive.plan
    assert plan
    secret = encryption.encrypt(PLAIN)
    Server.objects.update(private_key_encrypted=secret)
    Repository.objects.update(passphrase_encrypted=secret, key_encrypted=secret)
    EncryptionCanary.objects.create(value=secret)
    APIClient().post("/api/auth/login", {"username": "ada", "password": PASSWORD})
    job = Job.objects.create(type="backup", server=server, repository=repository, plan=plan, subject=f"plan:{plan.pk}")
    rule = Rule.objects.create(name="r", event="backup_failed")
    channel = Channel.objects.create(name="c", kind="mail", target_encrypted=secret)
    return {
        Rule: rule, Channel: channel,
        Incident: Incident.objects.create(rule=rule, subject="plan:1", name="x", event=rule.event),
        Delivery: Delivery.objects.create(channel=channel, rule=rule, kind="problem"),
        MailTemplate: MailTemplate.objects.create(language="fr", subject="a", text="b", html="c"),
        User: admin, Group: Group.objects.create(name="night"), TokenFamily: TokenFamily.objects.get(),
        ApiToken: ApiToken.make(admin, name="nightly", permissions=["backup.view"], expires_at=None)[0],
        AuditEntry: audit.record("x", user=admin), Job: job,
        LogLine: job.lines.create(number=1, at=timezone.now(), message="hello"), Server: server,
        Tag: Tag.objects.create(name="blue"), StoragePool: repository.pool, Repository: repository,
        Source: plan.sources.get(), RetentionPolicy: RetentionPolicy.objects.create(name="mine"),
        Plan: plan, Archive: archive,
        Mount: Mount.objects.create(archive=archive, machine="web", path="/x", expires_at=timezone.now()),
        RestoreTest: make_proof(archive),
    }  # fmt: skip


def url(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def pages(rows: dict[type[Model], Model]) -> Iterator[str]:
    yield from (reverse("admin:index"), reverse("admin:password_change"))
    yield from (reverse("admin:app_list", args=[label]) for label in ("accounts", "jobs", "servers", "backups"))
    for model, row in rows.items():
        yield url(model, "changelist")
        yield url(model, "changelist") + "?q=web" if model not in (Tag, RetentionPolicy) else url(model, "changelist")
        yield url(model, "change", row.pk)
        yield url(model, "history", row.pk)


def registered() -> set[type[Model]]:
    return set(django_admin.site._registry)


def test_every_table_of_the_admin_stands_in_this_test() -> None:
    assert {model for model in registered() if model._meta.app_label != "django_rq"} == set(TABLES)


def test_the_dashboard_of_django_rq_is_no_part_of_the_admin() -> None:
    """It asks is_staff instead of accounts.access, and stops running jobs with SIGKILL."""
    assert registered() == set(TABLES)


def test_an_administrator_sees_every_page(as_admin: Client, rows: dict[type[Model], Model]) -> None:
    for path in pages(rows):
        assert as_admin.get(path).status_code == 200, path


def test_no_page_shows_a_secret_plain_or_encrypted(as_admin: Client, rows: dict[type[Model], Model]) -> None:
    server, repository = Server.objects.get(), Repository.objects.get()
    family = TokenFamily.objects.get()
    secrets = [
        PLAIN, server.private_key_encrypted, repository.passphrase_encrypted, repository.key_encrypted,
        "PRIVATE KEY", family.current, family.session_hash, User.objects.get(username="ada").password,
        ApiToken.objects.get().sha256,
    ]  # fmt: skip
    for path in [*pages(rows), url(User, "delete", rows[User].pk)]:
        html = as_admin.get(path).content.decode()
        assert not [secret for secret in secrets if secret in html], path
        assert "_encrypted" not in html, path


def test_no_secret_can_be_searched_for(as_admin: Client, rows: dict[type[Model], Model]) -> None:
    for model, lookup in (
        (Server, "private_key_encrypted__startswith"), (Repository, "passphrase_encrypted__startswith"),
        (Archive, "repository__key_encrypted__startswith"), (User, "password__startswith"),
        (ApiToken, "sha256__startswith"),
    ):  # fmt: skip
        assert as_admin.get(url(model, "changelist"), {lookup: "g"}).status_code == 400, lookup


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_others_are_sent_away(role: str, rows: dict[type[Model], Model], request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue(f"as_{role}")
    for path in pages(rows):
        answer = client.get(path)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/admin/login/"), path


def test_nobody_is_sent_to_the_login(client: Client, rows: dict[type[Model], Model]) -> None:
    for path in pages(rows):
        assert client.get(path)["Location"].startswith("/admin/login/"), path


@pytest.mark.parametrize(("model", "allowed"), TABLES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_table_lets_itself_be_added_to_changed_and_deleted_only_where_it_says_so(
    as_admin: Client, rows: dict[type[Model], Model], model: type[Model], allowed: tuple[bool, bool, bool]
) -> None:
    added, changed, deleted = allowed
    pk = rows[model].pk
    assert as_admin.get(url(model, "add")).status_code == (200 if added else 403)
    # An empty form: a table that may be changed shows it again with errors, or saves nothing new.
    assert as_admin.post(url(model, "change", pk)).status_code == (200 if changed else 403)
    assert as_admin.get(url(model, "delete", pk)).status_code == (200 if deleted else 403)


@pytest.mark.parametrize("model", [model for model, allowed in TABLES.items() if not allowed[2]])
def test_what_may_not_be_deleted_stays(as_admin: Client, rows: dict[type[Model], Model], model: type[Model]) -> None:
    row = rows[model]
    as_admin.post(url(model, "delete", row.pk), {"post": "yes"})
    as_admin.post(url(model, "changelist"), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert model._default_manager.filter(pk=row.pk).exists()


def test_whoever_manages_settings_but_not_users_sees_no_users(db: None, rows: dict[type[Model], Model]) -> None:
    somebody = make_user("sam", "ROLE_VIEWER")
    group = Group.objects.create(name="settings")
    group.permissions.add(*Group.objects.get(name="ROLE_ADMIN").permissions.filter(codename="config.manage"))
    somebody.groups.add(group)
    client = Client()
    client.force_login(somebody)
    assert client.get(url(Job, "changelist")).status_code == 200
    for model in (User, Group, TokenFamily, ApiToken, AuditEntry):
        assert client.get(url(model, "changelist")).status_code == 403, model
        assert client.get(url(model, "change", rows[model].pk)).status_code == 403, model
    assert client.post(url(Tag, "change", rows[Tag].pk), {"name": "red"}).status_code == 403


# --- Getting in, and managing users --------------------------------------------------------------


def test_an_administrator_comes_in_by_the_one_login(client: Client, admin: User) -> None:
    login = client.get("/admin/", follow=True).redirect_chain[-1][0]
    assert login == "/login?next=%2Fadmin%2F"
    answer = client.post(login, {"username": "ada", "password": PASSWORD, "next": "/admin/"})
    assert answer["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_being_staff_opens_nothing(as_viewer: Client, viewer: User) -> None:
    User.objects.filter(pk=viewer.pk).update(is_staff=True)
    assert as_viewer.get("/admin/").status_code == 302


def test_a_user_can_be_added_and_given_a_role(as_admin: Client, viewer: User) -> None:
    fields = {"username": "nina", "password1": "a good password 7", "password2": "a good password 7",
              "usable_password": "true"}  # fmt: skip
    as_admin.post(url(User, "add"), fields)
    nina = User.objects.get(username="nina")
    as_admin.post(
        url(User, "change", nina.pk),
        {"username": "nina", "is_active": "on", "groups": [viewer.groups.get().pk]},
    )
    assert User.objects.get(pk=nina.pk).roles == ["ROLE_VIEWER"]


def test_nobody_is_made_superuser_or_staff_there(as_admin: Client, viewer: User) -> None:
    as_admin.post(
        url(User, "change", viewer.pk), {"username": "vera", "is_active": "on", "is_superuser": "on", "is_staff": "on"}
    )
    viewer.refresh_from_db()
    assert (viewer.is_superuser, viewer.is_staff) == (False, False)


def test_a_user_who_has_logged_in_can_be_deleted(as_admin: Client, viewer: User) -> None:
    APIClient().post("/api/auth/login", {"username": "vera", "password": PASSWORD})
    as_admin.post(url(User, "delete", viewer.pk), {"post": "yes"})
    assert not User.objects.filter(pk=viewer.pk).exists()
    assert AuditEntry.objects.filter(username="vera", action="login.api").exists()


def test_deleting_a_token_family_ends_that_login(as_admin: Client, api_viewer: APIClient) -> None:
    as_admin.post(url(TokenFamily, "delete", TokenFamily.objects.get().pk), {"post": "yes"})
    assert api_viewer.get("/api/auth/me").status_code == 401


LAST = "This is the last administrator. Make somebody else one first."


def test_the_last_administrator_stays_one(as_admin: Client, admin: User) -> None:
    """Not switched off, not without the role, not deleted, from the list or from the page."""
    group, user = Group.objects.get(name="ROLE_ADMIN"), "/admin/accounts/user/"
    selected = {"action": "delete_selected", "_selected_action": admin.pk, "post": "yes"}
    for address, sent in [
        (f"{user}{admin.pk}/change/", {"username": admin.username, "groups": group.pk}),
        (f"{user}{admin.pk}/change/", {"username": admin.username, "is_active": "on"}),
        (f"{user}{admin.pk}/delete/", {"post": "yes"}),
        (user, selected),
    ]:
        answer = as_admin.post(address, sent, follow=True)
        assert [str(message) for message in answer.context["messages"]] == [LAST], (address, sent)
        assert administrators().get() == admin


def test_the_roles_that_phpborg_brings_stay_as_they_are(as_admin: Client, admin: User) -> None:
    """Red without the look at the name: whoever had ROLE_ADMIN was an administrator who might do nothing."""
    role, groups = Group.objects.get(name="ROLE_ADMIN"), "/admin/auth/group/"
    held = set(role.permissions.values_list("codename", flat=True))
    for sent in ({"name": "ROLE_ADMIN", "permissions": []}, {"name": "mine", "permissions": []}):
        assert as_admin.post(f"{groups}{role.pk}/change/", sent).status_code == 403
    assert as_admin.post(f"{groups}{role.pk}/delete/", {"post": "yes"}).status_code == 403
    as_admin.post(groups, {"action": "delete_selected", "_selected_action": role.pk, "post": "yes"})
    role.refresh_from_db()
    assert (role.name, set(role.permissions.values_list("codename", flat=True))) == ("ROLE_ADMIN", held)
    assert administrators().get() == admin


def test_no_other_role_passes_for_one_that_phpborg_brings(as_admin: Client) -> None:
    """Red without the form's look at the name."""
    other = Group.objects.create(name="night")
    as_admin.post(f"/admin/auth/group/{other.pk}/change/", {"name": "Role_Admin"})
    as_admin.post("/admin/auth/group/add/", {"name": "role_boss"})
    names = set(Group.objects.values_list("name", flat=True))
    assert "night" in names
    assert not names & {"Role_Admin", "role_boss"}


def test_one_of_two_administrators_may_go(as_admin: Client, admin: User) -> None:
    eva = make_user("eva", "ROLE_ADMIN")
    as_admin.post(f"/admin/accounts/user/{eva.pk}/delete/", {"post": "yes"})
    assert administrators().get() == admin


# --- Who may change whom --------------------------------------------------------------------------


@pytest.fixture
def as_clerk(db: None) -> Client:
    """Somebody who manages users and settings, and nothing else."""
    make_user("vera", "ROLE_VIEWER")  # makes the roles if they are gone
    return page_of(holder("clara", Permission.USER_MANAGE, Permission.CONFIG_MANAGE))


def test_nobody_gives_there_what_they_do_not_have(as_clerk: Client) -> None:
    """Red without the look at what was saved: a clerk made an administrator of anybody, also of herself."""
    clara, vera = User.objects.get(username="clara"), User.objects.create_user("nina", password=PASSWORD)
    own = clara.groups.get()
    for user in (clara, vera):
        sent = {"username": user.username, "is_active": "on", "groups": [Group.objects.get(name="ROLE_ADMIN").pk]}
        answer = as_clerk.post(f"/admin/accounts/user/{user.pk}/change/", sent, follow=True)
        assert "You may not do this yourself: backup.create" in str(next(iter(answer.context["messages"])))
        assert not user.groups.filter(name="ROLE_ADMIN").exists()
    more = DjangoPermission.objects.get(codename=Permission.SERVER_MANAGE).pk
    sent = {"name": own.name, "permissions": [more, *own.permissions.values_list("pk", flat=True)]}
    as_clerk.post(f"/admin/auth/group/{own.pk}/change/", sent)
    as_clerk.post("/admin/auth/group/add/", {"name": "mine", "permissions": [more]})
    assert not own.permissions.filter(pk=more).exists()
    assert not Group.objects.filter(name="mine").exists()


def test_nobody_changes_there_who_may_do_more(as_clerk: Client, admin: User) -> None:
    """Red without the look at what they have: with an administrator's new password a clerk would be one."""
    role = Group.objects.get(name="ROLE_ADMIN")
    for address, sent in [
        (f"/admin/accounts/user/{admin.pk}/change/", {"username": "nobody", "groups": []}),
        (f"/admin/accounts/user/{admin.pk}/password/", {"password1": PASSWORD + "!", "password2": PASSWORD + "!"}),
        (f"/admin/accounts/user/{admin.pk}/delete/", {"post": "yes"}),
        (f"/admin/auth/group/{role.pk}/change/", {"name": role.name, "permissions": []}),
        (f"/admin/auth/group/{role.pk}/delete/", {"post": "yes"}),
    ]:
        assert as_clerk.post(address, sent).status_code == 403, address
    as_clerk.post("/admin/accounts/user/", {"action": "delete_selected", "_selected_action": admin.pk, "post": "yes"})
    admin.refresh_from_db()
    assert (admin.username, admin.roles, admin.check_password(PASSWORD)) == ("ada", ["ROLE_ADMIN"], True)
    assert role.permissions.exists()

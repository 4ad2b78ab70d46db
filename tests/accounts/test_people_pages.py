"""/users and /roles: people and what they may, under the rules of the API."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.test import Client
from rest_framework.test import APIClient

from accounts import audit
from accounts.access import Permission
from accounts.forms import AccountForm
from accounts.models import ApiToken, AuditEntry, User
from tests.accounts.test_lists import rows_of
from tests.accounts.test_users_api import LAST
from tests.conftest import PASSWORD, holder, make_user, page_of

NINA = {
    "username": "nina", "first_name": "Nina", "last_name": "", "email": "nina@example.org", "time_zone": "",
    "language": "", "roles": ["ROLE_VIEWER"], "is_active": "on", "new_password": "a good password 7",
}  # fmt: skip


def as_sent(user: User, **changed: Any) -> dict[str, Any]:
    """What the edit form sends when only `changed` is touched; None: a box that is not ticked."""
    sent = {
        "username": user.username, "first_name": user.first_name, "last_name": user.last_name, "email": user.email,
        "time_zone": "", "language": "", "roles": user.roles, "is_active": "on" if user.is_active else None,
        "new_password": "", **changed,
    }  # fmt: skip
    return {name: value for name, value in sent.items() if value is not None}


def errors_of(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 400
    return {name: list(sentences) for name, sentences in answer.context["form"].errors.items()}


def saved(user: User) -> User:
    return User.objects.get(pk=user.pk)


# --- The list -------------------------------------------------------------------------------------


def shown(client: Client, query: str = "") -> list[str]:
    return [user.username for user in client.get(f"/users{query}").context["page"]]


def test_users_are_found_filtered_and_ordered(as_admin: Client, operator: User, viewer: User) -> None:
    User.objects.filter(pk=viewer.pk).update(is_active=False, email="vera@example.org")
    assert shown(as_admin) == ["ada", "otto", "vera"]
    assert shown(as_admin, "?ordering=-username") == ["vera", "otto", "ada"]
    assert shown(as_admin, "?role=ROLE_OPERATOR") == ["otto"]
    assert shown(as_admin, "?is_active=false") == shown(as_admin, "?search=example.org") == ["vera"]


def test_a_filter_that_makes_no_sense_finds_nobody_and_says_so(as_admin: Client) -> None:
    """Red when everybody was shown: whoever asked for those who are switched off would take them for that."""
    answer = as_admin.get("/users?is_active=perhaps")
    assert list(answer.context["page"]) == []
    assert "This must be true or false." in answer.content.decode()


def test_users_and_roles_are_tables_for_spreadsheets(as_admin: Client, viewer: User) -> None:
    _head, *users = rows_of(as_admin.get("/users?format=csv&search=vera"))
    assert [user[:6] for user in users] == [["vera", "", "", "", "ROLE_VIEWER", "True"]]
    assert viewer.password not in str(users)
    roles = rows_of(as_admin.get("/roles?format=csv"))
    assert ["Viewer", "ROLE_VIEWER", "backup.view, logs.view, server.view", "1"] in roles


# --- Adding ---------------------------------------------------------------------------------------


def test_a_user_who_was_added_logs_in_with_the_role(as_admin: Client) -> None:
    assert as_admin.post("/users/add", NINA)["Location"] == "/users"
    nina = User.objects.get(username="nina")
    assert (nina.roles, nina.check_password("a good password 7")) == (["ROLE_VIEWER"], True)
    entry = AuditEntry.objects.get(action="user.added")
    assert (entry.username, entry.target, entry.detail["after"]["groups"]) == ("ada", "nina", ["ROLE_VIEWER"])
    assert "a good password 7" not in str(list(AuditEntry.objects.values()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("new_password", "short1!"), ("new_password", "12345678901234"), ("new_password", "ninanina"),
        ("new_password", ""), ("username", ""), ("username", "no spaces"), ("username", "ADA"), ("email", "no address"),
        ("roles", ["ROLE_KING"]), ("time_zone", "Mars/Olympus_Mons"), ("first_name", "a\0b"),
    ],
)  # fmt: skip
def test_what_is_not_possible_is_refused_with_the_field_named(as_admin: Client, field: str, value: Any) -> None:
    answer = as_admin.post("/users/add", {**NINA, "username": "ninanina", field: value})
    assert list(errors_of(answer)) == [field]
    assert "a good password" not in answer.content.decode()
    assert User.objects.count() == 1


def test_a_name_that_somebody_takes_meanwhile_is_refused(
    as_admin: Client, viewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without `except IntegrityError`: a 500."""
    make_user("nina", "ROLE_VIEWER")
    monkeypatch.setattr(AccountForm, "clean_username", lambda form: form.cleaned_data["username"])
    monkeypatch.setattr(User, "validate_unique", lambda *_, **__: None)
    for path, sent in (("/users/add", NINA), (f"/users/{viewer.pk}", as_sent(viewer, username="nina"))):
        assert list(errors_of(as_admin.post(path, sent))) == ["username"]


# --- Changing -------------------------------------------------------------------------------------


def test_roles_and_names_are_changed_and_recorded(as_admin: Client, viewer: User) -> None:
    as_admin.post(f"/users/{viewer.pk}", as_sent(viewer, first_name="Vera", roles=["ROLE_OPERATOR"]))
    assert (saved(viewer).roles, saved(viewer).check_password(PASSWORD)) == (["ROLE_OPERATOR"], True)
    assert AuditEntry.objects.get(action="user.changed").detail == {
        "before": {"first_name": "", "groups": ["ROLE_VIEWER"]},
        "after": {"first_name": "Vera", "groups": ["ROLE_OPERATOR"]},
    }
    assert not AuditEntry.objects.filter(action="user.password_set").exists()


@pytest.mark.parametrize("change", [{"new_password": "another good password"}, {"is_active": None}])
def test_sessions_and_logins_end_with_it(
    as_admin: Client, viewer: User, as_viewer: Client, api_viewer: APIClient, change: dict[str, Any]
) -> None:
    assert as_admin.post(f"/users/{viewer.pk}", as_sent(viewer, **change)).status_code == 302
    assert as_viewer.get("/").status_code == 302
    assert api_viewer.get("/api/auth/me").status_code == 401
    done = set(AuditEntry.objects.values_list("action", flat=True))
    assert done == {"user.password_set" if "new_password" in change else "user.changed"}


def test_what_somebody_else_saved_meanwhile_is_shown_first(as_admin: Client, viewer: User) -> None:
    hidden = as_admin.get(f"/users/{viewer.pk}").context["meantime"].hidden.split('value="')[1].split('"')[0]
    User.objects.filter(pk=viewer.pk).update(email="new@example.org")
    answer = as_admin.post(f"/users/{viewer.pk}", as_sent(viewer, email="other@example.org", as_of=hidden))
    assert "new@example.org" in errors_of(answer)["email"][0]


def test_of_oneself_neither_password_nor_access(as_admin: Client, admin: User) -> None:
    """A new password of one's own needs the old one: on the profile."""
    make_user("eva", "ROLE_ADMIN")
    as_admin.post(f"/users/{admin.pk}", as_sent(admin, is_active=None, new_password="another good password"))
    assert (saved(admin).is_active, saved(admin).check_password(PASSWORD)) == (True, True)


def test_the_last_administrator_stays_one(as_admin: Client, admin: User) -> None:
    """Red without accounts.people.changing around it."""
    answer = as_admin.post(f"/users/{admin.pk}", as_sent(admin, roles=["ROLE_VIEWER"], first_name="Ada"))
    assert errors_of(answer) == {"__all__": [LAST]}
    assert (saved(admin).roles, saved(admin).first_name) == (["ROLE_ADMIN"], "")
    assert not AuditEntry.objects.exists()


def test_nor_does_an_equal_remove_them(admin: User) -> None:
    equal = page_of(holder("eva", *Permission))
    assert errors_of(equal.post(f"/users/{admin.pk}", as_sent(admin, is_active=None))) == {"__all__": [LAST]}
    audit.record("x", user=admin)
    answer = equal.post(f"/users/{admin.pk}/delete", {"name": "ada"}, follow=True)
    assert LAST in answer.content.decode()
    assert saved(admin).is_active


# --- Nobody gives more than they have -------------------------------------------------------------


@pytest.fixture
def clerk(viewer: User) -> Client:
    """Somebody who manages users, and may see backups, and nothing else."""
    return page_of(holder("clara", Permission.USER_MANAGE, Permission.BACKUP_VIEW))


def test_only_what_one_has_can_be_given(clerk: Client) -> None:
    """Red when every role can be chosen."""
    for role in ("ROLE_ADMIN", "ROLE_VIEWER"):
        assert list(errors_of(clerk.post("/users/add", {**NINA, "roles": [role]}))) == ["roles"]
    assert clerk.post("/users/add", {**NINA, "roles": ["role of clara"]}).status_code == 302


@pytest.mark.parametrize("switched_off", [False, True])
def test_nobody_changes_who_may_do_more(clerk: Client, admin: User, switched_off: bool) -> None:
    """Red without refuse_beyond: with their password one could do what they may."""
    make_user("eva", "ROLE_ADMIN")
    User.objects.filter(pk=admin.pk).update(is_active=not switched_off)
    for answer in (
        clerk.get(f"/users/{admin.pk}"),
        clerk.post(f"/users/{admin.pk}", as_sent(admin, new_password="another good password")),
    ):
        assert answer.status_code == 403
        assert "ada may do more than you. Ask an administrator." in answer.content.decode()
    clerk.post(f"/users/{admin.pk}/delete", {"name": "ada"})
    assert saved(admin).check_password(PASSWORD)
    assert saved(admin).is_active is not switched_off


# --- Switching off and deleting -------------------------------------------------------------------


def test_who_has_done_nothing_is_deleted(as_admin: Client, viewer: User) -> None:
    ApiToken.make(viewer, name="x", permissions=[Permission.BACKUP_VIEW], expires_at=None)
    assert "The name is free again." in as_admin.get(f"/users/{viewer.pk}/delete").content.decode()
    assert as_admin.post(f"/users/{viewer.pk}/delete", {"name": "vera"})["Location"] == "/users"
    assert not User.objects.filter(pk=viewer.pk).exists()
    assert AuditEntry.objects.get().action == "user.deleted"


def test_who_has_done_something_is_switched_off(as_admin: Client, viewer: User, as_viewer: Client) -> None:
    audit.record("login", user=viewer)
    assert "It stays in the list" in as_admin.get(f"/users/{viewer.pk}/delete").content.decode()
    as_admin.post(f"/users/{viewer.pk}/delete", {"name": "vera"})
    assert not saved(viewer).is_active
    assert as_viewer.get("/").status_code == 302
    assert AuditEntry.objects.filter(action="user.switched_off", target="vera").exists()


@pytest.mark.parametrize("typed", ["", "VERA", "otto"])
def test_the_name_must_be_typed(as_admin: Client, viewer: User, typed: str) -> None:
    as_admin.post(f"/users/{viewer.pk}/delete", {"name": typed})
    assert saved(viewer).is_active


def test_nobody_removes_themselves(as_admin: Client, admin: User) -> None:
    make_user("eva", "ROLE_ADMIN")
    answer = as_admin.post(f"/users/{admin.pk}/delete", {"name": "ada"}, follow=True)
    assert "You cannot remove yourself. Ask another administrator." in answer.content.decode()
    assert saved(admin).is_active


# --- Roles ----------------------------------------------------------------------------------------


def may(name: str) -> set[str]:
    return set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))


def make_role(name: str, *permissions: Permission) -> Group:
    role = Group.objects.create(name=name)
    role.permissions.set(DjangoPermission.objects.filter(codename__in=permissions))
    return role


def test_a_role_is_made_changed_and_deleted_and_each_is_recorded(as_admin: Client, viewer: User) -> None:
    as_admin.post("/roles/add", {"name": "restorers", "permissions": ["backup.view", "backup.restore"]})
    assert may("restorers") == {"backup.view", "backup.restore"}
    role = Group.objects.get(name="restorers")
    viewer.groups.set([role])
    as_admin.post(f"/roles/{role.pk}", {"name": "readers", "permissions": ["backup.view"]})
    assert may("readers") == {"backup.view"}
    assert not saved(viewer).has_perm("accounts.backup.restore")
    assert "1 user has this role." in as_admin.get(f"/roles/{role.pk}/delete").content.decode()
    as_admin.post(f"/roles/{role.pk}/delete", {"name": "readers"})
    assert saved(viewer).roles == []
    told = AuditEntry.objects.order_by("number").values_list("action", "target", "detail")
    assert [(action, target) for action, target, _ in told] == [
        ("role.added", "restorers"), ("role.changed", "readers"), ("role.deleted", "readers"),
    ]  # fmt: skip
    assert told[1][2]["after"] == {"name": "readers", "permissions": ["backup.view"]}


def test_a_role_keeps_what_is_not_ours_to_show(as_admin: Client) -> None:
    """Red when a save sets nothing but what was ticked: permissions of other apps went without a word."""
    role = make_role("odd", Permission.BACKUP_VIEW)
    foreign = DjangoPermission.objects.exclude(content_type__app_label="accounts").earliest("pk")
    role.permissions.add(foreign)
    as_admin.post(f"/roles/{role.pk}", {"name": "odd", "permissions": ["logs.view"]})
    assert may("odd") == {"logs.view", foreign.codename}


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"name": "", "permissions": ["backup.view"]}, "name"), ({"name": "x", "permissions": []}, "permissions"),
        ({"name": "x", "permissions": ["world.rule"]}, "permissions"),
        ({"name": "ROLE_KING", "permissions": ["backup.view"]}, "name"),
        ({"name": "role_admin", "permissions": ["backup.view"]}, "name"),
        ({"name": "taken", "permissions": ["backup.view"]}, "name"),
    ],
)  # fmt: skip
def test_a_role_that_makes_no_sense_is_refused(as_admin: Client, sent: dict[str, Any], field: str) -> None:
    make_role("taken")
    assert list(errors_of(as_admin.post("/roles/add", sent))) == [field]
    assert Group.objects.count() == 4


def test_the_roles_that_phpborg_brings_stay_as_they_are(as_admin: Client) -> None:
    """Red without refuse_role: `sync_roles` would take it back, and nobody would know why."""
    role = Group.objects.get(name="ROLE_VIEWER")
    answer = as_admin.post(f"/roles/{role.pk}", {"name": "x", "permissions": ["user.manage"]})
    assert answer.status_code == 403
    assert "Make one of your own." in answer.content.decode()
    as_admin.post(f"/roles/{role.pk}/delete", {"name": "ROLE_VIEWER"})
    assert may("ROLE_VIEWER") == {"backup.view", "server.view", "logs.view"}


def test_nobody_makes_a_role_that_may_do_more_than_they(clerk: Client) -> None:
    """Red when every permission can be ticked, and when one that is held already is not looked at."""
    assert list(errors_of(clerk.post("/roles/add", {"name": "x", "permissions": ["backup.delete"]}))) == ["permissions"]
    strong = make_role("strong", Permission.BACKUP_DELETE)
    assert clerk.post(f"/roles/{strong.pk}", {"name": "strong", "permissions": ["backup.view"]}).status_code == 403
    clerk.post(f"/roles/{strong.pk}/delete", {"name": "strong"})
    assert may("strong") == {"backup.delete"}
    assert clerk.post("/roles/add", {"name": "x", "permissions": ["backup.view"]}).status_code == 302


def test_a_name_with_markup_is_shown_as_text(as_admin: Client) -> None:
    role = make_role("<script>alert(1)</script>")
    User.objects.create_user("x", first_name="<script>alert(2)</script>")
    for path in ("/users", "/roles", f"/roles/{role.pk}", f"/roles/{role.pk}/delete", "/users/add"):
        assert "<script>alert" not in as_admin.get(path).content.decode(), path

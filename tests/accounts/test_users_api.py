"""/api/users and /api/roles: people, managed by programs, under the rules of the forms."""

import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import Client
from rest_framework.test import APIClient

from accounts import audit
from accounts.access import ROLES, Permission
from accounts.errors import Conflict
from accounts.models import ApiToken, AuditEntry, User
from accounts.people import administrators, remove, somebody_stays_in_charge
from accounts.serializers import AccountSerializer
from tests.conftest import PASSWORD, holder, make_user

NINA = {"username": "nina", "password": "a good password 7", "roles": ["ROLE_VIEWER"], "email": "nina@example.org"}
LAST = "This is the last administrator. Make somebody else one first."


def log_in(user: User) -> APIClient:
    pair = APIClient().post("/api/auth/login", {"username": user.username, "password": PASSWORD}).json()
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {pair['access_token']}")


# --- Adding ---------------------------------------------------------------------------------------


def test_a_user_who_was_added_logs_in_and_has_the_role(api_admin: APIClient) -> None:
    answer = api_admin.post("/api/users", NINA)
    assert answer.status_code == 201
    login = APIClient().post("/api/auth/login", {"username": "nina", "password": NINA["password"]}).json()
    assert login["user"]["roles"] == ["ROLE_VIEWER"]
    entry = AuditEntry.objects.get(action="user.added")
    assert (entry.username, entry.target) == ("ada", "nina")
    assert (entry.detail["before"], entry.detail["after"]["groups"]) == ({}, ["ROLE_VIEWER"])


def test_a_password_is_never_answered_nor_audited(api_admin: APIClient) -> None:
    made = api_admin.post("/api/users", NINA)
    changed = api_admin.patch(f"/api/users/{made.json()['id']}", {"password": "another good password"})
    listed, audited = api_admin.get("/api/users"), str(list(AuditEntry.objects.values()))
    for text in (made.content.decode(), changed.content.decode(), listed.content.decode(), audited):
        assert NINA["password"] not in text
        assert "another good password" not in text
        assert User.objects.get(username="nina").password not in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("password", "short1!"), ("password", "12345678901234"), ("password", "password123"), ("password", "ninanina"),
        ("password", ""), ("password", None), ("username", ""), ("username", "no spaces"), ("username", "ada"),
        ("username", "ADA"), ("username", "x" * 151), ("email", "no address"), ("roles", ["ROLE_KING"]),
        ("roles", "ROLE_VIEWER"), ("roles", None), ("time_zone", "Mars/Olympus_Mons"), ("theme", "pink"),
        ("language", "tlh"), ("is_active", "perhaps"), ("first_name", "a\0b"),
    ],
)  # fmt: skip
def test_what_is_not_possible_is_refused_with_the_field_named(api_admin: APIClient, field: str, value: Any) -> None:
    answer = api_admin.post("/api/users", {**NINA, "username": "ninanina", field: value})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]
    assert User.objects.count() == 1


@pytest.mark.parametrize("missing", ["username", "password", "roles"])
def test_what_is_needed_is_asked_for(api_admin: APIClient, missing: str) -> None:
    answer = api_admin.post("/api/users", {name: value for name, value in NINA.items() if name != missing})
    assert list(answer.json()["error"]["fields"]) == [missing]


def test_nobody_is_made_superuser_or_staff(api_admin: APIClient) -> None:
    answer = api_admin.post("/api/users", {**NINA, "is_superuser": True, "is_staff": True})
    assert (answer.status_code, set(answer.json()["error"]["fields"])) == (400, {"is_superuser", "is_staff"})
    assert not User.objects.filter(username="nina").exists()


# --- Looking --------------------------------------------------------------------------------------


def test_users_are_listed_by_name_and_filtered(api_admin: APIClient, operator: User, viewer: User) -> None:
    def names(query: str) -> list[str]:
        return [user["username"] for user in api_admin.get(f"/api/users{query}").json()["results"]]

    User.objects.filter(pk=viewer.pk).update(is_active=False, email="vera@example.org")
    assert names("") == ["ada", "otto", "vera"]
    assert names("?role=ROLE_OPERATOR") == ["otto"]
    assert names("?is_active=false") == ["vera"]
    assert names("?search=example.org") == names("?search=VER") == ["vera"]
    assert api_admin.get("/api/users?rolle=x").status_code == 400


def test_one_is_shown(api_admin: APIClient, viewer: User) -> None:
    shown = api_admin.get(f"/api/users/{viewer.pk}").json()
    assert (shown["username"], shown["roles"], shown["is_active"]) == ("vera", ["ROLE_VIEWER"], True)
    assert set(shown) == {
        "id", "username", "email", "first_name", "last_name", "language", "time_zone", "theme", "is_active", "roles",
        "last_login_at", "created_at",
    }  # fmt: skip
    assert api_admin.get("/api/users/999999").status_code == 404


def test_it_asks_the_database_as_often_for_fifty_as_for_one(
    api_admin: APIClient, django_assert_max_num_queries: Any
) -> None:
    for number in range(60):
        make_user(f"user-{number}", "ROLE_VIEWER")
    with django_assert_max_num_queries(7):
        assert len(api_admin.get("/api/users").json()["results"]) == 50


def test_roles_say_what_they_may(api_admin: APIClient, django_assert_max_num_queries: Any) -> None:
    Group.objects.create(name="nothing")
    with django_assert_max_num_queries(7):
        listed = api_admin.get("/api/roles").json()["results"]
    assert {role["name"]: role["permissions"] for role in listed} == {
        "nothing": [], **{name: sorted(permissions) for name, permissions in ROLES.items()},
    }  # fmt: skip
    assert {role["name"]: role["label"] for role in listed}["ROLE_ADMIN"] == "Administrator"


# --- Changing -------------------------------------------------------------------------------------


def test_only_what_was_sent_is_changed(api_admin: APIClient, viewer: User) -> None:
    answer = api_admin.patch(f"/api/users/{viewer.pk}", {"first_name": "Vera", "roles": ["ROLE_OPERATOR"]})
    viewer = User.objects.get(pk=viewer.pk)
    assert answer.status_code == 200
    assert answer.json()["roles"] == viewer.roles == ["ROLE_OPERATOR"]
    assert (viewer.first_name, viewer.check_password(PASSWORD)) == ("Vera", True)
    assert AuditEntry.objects.get(action="user.changed").detail == {
        "before": {"first_name": "", "groups": ["ROLE_VIEWER"]},
        "after": {"first_name": "Vera", "groups": ["ROLE_OPERATOR"]},
    }


def test_put_keeps_the_password_and_wants_the_rest(api_admin: APIClient, viewer: User) -> None:
    path = f"/api/users/{viewer.pk}"
    assert set(api_admin.put(path, {}).json()["error"]["fields"]) == {"username", "roles"}
    assert api_admin.put(path, {"username": "Vera", "roles": []}).status_code == 200
    viewer.refresh_from_db()
    assert (viewer.username, viewer.check_password(PASSWORD)) == ("Vera", True)


def test_a_new_password_is_measured_against_the_person(api_admin: APIClient, viewer: User) -> None:
    answer = api_admin.patch(f"/api/users/{viewer.pk}", {"last_name": "Ivanovskaya", "password": "ivanovskaya1"})
    assert list(answer.json()["error"]["fields"]) == ["password"]


@pytest.mark.parametrize("change", [{"password": "another good password"}, {"is_active": False}])
def test_sessions_and_logins_end_with_it(
    api_admin: APIClient, viewer: User, as_viewer: Client, api_viewer: APIClient, change: dict[str, Any]
) -> None:
    assert api_admin.patch(f"/api/users/{viewer.pk}", change).status_code == 200
    assert as_viewer.get("/").status_code == 302
    assert api_viewer.get("/api/auth/me").status_code == 401


def test_nobody_switches_off_themselves(api_admin: APIClient, admin: User) -> None:
    make_user("eva", "ROLE_ADMIN")
    answer = api_admin.patch(f"/api/users/{admin.pk}", {"is_active": False})
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "You cannot switch yourself off. Ask another administrator."
    assert User.objects.get(pk=admin.pk).is_active


# --- The last administrator -----------------------------------------------------------------------


def test_the_last_administrator_stays_one(api_admin: APIClient, admin: User) -> None:
    answer = api_admin.patch(f"/api/users/{admin.pk}", {"roles": ["ROLE_VIEWER"], "first_name": "Ada"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (409, LAST)
    admin = User.objects.get(pk=admin.pk)
    assert (admin.roles, admin.first_name) == (["ROLE_ADMIN"], "")
    assert not AuditEntry.objects.filter(action="user.changed").exists()


@pytest.mark.parametrize(
    ("method", "body"), [("delete", None), ("patch", {"is_active": False}), ("patch", {"roles": []})]
)
def test_nor_can_anybody_else_remove_them(admin: User, method: str, body: Any) -> None:
    equal = log_in(holder("eva", *Permission))
    audit.record("x", user=admin)
    answer = getattr(equal, method)(f"/api/users/{admin.pk}", body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (409, LAST)
    assert list(administrators()) == [admin]


def test_with_a_second_one_it_can_be_done(api_admin: APIClient, admin: User) -> None:
    make_user("eva", "ROLE_ADMIN")
    assert api_admin.patch(f"/api/users/{admin.pk}", {"roles": ["ROLE_VIEWER"]}).status_code == 200


def test_one_who_is_switched_off_does_not_count(api_admin: APIClient, admin: User) -> None:
    eva = make_user("eva", "ROLE_ADMIN")
    User.objects.filter(pk=eva.pk).update(is_active=False)
    assert api_admin.patch(f"/api/users/{admin.pk}", {"roles": []}).status_code == 409


@pytest.mark.django_db(transaction=True)
def test_of_two_who_remove_each_other_at_once_one_stays() -> None:
    people = [make_user(name, "ROLE_ADMIN") for name in ("ada", "eva")]
    start, outcomes = threading.Barrier(2), []

    def switch_off(user: User) -> None:
        try:
            start.wait()
            with somebody_stays_in_charge():
                remove(user)
            outcomes.append("gone")
        except Conflict as error:
            outcomes.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=switch_off, args=(user,)) for user in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted(["gone", LAST])
    assert administrators().count() == 1


# --- Who may change whom --------------------------------------------------------------------------


@pytest.fixture
def clerk(db: None) -> APIClient:
    """Somebody who manages users, and may see backups, and nothing else."""
    make_user("vera", "ROLE_VIEWER")  # makes the roles if they are gone
    return log_in(holder("clara", Permission.USER_MANAGE, Permission.BACKUP_VIEW))


def test_nobody_gives_what_they_do_not_have(clerk: APIClient) -> None:
    for role in ("ROLE_ADMIN", "ROLE_VIEWER"):
        answer = clerk.post("/api/users", {**NINA, "roles": [role]})
        assert answer.status_code == 400
        assert "You may not do this yourself" in str(answer.json()["error"]["fields"]["roles"])
    assert clerk.post("/api/users", {**NINA, "roles": ["role of clara"]}).status_code == 201


@pytest.mark.parametrize("switched_off", [False, True])
@pytest.mark.parametrize(
    ("method", "body"), [("delete", None), ("patch", {"password": "another good password"}), ("patch", {})]
)
def test_nobody_changes_who_may_do_more(
    clerk: APIClient, admin: User, switched_off: bool, method: str, body: Any
) -> None:
    make_user("eva", "ROLE_ADMIN")
    User.objects.filter(pk=admin.pk).update(is_active=not switched_off)
    answer = getattr(clerk, method)(f"/api/users/{admin.pk}", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    assert answer.json()["error"]["message"] == "ada may do more than you. Ask an administrator."
    assert User.objects.get(pk=admin.pk).check_password(PASSWORD)


def test_an_api_token_does_not_grow_through_a_user(admin: User) -> None:
    _, text = ApiToken.make(admin, name="x", permissions=[Permission.USER_MANAGE], expires_at=None)
    machine = APIClient(HTTP_AUTHORIZATION=f"Bearer {text}")
    assert machine.post("/api/users", {**NINA, "roles": ["ROLE_ADMIN"]}).status_code == 400
    assert machine.patch(f"/api/users/{admin.pk}", {"password": "another good password"}).status_code == 403


@pytest.mark.parametrize("is_new", [True, False])
def test_a_name_that_somebody_takes_meanwhile_is_refused(
    api_admin: APIClient, viewer: User, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    """Red without the second look: the database refuses it, and the answer was a 500."""
    make_user("nina", "ROLE_VIEWER")
    second_look = AccountSerializer.validate_username

    def first_look(serializer: AccountSerializer, name: str) -> str:
        monkeypatch.setattr(AccountSerializer, "validate_username", second_look)
        return name

    monkeypatch.setattr(AccountSerializer, "validate_username", first_look)
    answer = api_admin.post("/api/users", NINA) if is_new else api_admin.put(f"/api/users/{viewer.pk}", NINA)
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {"username": ["A user with that username already exists."]}


# --- Removing -------------------------------------------------------------------------------------


def test_who_has_done_nothing_is_deleted(api_admin: APIClient, viewer: User) -> None:
    ApiToken.make(viewer, name="x", permissions=[Permission.BACKUP_VIEW], expires_at=None)
    answer = api_admin.delete(f"/api/users/{viewer.pk}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not User.objects.filter(pk=viewer.pk).exists()
    assert AuditEntry.objects.get(action="user.deleted").target == "vera"


def test_who_has_done_something_is_switched_off(api_admin: APIClient, viewer: User, api_viewer: APIClient) -> None:
    APIClient().post("/api/auth/login", {"username": "vera", "password": PASSWORD})
    for _ in range(2):
        answer = api_admin.delete(f"/api/users/{viewer.pk}")
        assert (answer.status_code, answer.json()["is_active"]) == (200, False)
    assert api_viewer.get("/api/auth/me").status_code == 401
    assert AuditEntry.objects.filter(username="vera", user=viewer).exists()
    assert AuditEntry.objects.filter(action="user.switched_off").exists()


def test_nobody_removes_themselves(api_admin: APIClient, admin: User) -> None:
    make_user("eva", "ROLE_ADMIN")
    answer = api_admin.delete(f"/api/users/{admin.pk}")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "You cannot remove yourself. Ask another administrator."


def test_what_fails_leaves_no_trace(db: None) -> None:
    ada = make_user("ada", "ROLE_ADMIN")
    with pytest.raises(Conflict), transaction.atomic(), somebody_stays_in_charge():
        remove(ada)
    assert User.objects.filter(username="ada", is_active=True).exists()

"""The second factor where people and programs meet it: login, profile, API, admin, roles."""

from typing import Any

from django.contrib.auth.models import Group
from django.test import Client
from rest_framework.test import APIClient

from accounts import factor, throttle
from accounts.access import Permission
from accounts.models import ApiToken, AuditEntry, RoleRule, User
from tests.accounts.test_factor import asked_by, clock, code_of, vera  # noqa: F401  # fixtures
from tests.conftest import PASSWORD, api_of, holder, page_of

NAME = {"username": "vera", "password": PASSWORD}


def is_in(client: Client) -> bool:
    return client.get("/profile").status_code == 200


def require_of_viewers(admin: User) -> None:
    factor.require_of(Group.objects.get(name="ROLE_VIEWER"), asked_by(admin), needs_factor=True)


# --- At the login ---------------------------------------------------------------------------------


def test_the_password_alone_lets_nobody_in(client: Client, vera: User) -> None:  # noqa: F811
    """Red without the look in Login.form_valid."""
    answer = client.post("/login", {**NAME, "next": "/jobs"})
    assert answer["Location"] == "/login/code"
    assert not is_in(client)
    assert not AuditEntry.objects.filter(action="login").exists()
    assert client.post("/login/code", {"code": code_of(vera)})["Location"] == "/jobs"
    assert is_in(client)
    assert AuditEntry.objects.get(action="login").detail == {"second_factor": True}


def test_a_wrong_code_lets_nobody_in_and_counts(client: Client, vera: User) -> None:  # noqa: F811
    client.post("/login", NAME)
    for _ in range(throttle.PER_ACCOUNT_AND_ADDRESS):
        assert "This code is wrong" in client.post("/login/code", {"code": "AAAAAA"}).content.decode()
    assert "Too many" in client.post("/login/code", {"code": code_of(vera)}).content.decode()
    assert not is_in(client)
    assert "AAAAAA" not in str(list(AuditEntry.objects.values()))


def test_without_a_password_before_there_is_no_code_to_enter(client: Client, vera: User) -> None:  # noqa: F811
    assert client.post("/login/code", {"code": code_of(vera)})["Location"] == "/login"
    assert not is_in(client)


def test_a_new_password_or_being_switched_off_ends_a_login_half_way(client: Client, vera: User) -> None:  # noqa: F811
    """Red when the session says no more than who it was."""
    client.post("/login", NAME)
    vera.set_password("another good password")
    vera.save()
    assert client.post("/login/code", {"code": code_of(vera)})["Location"] == "/login"


def test_a_recovery_code_opens_once(client: Client, vera: User) -> None:  # noqa: F811
    code = factor.renew_codes(vera, asked_by(vera))[0]
    client.post("/login", NAME)
    client.post("/login/code", {"code": code})
    assert is_in(client)
    other = Client()
    other.post("/login", NAME)
    other.post("/login/code", {"code": code})
    assert not is_in(other)


def test_the_admin_has_no_door_of_its_own(client: Client, admin: User, clock: Any) -> None:  # noqa: F811
    """Red with the admin's own login: it asked for no code."""
    answer = client.post("/admin/login/?next=/admin/", {"username": "ada", "password": PASSWORD})
    assert answer["Location"] == "/login?next=%2Fadmin%2F"
    assert not is_in(client)


# --- Over the API ---------------------------------------------------------------------------------


def test_the_api_says_which_field_is_missing_and_takes_the_code(vera: User) -> None:  # noqa: F811
    """Red without refuse_without_factor."""
    missing = APIClient().post("/api/auth/login", NAME)
    assert (missing.status_code, list(missing.json()["error"]["fields"])) == (400, ["code"])
    assert APIClient().post("/api/auth/login", {**NAME, "code": "AAAAAA"}).status_code == 401
    assert APIClient().post("/api/auth/login", {**NAME, "password": "wrong"}).status_code == 401
    code = code_of(vera)
    assert APIClient().post("/api/auth/login", {**NAME, "code": code}).status_code == 200
    assert APIClient().post("/api/auth/login", {**NAME, "code": code}).status_code == 401


def test_who_must_have_one_and_has_none_gets_no_tokens(viewer: User, admin: User) -> None:
    require_of_viewers(admin)
    assert APIClient().post("/api/auth/login", NAME).status_code == 403


def test_tokens_of_machines_are_not_asked(vera: User, admin: User) -> None:  # noqa: F811
    require_of_viewers(admin)
    _, text = ApiToken.make(vera, name="x", permissions=[Permission.BACKUP_VIEW], expires_at=None)
    assert APIClient(HTTP_AUTHORIZATION=f"Bearer {text}").get("/api/auth/me").status_code == 200


# --- Who must and has not -------------------------------------------------------------------------


def test_who_must_is_led_to_it_and_comes_nowhere_else(client: Client, viewer: User, admin: User, clock: Any) -> None:  # noqa: F811
    """Red without FactorMiddleware."""
    require_of_viewers(admin)
    client.post("/login", NAME)
    for path in ("/", "/jobs", "/profile", "/admin/"):
        assert client.get(path)["Location"] == "/profile/factor", path
    assert client.get("/api/auth/me").status_code == 403
    client.post("/profile/factor", {"password": PASSWORD})
    answer = client.post("/profile/factor", {"code": code_of(viewer)})
    assert len(answer.context["codes"]) == factor.RECOVERY_CODES
    assert is_in(client)


# --- One's own ------------------------------------------------------------------------------------


def test_it_is_set_up_with_the_password_and_a_right_code(as_viewer: Client, viewer: User, clock: Any) -> None:  # noqa: F811
    """Red without the password: an open screen would be enough to keep its owner out for good."""
    assert as_viewer.post("/profile/factor", {"password": "wrong"}).status_code == 400
    begun = as_viewer.post("/profile/factor", {"password": PASSWORD})
    assert "<svg" in begun.context["qr"]
    assert begun["Cache-Control"].count("no-store") == 1
    assert as_viewer.post("/profile/factor", {"code": "AAAAAA"}).status_code == 400
    assert not factor.is_set_up(viewer)
    codes = as_viewer.post("/profile/factor", {"code": code_of(viewer)}).context["codes"]
    page = as_viewer.get("/profile/factor").content.decode()
    assert factor.is_set_up(viewer)
    assert not [code for code in codes if code in page]


def test_removing_it_and_new_codes_need_the_password(vera: User) -> None:  # noqa: F811
    client = page_of(vera)
    for path in ("/profile/factor/remove", "/profile/factor/codes"):
        assert client.post(path, {"password": "wrong"}).status_code == 400
    assert len(client.post("/profile/factor/codes", {"password": PASSWORD}).context["codes"]) == 10
    client.post("/profile/factor/remove", {"password": PASSWORD})
    assert not factor.is_set_up(vera)


def test_who_must_have_one_and_removes_it_is_led_back(vera: User, admin: User) -> None:  # noqa: F811
    require_of_viewers(admin)
    client = page_of(vera)
    client.post("/profile/factor/remove", {"password": PASSWORD})
    assert client.get("/jobs")["Location"] == "/profile/factor"


# --- Of others, and of roles ----------------------------------------------------------------------


def test_an_administrator_takes_it_away_but_not_their_own(vera: User, as_admin: Client, admin: User) -> None:  # noqa: F811
    as_admin.post(f"/users/{vera.pk}/factor/reset")
    assert not factor.is_set_up(vera)
    factor.begin(admin)
    answer = as_admin.post(f"/users/{admin.pk}/factor/reset", follow=True)
    assert "You remove your own second factor on your profile" in answer.content.decode()


def test_a_role_is_made_to_ask_for_it(as_admin: Client) -> None:
    role = Group.objects.get(name="ROLE_OPERATOR")
    as_admin.post(f"/roles/{role.pk}/factor", {"needs_factor": "on"})
    assert RoleRule.objects.get(role=role).needs_factor
    assert as_admin.get(f"/roles/{role.pk}").context["needs_factor"] is True
    as_admin.post(f"/roles/{role.pk}/factor", {})
    assert not RoleRule.objects.get(role=role).needs_factor


def test_nobody_lets_go_who_may_do_more(as_admin: Client) -> None:
    """Red without the look at what the role gives."""
    role = Group.objects.get(name="ROLE_ADMIN")
    as_admin.post(f"/roles/{role.pk}/factor", {"needs_factor": "on"})
    page_of(holder("clara", Permission.USER_MANAGE)).post(f"/roles/{role.pk}/factor", {})
    assert RoleRule.objects.get(role=role).needs_factor


def test_api_logins_from_before_go_on(viewer: User, admin: User) -> None:
    """A role that asks from now on ends nothing; the next login is asked."""
    program = api_of(viewer)
    require_of_viewers(admin)
    assert program.get("/api/auth/me").status_code == 200

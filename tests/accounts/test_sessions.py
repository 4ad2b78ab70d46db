"""Who is signed in where: listed and ended, by oneself and by who manages users."""

from typing import Any

from django.contrib.sessions.models import Session as DjangosOwn
from django.test import Client
from rest_framework.test import APIClient

from accounts import sessions
from accounts.access import Permission
from accounts.models import ApiToken, AuditEntry, Session, TokenFamily, User
from accounts.sessions import SessionStore
from tests.conftest import PASSWORD, holder, page_of

FROM = "203.0.113.5"


def browser(name: str = "vera", **where: Any) -> Client:
    client = Client(REMOTE_ADDR=FROM, HTTP_USER_AGENT="Firefox", **where)
    assert client.post("/login", {"username": name, "password": PASSWORD}).status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get("/profile").status_code == 200


def names_of(user: User) -> list[str]:
    return [login.name for login in sessions.logins_of(user)]


def test_a_session_knows_whose_it_is_and_from_where(viewer: User) -> None:
    """Red without create_model_instance, and without note."""
    client = browser()
    client.get("/profile")
    session = Session.objects.get()
    assert (session.user, session.address, session.user_agent) == (viewer, FROM, "Firefox")
    assert session.started_at
    assert not DjangosOwn.objects.exists()


def test_no_page_shows_what_one_is_let_in_with(as_admin: Client, viewer: User) -> None:
    """Red when a session is called by its key."""
    browser()
    keys = set(Session.objects.values_list("session_key", flat=True))
    for path in ("/profile", f"/users/{viewer.pk}"):
        html = as_admin.get(path).content.decode()
        assert not [key for key in keys if key in html]
    assert FROM in as_admin.get(f"/users/{viewer.pk}").content.decode()


def test_one_ends_one_s_own_and_nobody_else_s(as_viewer: Client, viewer: User, operator: User) -> None:
    """Red when the name alone says which: whoever saw it once could end another's."""
    other, elsewhere = browser("otto"), browser()
    [other_s] = names_of(operator)
    as_viewer.post(f"/profile/logins/{other_s}/end")
    assert is_in(other)
    name = Session.objects.get(session_key=elsewhere.session.session_key).name
    as_viewer.post(f"/profile/logins/{name}/end")
    assert (is_in(elsewhere), is_in(as_viewer)) == (False, True)
    assert AuditEntry.objects.get(action="login.ended").target == "vera"
    as_viewer.post(f"/profile/logins/{name}/end")
    assert AuditEntry.objects.filter(action="login.ended").count() == 1


def test_a_login_over_the_api_is_listed_and_ended(as_viewer: Client, viewer: User, api_viewer: APIClient) -> None:
    family = TokenFamily.objects.get()
    assert family.id.hex in names_of(viewer)
    as_viewer.post(f"/profile/logins/{family.id.hex}/end")
    assert api_viewer.get("/api/auth/me").status_code == 401
    assert family.id.hex not in names_of(viewer)


def test_all_others_end_at_once(as_viewer: Client, viewer: User, api_viewer: APIClient) -> None:
    elsewhere = browser()
    as_viewer.post("/profile/logins/end")
    assert (is_in(elsewhere), is_in(as_viewer)) == (False, True)
    assert api_viewer.get("/api/auth/me").status_code == 401
    assert AuditEntry.objects.filter(action="logins.ended", target="vera").count() == 1


def test_who_manages_users_ends_theirs(as_admin: Client, viewer: User) -> None:
    first, second = browser(), browser()
    name = Session.objects.get(session_key=first.session.session_key).name
    as_admin.post(f"/users/{viewer.pk}/logins/{name}/end")
    assert (is_in(first), is_in(second)) == (False, True)
    as_admin.post(f"/users/{viewer.pk}/logins/end")
    assert not is_in(second)
    token, _text = ApiToken.make(viewer, name="nightly", permissions=["backup.view"], expires_at=None)
    assert "nightly" in as_admin.get(f"/users/{viewer.pk}").content.decode()
    as_admin.post(f"/users/{viewer.pk}/tokens/{token.pk}/revoke")
    assert not ApiToken.objects.of(viewer).exists()
    assert AuditEntry.objects.get(action="api_token.revoked").username == "ada"


def test_but_not_of_who_may_do_more(admin: User) -> None:
    """Red without refuse_beyond."""
    clerk, hers = page_of(holder("clara", Permission.USER_MANAGE)), browser("ada")
    token, _text = ApiToken.make(admin, name="nightly", permissions=["backup.view"], expires_at=None)
    [name] = names_of(admin)
    for path in (f"logins/{name}/end", "logins/end", f"tokens/{token.pk}/revoke"):
        clerk.post(f"/users/{admin.pk}/{path}")
    assert is_in(hers)
    assert ApiToken.objects.of(admin).exists()


def test_whoever_was_switched_off_comes_back_to_no_session(as_admin: Client, viewer: User) -> None:
    """Red without end_all: what was stolen would be good again as soon as the account is."""
    old = browser()
    as_admin.post(f"/users/{viewer.pk}", {"username": "vera", "roles": ["ROLE_VIEWER"]})
    assert not User.objects.get(pk=viewer.pk).is_active
    as_admin.post(f"/users/{viewer.pk}", {"username": "vera", "roles": ["ROLE_VIEWER"], "is_active": "on"})
    assert User.objects.get(pk=viewer.pk).is_active
    assert not is_in(old)


def test_nor_whoever_was_switched_off_in_the_admin(as_admin: Client, viewer: User) -> None:
    """Red without AccountAdmin.save_model."""
    old, role = browser(), viewer.groups.get().pk
    as_admin.post(f"/admin/accounts/user/{viewer.pk}/change/", {"username": "vera", "groups": [role]})
    User.objects.filter(pk=viewer.pk).update(is_active=True)
    assert not is_in(old)


def test_what_another_password_opened_is_not_listed(viewer: User) -> None:
    """Red without the look at the hash: `manage.py changepassword` knows nothing of rows."""
    old = browser()
    assert len(names_of(viewer)) == 1
    viewer.set_password("a longer and better password")
    viewer.save()
    assert (names_of(viewer), is_in(old)) == ([], False)


def test_a_new_password_leaves_no_dead_session_in_the_list(as_viewer: Client, viewer: User) -> None:
    browser()
    new = "a longer and better password"
    as_viewer.post("/profile/password", {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    assert Session.objects.filter(user=viewer).count() == 1
    assert len(names_of(User.objects.get(pk=viewer.pk))) == 1
    assert is_in(as_viewer)


def test_what_has_expired_is_cleared_away(viewer: User) -> None:
    client = browser()
    Session.objects.update(expire_date="2020-01-01T00:00:00Z")
    assert names_of(viewer) == []
    assert not is_in(client)
    SessionStore.clear_expired()
    assert not Session.objects.filter(user=viewer).exists()

"""API tokens: what a machine shows instead of a login, over the API and on the profile page."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.access import Permission
from accounts.models import ApiToken, AuditEntry, User
from backups.models import Plan
from tests.conftest import PASSWORD, make_user, page_of

VIEW, CREATE = Permission.BACKUP_VIEW, Permission.BACKUP_CREATE
INVALID = {"code": "token_not_valid", "message": "This token is not valid, or has expired.", "fields": {}}
ENDED = {
    "code": "token_ended",
    "message": "This API token has expired, was revoked, or its user is switched off.",
    "fields": {},
}


def machine(text: str) -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {text}")


def make(user: User, *permissions: str, **values: Any) -> tuple[ApiToken, str]:
    return ApiToken.make(user, **{"name": "nightly", "permissions": permissions, "expires_at": None, **values})


def refused(text: str) -> Any:
    answer = machine(text).get("/api/auth/me")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    return answer.json()["error"]


# --- Making one over the API ----------------------------------------------------------------------


def test_a_made_token_opens_what_it_was_made_for(api_operator: APIClient) -> None:
    made = api_operator.post("/api/tokens", {"name": "nightly", "permissions": [CREATE, VIEW]})
    assert made.status_code == 201
    me = machine(made.json()["token"]).get("/api/auth/me").json()
    assert (me["username"], me["permissions"]) == ("otto", [CREATE, VIEW])


def test_its_text_is_answered_once_and_kept_nowhere(api_operator: APIClient) -> None:
    made = api_operator.post("/api/tokens", {"name": "nightly", "permissions": [VIEW]}).json()
    prefix = made["prefix"]
    assert made["token"].startswith(f"phpborg_{prefix}_")
    secret = made["token"].removeprefix(f"phpborg_{prefix}_")
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in str([*ApiToken.objects.values(), *AuditEntry.objects.values()])
    listed = api_operator.get("/api/tokens").json()["results"]
    assert "token" not in listed[0]
    assert "sha256" not in listed[0]


def test_it_ends_in_a_year_unless_somebody_says_otherwise(api_operator: APIClient) -> None:
    soon = timezone.now() + timedelta(days=3)
    for sent in ({}, {"expires_at": None}, {"expires_at": soon.isoformat()}):
        api_operator.post("/api/tokens", {"name": "nightly", "permissions": [VIEW], **sent})
    year, never, three_days = ApiToken.objects.order_by("pk")
    assert year.expires_at
    assert abs(year.expires_at - year.created_at - timedelta(days=365)) < timedelta(minutes=1)
    assert (never.expires_at, three_days.expires_at) == (None, soon)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", "x" * 101), ("permissions", []), ("permissions", ["backup.fly"]), ("permissions", "x"),
        ("permissions", [Permission.SERVER_MANAGE]), ("expires_at", "2001-01-01T00:00:00Z"), ("expires_at", "soon"),
    ],
)  # fmt: skip
def test_what_is_not_possible_is_refused_with_the_field_named(api_operator: APIClient, field: str, value: Any) -> None:
    answer = api_operator.post("/api/tokens", {"name": "nightly", "permissions": [VIEW], field: value})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]
    assert not ApiToken.objects.exists()


def test_a_token_makes_no_token(operator: User) -> None:
    _, text = make(operator, VIEW, CREATE)
    answer = machine(text).post("/api/tokens", {"name": "another", "permissions": [VIEW]})
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "An API token makes no other. Log in to make one."
    assert ApiToken.objects.count() == 1


def test_making_and_revoking_are_audited(api_operator: APIClient, operator: User) -> None:
    made = api_operator.post("/api/tokens", {"name": "nightly", "permissions": [VIEW], "expires_at": None}).json()
    api_operator.delete(f"/api/tokens/{made['id']}")
    entries = list(AuditEntry.objects.filter(action__startswith="api_token").order_by("pk"))
    assert [entry.action for entry in entries] == ["api_token.made", "api_token.revoked"]
    assert {entry.user for entry in entries} == {operator}
    assert {entry.target for entry in entries} == {f"nightly (phpborg_{made['prefix']})"}
    assert entries[0].detail == {"permissions": [VIEW], "expires_at": None}


# --- What it opens --------------------------------------------------------------------------------


def test_it_may_not_do_what_only_its_owner_may(operator: User, plan: Plan) -> None:
    _, text = make(operator, VIEW)
    assert machine(text).get("/api/plans").status_code == 200
    assert machine(text).get("/api/servers").status_code == 403
    assert machine(text).post("/api/backups", {"server_id": plan.server.pk}).status_code == 403


def test_it_never_may_more_than_its_owner_may_now(operator: User) -> None:
    _, text = make(operator, VIEW, CREATE)
    operator.groups.set([make_user("vera", "ROLE_VIEWER").groups.get()])
    assert machine(text).get("/api/auth/me").json()["permissions"] == [VIEW]


def test_a_superusers_token_is_limited_too(db: None) -> None:
    _, text = make(User.objects.create_superuser("root", password=PASSWORD), VIEW)
    assert machine(text).get("/api/auth/me").json()["permissions"] == [VIEW]
    assert machine(text).get("/api/users").status_code == 403


def test_what_it_does_is_audited_with_its_prefix(admin: User) -> None:
    token, text = make(admin, Permission.SERVER_MANAGE, Permission.SERVER_VIEW)
    assert machine(text).post("/api/servers", {"name": "web-9", "address": "192.0.2.9"}).status_code == 201
    entry = AuditEntry.objects.get(action="server.added")
    assert (entry.user, entry.detail["api_token"]) == (admin, token.prefix)


def test_it_is_not_read_from_the_address(operator: User) -> None:
    _, text = make(operator, VIEW)
    for name in ("token", "access_token", "api_token"):
        assert APIClient().get(f"/api/auth/me?{name}={text}").status_code == 401


def test_it_opens_no_page(operator: User) -> None:
    _, text = make(operator, VIEW)
    assert Client(HTTP_AUTHORIZATION=f"Bearer {text}").get("/profile").status_code == 302


def test_it_is_in_no_log(operator: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, text = make(operator, VIEW)
    machine(text).get("/api/auth/me")
    machine(text + "0").get("/api/auth/me")
    machine(text).get("/api/users")
    assert text.rpartition("_")[2] not in caplog.text


# --- When it ends ---------------------------------------------------------------------------------


def test_a_wrong_secret_opens_nothing(operator: User) -> None:
    token, text = make(operator, VIEW)
    for wrong in (text[:-1], text + "0", text.upper(), f"phpborg_{token.prefix}_", "phpborg_", "phpborg_x_y",
                  f"phpborg_{'0' * 5000}_0", "phpborg_\xff\xfe_\xe9", f"phpborg_{token.sha256}"):  # fmt: skip
        assert refused(wrong) == INVALID, wrong


def test_an_expired_one_is_refused(operator: User) -> None:
    _, text = make(operator, VIEW, expires_at=timezone.now() - timedelta(seconds=1))
    assert refused(text) == ENDED


def test_a_revoked_one_is_refused_at_once(operator: User) -> None:
    token, text = make(operator, VIEW)
    token.revoke()
    assert refused(text) == ENDED


def test_it_opens_nothing_while_its_owner_is_switched_off(operator: User) -> None:
    _, text = make(operator, VIEW)
    User.objects.filter(pk=operator.pk).update(is_active=False)
    assert refused(text) == ENDED


def test_it_ends_with_its_owner(operator: User) -> None:
    _, text = make(operator, VIEW)
    operator.delete()
    assert refused(text) == INVALID


def test_it_outlives_a_password(operator: User) -> None:
    _, text = make(operator, VIEW)
    operator.set_password("another long password")
    operator.save()
    assert machine(text).get("/api/auth/me").status_code == 200


def test_the_page_that_changes_the_password_says_so(as_operator: Client) -> None:
    assert "API tokens of programs go on" in as_operator.get("/profile/password").content.decode()


# --- Its last use ---------------------------------------------------------------------------------


def test_its_last_use_is_noted(operator: User) -> None:
    token, text = make(operator, VIEW)
    machine(text).get("/api/auth/me")
    token.refresh_from_db()
    assert token.last_used_at


def test_within_a_minute_a_request_writes_nothing(operator: User, django_assert_num_queries: Any) -> None:
    token, text = make(operator, VIEW)
    client = machine(text)
    client.get("/api/auth/me")
    token.refresh_from_db()
    with django_assert_num_queries(3) as asked:  # the token with its user, permissions, roles
        client.get("/api/auth/me")
    assert not [query for query in asked if query["sql"].startswith("UPDATE")]
    noted = token.last_used_at
    token.refresh_from_db()
    assert token.last_used_at == noted


def test_after_a_minute_it_is_noted_again(operator: User) -> None:
    token, text = make(operator, VIEW)
    long_ago = timezone.now() - timedelta(seconds=61)
    ApiToken.objects.update(last_used_at=long_ago)
    machine(text).get("/api/auth/me")
    token.refresh_from_db()
    assert token.last_used_at
    assert token.last_used_at > long_ago


# --- The list, and revoking over the API ----------------------------------------------------------


def test_one_sees_ones_own(api_operator: APIClient, operator: User, viewer: User) -> None:
    mine, _ = make(operator, VIEW)
    make(viewer, VIEW)
    assert [token["id"] for token in api_operator.get("/api/tokens").json()["results"]] == [mine.pk]
    assert api_operator.get(f"/api/tokens?user={viewer.pk}").json()["results"] == []


def test_who_manages_users_sees_those_of_one_user(api_admin: APIClient, admin: User, viewer: User) -> None:
    mine, _ = make(admin, VIEW)
    theirs, _ = make(viewer, VIEW)
    assert [token["id"] for token in api_admin.get("/api/tokens").json()["results"]] == [mine.pk]
    [seen] = api_admin.get(f"/api/tokens?user={viewer.pk}").json()["results"]
    assert (seen["id"], seen["username"], seen["permissions"]) == (theirs.pk, "vera", [VIEW])


def test_a_revoked_one_is_gone_from_the_list(api_operator: APIClient, operator: User) -> None:
    token, _ = make(operator, VIEW)
    assert api_operator.delete(f"/api/tokens/{token.pk}").status_code == 204
    assert api_operator.get("/api/tokens").json()["results"] == []
    assert api_operator.delete(f"/api/tokens/{token.pk}").status_code == 404


def test_anothers_is_404_but_for_who_manages_users(api_operator: APIClient, api_admin: APIClient, viewer: User) -> None:
    token, text = make(viewer, VIEW)
    assert api_operator.delete(f"/api/tokens/{token.pk}").status_code == 404
    assert machine(text).get("/api/auth/me").status_code == 200
    assert api_admin.delete(f"/api/tokens/{token.pk}").status_code == 204
    assert refused(text) == ENDED


def test_a_token_revokes_itself_and_no_other(operator: User) -> None:
    token, text = make(operator, VIEW)
    other, _ = make(operator, VIEW)
    assert machine(text).delete(f"/api/tokens/{other.pk}").status_code == 403
    assert machine(text).delete(f"/api/tokens/{token.pk}").status_code == 204
    assert refused(text) == ENDED


def test_it_asks_the_database_as_often_for_fifty_as_for_one(
    api_admin: APIClient, viewer: User, django_assert_max_num_queries: Any
) -> None:
    for _ in range(60):
        make(viewer, VIEW)
    with django_assert_max_num_queries(6):
        assert len(api_admin.get(f"/api/tokens?user={viewer.pk}").json()["results"]) == 50


# --- The profile page -----------------------------------------------------------------------------


def fields(**values: Any) -> dict[str, Any]:
    return {"name": "nightly", "permissions": [VIEW], "lifetime": "30", **values}


def test_the_page_makes_one_and_shows_it_this_once(as_operator: Client, operator: User) -> None:
    answer = as_operator.post("/profile/tokens", fields())
    token = ApiToken.objects.get()
    html = answer.content.decode()
    text = answer.context["made_text"]
    assert f'data-copy="{text}"' in html
    assert "no-store" in answer["Cache-Control"]
    assert machine(text).get("/api/auth/me").json()["permissions"] == [VIEW]
    assert token.user == operator
    assert token.expires_at
    assert (token.expires_at - timezone.now()).days in (29, 30)
    again = as_operator.get("/profile").content.decode()
    assert token.prefix in again
    assert text not in again
    assert token.sha256 not in again


def test_the_page_makes_one_that_never_ends(as_operator: Client) -> None:
    as_operator.post("/profile/tokens", fields(lifetime=""))
    assert ApiToken.objects.get().expires_at is None


def test_the_page_offers_only_what_one_may(as_operator: Client) -> None:
    html = as_operator.get("/profile").content.decode()
    assert f'value="{CREATE}"' in html
    assert f'value="{Permission.USER_MANAGE}"' not in html


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("permissions", []), ("permissions", [Permission.USER_MANAGE]), ("lifetime", "9999999")],
)
def test_the_page_refuses_what_is_not_possible(as_operator: Client, field: str, value: Any) -> None:
    answer = as_operator.post("/profile/tokens", fields(**{field: value}))
    assert answer.status_code == 400
    assert list(answer.context["token_form"].errors) == [field]
    assert not ApiToken.objects.exists()


def test_loading_the_answers_address_again_leads_to_the_profile(as_operator: Client) -> None:
    assert as_operator.get("/profile/tokens")["Location"] == "/profile"


def test_the_page_revokes_one(as_operator: Client, operator: User) -> None:
    token, text = make(operator, VIEW)
    answer = as_operator.post(f"/profile/tokens/{token.pk}/revoke", follow=True)
    assert "The token “nightly” is revoked." in answer.content.decode()
    assert refused(text) == ENDED
    assert token.prefix not in as_operator.get("/profile").content.decode()


def test_the_page_revokes_nobody_elses(as_admin: Client, viewer: User) -> None:
    token, text = make(viewer, VIEW)
    assert as_admin.post(f"/profile/tokens/{token.pk}/revoke").status_code == 404
    assert machine(text).get("/api/auth/me").status_code == 200


def test_the_page_says_what_is_over_and_what_was_used(as_operator: Client, operator: User) -> None:
    make(operator, VIEW, expires_at=timezone.now() - timedelta(days=1))
    make(operator, VIEW)
    ApiToken.objects.order_by("pk").filter(expires_at=None).update(last_used_at=timezone.now())
    html = as_operator.get("/profile").content.decode()
    assert html.count("Expired") == 1
    assert html.count("just now") == 1


def test_the_page_asks_the_database_as_often_for_many(
    as_operator: Client, operator: User, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        make(operator, VIEW)
    with django_assert_max_num_queries(12):
        as_operator.get("/profile")


def test_other_methods_and_strangers_are_refused(as_operator: Client, operator: User, client: Client) -> None:
    token, _ = make(operator, VIEW)
    assert as_operator.put("/profile/tokens").status_code == 405
    assert as_operator.get(f"/profile/tokens/{token.pk}/revoke").status_code == 405
    assert client.post("/profile/tokens", fields())["Location"].startswith("/login")
    assert client.post(f"/profile/tokens/{token.pk}/revoke")["Location"].startswith("/login")


def test_a_name_with_markup_is_shown_as_text(operator: User) -> None:
    make(operator, VIEW, name="<script>alert(1)</script>")
    assert "<script>alert" not in page_of(operator).get("/profile").content.decode()

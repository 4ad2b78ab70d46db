"""POST /api/auth/login, GET /api/auth/me, and what an access token says."""

from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from rest_framework.test import APIClient

from accounts.access import ROLES
from accounts.models import AuditEntry, TokenFamily, User
from tests.conftest import PASSWORD


def log_in(username: str = "otto", password: Any = PASSWORD) -> Any:
    return APIClient().post("/api/auth/login", {"username": username, "password": password})


def payload_of(token: str) -> dict[str, Any]:
    """What a program reads that knows the key, with PyJWT's own strict rules."""
    return jwt.decode(token, settings.JWT_KEY, algorithms=["HS256"])


def test_the_answer_is_a_pair_and_the_user(operator: User) -> None:
    answer = log_in()
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    assert body["user"]["username"] == "otto"


def test_the_access_token_says_who_and_what(operator: User) -> None:
    payload = payload_of(log_in().json()["access_token"])
    assert set(payload) == {"sub", "username", "roles", "permissions", "iat", "exp", "jti", "token_type"}
    assert payload["sub"] == str(operator.pk)
    assert payload["username"] == "otto"
    assert payload["roles"] == ["ROLE_OPERATOR"]
    assert payload["permissions"] == ["backup.create", "backup.view", "logs.view", "server.view"]
    assert payload["token_type"] == "access"


def test_it_is_signed_with_hs256(operator: User) -> None:
    assert jwt.get_unverified_header(log_in().json()["access_token"]) == {"alg": "HS256", "typ": "JWT"}


def test_the_access_token_lives_15_minutes_and_the_refresh_token_7_days(operator: User) -> None:
    body = log_in().json()
    access, refresh = payload_of(body["access_token"]), payload_of(body["refresh_token"])
    assert access["exp"] - access["iat"] == timedelta(minutes=15).total_seconds()
    assert refresh["exp"] - refresh["iat"] == timedelta(days=7).total_seconds()
    assert refresh["token_type"] == "refresh"


def test_every_token_has_a_number_of_its_own(operator: User) -> None:
    bodies = [log_in().json(), log_in().json()]
    numbers = {payload_of(body[kind])["jti"] for body in bodies for kind in ("access_token", "refresh_token")}
    assert len(numbers) == 4


def test_a_login_is_audited_and_kept_as_a_family(operator: User) -> None:
    client = APIClient(REMOTE_ADDR="203.0.113.5", HTTP_USER_AGENT="x" * 500)
    client.post("/api/auth/login", {"username": "otto", "password": PASSWORD})
    entry, family = AuditEntry.objects.get(action="login.api"), TokenFamily.objects.get()
    assert (entry.user, entry.address) == (operator, "203.0.113.5")
    assert (family.user, family.address, family.user_agent) == (operator, "203.0.113.5", "x" * 200)


def test_no_token_is_in_the_database(operator: User) -> None:
    body = log_in().json()
    kept = str([*TokenFamily.objects.values(), *AuditEntry.objects.values()])
    assert body["access_token"] not in kept
    assert body["refresh_token"] not in kept


@pytest.mark.parametrize(("username", "password"), [("otto", "wrong"), ("nobody", PASSWORD), ("otto", f" {PASSWORD}")])
def test_a_wrong_name_or_password_is_401_with_one_sentence(operator: User, username: str, password: str) -> None:
    answer = log_in(username, password)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer.json() == {
        "error": {"code": "authentication_failed", "message": "The name or the password is wrong.", "fields": {}}
    }


def test_an_inactive_user_gets_the_same_answer(operator: User) -> None:
    User.objects.filter(pk=operator.pk).update(is_active=False)
    answer = log_in()
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "The name or the password is wrong."
    assert not TokenFamily.objects.exists()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"username", "password"}),
        ({"username": "otto"}, {"password"}),
        ({"username": "otto", "password": ""}, {"password"}),
        ({"username": "otto", "password": ["a"]}, {"password"}),
        ({"username": {"a": 1}, "password": "x"}, {"username"}),
        ({"username": "x" * 10_000, "password": "x" * 10_000}, {"username", "password"}),
        ([], {""}),
    ],
)
def test_a_bad_request_names_its_fields(db: None, body: Any, fields: set[str]) -> None:
    answer = APIClient().post("/api/auth/login", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid"
    assert set(answer.json()["error"]["fields"]) == fields


def test_the_refused_password_is_not_repeated(db: None) -> None:
    answer = APIClient().post("/api/auth/login", {"password": "not-for-you"})
    assert b"not-for-you" not in answer.content


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_other_methods_are_refused(db: None, method: str) -> None:
    answer = getattr(APIClient(), method)("/api/auth/login")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_somebody_elses_broken_token_does_not_stop_a_login(operator: User) -> None:
    client = APIClient(HTTP_AUTHORIZATION="Bearer broken")
    answer = client.post("/api/auth/login", {"username": "otto", "password": PASSWORD})
    assert answer.status_code == 200


# --- Who am I ---------------------------------------------------------------------------------


def test_me_tells_roles_and_permissions(api_operator: APIClient, operator: User) -> None:
    assert api_operator.get("/api/auth/me").json() == {
        "id": operator.pk, "username": "otto", "email": "", "first_name": "", "last_name": "", "language": "",
        "time_zone": "", "roles": ["ROLE_OPERATOR"], "permissions": sorted(ROLES["ROLE_OPERATOR"]),
    }  # fmt: skip


def test_me_needs_a_token(db: None) -> None:
    answer = APIClient().get("/api/auth/me")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_authenticated"
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_me_knows_the_session_of_the_pages_too(as_viewer: Any) -> None:
    assert as_viewer.get("/api/auth/me").json()["username"] == "vera"


def test_me_answers_head_and_describes_itself_only_in_the_schema(api_viewer: APIClient) -> None:
    assert api_viewer.head("/api/auth/me").status_code == 200
    assert api_viewer.options("/api/auth/me").status_code == 405


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_me_refuses_other_methods(api_viewer: APIClient, method: str) -> None:
    answer = getattr(api_viewer, method)("/api/auth/me")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_what_a_token_claims_does_not_count_only_the_database(api_operator: APIClient, operator: User) -> None:
    operator.groups.set([Group.objects.get(name="ROLE_VIEWER")])
    assert api_operator.get("/api/auth/me").json()["permissions"] == sorted(ROLES["ROLE_VIEWER"])

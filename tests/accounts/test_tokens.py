"""Access tokens that are refused: forged, old, of the wrong kind, or of somebody who is no longer let in."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import jwt
import pytest
from django.conf import settings
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import TokenFamily, User
from tests.conftest import PASSWORD

INVALID = {"code": "token_not_valid", "message": "This token is not valid, or has expired.", "fields": {}}
ENDED = {"code": "login_ended", "message": "This login has ended. Log in again.", "fields": {}}
NO_LOGIN = {"code": "no_login", "message": "This token belongs to no login that we know.", "fields": {}}


@pytest.fixture
def pair(viewer: User) -> dict[str, Any]:
    body: dict[str, Any] = APIClient().post("/api/auth/login", {"username": "vera", "password": PASSWORD}).json()
    return body


@pytest.fixture
def claims(pair: dict[str, Any]) -> dict[str, Any]:
    return jwt.decode(pair["access_token"], settings.JWT_KEY, algorithms=["HS256"])


def me(token: str) -> Any:
    return APIClient().get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})


def signed(claims: dict[str, Any], key: str = "", algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key or settings.JWT_KEY, algorithm)


def refused(token: str) -> dict[str, Any]:
    answer = me(token)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_a_token_that_we_would_have_made_ourselves_is_good(claims: dict[str, Any]) -> None:
    assert me(signed(claims)).status_code == 200


def test_a_refresh_token_opens_nothing(pair: dict[str, Any]) -> None:
    assert refused(pair["refresh_token"]) == INVALID


def test_an_expired_token_is_refused(claims: dict[str, Any]) -> None:
    assert refused(signed({**claims, "exp": claims["iat"] - 60})) == INVALID


@pytest.mark.parametrize(("seconds", "status"), [(9, 200), (11, 401)])
def test_a_token_is_good_until_ten_seconds_after_its_end(
    claims: dict[str, Any], monkeypatch: pytest.MonkeyPatch, seconds: int, status: int
) -> None:
    """Red without LEEWAY, and with a larger one; PyJWT and simplejwt look at the clock, each for itself."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(claims["iat"], tz)

    monkeypatch.setattr("jwt.api_jwt.datetime", Stopped)
    monkeypatch.setattr("rest_framework_simplejwt.tokens.aware_utcnow", lambda: Stopped.now(UTC))
    assert me(signed({**claims, "exp": claims["iat"] - seconds})).status_code == status


@pytest.mark.parametrize("name", ["none", "None", "NONE"])
def test_an_unsigned_token_is_refused(claims: dict[str, Any], name: str) -> None:
    def part(data: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()

    assert refused(f"{part({'alg': name, 'typ': 'JWT'})}.{part(claims)}.") == INVALID


def test_a_token_signed_with_another_key_is_refused(claims: dict[str, Any]) -> None:
    assert refused(signed(claims, "another key that is long enough for HS256")) == INVALID


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_token_with_another_algorithm_is_refused(claims: dict[str, Any], algorithm: str) -> None:
    assert refused(signed(claims, settings.JWT_KEY * 2 + settings.JWT_KEY, algorithm)) == INVALID


def test_a_changed_payload_breaks_the_signature(pair: dict[str, Any], claims: dict[str, Any]) -> None:
    head, _, signature = pair["access_token"].split(".")
    payload = signed({**claims, "username": "ada"}).split(".")[1]
    assert refused(f"{head}.{payload}.{signature}") == INVALID


@pytest.mark.parametrize("token", ["x", "a.b.c", "\xff\xfe", "e" * 20_000])
def test_what_is_no_token_is_refused(db: None, token: str) -> None:
    assert refused(token) == INVALID


def test_a_header_with_three_words_gets_a_plain_sentence(db: None) -> None:
    answer = APIClient().get("/api/auth/me", headers={"Authorization": "Bearer a b"})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "bad_authorization_header"
    assert answer.json()["error"]["message"] == "Authorization header must contain two space-delimited values"


def test_a_token_of_somebody_elses_login_is_refused(claims: dict[str, Any], operator: User) -> None:
    assert refused(signed({**claims, "sub": str(operator.pk)})) == NO_LOGIN


@pytest.mark.parametrize("change", [{"jti": "0" * 64}, {"jti": "short"}, {"jti": None}, {"sub": 7}, {"sub": None}])
def test_a_token_with_odd_claims_is_refused(claims: dict[str, Any], change: dict[str, Any]) -> None:
    assert refused(signed({**claims, **change}))["code"] in ("token_not_valid", "no_login")


@pytest.mark.parametrize("missing", ["jti", "sub", "exp", "token_type"])
def test_a_token_without_a_claim_that_counts_is_refused(claims: dict[str, Any], missing: str) -> None:
    assert refused(signed({name: value for name, value in claims.items() if name != missing}))["message"]


def switch_off(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def change_password(user: User) -> None:
    user.set_password("another long password")
    user.save(update_fields=["password"])


@pytest.mark.parametrize("happens", [switch_off, change_password])
def test_tokens_end_with_what_they_were_given_for(
    pair: dict[str, Any], viewer: User, happens: Callable[[User], None]
) -> None:
    happens(viewer)
    renewed = APIClient().post("/api/auth/refresh", {"refresh_token": pair["refresh_token"]})
    assert refused(pair["access_token"]) == ENDED
    assert renewed.status_code == 401
    assert renewed.json()["error"]["message"] == "This login has ended. Log in again."


def test_tokens_end_with_their_user(pair: dict[str, Any], viewer: User) -> None:
    viewer.delete()
    assert refused(pair["access_token"]) == NO_LOGIN
    assert APIClient().post("/api/auth/refresh", {"refresh_token": pair["refresh_token"]}).status_code == 401


def test_switching_a_user_on_again_does_not_need_a_new_login(pair: dict[str, Any], viewer: User) -> None:
    switch_off(viewer)
    User.objects.filter(pk=viewer.pk).update(is_active=True)
    assert me(pair["access_token"]).status_code == 200


def test_tokens_end_with_their_family(pair: dict[str, Any]) -> None:
    TokenFamily.objects.update(revoked_at=timezone.now())
    assert refused(pair["access_token"]) == ENDED


def test_access_tokens_end_when_the_family_does(pair: dict[str, Any]) -> None:
    TokenFamily.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert refused(pair["access_token"]) == ENDED


def test_a_token_in_the_address_is_not_read(pair: dict[str, Any]) -> None:
    for name in ("token", "access_token", "jwt"):
        assert APIClient().get(f"/api/auth/me?{name}={pair['access_token']}").status_code == 401


def test_a_request_with_a_token_asks_the_database_once_for_login_and_user(
    pair: dict[str, Any], django_assert_max_num_queries: Any
) -> None:
    # The family with its user, groups, and permissions for the answer.
    with django_assert_max_num_queries(4):
        assert me(pair["access_token"]).status_code == 200

"""POST /api/auth/refresh and /api/auth/logout: tokens by families, each of which ends as one."""

import threading
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import throttle, tokens
from accounts.models import AuditEntry, TokenFamily, User
from tests.conftest import PASSWORD, make_user

ENDED = "This login has ended. Log in again."
USED = "This refresh token was already used, so the whole login has ended. Log in again."
INVALID = "This is not a valid refresh token. Log in again."


def log_in(username: str = "vera") -> dict[str, Any]:
    pair: dict[str, Any] = APIClient().post("/api/auth/login", {"username": username, "password": PASSWORD}).json()
    return pair


def refresh(token: str) -> Any:
    return APIClient().post("/api/auth/refresh", {"refresh_token": token})


def me(pair: dict[str, Any]) -> Any:
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {pair['access_token']}").get("/api/auth/me")


def refused(answer: Any) -> str:
    """The sentence of a 401 that has the shape of every error."""
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "fields"}
    return str(error["message"])


# --- Renewing -----------------------------------------------------------------------------------


def test_a_refresh_token_is_exchanged_for_a_new_pair(viewer: User) -> None:
    old = log_in()
    answer = refresh(old["refresh_token"])
    new = answer.json()
    assert answer.status_code == 200
    assert set(new) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert new["refresh_token"] != old["refresh_token"]
    assert me(new).json()["username"] == "vera"


def test_the_old_access_token_lives_on_to_its_end(viewer: User) -> None:
    old = log_in()
    refresh(old["refresh_token"])
    assert me(old).status_code == 200


def test_a_chain_of_tokens_goes_on(viewer: User) -> None:
    pair = log_in()
    for _ in range(4):
        pair = refresh(pair["refresh_token"]).json()
    assert me(pair).status_code == 200
    assert TokenFamily.objects.count() == 1


def test_a_family_lives_seven_days_from_its_last_use(viewer: User) -> None:
    pair = log_in()
    TokenFamily.objects.update(expires_at=timezone.now() + timedelta(minutes=1))
    refresh(pair["refresh_token"])
    family = TokenFamily.objects.get()
    assert family.expires_at - family.used_at == timedelta(days=7)


def test_a_refresh_token_used_twice_ends_its_whole_family(viewer: User) -> None:
    first = log_in()
    second = refresh(first["refresh_token"]).json()
    assert refused(refresh(first["refresh_token"])) == USED
    assert refused(refresh(second["refresh_token"])) == ENDED
    assert refused(me(first)) == refused(me(second)) == ENDED


def test_a_second_use_is_audited_once_without_the_token(viewer: User) -> None:
    first = log_in()
    refresh(first["refresh_token"])
    for _ in range(3):
        refresh(first["refresh_token"])
    entry = AuditEntry.objects.get(action="token.reused")
    assert (entry.user, entry.target) == (viewer, str(TokenFamily.objects.get().pk))
    assert first["refresh_token"] not in str(entry.detail)


def test_a_second_use_leaves_other_logins_of_the_user_alone(viewer: User) -> None:
    other, first = log_in(), log_in()
    refresh(first["refresh_token"])
    refresh(first["refresh_token"])
    assert me(other).status_code == 200
    assert refresh(other["refresh_token"]).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_two_renewals_at_once_one_wins_and_the_family_ends() -> None:
    pair = tokens.log_in(make_user("vera", "ROLE_VIEWER"), RequestFactory().get("/"))
    start = threading.Barrier(2)
    outcomes: list[tokens.Pair | str] = []

    def renew() -> None:
        try:
            start.wait()
            outcomes.append(tokens.rotate(pair.refresh, RequestFactory().get("/")))
        except tokens.TokenRefused as error:
            outcomes.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=renew) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Pair", "str"]
    assert TokenFamily.objects.get().revoked_at is not None


def test_a_family_past_its_end_is_not_renewed(viewer: User) -> None:
    pair = log_in()
    TokenFamily.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert refused(refresh(pair["refresh_token"])) == ENDED


def test_an_expired_refresh_token_is_refused(viewer: User) -> None:
    claims = jwt.decode(log_in()["refresh_token"], settings.JWT_KEY, algorithms=["HS256"])
    old = jwt.encode({**claims, "exp": claims["iat"] - 60}, settings.JWT_KEY, "HS256")
    assert refused(refresh(old)) == INVALID


def test_an_access_token_renews_nothing(viewer: User) -> None:
    assert refused(refresh(log_in()["access_token"])) == INVALID


@pytest.mark.parametrize("text", ["x", "a.b.c", "ä" * 100, "." * 10_000])
def test_what_is_no_token_is_refused(db: None, text: str) -> None:
    assert refused(refresh(text)) == INVALID


@pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": None}, {"refresh_token": ["x"]}, []])
def test_a_request_without_a_token_is_400(db: None, body: Any) -> None:
    answer = APIClient().post("/api/auth/refresh", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid"


def test_who_sends_many_that_are_none_is_told_to_wait_and_nothing_is_looked_at(viewer: User) -> None:
    good = log_in()["refresh_token"]
    for _ in range(throttle.PER_ADDRESS):
        assert refresh("x.y.z").status_code == 401
    for token in ("x.y.z", good):
        answer = refresh(token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "throttled")
        assert int(answer["Retry-After"]) > 0
    assert AuditEntry.objects.filter(action=throttle.REFUSED).count() == throttle.PER_ADDRESS
    other = APIClient(REMOTE_ADDR="192.0.2.99").post("/api/auth/refresh", {"refresh_token": good})
    assert other.status_code == 200
    AuditEntry._base_manager.update(at=timezone.now() - throttle.WINDOW)
    assert refresh(other.json()["refresh_token"]).status_code == 200


def test_renewing_refuses_other_methods(db: None) -> None:
    assert APIClient().get("/api/auth/refresh").status_code == 405


# --- Logging out --------------------------------------------------------------------------------


def log_out(pair: dict[str, Any], token: str) -> Any:
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {pair['access_token']}")
    return client.post("/api/auth/logout", {"refresh_token": token})


def test_logging_out_ends_both_tokens(viewer: User) -> None:
    pair = log_in()
    answer = log_out(pair, pair["refresh_token"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert refused(me(pair)) == ENDED
    assert refused(refresh(pair["refresh_token"])) == ENDED


def test_logging_out_leaves_other_logins_alone(viewer: User) -> None:
    other, pair = log_in(), log_in()
    log_out(pair, pair["refresh_token"])
    assert me(other).status_code == 200


def test_logging_out_with_an_older_token_of_the_family_ends_it_too(viewer: User) -> None:
    pair = log_in()
    newer = refresh(pair["refresh_token"]).json()
    assert log_out(newer, pair["refresh_token"]).status_code == 204
    assert refused(me(newer)) == ENDED


def test_nobody_is_logged_out_by_somebody_else(viewer: User, operator: User) -> None:
    mine, theirs = log_in("vera"), log_in("otto")
    assert refused(log_out(mine, theirs["refresh_token"])) == "This refresh token is not yours."
    assert me(theirs).status_code == 200


def test_logging_out_needs_to_be_signed_in(viewer: User) -> None:
    pair = log_in()
    answer = APIClient().post("/api/auth/logout", {"refresh_token": pair["refresh_token"]})
    assert answer.status_code == 401
    assert me(pair).status_code == 200


def test_logging_out_without_a_token_is_400(viewer: User) -> None:
    pair = log_in()
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {pair['access_token']}")
    assert client.post("/api/auth/logout", {}).json()["error"]["fields"] == {
        "refresh_token": ["This field is required."]
    }
    assert client.get("/api/auth/logout").status_code == 405

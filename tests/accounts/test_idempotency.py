"""`Idempotency-Key`: a POST that is sent again is done once, and answered twice."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncClient, Client
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts import idempotency
from accounts.access import Permission
from accounts.models import ApiToken, AuditEntry, StoredAnswer, User
from jobs.periodic import forget_answers
from servers.models import Server
from servers.viewsets import ServerViewSet
from tests.conftest import PASSWORD, api_of, make_user

WEB = {"name": "web-9", "address": "192.0.2.9"}


def add(client: APIClient, key: str = "k-1", *, path: str = "/api/servers", **changes: Any) -> Any:
    return client.post(path, WEB | changes, headers={"Idempotency-Key": key})


def error_of(answer: Any) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "fields"}
    return answer.status_code, error["code"]


# --- Done once ------------------------------------------------------------------------------------


def test_a_repeated_request_is_done_once_and_answered_alike(api_admin: APIClient) -> None:
    first, second = add(api_admin), add(api_admin)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first["Content-Type"] == second["Content-Type"] == "application/json"
    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    assert Server.objects.count() == 1
    assert AuditEntry.objects.filter(action="server.added").count() == 1


def test_without_a_key_everything_is_as_before(api_admin: APIClient) -> None:
    assert api_admin.post("/api/servers", WEB).status_code == 201
    assert api_admin.post("/api/servers", WEB).status_code == 400
    assert not StoredAnswer.objects.exists()


def test_another_key_is_another_request(api_admin: APIClient) -> None:
    add(api_admin)
    assert add(api_admin, "K-1", name="web-10").status_code == 201  # a key is taken letter by letter
    assert Server.objects.count() == 2


def test_a_key_may_stand_in_quotes(api_admin: APIClient) -> None:
    add(api_admin, '"k-1"')
    assert add(api_admin, "k-1")["Idempotency-Replayed"] == "true"


def test_other_methods_do_not_heed_it(api_admin: APIClient, server: Server) -> None:
    for name in ("one", "two"):
        api_admin.patch(f"/api/servers/{server.pk}", {"name": name}, headers={"Idempotency-Key": "k"})
    server.refresh_from_db()
    assert server.name == "two"
    assert not StoredAnswer.objects.exists()


def test_it_works_in_a_session_too(admin: User) -> None:
    client = Client()
    client.force_login(admin)
    answers = [
        client.post("/api/servers", json.dumps(WEB), "application/json", headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert Server.objects.count() == 1


def test_it_works_in_the_asynchronous_web_process(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the view writes and its answer are one transaction there too."""
    depth: list[bool] = []
    create = ServerViewSet.create

    def watched(self: ServerViewSet, request: Any, *args: Any, **kwargs: Any) -> Response:
        depth.append(len(connection.savepoint_ids) > 0)
        return create(self, request, *args, **kwargs)

    monkeypatch.setattr(ServerViewSet, "create", watched)
    client = AsyncClient()
    client.force_login(admin)
    headers = {"Idempotency-Key": "k"}
    answers = [
        async_to_sync(client.post)("/api/servers", json.dumps(WEB), "application/json", headers=headers)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert depth == [True]


# --- Another request, the same key ----------------------------------------------------------------


def test_another_body_or_path_with_the_same_key_is_422(api_admin: APIClient) -> None:
    add(api_admin)
    for answer in (
        add(api_admin, name="web-10"), add(api_admin, path="/api/plans"), add(api_admin, path="/api/servers?x=1"),
    ):  # fmt: skip
        assert error_of(answer) == (422, "idempotency_key_reused")
    assert Server.objects.count() == 1


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "é", "a\tb"])
def test_what_is_no_key_is_400(api_admin: APIClient, key: str) -> None:
    assert error_of(add(api_admin, key)) == (400, "invalid")
    assert not Server.objects.exists()


# --- Whose key it is ------------------------------------------------------------------------------


def test_the_same_key_of_another_user_is_another_key(api_admin: APIClient) -> None:
    add(api_admin)
    other = add(api_of(make_user("eva", "ROLE_ADMIN")))
    assert other.status_code == 400  # the name is taken
    assert "Idempotency-Replayed" not in other


def test_two_logins_of_one_user_share_their_keys(admin: User) -> None:
    add(api_of(admin))
    assert add(api_of(admin))["Idempotency-Replayed"] == "true"


def test_a_narrower_token_is_not_told_what_a_wider_one_was(admin: User, api_admin: APIClient) -> None:
    add(api_admin)
    _, text = ApiToken.make(admin, name="x", permissions=[Permission.LOGS_VIEW], expires_at=None)
    assert add(APIClient(HTTP_AUTHORIZATION=f"Bearer {text}")).status_code == 403


def test_nobody_and_who_has_no_token_any_more_get_no_answer(admin: User, api_admin: APIClient) -> None:
    add(api_admin)
    User.objects.filter(pk=admin.pk).update(is_active=False)
    assert add(api_admin).status_code == 401
    assert add(APIClient()).status_code == 401


# --- What is not kept -----------------------------------------------------------------------------


def test_a_refusal_leaves_the_key_free(api_admin: APIClient, api_viewer: APIClient, server: Server) -> None:
    assert add(api_admin, name="").status_code == 400
    assert add(api_admin).status_code == 201
    assert add(api_viewer).status_code == 403
    assert StoredAnswer.objects.count() == 1


def test_a_mistake_of_ours_is_undone_and_leaves_the_key_free(
    api_admin: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ServerViewSet, serializer: Any) -> None:
        serializer.save()
        raise RuntimeError

    api_admin.raise_request_exception = False
    with monkeypatch.context() as patch:
        patch.setattr(ServerViewSet, "perform_create", fail)
        assert add(api_admin).status_code == 500
    assert not Server.objects.exists()
    assert add(api_admin).status_code == 201


def test_answers_with_secrets_are_never_kept(api_admin: APIClient, admin: User) -> None:
    login = {"username": "ada", "password": PASSWORD}
    headers = {"Idempotency-Key": "k"}
    for _ in range(2):
        pair = api_admin.post("/api/auth/login", login, headers=headers).json()
        api_admin.post("/api/auth/refresh", {"refresh_token": pair["refresh_token"]}, headers=headers)
        body = {"name": "x", "permissions": [Permission.LOGS_VIEW]}
        assert api_admin.post("/api/tokens", body, headers=headers).status_code == 201
    assert ApiToken.objects.count() == 2
    assert not StoredAnswer.objects.exists()


def test_nothing_sent_is_kept(api_admin: APIClient) -> None:
    body = {"username": "nina", "password": "a good password 7", "roles": []}
    assert api_admin.post("/api/users", body, headers={"Idempotency-Key": "key-of-mine"}).status_code == 201
    kept = str(StoredAnswer.objects.values().get())
    assert "a good password 7" not in kept
    assert "key-of-mine" not in kept


# --- While the first one is still being answered --------------------------------------------------


def test_meanwhile_it_is_409(api_admin: APIClient, admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    create = ServerViewSet.create
    seen: list[Any] = []

    def slow(self: ServerViewSet, request: Any, *args: Any, **kwargs: Any) -> Response:
        if not seen:
            seen.append(None)
            seen[0] = add(api_admin)
        return create(self, request, *args, **kwargs)

    monkeypatch.setattr(ServerViewSet, "create", slow)
    assert add(api_admin).status_code == 201
    assert error_of(seen[0]) == (409, "idempotency_key_in_use")
    assert Server.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_done() -> None:
    client = api_of(make_user("ada", "ROLE_ADMIN"))
    token = client._credentials["HTTP_AUTHORIZATION"]  # type: ignore[attr-defined]
    start, outcomes = threading.Barrier(4), []

    def send() -> None:
        try:
            start.wait()
            outcomes.append(add(APIClient(HTTP_AUTHORIZATION=token)).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 201 in outcomes
    assert set(outcomes) <= {201, 409}
    assert Server.objects.count() == 1
    assert AuditEntry.objects.filter(action="server.added").count() == 1


def test_a_key_of_a_process_that_died_is_free_after_a_while(api_admin: APIClient) -> None:
    add(api_admin)
    Server.objects.all().delete()
    StoredAnswer.objects.update(status=None)
    assert add(api_admin).status_code == 409
    StoredAnswer.objects.update(created_at=timezone.now() - timedelta(seconds=idempotency.ANSWER_SECONDS + 1))
    assert add(api_admin).status_code == 201


def test_who_was_so_slow_that_a_later_one_came_first_is_undone(
    api_admin: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ServerViewSet.create

    def very_slow(self: ServerViewSet, request: Any, *args: Any, **kwargs: Any) -> Response:
        StoredAnswer.objects.all().delete()  # as the later one does with a stale row
        return create(self, request, *args, **kwargs)

    monkeypatch.setattr(ServerViewSet, "create", very_slow)
    assert error_of(add(api_admin)) == (409, "idempotency_key_in_use")
    assert not Server.objects.exists()


# --- For a day ------------------------------------------------------------------------------------


def age(hours: float) -> None:
    StoredAnswer.objects.update(created_at=timezone.now() - timedelta(hours=hours))


def test_an_answer_is_kept_for_a_day(api_admin: APIClient) -> None:
    add(api_admin)
    age(23.9)
    assert add(api_admin)["Idempotency-Replayed"] == "true"
    age(24.1)
    assert add(api_admin).status_code == 400  # done again: the name is taken


def test_old_answers_are_forgotten(api_admin: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "FORGOTTEN_AT_ONCE", 2)
    for number in range(5):
        add(api_admin, f"old-{number}", name=f"old-{number}")
    age(24.1)
    add(api_admin, "young", name="young")
    forget_answers()
    assert json.loads(bytes(StoredAnswer.objects.get().body))["name"] == "young"


def test_a_request_with_a_key_costs_few_queries(api_admin: APIClient, django_assert_max_num_queries: Any) -> None:
    add(api_admin)
    with django_assert_max_num_queries(3):  # the login with its user, what is stale, the answer
        add(api_admin)

"""What nobody should send, sent to every route: each answers with a sentence in the one shape, and nothing is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from django.conf import settings
from django.test import RequestFactory
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import tokens
from accounts.models import ApiToken, User
from tests.conftest import PASSWORD, make_user
from tests.phpborg.test_api_contract import CONTRACT, PUBLIC, Row, answer_to, asked
from tests.phpborg.things import filled

JSON = "application/json"
WITH_BODY = [row for row in CONTRACT if row.body is not None]
BY_CURSOR = ("/api/servers/{server}/backups", "/api/backups", "/api/jobs", "/api/logs")
PATHS_OF_LISTS = (
    *BY_CURSOR, "/api/servers", "/api/archives", "/api/repositories", "/api/storage-pools", "/api/plans",
    "/api/sources", "/api/users", "/api/roles", "/api/tokens", "/api/stats/efficiency",
)  # fmt: skip
LISTS = [row for row in CONTRACT if row.method == "get" and row.path in PATHS_OF_LISTS]
WITH_ID = [row for row in CONTRACT if "{id}" in row.route]
READ = [row for row in CONTRACT if row.method == "get" and row.path not in ("/api/schema", "/api/docs", "/api/auth/me")]


def name_of(value: Any) -> str:
    return f"{value.method} {value.path}" if isinstance(value, Row) else ""


def wrong(answer: Any, status: int) -> str:
    """What is not as it should be of a refusal; "" for nothing."""
    if answer.status_code != status:
        return f"{answer.status_code} {b'' if answer.streaming else answer.content[:200]!r}"
    error = answer.json().get("error", {})
    return "" if set(error) == {"code", "message", "fields"} and error["message"] else f"no error: {error}"


def all_wrong(answers: Iterator[tuple[Any, Any, int]]) -> list[Any]:
    return [(what, why) for what, answer, status in answers if (why := wrong(answer, status))]


# --- Bodies ---------------------------------------------------------------------------------------


def sent(client: APIClient, row: Row, things: dict[str, Any], body: bytes, kind: str = JSON) -> Any:
    client.raise_request_exception = False
    return client.generic(row.method.upper(), filled(row.path, things), body, content_type=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400), (b"[{}]", 400), (b'"x"', 400), (b"7", 400), (b"null", 400), (b"{", 400), (b"\xff", 400),
        (b'{"name": NaN}', 400), (b'{"name": -Infinity}', 400), (b'{"name": 1' + b"0" * 5000 + b"}", 400),
        (b'{"a":' * 100_000, 400), (b"[" * 5000 + b"]" * 5000, 400),
        (b'{"name": "' + b"x" * 10_000_000 + b'"}', 413), (b" " * 10_000_000, 413),
    ],
    ids=["a list", "a list of one", "a text", "a number", "null", "half", "no text", "NaN", "infinity", "a huge number",
         "deep", "deep lists", "ten megabytes", "ten megabytes of nothing"],
)  # fmt: skip
def test_what_is_no_object_of_some_size_is_refused(
    api_admin: APIClient, things: dict[str, Any], body: bytes, status: int
) -> None:
    assert all_wrong((name_of(row), sent(api_admin, row, things, body), status) for row in WITH_BODY) == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x/y", "x"])
def test_what_is_not_sent_as_json_is_refused(api_admin: APIClient, things: dict[str, Any], kind: str) -> None:
    answers = ((name_of(row), sent(api_admin, row, things, b"name=x", kind), 415) for row in WITH_BODY)
    assert all_wrong(answers) == []


def test_a_field_that_there_is_not_is_refused_by_its_name(api_admin: APIClient, things: dict[str, Any]) -> None:
    """Red by DRF's own serializers, which pass over it."""
    answers = [
        (row, asked(api_admin, row.method, filled(row.path, things), {**filled(row.body, things), "nonsense": 1}))
        for row in WITH_BODY
    ]
    assert all_wrong((name_of(row), answer, 400) for row, answer in answers) == []
    assert [name_of(row) for row, answer in answers if list(answer.json()["error"]["fields"]) != ["nonsense"]] == []


def test_a_body_full_of_mistakes_is_not_answered_with_all_of_them(api_admin: APIClient) -> None:
    """Red without MOST_TOLD: ten times what was sent."""
    unknown = api_admin.post("/api/servers", {f"x{number}": 1 for number in range(1_000)})
    tags = api_admin.post("/api/servers", {"tags": [1] * 1_000})
    assert (unknown.status_code, tags.status_code) == (400, 400)
    assert len(unknown.json()["error"]["fields"]) < 30
    assert len(tags.json()["error"]["fields"]["tags"]) == 20


def of_another_type(value: Any) -> list[Any]:
    """What JSON has beside this value; what DRF's own fields would take for it stands first."""
    if isinstance(value, bool):
        return ["true", 1, "yes", [], {}]
    if isinstance(value, int):
        return [str(value), float(value), True, [], {}]
    if isinstance(value, str):
        return [7, True, [value], {}]
    if isinstance(value, list):
        return [*value, {}, 7, *([[wrong] for wrong in of_another_type(value[0])] if value else [])]
    return ["{}", [], 7, True]


def test_a_value_of_another_type_is_refused_at_its_field(api_admin: APIClient, things: dict[str, Any]) -> None:
    """Red by DRF's own serializers, which take "22" for 22, 1 for true and 7 for "7"."""
    wrong = []
    for row in WITH_BODY:
        body = filled(row.body, things)
        for field, value in body.items():
            for other in of_another_type(str(value) if isinstance(value, UUID) else value):
                answer = asked(api_admin, row.method, filled(row.path, things), {**body, field: other})
                if answer.status_code != 400 or field not in answer.json()["error"]["fields"]:
                    wrong.append((name_of(row), field, other, answer.status_code, answer.content[:200]))
    assert wrong == []


# --- Addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    ["abc", "-1", "0", "1.0", "1_0", "+1", "0x1", "%20", "%C2%B9", "%D9%A1", "%00", "null", str(2**63), "9" * 400,
     "6f0c7e0e-7d3c-4f7b-9b57-0a3a5a2f4a11", "6F0C7E0E-7D3C-4F7B-9B57-0A3A5A2F4A11", "../servers", "1;2", "'"],
)  # fmt: skip
def test_an_id_of_nothing_is_404(api_admin: APIClient, things: dict[str, Any], number: str) -> None:
    answers = (
        (name_of(row), asked(api_admin, row.method, row.route.replace("{id}", number), filled(row.body, things)), 404)
        for row in WITH_ID
    )
    assert all_wrong(answers) == []


@pytest.mark.parametrize("query", ["nonsense=1", "Search=x", "search[]=x", "server__in=1", "limit=5", "offset=5"])
def test_a_filter_that_there_is_not_is_refused(api_admin: APIClient, things: dict[str, Any], query: str) -> None:
    answers = []
    for row in READ:
        path = filled(row.path, things)
        answers.append(
            (name_of(row), asked(api_admin, "get", f"{path}{'&' if '?' in path else '?'}{query}", None), 400)
        )
    assert all_wrong(iter(answers)) == []


@pytest.mark.parametrize("size", ["0", "-1", "501", "x", "1.5", "", "1e1", "%D9%A1", str(2**63), "9" * 5000])
def test_a_page_of_a_size_that_cannot_be_is_refused(api_admin: APIClient, things: dict[str, Any], size: str) -> None:
    answers = ((row.path, asked(api_admin, "get", f"{filled(row.path, things)}?page_size={size}", None), 400)
               for row in LISTS)  # fmt: skip
    assert all_wrong(answers) == []


@pytest.mark.parametrize(
    ("page", "status"), [("0", 400), ("-1", 400), ("x", 400), ("1.5", 400), ("last", 400), ("", 400), (str(2**63), 400),
                         ("1000000", 404)],
)  # fmt: skip
def test_a_page_that_there_is_not_is_refused(
    api_admin: APIClient, things: dict[str, Any], page: str, status: int
) -> None:
    answers = (
        (row.path, asked(api_admin, "get", f"{filled(row.path, things)}?page={page}", None),
         400 if row.path in BY_CURSOR else status)
        for row in LISTS
    )  # fmt: skip
    assert all_wrong(answers) == []


@pytest.mark.parametrize("ordering", ["nonsense", "", "-", "--name", "name,id", "pk", "password", "server__name", "?"])
def test_an_order_that_there_is_not_is_refused(api_admin: APIClient, things: dict[str, Any], ordering: str) -> None:
    answers = ((row.path, asked(api_admin, "get", f"{filled(row.path, things)}?ordering={ordering}", None), 400)
               for row in LISTS)  # fmt: skip
    assert all_wrong(answers) == []


def test_every_filter_refuses_what_it_cannot_be(api_admin: APIClient, things: dict[str, Any]) -> None:
    """As the schema describes them: what is a number, a flag, a time, a choice."""
    described = api_admin.get("/api/schema", headers={"Accept": "application/json"}).json()["paths"]
    operations = {re.sub(r"\{\w+\}", "{id}", path): methods.get("get", {}) for path, methods in described.items()}
    queries = [
        (filled(row.path.partition("?")[0], things), f"{parameter['name']}={value}")
        for row in READ
        for parameter in operations[row.route].get("parameters", [])
        if parameter["in"] == "query"
        for value in never(parameter["schema"])
    ]
    assert len(queries) > 100
    assert (
        all_wrong(((path, query), asked(api_admin, "get", f"{path}?{query}", None), 400) for path, query in queries)
        == []
    )


def never(schema: dict[str, Any]) -> list[str]:
    """Texts that no value of this schema can be."""
    if schema.get("enum") or schema.get("items", {}).get("enum"):
        return ["nonsense", "", "%00"]
    if schema.get("type") == "integer":
        return ["x", "1.5", "1_0", "NaN", "-1", "", "%00", str(2**63), "9" * 5000]
    if schema.get("type") == "boolean":
        return ["perhaps", "2", "", "%00"]
    return {"uuid": ["x", "7", "", "%00"], "date-time": ["x", "2026-13-01T00:00:00Z", "", "%00"]}.get(
        schema.get("format", ""), []
    )


# --- Tokens ---------------------------------------------------------------------------------------


def bearer(token: str) -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {token}")


def ada(**changes: Any) -> User:
    """An administrator, as she is in the database."""
    user = make_user("eve", "ROLE_ADMIN")
    User.objects.filter(pk=user.pk).update(**changes)
    return user


def pair() -> tokens.Pair:
    return tokens.log_in(ada(), RequestFactory().get("/"))


def claims() -> dict[str, Any]:
    return jwt.decode(pair().access, settings.JWT_KEY, algorithms=["HS256"])


def expired() -> str:
    return jwt.encode({**claims(), "exp": timezone.now() - timedelta(seconds=11)}, settings.JWT_KEY, "HS256")


def of_tomorrow() -> str:
    return jwt.encode({**claims(), "iat": timezone.now() + timedelta(days=1)}, settings.JWT_KEY, "HS256")


def unsigned() -> str:
    return jwt.encode(claims(), "", "none")


def of_another_key() -> str:
    return jwt.encode(claims(), "another key that is long enough for it", "HS256")


def of_another_algorithm() -> str:
    return jwt.encode(claims(), settings.JWT_KEY * 2, "HS512")


def of_another_person() -> str:
    return jwt.encode({**claims(), "sub": str(make_user("mallory", "ROLE_ADMIN").pk)}, settings.JWT_KEY, "HS256")


def of_somebody_deleted() -> str:
    made = pair()
    made.user.delete()
    return made.access


def of_somebody_switched_off() -> str:
    made = pair()
    User.objects.filter(pk=made.user.pk).update(is_active=False)
    return made.access


def of_an_old_password() -> str:
    made = pair()
    made.user.set_password(PASSWORD + "!")
    made.user.save()
    return made.access


def of_a_login_that_has_ended() -> str:
    made = pair()
    tokens.log_out(made.refresh, made.user)
    return made.access


def a_refresh_token() -> str:
    return pair().refresh


def api_token(**changes: Any) -> str:
    made, text = ApiToken.make(ada(), name="x", permissions=["backup.view"], expires_at=None)
    ApiToken.objects.filter(pk=made.pk).update(**changes)
    return text


def an_api_token_that_has_expired() -> str:
    return api_token(expires_at=timezone.now() - timedelta(seconds=1))


def an_api_token_that_was_revoked() -> str:
    return api_token(revoked_at=timezone.now())


def an_api_token_of_somebody_switched_off() -> str:
    text = api_token()
    User.objects.filter(username="eve").update(is_active=False)
    return text


def half_an_api_token() -> str:
    return api_token()[:-1]


def nonsense() -> str:
    return "x.y.z"


@pytest.mark.parametrize(
    "token",
    [
        expired, of_tomorrow, unsigned, of_another_key, of_another_algorithm, of_another_person, of_somebody_deleted,
        of_somebody_switched_off, of_an_old_password, of_a_login_that_has_ended, a_refresh_token,
        an_api_token_that_has_expired, an_api_token_that_was_revoked, an_api_token_of_somebody_switched_off,
        half_an_api_token, nonsense,
    ],
    ids=lambda made: made.__name__,
)  # fmt: skip
def test_a_token_that_is_none_opens_nothing(things: dict[str, Any], token: Any) -> None:
    client = bearer(token())
    answers = ((name_of(row), answer_to(row, client, things), 401) for row in CONTRACT if row.needs != PUBLIC)
    assert all_wrong(answers) == []

"""The one shape of every error below /api, whatever is sent."""

import json
from typing import Any

import pytest
from django.http import Http404
from django.test import Client
from rest_framework import exceptions
from rest_framework.test import APIClient
from rest_framework_simplejwt.exceptions import InvalidToken

from accounts.errors import Unavailable
from jobs.runner import Refused
from jobs.viewsets import JobViewSet
from phpborg.errors import answer_error
from tests.conftest import PASSWORD
from tests.jobs.conftest import row

JSON = "application/json"
MALFORMED = [
    b"{",
    b"",
    b"nonsense",
    b"{'type': 1}",
    b'{"type": NaN}',
    b"\xff\xfe\x00",
    b'{"type": "\xff"}',
    b'{"a": 1,}',
]


def error_of(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == JSON
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "fields"}
    assert body["error"]["code"] == code
    assert isinstance(body["error"]["message"], str)
    assert body["error"]["message"]
    for word in ("Traceback", "ErrorDetail", "<html", "{'"):
        assert word not in body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error


# --- By status ------------------------------------------------------------------------------------


def test_400_names_the_fields(api_admin: APIClient) -> None:
    error = error_of(api_admin.post("/api/jobs", {"subject": "x"}), 400, "invalid")
    assert error["message"] == "Some of what was sent is not right."
    assert error["fields"] == {"type": ["This field is required."], "subject": ["This must be a whole number."]}


def test_400_puts_what_belongs_to_no_field_under_an_empty_name(api_admin: APIClient) -> None:
    assert list(error_of(api_admin.post("/api/jobs", []), 400, "invalid")["fields"]) == [""]


def test_401_says_how_to_get_in(db: None) -> None:
    answer = APIClient().get("/api/jobs")
    error_of(answer, 401, "not_authenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_401_of_a_broken_token_says_how_to_get_in_too(db: None) -> None:
    answer = APIClient(HTTP_AUTHORIZATION="Bearer x.y.z").get("/api/jobs")
    error_of(answer, 401, "token_not_valid")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_403(api_viewer: APIClient) -> None:
    assert error_of(api_viewer.delete(f"/api/jobs/{row().pk}"), 403, "permission_denied")["fields"] == {}


@pytest.mark.parametrize(
    "path",
    ["/api/", "/api/nothing", "/api/jobs/", "/api/jobs/7", "/api/jobs/7/x", "/api/x%0Ay", "/api/%00", "/api/../jobs"],
)
def test_404_of_a_path_that_no_route_knows(api_viewer: APIClient, path: str) -> None:
    error_of(api_viewer.get(path), 404, "not_found")


def test_404_is_json_for_nobody_too(client: Client, db: None) -> None:
    error_of(client.get("/api/nothing"), 404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("put", "/api/jobs"), ("post", "/api/logs"), ("get", "/api/auth/logout")])
def test_405_names_what_is_allowed(api_viewer: APIClient, method: str, path: str) -> None:
    answer = getattr(api_viewer, method)(path)
    error_of(answer, 405, "method_not_allowed")
    assert "OPTIONS" in answer["Allow"]


def test_405_is_not_told_to_nobody(db: None) -> None:
    error_of(APIClient().put("/api/jobs"), 401, "not_authenticated")


def test_406(api_viewer: APIClient) -> None:
    error_of(api_viewer.get("/api/jobs", headers={"Accept": "text/html"}), 406, "not_acceptable")


def test_409(api_operator: APIClient) -> None:
    error_of(api_operator.delete(f"/api/jobs/{row(status='failed').pk}"), 409, "conflict")


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/xml", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
)
def test_415(api_operator: APIClient, kind: str) -> None:
    answer = api_operator.post("/api/jobs", b"type=probe", content_type=kind)
    error_of(answer, 415, "unsupported_media_type")


def test_429_says_when_to_come_back(db: None) -> None:
    for _ in range(10):
        APIClient().post("/api/auth/login", {"username": "vera", "password": "wrong"})
    answer = APIClient().post("/api/auth/login", {"username": "vera", "password": PASSWORD})
    error_of(answer, 429, "throttled")
    assert int(answer["Retry-After"]) > 0


def test_500_tells_nothing_of_what_went_wrong(api_viewer: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: JobViewSet) -> Any:
        raise RuntimeError("secret details")

    monkeypatch.setattr(JobViewSet, "get_queryset", broken)
    api_viewer.raise_request_exception = False
    error = error_of(api_viewer.get("/api/jobs"), 500, "error")
    assert "secret" not in error["message"]


# --- By error -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (Refused("It rains."), 409, {"code": "conflict", "message": "It rains.", "fields": {}}),
        (Unavailable("No worker."), 503, {"code": "unavailable", "message": "No worker.", "fields": {}}),
        (
            Http404(), 404,
            {"code": "not_found", "message": "There is nothing here, or you may not see it.", "fields": {}},
        ),
        (
            exceptions.NotFound("No such folder."), 404,
            {"code": "not_found", "message": "No such folder.", "fields": {}},
        ),
        (
            exceptions.ValidationError(["a", "b"]), 400,
            {"code": "invalid", "message": "Some of what was sent is not right.", "fields": {"": ["a", "b"]}},
        ),
        (
            InvalidToken({"detail": "x", "messages": [{"token_class": "AccessToken"}]}), 401,
            {"code": "token_not_valid", "message": "This token is not valid, or has expired.", "fields": {}},
        ),
        (
            OverflowError("date value out of range"), 400,
            {
                "code": "parse_error", "fields": {},
                "message": "A number, a time or a nesting in it is beyond what phpBorg takes.",
            },
        ),
        (
            exceptions.ValidationError({"\ud800": ["“\ud800” is odd."]}), 400,
            {
                "code": "invalid", "message": "Some of what was sent is not right.",
                "fields": {"\\ud800": ["“\\ud800” is odd."]},
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_an_error_becomes_its_status_and_a_sentence(error: Exception, status: int, body: dict[str, Any]) -> None:
    answer = answer_error(error, {})
    assert answer is not None
    assert (answer.status_code, answer.data) == (status, {"error": body})


def test_a_mistake_of_ours_is_left_to_django() -> None:
    assert answer_error(RuntimeError(), {}) is None


# --- Hostile bodies -------------------------------------------------------------------------------

ROUTES = ["/api/jobs", "/api/auth/login", "/api/auth/refresh", "/api/servers"]


def send(client: APIClient, path: str, body: bytes) -> Any:
    client.raise_request_exception = False
    return client.post(path, body, content_type=JSON)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", MALFORMED)
def test_what_is_no_json_is_400(api_admin: APIClient, path: str, body: bytes) -> None:
    answer = send(api_admin, path, body)
    assert answer.status_code == 400
    error_of(answer, 400, "invalid" if not body else "parse_error")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5000 + b"]" * 5000])
def test_a_nesting_without_end_is_400(api_admin: APIClient, path: str, body: bytes) -> None:
    error_of(send(api_admin, path, body), 400, "parse_error")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", [b"null", b"1", b'"x"', b"[]", b"[{}]", b"true"])
def test_json_of_another_shape_is_400(api_admin: APIClient, path: str, body: bytes) -> None:
    error_of(send(api_admin, path, body), 400, "invalid")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("text", ["x" * 10_000, "\0", "\ud800", "\udfff x", "\U0001f600" * 3_000, " ", "<script>"])
def test_odd_texts_everywhere_are_no_mistake_of_ours(api_admin: APIClient, path: str, text: str) -> None:
    names = ("type", "subject", "parameters", "username", "password", "refresh_token", "name", "address", text)
    answer = send(api_admin, path, json.dumps(dict.fromkeys(names, text)).encode())
    assert answer.status_code in (400, 401), answer.content
    error_of(answer, answer.status_code, answer.json()["error"]["code"])


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_of_ten_megabytes_is_refused(api_admin: APIClient, path: str) -> None:
    body = json.dumps({"type": "x" * 10_000_000}).encode()
    error_of(send(api_admin, path, body), 413, "too_large")


def test_a_body_of_ten_megabytes_is_refused_on_a_page_too(as_admin: Client) -> None:
    answer = as_admin.post(
        "/profile", {"first_name": "x" * 10_000_000}, content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "zlib", "rot13", "base64", "nonsense", "\\x00"])
def test_another_charset_is_no_mistake_of_ours(api_admin: APIClient, charset: str) -> None:
    api_admin.raise_request_exception = False
    answer = api_admin.post("/api/jobs", b'{"type": "x"}', content_type=f"{JSON}; charset={charset}")
    assert answer.status_code in (400, 415)
    error_of(answer, answer.status_code, answer.json()["error"]["code"])

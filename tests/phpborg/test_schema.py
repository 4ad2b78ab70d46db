"""The API's schema: what it says of every operation, and whether the API keeps to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from jsonschema import Draft202012Validator, FormatChecker
from rest_framework.test import APIClient

from phpborg.schema import examples
from tests.phpborg.test_api_contract import CONTRACT, NAMES, Row, answer_to, asked
from tests.phpborg.things import filled

DESCRIBED = [row for row in CONTRACT if NAMES[row.route] not in ("api_schema", "api_docs")]
JSON = "application/json"
Operation = dict[str, Any]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Made without a warning."""
    file = tmp_path_factory.mktemp("schema") / "schema.json"
    call_command("spectacular", validate=True, fail_on_warn=True, format="openapi-json", file=str(file))
    made: dict[str, Any] = json.loads(file.read_text())
    assert made["openapi"].startswith("3.1")
    return made


@pytest.fixture(scope="module")
def operations(schema: dict[str, Any]) -> dict[tuple[str, str], Operation]:
    """By method and route, as a row of the contract has them."""
    return {
        (method, re.sub(r"\{\w+\}", "{id}", path)): {
            **operation,
            "responses": {status: meant(schema, answer) for status, answer in operation["responses"].items()},
        }
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def meant(schema: dict[str, Any], answer: Any) -> Any:
    """What a reference to one of the errors stands for."""
    name = answer.get("$ref", "").rpartition("/")[2]
    return schema["components"]["responses"][name] if name else answer


def objections(schema: dict[str, Any], part: Any, value: Any) -> list[str]:
    """Why `value` is not what this part of the schema describes."""
    whole = {"components": schema["components"], **part}
    found = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def test_every_route_and_method_is_described(operations: dict[tuple[str, str], Operation]) -> None:
    assert set(operations) == {(row.method, row.route) for row in DESCRIBED}


def test_every_operation_says_what_it_does_and_who_may(operations: dict[tuple[str, str], Operation]) -> None:
    by_type = {("post", "/api/jobs"), ("post", "/api/jobs/{id}/retry"), ("post", "/api/jobs/{id}/now")}
    for row in DESCRIBED:
        operation = operations[row.method, row.route]
        needs = "signed in" if (row.method, row.route) in by_type else str(row.needs)
        assert operation["summary"] and operation["x-permission"] == needs, row
        told = {"public": "For everybody.", "signed in": "For whoever is signed in."}.get(needs, f"`{needs}`")
        if (row.method, row.route) in by_type:
            told = "permission of the job's type"
        assert told in operation["description"], row


def test_the_schema_says_what_is_public_and_what_needs_a_token(schema: dict[str, Any]) -> None:
    assert schema["components"]["securitySchemes"]["bearer"]["bearerFormat"] == "JWT"
    assert {"bearer": []} in schema["paths"]["/api/jobs"]["get"]["security"]
    assert {"bearer": []} not in schema["paths"]["/api/auth/login"]["post"].get("security", [])


def test_the_schema_says_where_a_key_makes_a_request_safe_to_repeat(schema: dict[str, Any]) -> None:
    paths = schema["paths"]
    heeding = {
        path
        for path, methods in paths.items()
        if "Idempotency-Key" in {parameter["name"] for parameter in methods.get("post", {}).get("parameters", [])}
    }
    secret = {"/api/auth/login", "/api/auth/refresh", "/api/auth/logout", "/api/tokens"}
    assert heeding == {path for path, methods in paths.items() if "post" in methods} - secret


def contents(operation: Operation) -> Iterator[tuple[str, str, Any]]:
    """Request and answers: what they are, their type, and what is said of them."""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", kind, content
    for status, answer in operation["responses"].items():
        for kind, content in answer.get("content", {}).items():
            yield status, kind, content


def test_every_operation_shows_an_example(operations: dict[tuple[str, str], Operation]) -> None:
    """Missing: `make examples`."""
    missing = [
        (*name, what)
        for name, operation in operations.items()
        for what, kind, content in contents(operation)
        if kind != "application/octet-stream" and not content.get("examples")
    ]
    assert missing == []


def test_every_example_is_as_the_schema_says(
    schema: dict[str, Any], operations: dict[tuple[str, str], Operation]
) -> None:
    """Red after a field was added: `make examples`."""
    wrong = [
        (*name, what, why)
        for name, operation in operations.items()
        for what, kind, content in contents(operation)
        for example in content.get("examples", {}).values()
        if kind == JSON and (why := objections(schema, content["schema"], example["value"]))
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_no_example_is_of_something_else(operations: dict[tuple[str, str], Operation]) -> None:
    known = {f"{method.upper()} {route}" for method, route in operations} | {"GET /api/schema", "GET /api/docs"}
    assert set(examples()) == known
    assert not [text for text in ("/tmp/", "/root", "eyJ") if text in json.dumps(examples())]


def as_described(schema: dict[str, Any], operation: Operation, answer: Any) -> list[str]:
    """What of an answer the schema does not know."""
    described = operation["responses"].get(str(answer.status_code))
    if described is None:
        return [f"{answer.status_code} is not described: {b'' if answer.streaming else answer.content[:200]!r}"]
    if "content" not in described:
        return [] if not answer.content else ["no content is described"]
    kind = answer["Content-Type"].partition(";")[0]
    if kind not in described["content"]:
        return [f"{kind} is not described"]
    return objections(schema, described["content"][kind]["schema"], answer.json()) if kind == JSON else []


@pytest.mark.parametrize("who", ["api_admin", "api_viewer", "nobody"])
def test_every_answer_of_the_contract_is_as_the_schema_says(
    who: str,
    schema: dict[str, Any],
    operations: dict[tuple[str, str], Operation],
    things: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    client: APIClient = APIClient() if who == "nobody" else request.getfixturevalue(who)
    wrong = [
        (row.method, row.path, why)
        for row in DESCRIBED
        if (why := as_described(schema, operations[row.method, row.route], answer_to(row, client, things)))
    ]
    assert not wrong, "\n".join(map(str, wrong))


def bad_requests(row: Row, things: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Addresses and bodies that are refused, or of nothing."""
    path = filled(row.path, things)
    yield f"{path}{'&' if '?' in path else '?'}nonsense=1", filled(row.body, things)
    yield path.replace(f"/{things['server']}", "/999999"), {}
    yield path, {"nonsense": 1}


def test_every_refusal_is_described_too(
    schema: dict[str, Any], operations: dict[tuple[str, str], Operation], things: dict[str, Any], api_admin: APIClient
) -> None:
    wrong = []
    for row in DESCRIBED:
        for path, body in bad_requests(row, things):
            answer = asked(api_admin, row.method, path, body)
            if why := as_described(schema, operations[row.method, row.route], answer):
                wrong.append((row.method, path, why))
    assert not wrong, "\n".join(map(str, wrong))


def test_what_is_taken_is_described_as_strictly_as_it_is_read(schema: dict[str, Any]) -> None:
    bodies = {name: part for name, part in schema["components"]["schemas"].items() if name.endswith("Request")}
    assert len(bodies) > 15
    assert [name for name, part in bodies.items() if part["type"] == "object" and part.get("additionalProperties", True)
            is not False] == []  # fmt: skip

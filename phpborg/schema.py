"""What the OpenAPI schema says about all operations alike: who may, how it can fail, and an example of each."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.permissions import AllowAny

from accounts.idempotency import HEADER
from accounts.strict import StrictSerializer
from phpborg.errors import CODES

IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description=(
        "Sent again with the same key within 24 hours, the request is not done again but answered as it was. "
        "409 while the first one is still being answered, 422 if the key came with another request."
    ),
)
EXAMPLES = Path(__file__).with_name("examples.json")  # `make examples` records them
# By status: when it comes, and what may then be said.
ERRORS = {
    400: ("Something that was sent is not right; `fields` says what.", "Some of what was sent is not right."),
    401: ("Nobody is signed in, or the token is none.", "This token is not valid, or has expired."),
    403: ("It needs a permission that you do not have.", "You may not do this."),
    404: ("It is not there, or not for you to see.", "There is nothing here, or you may not see it."),
    409: ("It does not fit the state that things are in.", "The job has already ended."),
    413: ("There is a limit to what is taken.", "This is more than the 2,621,440 bytes that we take."),
    415: ("Only JSON is taken.", 'Unsupported media type "text/plain" in request.'),
    416: (
        "The file has no such part; `Content-Range` says how long it is.",
        "The file has 12 bytes, and none of those that were asked for.",
    ),
    422: (
        "The `Idempotency-Key` is that of another request.",
        "This Idempotency-Key was sent with another request. Take a new one.",
    ),
    429: (
        "Somebody tries too often; `Retry-After` says when to try again.",
        "Too many tries. Try again in 60 seconds.",
    ),
    503: ("Nobody is there to do it; `Retry-After` says when to try again.", "No worker is there to send the file."),
}
ERROR_CODES = {**CODES, 422: "idempotency_key_reused"}
WAIT = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
CHALLENGE = {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "Bearer."}}
LENGTH = {"Content-Range": {"schema": {"type": "string"}, "description": "`bytes */12`"}}
HEADERS = {401: CHALLENGE, 416: LENGTH, 429: WAIT, 503: WAIT}


class FailureSerializer(serializers.Serializer[None]):
    code = serializers.CharField(help_text="A word for programs, as `conflict`.")
    message = serializers.CharField(help_text="A sentence for the person who must act.")
    fields = serializers.DictField(  # type: ignore[assignment]  # DRF takes it off the class
        help_text='By field what is wrong with it; "": what belongs to none.'
    )


class ErrorSerializer(serializers.Serializer[None]):
    error = FailureSerializer()


@cache
def examples() -> dict[str, Any]:
    """By method and path: `request`, and `answers` by status."""
    found: dict[str, Any] = json.loads(EXAMPLES.read_text())
    return found


class Schema(AutoSchema):
    def get_override_parameters(self) -> list[Any]:
        return [IDEMPOTENCY_KEY] if self._heeds_key else []

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        permission = self._needs()
        operation["x-permission"] = permission
        operation["description"] = "\n\n".join(filter(None, (operation.get("description"), self._in_words(permission))))
        for status in sorted(self._errors(permission, operation)):
            operation["responses"][str(status)] = self._error(status)
        self._show_examples(operation)
        return operation

    def get_filter_backends(self) -> Any:
        return super().get_filter_backends() if self.method == "GET" else []

    def _get_paginator(self) -> Any:
        """Only what is read is paged: a POST that starts several jobs answers with all of them."""
        return super()._get_paginator() if self.method == "GET" else None  # type: ignore[no-untyped-call]

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if direction == "request" and isinstance(serializer, StrictSerializer):
            schema["additionalProperties"] = False
        return schema

    @property
    def _heeds_key(self) -> bool:
        return self.method == "POST" and not getattr(self.view, "answers_with_secrets", False)

    def _of_this_action(self, attribute: str) -> Any:
        """What the view says of itself by action, or by method where it has no actions."""
        by_name = getattr(self.view, attribute, {})
        return by_name.get(getattr(self.view, "action", None) or self.method.lower())

    def _needs(self) -> str:
        """A permission, `public`, or `signed in`."""
        if AllowAny in self.view.permission_classes:
            return "public"
        return str(self._of_this_action("permissions") or "signed in")

    def _in_words(self, permission: str) -> str:
        known = {"public": "For everybody.", "signed in": "For whoever is signed in."}
        own = self._of_this_action("permission_notes") or known.get(permission)
        return str(own or f"Needs the permission `{permission}`.")

    def _errors(self, permission: str, operation: Any) -> set[int]:
        errors = {400, 401, *(self._of_this_action("other_errors") or ())}
        if permission == "public":
            errors.add(429)
        elif permission != "signed in" or self.method != "GET":
            errors.add(403)
        if "{" in self.path or any(parameter["name"] == "page" for parameter in operation.get("parameters", ())):
            errors.add(404)
        if self.method in ("POST", "PUT", "PATCH"):
            errors |= {413, 415}
        if self.method != "GET" and not getattr(self.view, "answers_with_secrets", False):
            errors.add(409)
        if self._heeds_key:
            errors.add(422)
        return errors

    def _error(self, status: int) -> Any:
        """A reference: each error is described once."""
        when, sentence = ERRORS[status]
        fields = {"name": ["This field is required."]} if status == 400 else {}
        shown = {"error": {"code": ERROR_CODES[status], "message": sentence, "fields": fields}}
        content = {
            "schema": self.resolve_serializer(ErrorSerializer, "response").ref,
            "examples": {"answer": {"value": shown}},
        }
        described = {"description": when, "content": {"application/json": content}}
        if status in HEADERS:
            described["headers"] = HEADERS[status]
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            f"Error{status}", ResolvedComponent.RESPONSE, described, ErrorSerializer
        )
        self.registry.register_on_missing(component)
        return component.ref

    def _show_examples(self, operation: Any) -> None:
        route = re.sub(r"\{\w+\}", "{id}", self.path)
        known = examples().get(f"{self.method} {route}")
        if not known:
            return
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None and "request" in known:
            body["examples"] = {"request": {"value": known["request"]}}
        for status, answer in known["answers"].items():
            content = operation["responses"].get(status, {}).get("content", {}).get("application/json")
            if content is not None:
                content["examples"] = {"answer": {"value": answer}}

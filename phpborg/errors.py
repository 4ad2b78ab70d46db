"""Every failure of the API as {"error": {"code", "message", "fields"}}."""

from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import exception_handler
from rest_framework_simplejwt.exceptions import AuthenticationFailed as TokenFailed
from rest_framework_simplejwt.exceptions import InvalidToken

from accounts.errors import Conflict, NoSuchRange, TooLarge
from jobs.runner import Refused

CODES = {
    400: "invalid", 401: "not_authenticated", 403: "permission_denied", 404: "not_found", 405: "method_not_allowed",
    406: "not_acceptable", 409: "conflict", 413: "too_large", 415: "unsupported_media_type",
    416: "range_not_satisfiable", 429: "throttled", 503: "unavailable",
}  # fmt: skip


def answer_error(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler."""
    if isinstance(error, Refused):
        error = Conflict(str(error))
    elif isinstance(error, TokenFailed):
        error = token_failed(error)
    elif isinstance(error, RequestDataTooBig):
        error = TooLarge(f"This is more than the {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes that we take.")
    elif isinstance(error, RecursionError | OverflowError):  # only what was sent can be that deep, or that large
        error = exceptions.ParseError("A number, a time or a nesting in it is beyond what phpBorg takes.")
    response = exception_handler(error, context)
    if response is None:
        return None
    response.data = {"error": encodable(error_body(error, response))}
    if isinstance(error, NoSuchRange):
        response["Content-Range"] = error.content_range
    if request := context.get("request"):  # schema and docs would answer in their own formats
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
    return response


def token_failed(error: Any) -> exceptions.AuthenticationFailed:
    """simplejwt's error, whose detail is a dict, as one of DRF's."""
    sentence, code = str(error.detail["detail"]), str(error.detail["code"])
    if isinstance(error, InvalidToken):
        sentence = "This token is not valid, or has expired."
    plain = exceptions.AuthenticationFailed(sentence, code)
    plain.auth_header = getattr(error, "auth_header", "")  # type: ignore[attr-defined]  # DRF sets it, and reads it
    return plain


def encodable(data: Any) -> Any:
    """What was sent may stand in a message, also when it is no Unicode."""
    if isinstance(data, dict):
        return {encodable(key): encodable(value) for key, value in data.items()}
    if isinstance(data, list):
        return [encodable(value) for value in data]
    return data.encode("utf-8", "backslashreplace").decode() if isinstance(data, str) else data


def error_body(error: Exception, response: Response) -> dict[str, Any]:
    code = CODES.get(response.status_code, "error")
    if isinstance(error, exceptions.ValidationError):
        return {"code": code, "message": "Some of what was sent is not right.", "fields": fields_of(response.data)}
    if isinstance(error, Http404):
        return {"code": code, "message": "There is nothing here, or you may not see it.", "fields": {}}
    if isinstance(error, PermissionDenied | exceptions.PermissionDenied):
        return {"code": code, "message": "You may not do this.", "fields": {}}
    if isinstance(error, exceptions.Throttled):
        wait = response.headers.get("Retry-After", "some")
        return {"code": code, "message": f"Too many tries. Try again in {wait} seconds.", "fields": {}}
    if isinstance(error, exceptions.APIException):
        own = error.get_codes()
        return {"code": own if isinstance(own, str) else code, "message": str(error.detail), "fields": {}}
    return {"code": code, "message": str(error), "fields": {}}


def fields_of(data: Any) -> dict[str, Any]:
    """Messages by field; what belongs to none stands under "" ."""
    if isinstance(data, dict):
        return {"" if key == "non_field_errors" else key: value for key, value in data.items()}
    return {"": data if isinstance(data, list) else [str(data)]}

"""Every failure of the API as {"error": {"code", "message", "fields"}}."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler
from rest_framework_simplejwt.exceptions import InvalidToken

from jobs.runner import Refused

CODES = {
    400: "invalid", 401: "not_authenticated", 403: "permission_denied", 404: "not_found", 405: "method_not_allowed",
    406: "not_acceptable", 409: "conflict", 415: "unsupported_media_type", 429: "throttled", 503: "unavailable",
}  # fmt: skip


class Conflict(exceptions.APIException):
    """What was asked does not fit the state that things are in."""

    status_code = 409
    default_code = "conflict"


class Unavailable(exceptions.APIException):
    status_code = 503
    default_code = "unavailable"


def answer_error(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler."""
    if isinstance(error, Refused):
        error = Conflict(str(error))
    elif isinstance(error, InvalidToken):
        error = exceptions.AuthenticationFailed("This token is not valid, or has expired.", "token_not_valid")
    response = exception_handler(error, context)
    if response is None:
        return None
    response.data = {"error": error_body(error, response)}
    return response


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

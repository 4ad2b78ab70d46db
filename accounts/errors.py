"""Refusals that the API answers with, as errors for views and as answers for middleware."""

from django.http import JsonResponse
from rest_framework.exceptions import APIException


class Conflict(APIException):
    """What was asked does not fit the state that things are in."""

    status_code = 409
    default_code = "conflict"


class NotAllowed(APIException):
    """403 with a sentence of its own, for rules that no permission's name says."""

    status_code = 403
    default_code = "permission_denied"


class Unavailable(APIException):
    """What was asked needs somebody who is not there now; `wait` becomes Retry-After."""

    status_code = 503
    default_code = "unavailable"
    wait = 30  # seconds


class TooLarge(APIException):
    status_code = 413
    default_code = "too_large"


class NoSuchRange(APIException):
    """Of a file whose length `content_range` says."""

    status_code = 416
    default_code = "range_not_satisfiable"

    def __init__(self, sentence: str, content_range: str) -> None:
        super().__init__(sentence)
        self.content_range = content_range


def refusal(status: int, code: str, sentence: str) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": sentence, "fields": {}}}, status=status)

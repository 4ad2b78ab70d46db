"""A POST that is sent again with the same `Idempotency-Key` is done once, and answered twice.

As draft-ietf-httpapi-idempotency-key-header-07 has it: the first answer again, 422 for the same key with another
request, 409 while the first one is still being answered. The key belongs to who sent it: a user, and of a user's API
tokens to each its own, because one may see what another may not.

Only what was done is kept. A refusal did nothing, so its key is free: who mends what was wrong, or waits until a
repository is, sends the same again. What the view writes and its answer are one transaction: a process that dies
between them leaves neither, and `ANSWER_SECONDS` later the key is free.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256

from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import resolve
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from accounts.errors import refusal
from accounts.models import ApiToken, StoredAnswer, User
from accounts.tokens import TokenAuthentication

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
ANSWER_SECONDS = 120  # no request of ours takes that long
LONGEST_KEY = 255
FORGOTTEN_AT_ONCE = 1000


class IdempotencyMiddleware:
    """The last one, so that everything around the view is as it would be without it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        shown = request.headers.get(HEADER)
        if shown is None or request.method != "POST" or not request.path_info.startswith("/api/") or secret(request):
            return self.get_response(request)
        caller = caller_of(request)
        if caller is None or is_too_large(request):
            return self.get_response(request)  # which refuses it
        key = unquoted(shown)
        if not key:
            return refusal(400, "invalid", _("An Idempotency-Key has 1 to 255 printable ASCII characters."))
        return self._once(request, caller, key)

    def _once(self, request: HttpRequest, caller: "Caller", key: str) -> HttpResponseBase:
        user, name = caller
        digest, asked = sha256(f"{name}:{key}".encode()).hexdigest(), digest_of(request)
        stale(timezone.now()).filter(key=digest).delete()
        stored, is_first = StoredAnswer.objects.get_or_create(key=digest, defaults={"user": user, "request": asked})
        if not is_first:
            return again(stored, asked)
        try:
            with transaction.atomic():
                response = self.get_response(request)
                keep(stored, response)
            return response
        except TakenOver:
            return in_progress()
        finally:
            StoredAnswer.objects.filter(pk=stored.pk, status=None).delete()


Caller = tuple[User, str]


class TakenOver(Exception):
    """So slow that the key was given to a later request."""


def secret(request: HttpRequest) -> bool:
    """Is the answer one that is shown once, and stored nowhere? Such views say so themselves."""
    return getattr(getattr(resolve(request.path_info).func, "cls", None), "answers_with_secrets", False)


def caller_of(request: HttpRequest) -> Caller | None:
    """Who asks, and the name under which their keys are kept; None for nobody."""
    try:
        found = TokenAuthentication().authenticate(Request(request))
    except APIException:
        return None
    if found is None:
        return (request.user, f"{request.user.pk}") if isinstance(request.user, User) else None
    user, token = found
    return user, f"{user.pk}:{token.pk}" if isinstance(token, ApiToken) else f"{user.pk}"


def is_too_large(request: HttpRequest) -> bool:
    try:
        request.body  # noqa: B018  # read once, and kept
    except RequestDataTooBig:
        return True
    return False


def unquoted(shown: str) -> str:
    """The key in a header, which may be a quoted string as the draft wants it; "" if it is none."""
    key = shown.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    return key if len(key) <= LONGEST_KEY and key.isascii() and key.isprintable() else ""


def digest_of(request: HttpRequest) -> str:
    """Of path and body, keyed: a body may have a password in it, and nobody must find it by trying."""
    text = request.get_full_path().encode() + b"\n" + request.body
    return salted_hmac("accounts.idempotency", text, algorithm="sha256").hexdigest()


def again(stored: StoredAnswer, asked: str) -> HttpResponse:
    if stored.request != asked:
        return refusal(
            422, "idempotency_key_reused", _("This Idempotency-Key was sent with another request. Take a new one.")
        )
    if stored.status is None:
        return in_progress()
    response = HttpResponse(bytes(stored.body), status=stored.status, content_type="application/json")
    response["Idempotency-Replayed"] = "true"
    return response


def in_progress() -> HttpResponse:
    return refusal(
        409, "idempotency_key_in_use", _("The first request with this Idempotency-Key is still being answered.")
    )


def keep(stored: StoredAnswer, response: HttpResponseBase) -> None:
    """Store an answer that says that something was done; undo what was done before a mistake of ours."""
    if response.status_code >= 500:
        transaction.set_rollback(True)
    if not 200 <= response.status_code < 300 or not isinstance(response, HttpResponse):
        return
    mine = StoredAnswer.objects.filter(pk=stored.pk, status=None)
    if not mine.update(status=response.status_code, body=response.content):
        raise TakenOver


def stale(now: datetime) -> QuerySet[StoredAnswer]:
    """Answers that are too old, and requests of a process that must have died."""
    unanswered = Q(status=None, created_at__lt=now - timedelta(seconds=ANSWER_SECONDS))
    return StoredAnswer.objects.filter(unanswered | Q(created_at__lt=now - KEPT))


def forget() -> int:
    """Delete what is stale; returns how many."""
    deleted, now = 0, timezone.now()
    while batch := list(stale(now).values_list("pk", flat=True)[:FORGOTTEN_AT_ONCE]):
        deleted += StoredAnswer.objects.filter(pk__in=batch).delete()[0]
    return deleted

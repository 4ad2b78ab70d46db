"""The audit trail: one line per thing that somebody did."""

from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request

from accounts.models import ApiToken, AuditEntry, User


def address_of(request: HttpRequest | Request | None) -> str | None:
    """The caller's address; behind a proxy that TRUSTED_PROXIES names, uvicorn has already put it here."""
    return (request.META.get("REMOTE_ADDR") or None) if request else None


def record(
    action: str,
    *,
    request: HttpRequest | Request | None = None,
    user: User | None = None,
    username: str = "",
    target: str = "",
    detail: dict[str, Any] | None = None,
) -> AuditEntry:
    """Write one entry. `detail` never carries a secret. Without `user`, the request's user did it."""
    if user is None and request is not None and isinstance(request.user, User):
        user = request.user
    if isinstance(token := getattr(request, "auth", None), ApiToken):
        detail = {**(detail or {}), "api_token": token.prefix}
    return AuditEntry.objects.create(
        user=user,
        username=(username or (user.username if user else ""))[:150],
        address=address_of(request),
        action=action,
        target=target[:200],
        detail=detail or {},
    )

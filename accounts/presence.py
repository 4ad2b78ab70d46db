"""Whether somebody who was let in a while ago may still be here: for streams, which outlive their request."""

from django.contrib.auth import HASH_SESSION_KEY
from django.utils.crypto import constant_time_compare
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from accounts.access import Permission, can, signed_in
from accounts.models import User
from accounts.tokens import TokenAuthentication


def is_still_here(request: Request, permission: Permission | None) -> bool:
    """Ask token or session again, and the permission; a token that has ended, or a new password, ends it."""
    user = _by_session(request) if request.auth is None else _by_token(request)
    return user is not None and (permission is None or can(user, permission))


def _by_token(request: Request) -> User | None:
    try:
        found = TokenAuthentication().authenticate(request)
    except APIException:
        return None
    return found[0] if found and isinstance(found[0], User) else None


def _by_session(request: Request) -> User | None:
    session = request._request.session
    user = User.objects.filter(pk=signed_in(request).pk).first()
    if user is None or session.session_key is None or not session.exists(session.session_key):
        return None
    same = constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())
    return user if same else None

"""Whether somebody who was let in a while ago may still be here: for streams, which outlive their request."""

from dataclasses import dataclass
from importlib import import_module
from typing import Self

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from accounts.access import Permission, can, signed_in
from accounts.models import User
from accounts.tokens import TokenAuthentication


@dataclass(frozen=True, slots=True)
class Presence:
    """With what they were let in: a token or a session. A thousand requests are not kept for it."""

    authorization: str  # the header; "": by session
    session: str | None
    user: int

    @classmethod
    def of(cls, request: Request) -> Self:
        by_token = request.auth is not None
        header = request.META.get("HTTP_AUTHORIZATION", "") if by_token else ""
        return cls(header, None if by_token else request._request.session.session_key, signed_in(request).pk)

    def may(self, permission: Permission | None) -> bool:
        """Ask token or session again, and the permission; a token that has ended, or a new password, ends it."""
        user = self._by_token() if self.authorization else self._by_session()
        return user is not None and (permission is None or can(user, permission))

    def _by_token(self) -> User | None:
        request = HttpRequest()
        request.META["HTTP_AUTHORIZATION"] = self.authorization
        try:
            found = TokenAuthentication().authenticate(Request(request))
        except APIException:
            return None
        return found[0] if found and isinstance(found[0], User) else None

    def _by_session(self) -> User | None:
        user = User.objects.filter(pk=self.user).first()
        store = import_module(settings.SESSION_ENGINE).SessionStore
        if user is None or self.session is None or not store().exists(self.session):
            return None
        kept = store(self.session).get(HASH_SESSION_KEY, "")
        return user if constant_time_compare(kept, user.get_session_auth_hash()) else None

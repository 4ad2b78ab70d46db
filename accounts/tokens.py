"""JWTs of the API: signed and read by simplejwt, kept honest by one database row per login.

The payload is API.md's. `jti` starts with the id of the login's TokenFamily, so one query finds
the family and its user on each request: a family that is revoked, or whose user was deactivated
or has a new password, ends every token at once. API tokens of machines are ApiToken's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import AuthenticationFailed, InvalidToken, TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from accounts import audit
from accounts.access import permissions_of
from accounts.models import ApiToken, TokenFamily, User

HEX_OF_UUID = 32


@dataclass(frozen=True)
class Pair:
    access: str
    refresh: str
    user: User
    expires_in: int  # seconds that the access token lives


class TokenRefused(Exception):
    """The refresh token is wrong, ended, or used for the second time; the text says which."""


def log_in(user: User, request: HttpRequest) -> Pair:
    """Open a family for `user` and return its first pair."""
    now = timezone.now()
    family = TokenFamily.objects.create(
        user=user,
        current=TokenFamily.new_number(),
        session_hash=user.get_session_auth_hash(),
        address=audit.address_of(request),
        user_agent=request.headers.get("User-Agent", "")[:200],
        expires_at=now + settings.SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"],
    )
    return _pair(family)


def rotate(refresh: str, request: HttpRequest) -> Pair:
    """Exchange a refresh token for a new pair. Raises TokenRefused."""
    family, number = _read_refresh(refresh)
    now = timezone.now()
    if not family.is_alive(now):
        raise TokenRefused("This login has ended. Log in again.")
    newer = TokenFamily.new_number()
    taken = TokenFamily.objects.filter(pk=family.pk, current=number, revoked_at=None).update(
        current=newer,
        used_at=now,
        expires_at=now + settings.SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"],
    )
    if not taken:
        _end_stolen(family, request)
        raise TokenRefused("This refresh token was already used, so the whole login has ended. Log in again.")
    family.current = newer
    return _pair(family)


def log_out(refresh: str, user: User) -> None:
    """End the family of `refresh`, which must be `user`'s. Raises TokenRefused."""
    family, _ = _read_refresh(refresh)
    if family.user_id != user.pk:
        raise TokenRefused("This refresh token is not yours.")
    TokenFamily.objects.filter(pk=family.pk, revoked_at=None).update(revoked_at=timezone.now())


def _pair(family: TokenFamily) -> Pair:
    user = family.user
    access = AccessToken()
    refresh = RefreshToken()
    access["jti"] = family.id.hex + TokenFamily.new_number()
    refresh["jti"] = family.id.hex + family.current
    for token in (access, refresh):
        token["sub"] = str(user.pk)
        token["username"] = user.username
        token["roles"] = user.roles
        token["permissions"] = permissions_of(user)
    lifetime = settings.SIMPLE_JWT["ACCESS_TOKEN_LIFETIME"]
    return Pair(str(access), str(refresh), user, int(lifetime.total_seconds()))


def _read_refresh(text: str) -> tuple[TokenFamily, str]:
    try:
        token = RefreshToken(text)  # type: ignore[arg-type]  # simplejwt types the encoded token as Token
        return _family(token), str(token["jti"])[HEX_OF_UUID:]
    except (TokenError, AuthenticationFailed) as error:
        raise TokenRefused("This is not a valid refresh token. Log in again.") from error


def _family(token: Token) -> TokenFamily:
    try:
        pk = UUID(hex=str(token["jti"])[:HEX_OF_UUID])
        family = TokenFamily.objects.select_related("user").get(pk=pk)
    except (KeyError, ValueError, TokenFamily.DoesNotExist) as error:
        raise AuthenticationFailed("This token belongs to no login that we know.", "no_login") from error
    if str(family.user_id) != token.get("sub"):
        raise AuthenticationFailed("This token belongs to no login that we know.", "no_login")
    return family


@transaction.atomic
def _end_stolen(family: TokenFamily, request: HttpRequest) -> None:
    if TokenFamily.objects.filter(pk=family.pk, revoked_at=None).update(revoked_at=timezone.now()):
        audit.record("token.reused", request=request, user=family.user, target=str(family.pk))


# --- API tokens ---------------------------------------------------------------------------------


@transaction.atomic
def make_api_token(
    user: User, request: HttpRequest | Request, *, name: str, permissions: Iterable[str], expires_at: datetime | None
) -> tuple[ApiToken, str]:
    """An API token of `user` and its text, for page and API."""
    token, text = ApiToken.make(user, name=name, permissions=permissions, expires_at=expires_at)
    detail = {"permissions": token.permissions, "expires_at": expires_at.isoformat() if expires_at else None}
    audit.record("api_token.made", request=request, target=str(token), detail=detail)
    return token, text


@transaction.atomic
def revoke_api_token(token: ApiToken, request: HttpRequest | Request) -> None:
    if token.revoke():
        detail = {"user": token.user.username}
        audit.record("api_token.revoked", request=request, target=str(token), detail=detail)


class TokenAuthentication(JWTAuthentication):
    """`Authorization: Bearer <access token, or API token>`; the family, or the API token, is asked on every request."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        header = self.get_header(request)
        text = self.get_raw_token(header) if header is not None else None
        if text is not None and text.startswith(ApiToken.MARK.encode()):
            return _machine(text.decode("ascii", "replace"))
        return super().authenticate(request)

    def get_user(self, validated_token: Token) -> Any:
        if not isinstance(validated_token, AccessToken):
            raise InvalidToken("This is not an access token.")
        family = _family(validated_token)
        if not family.is_alive(timezone.now()):
            raise AuthenticationFailed("This login has ended. Log in again.", "login_ended")
        return family.user


def _machine(text: str) -> tuple[User, ApiToken]:
    token, now = ApiToken.find(text), timezone.now()
    if token is None:
        raise InvalidToken
    if not token.is_alive(now):
        raise AuthenticationFailed(
            "This API token has expired, was revoked, or its user is switched off.", "token_ended"
        )
    token.note_use(now)
    return token.caller(), token


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How drf-spectacular describes it."""

    target_class = TokenAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}

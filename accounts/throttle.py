"""Wrong passwords, and refresh tokens that are none, counted in the audit trail, slow down whoever tries them.

Ten wrong ones in 15 minutes for one account from one address, thirty from one address, or a
hundred for one account: then nobody is let in that way until the oldest is 15 minutes old.
The account-wide limit is high on purpose, and does not count where that account has been let in lately: a stranger with
a thousand addresses closes it for themselves, and not for its owner.
"""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext_lazy

from accounts import audit
from accounts.access import signed_in
from accounts.models import AuditEntry, User

FAILED = "login.failed"
REFUSED = "token.refused"
SETUP_REFUSED = "setup.refused"
FORGOTTEN = "password.forgotten"
WINDOW = timedelta(minutes=15)
PER_ACCOUNT_AND_ADDRESS = 10
PER_ADDRESS = 30
PER_ACCOUNT = 100
LET_IN = ("login", "login.api")
KNOWN_FOR = timedelta(days=30)


def seconds_to_wait(username: str, request: HttpRequest | None) -> int:
    """How long this caller must wait before a password for `username` is looked at; 0: not at all."""
    now = timezone.now()
    username = username[:150]
    address = audit.address_of(request)
    recent = AuditEntry.objects.filter(action=FAILED, at__gt=now - WINDOW).order_by("-at")
    everywhere = _wait(recent.filter(username=username), PER_ACCOUNT, now)
    if everywhere and _is_known(username, address, now):
        everywhere = 0
    return max(
        _wait(recent.filter(username=username, address=address), PER_ACCOUNT_AND_ADDRESS, now),
        _wait(recent.filter(address=address), PER_ADDRESS, now),
        everywhere,
    )


def _is_known(username: str, address: str | None, now: datetime) -> bool:
    """Whether this account has been let in from there lately."""
    entries = AuditEntry.objects.filter(action__in=LET_IN, username=username, address=address, at__gt=now - KNOWN_FOR)
    return address is not None and entries.exists()


def seconds_before_refresh(request: HttpRequest) -> int:
    """The same before a refresh token is looked at: whoever sends many that are none guesses, or loops."""
    return _wait_after(REFUSED, request, PER_ADDRESS)


def refuse_guesses(request: HttpRequest) -> None:
    """Raise ValidationError while no token of the first run is looked at from this address."""
    sentence = ngettext_lazy(
        "Too many wrong tokens. Try again in %(minutes)s minute.",
        "Too many wrong tokens. Try again in %(minutes)s minutes.",
        "minutes",
    )
    _refuse(_wait_after(SETUP_REFUSED, request, PER_ACCOUNT_AND_ADDRESS), sentence)


def refuse_forgetful(request: HttpRequest) -> None:
    """Raise ValidationError while nobody at this address is sent another link for a new password."""
    sentence = ngettext_lazy(
        "You have asked too often. Try again in %(minutes)s minute.",
        "You have asked too often. Try again in %(minutes)s minutes.",
        "minutes",
    )
    _refuse(_wait_after(FORGOTTEN, request, PER_ACCOUNT_AND_ADDRESS), sentence)


def _wait_after(action: str, request: HttpRequest, limit: int) -> int:
    """Seconds until less than `limit` of these were done from this address lately."""
    now = timezone.now()
    done = AuditEntry.objects.filter(action=action, address=audit.address_of(request), at__gt=now - WINDOW)
    return _wait(done.order_by("-at"), limit, now)


def _wait(tries: QuerySet[AuditEntry], limit: int, now: datetime) -> int:
    # The limit-th newest failure: once it has left the window there is room for one more.
    blocking = tries.values_list("at", flat=True)[limit - 1 : limit].first()
    return int((blocking + WINDOW - now).total_seconds()) + 1 if blocking else 0


def refuse_impatient(username: str, request: HttpRequest | None) -> None:
    """Raise ValidationError while no password for `username` is looked at."""
    sentence = ngettext_lazy(
        "Too many wrong passwords. Try again in %(minutes)s minute.",
        "Too many wrong passwords. Try again in %(minutes)s minutes.",
        "minutes",
    )
    _refuse(seconds_to_wait(username, request), sentence)


def _refuse(wait: int, sentence: Any) -> None:
    """Raise ValidationError with the lazy `sentence`, which says how many minutes, if there are seconds to wait."""
    if wait:
        raise ValidationError(sentence % {"minutes": -(-wait // 60)}, code="throttled")


def refuse_another(password: str, request: HttpRequest) -> None:
    """Raise ValidationError unless this is the password of who is signed in; wrong ones count as at the login."""
    user = signed_in(request)
    refuse_impatient(user.username, request)
    if authenticate(request, username=user.username, password=password) != user:
        raise ValidationError(_("This is not your password."), code="wrong")


class ThrottledBackend(ModelBackend):
    """Django's own backend behind the throttle: login page, API and admin alike come through here."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        username = username or ""
        if seconds_to_wait(username, request):
            raise PermissionDenied
        user = super().authenticate(request, username=username, password=password, **kwargs)
        if user is None:
            audit.record(FAILED, request=request, username=username)
        return user

    def get_all_permissions(self, user_obj: User | AnonymousUser, obj: Any = None) -> set[str]:
        """As Django's own, by one query where that asks two: every page pays for it."""
        if not user_obj.is_active or user_obj.is_anonymous or user_obj.is_superuser or obj is not None:
            return super().get_all_permissions(user_obj, obj)
        own: Any = self  # whose stubs know nothing of how it asks
        if "_perm_cache" not in (kept := vars(user_obj)):
            names = ("content_type__app_label", "codename")
            asked = (own._get_user_permissions(user_obj), own._get_group_permissions(user_obj))
            alone, by_groups = (permissions.order_by().values_list(*names) for permissions in asked)
            kept["_perm_cache"] = {f"{app}.{name}" for app, name in alone.union(by_groups)}
        found: set[str] = kept["_perm_cache"]
        return found

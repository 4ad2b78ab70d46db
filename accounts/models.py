from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from importlib import import_module
from typing import Any, ClassVar, Self
from zoneinfo import available_timezones

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser, Group
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _

from accounts.access import PERMISSION_LABELS, Permission, can


@cache  # reading them all takes 45 ms
def zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def validate_time_zone(value: str) -> None:
    if value != "UTC" and value not in zone_names():
        raise ValidationError(_("There is no time zone “%(value)s”."), params={"value": value[:60]})


class User(AbstractUser):
    class Theme(models.TextChoices):
        SYSTEM = "", _("As the system")
        LIGHT = "light", _("Light")
        DARK = "dark", _("Dark")

    class Language(models.TextChoices):
        BROWSER = "", _("As the browser")
        ENGLISH = "en", "English"
        FRENCH = "fr", "Français"

    language = models.CharField(_("language"), max_length=8, blank=True, choices=Language.choices)
    time_zone = models.CharField(
        _("time zone"), max_length=64, blank=True, validators=[validate_time_zone]
    )  # "": the site's
    theme = models.CharField(_("appearance"), max_length=8, blank=True, choices=Theme.choices)

    # At most these in this request, which an API token makes; None: all that the roles give.
    limited_to: frozenset[str] | None = None

    class Meta:
        # Ours only: the tables of this project are not guarded by Django's add/change/delete/view.
        default_permissions = ()
        permissions = [(str(permission), PERMISSION_LABELS[permission]) for permission in Permission]

    @property
    def roles(self) -> list[str]:
        """The names of the user's groups; a superuser is an administrator without being in one."""
        names = {group.name for group in self.groups.all()}
        return sorted(names | ({"ROLE_ADMIN"} if self.is_superuser else set()))


class Session(AbstractBaseSession):
    """A browser that is signed in, or about to be; written by accounts/sessions.py, so that one sees whose they are."""

    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="sessions")
    name = models.CharField(max_length=64, db_index=True)  # what pages call it: with the key itself one would be let in
    address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=200, blank=True)
    started_at = models.DateTimeField(null=True)

    class Meta(AbstractBaseSession.Meta):
        default_permissions = ()

    @classmethod
    def get_session_store_class(cls) -> Any:
        return import_module(settings.SESSION_ENGINE).SessionStore


class TokenFamily(models.Model):
    """One login over the API: every token that descends from it dies with it.

    Only the newest refresh token of a family is good; `current` is its number. Whoever shows an
    older one has a stolen token or lost theirs to a thief, so the whole family ends.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="token_families")
    current = models.CharField(max_length=32)
    session_hash = models.CharField(max_length=128)  # changes with the password
    address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["user", "-created_at"], name="token_family_by_user")]
        verbose_name_plural = "token families"

    def __str__(self) -> str:
        return f"{self.user.username}, {self.created_at:%Y-%m-%d %H:%M}"

    def is_alive(self, now: datetime) -> bool:
        return (
            self.revoked_at is None
            and self.expires_at > now
            and self.user.is_active
            and constant_time_compare(self.session_hash, self.user.get_session_auth_hash())
        )

    @staticmethod
    def new_number() -> str:
        return secrets.token_hex(16)


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def of(self, user: User | AnonymousUser) -> Self:
        return self.filter(revoked_at=None, user_id=user.pk)

    def for_user(self, user: User | AnonymousUser) -> Self:
        """Those that `user` may see: their own, or everybody's for who manages users."""
        return self.filter(revoked_at=None) if can(user, Permission.USER_MANAGE) else self.of(user)


class ApiToken(models.Model):
    """What a machine shows instead of a login: `phpborg_<prefix>_<secret>`.

    It does what its owner may do now, and of that only what it was made for. It does not end with a new password:
    it was never derived from one, and what runs at night must not stop because somebody changed theirs. Whoever
    fears that it is known revokes it. While its owner is switched off it opens nothing.
    """

    MARK: ClassVar[str] = "phpborg_"
    LIFETIME: ClassVar[timedelta] = timedelta(days=365)  # unless its maker says something else
    NOTED_EVERY: ClassVar[timedelta] = timedelta(minutes=1)

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100)
    prefix = models.CharField(max_length=12, unique=True)
    # Of the whole text. 256 random bits cannot be guessed, so a slow hash would only slow down every request.
    sha256 = models.CharField(max_length=64)
    permissions: models.JSONField[Any, Any] = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)  # None: never
    last_used_at = models.DateTimeField(null=True)  # to the minute
    revoked_at = models.DateTimeField(null=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.MARK}{self.prefix})"

    @classmethod
    def make(
        cls, user: User, *, name: str, permissions: Iterable[str], expires_at: datetime | None
    ) -> tuple[ApiToken, str]:
        """A new token and its text, which nobody can read again."""
        prefix = secrets.token_hex(6)
        text = f"{cls.MARK}{prefix}_{secrets.token_hex(32)}"
        token = cls.objects.create(
            user=user, name=name, prefix=prefix, sha256=sha256(text.encode()).hexdigest(),
            permissions=sorted(permissions), expires_at=expires_at,
        )  # fmt: skip
        return token, text

    @classmethod
    def find(cls, text: str) -> ApiToken | None:
        """The token of this text, dead or alive."""
        prefix = text.removeprefix(cls.MARK).partition("_")[0]
        token = cls.objects.select_related("user").filter(prefix=prefix).first()
        shown = sha256(text.encode()).hexdigest()
        return token if token and constant_time_compare(token.sha256, shown) else None

    def has_expired(self, now: datetime | None = None) -> bool:
        return self.expires_at is not None and self.expires_at <= (now or timezone.now())

    def is_alive(self, now: datetime) -> bool:
        return self.revoked_at is None and not self.has_expired(now) and self.user.is_active

    def caller(self) -> User:
        """Its owner, who may do no more than the token was made for."""
        self.user.limited_to = frozenset(self.permissions)
        return self.user

    def note_use(self, now: datetime) -> None:
        """Remember that it was used, with at most one write a minute however many requests there are."""
        before = now - self.NOTED_EVERY
        if self.last_used_at and self.last_used_at > before:
            return
        unnoted = ApiToken.objects.filter(Q(last_used_at=None) | Q(last_used_at__lte=before), pk=self.pk)
        unnoted.update(last_used_at=now)

    def revoke(self) -> bool:
        """End it for good; False if it had been already."""
        return bool(ApiToken.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=timezone.now()))


class SecondFactor(models.Model):
    """The key that a person's authenticator app has too (accounts/factor.py)."""

    user = models.OneToOneField(User, models.CASCADE, primary_key=True, related_name="second_factor")
    key_encrypted = models.TextField()
    last_step = models.BigIntegerField(default=0)  # of the newest code that was shown: neither it nor older ones again
    confirmed_at = models.DateTimeField(null=True)  # None: no right code was shown yet, so it does not count

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.user.username


class RecoveryCode(models.Model):
    """Opens once, in the place of a code of the app."""

    user = models.ForeignKey(User, models.CASCADE, related_name="recovery_codes")
    sha256 = models.CharField(max_length=64)  # of whose it is and the code, of 80 random bits
    used_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user.username}, {'used' if self.used_at else 'unused'}"


class RoleRule(models.Model):
    """What a role asks of who has it, beside what it lets them do."""

    role = models.OneToOneField(Group, models.CASCADE, primary_key=True, related_name="rule")
    needs_factor = models.BooleanField(_("needs a second factor"), default=False)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.role.name


class StoredAnswer(models.Model):
    """The answer to a POST that carried an Idempotency-Key (accounts.idempotency)."""

    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    key = models.CharField(max_length=64, unique=True)  # a digest of who asked, and of the key
    request = models.CharField(max_length=64)  # a keyed digest of path and body
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    status = models.PositiveSmallIntegerField(null=True)  # None: still being answered
    body = models.BinaryField(default=b"")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.status or 'unanswered'}, {self.created_at:%Y-%m-%d %H:%M}"


class AppendOnly(Exception):
    """Somebody wanted to change or delete an entry of the audit trail."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Rows are read, and added by accounts/chain.py."""

    def update(self, **kwargs: Any) -> int:
        raise AppendOnly

    def bulk_update(self, *args: Any, **kwargs: Any) -> int:
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnly


class AuditEntry(models.Model):
    """Who did what, when, from where; written once (accounts/audit.py, accounts/chain.py), never changed."""

    number = models.BigIntegerField(unique=True)  # from 1, without gaps
    digest = models.CharField(max_length=64)  # of this entry and of the one before it
    at = models.DateTimeField(default=timezone.now)
    # No constraint and no cascade: an entry stays as it was written, also when the user is gone.
    user = models.ForeignKey(User, models.DO_NOTHING, null=True, related_name="+", db_constraint=False)
    username = models.CharField(max_length=150, blank=True)  # outlives the user
    address = models.GenericIPAddressField(null=True)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=200, blank=True)
    detail: models.JSONField[Any, Any] = models.JSONField(default=dict)

    objects = AuditQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-id"]
        verbose_name_plural = "audit entries"
        indexes = [
            # For accounts/throttle.py, which counts.
            models.Index(fields=["action", "address", "at"], name="audit_by_address"),
            models.Index(fields=["action", "username", "at"], name="audit_by_username"),
            # The newest, and the newest of each, as accounts/paging.py reads them.
            models.Index(fields=["-at", "-id"], name="audit_newest"),
            models.Index(fields=["action", "-at", "-id"], name="audit_newest_by_action"),
            models.Index(fields=["username", "-at", "-id"], name="audit_newest_by_username"),
            models.Index(fields=["address", "-at", "-id"], name="audit_newest_by_address"),
        ]

    def __str__(self) -> str:
        return f"{self.username} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise AppendOnly

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly


class AuditHead(models.Model):
    """How far the audit trail goes, in one row: whoever adds to it holds this row until their transaction ends."""

    number = models.BigIntegerField(default=0)  # of the last entry
    digest = models.CharField(max_length=64, blank=True)  # of that entry
    # Of the two above. Else whoever can write to the table could cut the trail off at any entry of their choice.
    seal = models.CharField(max_length=64, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


class EncryptionCanary(models.Model):
    """A known sentence, encrypted: whoever can read it holds the right key (accounts.encryption)."""

    value = models.TextField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return "canary"

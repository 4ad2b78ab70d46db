from __future__ import annotations

import secrets
import uuid
from datetime import datetime
from typing import Any
from zoneinfo import available_timezones

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _

from accounts.access import PERMISSION_LABELS, Permission


def validate_time_zone(value: str) -> None:
    if value not in available_timezones():
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

    class Meta:
        # Ours only: the tables of this project are not guarded by Django's add/change/delete/view.
        default_permissions = ()
        permissions = [(str(permission), PERMISSION_LABELS[permission]) for permission in Permission]

    @property
    def roles(self) -> list[str]:
        """The names of the user's groups; a superuser is an administrator without being in one."""
        names = {group.name for group in self.groups.all()}
        return sorted(names | ({"ROLE_ADMIN"} if self.is_superuser else set()))


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


class AuditEntry(models.Model):
    """Who did what, when, from where; written once, never changed."""

    at = models.DateTimeField(auto_now_add=True)
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    username = models.CharField(max_length=150, blank=True)  # outlives the user
    address = models.GenericIPAddressField(null=True)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=200, blank=True)
    detail: models.JSONField[Any, Any] = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()
        ordering = ["-id"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["action", "address", "at"], name="audit_by_address"),
            models.Index(fields=["action", "username", "at"], name="audit_by_username"),
        ]

    def __str__(self) -> str:
        return f"{self.username} {self.action} {self.target}"


class EncryptionCanary(models.Model):
    """A known sentence, encrypted: whoever can read it holds the right key (accounts.encryption)."""

    value = models.TextField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return "canary"

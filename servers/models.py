from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_address
from typing import Any, Self

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Case, F, Q, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import encryption
from accounts.access import Permission, can
from accounts.addresses import page_of
from accounts.models import User
from servers.keys import new_key_pair
from servers.ssh.remote import HostKey, Login, Remote
from servers.ssh.transport import HostKeyUnconfirmed

HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")

INTERFACE = re.compile(r"[A-Za-z0-9._-]+")

# Names appear in archive names, paths and sentences, so they are plain.
validate_name = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z",
    _("Use letters, digits, dots, dashes and underscores, and begin with a letter or digit."),
)
validate_user_name = RegexValidator(
    r"\A[A-Za-z_][A-Za-z0-9._-]*\$?\Z", _("This is not a name that a Unix user can have.")
)


def validate_address(value: str) -> None:
    if not (is_ip_address(value) or (len(value) <= 253 and HOST_NAME.fullmatch(value))):
        raise ValidationError(_("Enter a host name or an IP address, nothing else."))


def is_ip_address(value: str) -> bool:
    try:
        scope = getattr(ip_address(value), "scope_id", None)
    except ValueError:
        return False
    # Python takes any text at all for the interface of "fe80::1%eth0".
    return scope is None or bool(INTERFACE.fullmatch(scope))


class Tag(models.Model):
    name = models.CharField(_("name"), max_length=40, unique=True, validators=[validate_name])

    class Meta:
        default_permissions = ()
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


def tags_of(servers: Iterable[Server]) -> dict[int, list[str]]:
    """The names of each server's tags, sorted, by its id; for lists, where a prefetch makes a queryset for each row."""
    found: dict[int, list[str]] = {server.pk: [] for server in servers}
    tagged = Server.tags.through._default_manager.filter(server__in=found).order_by("tag__name")
    for pk, name in tagged.values_list("server_id", "tag__name"):
        found[pk].append(name)
    return found


class SshAccount(models.Model):
    """A login over SSH: with a key pair of its own, at a machine whose host key somebody has confirmed."""

    address = models.CharField(_("address"), max_length=253, validators=[validate_address])
    port = models.PositiveIntegerField(
        _("SSH port"), default=22, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    username = models.CharField(_("SSH user"), max_length=64, default="root", validators=[validate_user_name])
    private_key_encrypted = models.TextField(editable=False)
    public_key = models.TextField(editable=False)
    # "type base64", as in known_hosts. `host_key` is what somebody confirmed, "" before that;
    # `host_key_seen` is what the machine showed last.
    host_key = models.TextField(blank=True, editable=False)
    host_key_seen = models.TextField(blank=True, editable=False)

    needs_sudo: bool = False

    class Meta:
        abstract = True

    def make_key_pair(self) -> None:
        """Make one, unless there is one already."""
        if not self.public_key:
            private, self.public_key = new_key_pair(f"phpborg@{self}")
            self.private_key_encrypted = encryption.encrypt(private)

    @property
    def fingerprint(self) -> str:
        return HostKey.parse(self.host_key).fingerprint if self.host_key else ""

    @property
    def fingerprint_seen(self) -> str:
        return HostKey.parse(self.host_key_seen).fingerprint if self.host_key_seen else ""

    @property
    def host_key_changed(self) -> bool:
        return bool(self.host_key and self.host_key_seen and self.host_key != self.host_key_seen)

    def private_key(self) -> str:
        """Decrypt it: for a worker on its way there."""
        return encryption.decrypt(self.private_key_encrypted)

    def connect(self, *, password: str = "", private_key: str = "") -> Remote:
        """Open an SSH session, with our key, another one, or `password`; a worker's business. Raises Failure."""
        if not self.host_key:
            raise HostKeyUnconfirmed(f"Nobody has confirmed the host key of {self} yet.")
        key = private_key or self.private_key()
        login = Login(self.address, self.port, self.username, key, sudo=self.needs_sudo, password=password)
        return Remote(login, HostKey.parse(self.host_key), name=str(self))

    def remember_host_key(self, seen: HostKey) -> None:
        type(self)._default_manager.filter(pk=self.pk).update(host_key_seen=str(seen))
        self.host_key_seen = str(seen)

    def confirm_host_key(self, fingerprint: str) -> bool:
        """Pin the key that the machine showed, if it is the one that the person looked at."""
        if not self.host_key_seen or fingerprint != self.fingerprint_seen:
            return False
        shown = type(self)._default_manager.filter(pk=self.pk, host_key_seen=self.host_key_seen)
        return bool(shown.update(host_key=self.host_key_seen))

    @property
    def key_line(self) -> str:
        """For the SSH user's authorized_keys: lets us in, and forwards nothing."""
        return f"restrict {self.public_key}"

    @property
    def key_command(self) -> str:
        """Run there as the SSH user: lets us in."""
        line = shlex.quote(self.key_line)
        # A line of its own, also after a last line that does not end.
        add = f"printf '\\n%s\\n' {line} >> ~/.ssh/authorized_keys"
        return f"mkdir -p -m 700 ~/.ssh && {add} && chmod 600 ~/.ssh/authorized_keys"


class ServerQuerySet(models.QuerySet["Server"]):
    def for_user(self, user: User | AnonymousUser) -> Self:
        return self if can(user, Permission.SERVER_VIEW) else self.none()

    def usable(self) -> Self:
        return self.filter(enabled=True).exclude(host_key="")


KEY_PAIR = {"private_key_encrypted", "public_key", "key_renewed_at", "leftover_public_key"}


class Server(SshAccount):
    """A machine that we reach over SSH."""

    name = models.CharField(_("name"), max_length=60, unique=True, validators=[validate_name])
    use_sudo = models.BooleanField(
        _("run borg with sudo"),
        default=True,
        help_text=_("For users other than root. Without it, borg reads what the user may read."),
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    tags: models.ManyToManyField[Tag, Any] = models.ManyToManyField(
        Tag, verbose_name=_("tags"), blank=True, related_name="servers"
    )

    # When it got another key pair than its first; and the public half of one that is not used, but may stand there.
    key_renewed_at = models.DateTimeField(null=True, editable=False)
    leftover_public_key = models.TextField(blank=True, editable=False)

    # What the last test found.
    system = models.CharField(max_length=120, blank=True, editable=False)
    borg_path = models.CharField(max_length=255, blank=True, editable=False)
    borg_version = models.CharField(max_length=20, blank=True, editable=False)
    tested_at = models.DateTimeField(null=True, editable=False)
    test_ok = models.BooleanField(null=True, editable=False)
    seen_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    # Switched off, or its host key is not confirmed, or has changed: found by an index among ten thousand.
    is_out_of_order = models.GeneratedField(
        expression=Case(
            When(enabled=False, then=True),
            When(host_key="", then=True),
            When(~Q(host_key_seen="") & ~Q(host_key_seen=F("host_key")), then=True),
            default=False,
        ),
        output_field=models.BooleanField(), db_persist=True,
    )  # fmt: skip

    objects = ServerQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        verbose_name = _("server")
        verbose_name_plural = _("servers")
        indexes = [
            models.Index(fields=["is_out_of_order"], name="server_out_of_order"),
            models.Index(fields=["name", "address"], name="server_search"),  # looked through, not looked up in
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """All but the key pair, once it is there: `renew_key` may have changed that since this row was read."""
        self.make_key_pair()
        if not self._state.adding and not args and kwargs.get("update_fields") is None:
            fields = (field for field in self._meta.concrete_fields if not (field.primary_key or field.generated))
            kwargs["update_fields"] = {field.name for field in fields} - KEY_PAIR
        super().save(*args, **kwargs)

    def get_absolute_url(self) -> str:
        return page_of("server", self.pk)

    @property
    def key_made_at(self) -> datetime:
        return self.key_renewed_at or self.created_at

    @property
    def needs_sudo(self) -> bool:  # type: ignore[override]  # what is told once for others
        return self.use_sudo and self.username != "root"

    def private_key(self) -> str:
        """The one of now: a job may have had this row for hours, and `renew_key` have been here meanwhile."""
        kept = Server.objects.filter(pk=self.pk).values_list("private_key_encrypted", flat=True)
        self.private_key_encrypted = kept.first() or self.private_key_encrypted
        return super().private_key()

    def connect(self, *, password: str = "", private_key: str = "") -> Remote:
        remote = super().connect(password=password, private_key=private_key)
        Server.objects.filter(pk=self.pk).update(seen_at=timezone.now())
        return remote

    @property
    def sudoers_line(self) -> str:
        """For /etc/sudoers.d/phpborg. SETENV lets us hand borg its settings; borg as root is root anyway."""
        return f"{self.username} ALL=(root) NOPASSWD:SETENV: {self.borg_path or '/usr/bin/borg'}"

"""Who is told of what, what is wrong now and was, and which messages went out."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Self
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from accounts import encryption
from accounts.access import Permission, can
from accounts.models import User, validate_time_zone
from backups.models import Plan, VisibleQuerySet
from backups.schedule import InvalidSchedule, windows_of
from servers.models import Server, Tag


def validate_windows(text: str) -> None:
    try:
        windows_of(text)
    except InvalidSchedule as error:
        raise ValidationError(str(error)) from error


class ManagedQuerySet(models.QuerySet[Any]):
    """Rules, channels and what was sent are the affair of who may change the settings."""

    def for_user(self, user: User | AnonymousUser) -> Self:
        return self if can(user, Permission.CONFIG_MANAGE) else self.none()


class Channel(models.Model):
    """A way to tell somebody. Where it leads is encrypted, and shown to nobody again."""

    class Report(models.TextChoices):
        DAILY = "daily", pgettext_lazy("report", "daily")
        WEEKLY = "weekly", pgettext_lazy("report", "weekly")

    name = models.CharField(_("name"), max_length=60, unique=True)
    kind = models.CharField(_("kind"), max_length=20, editable=False)  # alerts/channels/
    enabled = models.BooleanField(_("enabled"), default=True)
    language = models.CharField(_("language"), max_length=2, choices=settings.LANGUAGES, default="en")
    target_encrypted = models.TextField(editable=False, default="", blank=True)  # JSON, by the names of the kind's form
    plans: models.ManyToManyField[Plan, Any] = models.ManyToManyField(  # of kinds that are told of each run
        Plan, through="Ping", verbose_name=_("plans"), blank=True, related_name="+"
    )
    report = models.CharField(
        _("report"), max_length=10, choices=Report.choices, blank=True, default="",
        help_text=_("How backups went, what is wrong and how much room is left: at 7 o'clock, weekly on Mondays."),
    )  # fmt: skip
    reported_on = models.DateField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ManagedQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        verbose_name = _("channel")
        verbose_name_plural = _("channels")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("alert_channel_edit", args=[self.pk])

    def target(self) -> dict[str, Any]:
        """Decrypt where it leads: for a worker that sends. Raises WrongKey."""
        found: dict[str, Any] = json.loads(encryption.decrypt(self.target_encrypted)) if self.target_encrypted else {}
        return found

    def set_target(self, target: dict[str, Any]) -> None:
        self.target_encrypted = encryption.encrypt(json.dumps(target))


class RuleQuerySet(ManagedQuerySet):
    def active(self) -> Self:
        return self.filter(enabled=True)


class Rule(models.Model):
    """Of what kind of event somebody is told, about what, by which channels, and when."""

    class Severity(models.TextChoices):
        INFO = "info", _("information")
        WARNING = "warning", _("warning")
        CRITICAL = "critical", _("critical")

    class Scope(models.TextChoices):
        ALL = "all", _("everything")
        TAGS = "tags", _("servers with these tags")
        SERVERS = "servers", _("these servers")
        PLANS = "plans", _("these plans")

    name = models.CharField(_("name"), max_length=60, unique=True)
    event = models.CharField(_("event"), max_length=40, editable=False)  # alerts/kinds/
    parameters: models.JSONField[Any, Any] = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    severity = models.CharField(_("severity"), max_length=10, choices=Severity.choices, default=Severity.WARNING)
    scope = models.CharField(_("of"), max_length=10, choices=Scope.choices, default=Scope.ALL)
    tags: models.ManyToManyField[Tag, Any] = models.ManyToManyField(
        Tag, verbose_name=_("tags"), blank=True, related_name="+"
    )
    servers: models.ManyToManyField[Server, Any] = models.ManyToManyField(
        Server, verbose_name=_("servers"), blank=True, related_name="+"
    )
    plans: models.ManyToManyField[Plan, Any] = models.ManyToManyField(
        Plan, verbose_name=_("plans"), blank=True, related_name="+"
    )
    channels: models.ManyToManyField[Channel, Any] = models.ManyToManyField(
        Channel, verbose_name=_("channels"), blank=True, related_name="rules"
    )
    quiet = models.TextField(
        _("quiet hours"), blank=True, validators=[validate_windows],
        help_text=_(
            "Nothing is sent in these windows; it follows when they end, if it is still so. "
            "One per line, as “22:00-07:00”."
        ),
    )  # fmt: skip
    time_zone = models.CharField(
        _("time zone"), max_length=64, default="UTC", validators=[validate_time_zone],
        help_text=_("In which the quiet hours are meant."),
    )  # fmt: skip
    gather_minutes = models.PositiveSmallIntegerField(
        _("gather for (minutes)"), default=5, validators=[MaxValueValidator(1440)],
        help_text=_("What happens within this time is one message. 0: as soon as it is seen."),
    )  # fmt: skip
    repeat_hours = models.PositiveSmallIntegerField(
        _("repeat after (hours)"), default=0, validators=[MaxValueValidator(8760)],
        help_text=_("As long as it is so. 0: once is enough."),
    )  # fmt: skip
    tell_recovery = models.BooleanField(_("say when it is over"), default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RuleQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        verbose_name = _("alert rule")
        verbose_name_plural = _("alert rules")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("alert_rule_edit", args=[self.pk])

    def is_quiet(self, now: datetime) -> bool:
        """By the clock on the wall of its zone, so that 22:00 is 22:00 whatever was done to the clock that night."""
        local = now.astimezone(ZoneInfo(self.time_zone))
        minute = local.weekday() * 24 * 60 + local.hour * 60 + local.minute
        week = 7 * 24 * 60
        return any(begin <= minute < end or begin <= minute + week < end for begin, end in windows_of(self.quiet))


class IncidentQuerySet(VisibleQuerySet):
    def open(self) -> Self:
        return self.filter(closed_at=None)

    def closed(self) -> Self:
        return self.filter(closed_at__isnull=False)


class Incident(models.Model):
    """That something was wrong with one thing, by one rule, from when to when; what repeats and recovers."""

    rule = models.ForeignKey(Rule, models.CASCADE, related_name="incidents")
    subject = models.CharField(max_length=60)  # as "plan:7"
    name = models.CharField(max_length=200)  # of the subject, as it was called
    event = models.CharField(max_length=40)
    severity = models.CharField(max_length=10, choices=Rule.Severity.choices)
    facts: models.JSONField[Any, Any] = models.JSONField(default=dict)  # of which the kind makes a sentence
    server = models.ForeignKey(Server, models.SET_NULL, null=True, related_name="incidents")
    plan = models.ForeignKey(Plan, models.SET_NULL, null=True, related_name="incidents")
    opened_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True)
    # "rule|subject" while it is open: unique, so that however many schedulers look, there is one.
    open_key = models.CharField(max_length=90, null=True, unique=True)  # noqa: DJ001  # NULLs may repeat, "" may not
    told_at = models.DateTimeField(null=True)  # the last time
    told_count = models.PositiveIntegerField(default=0)
    recovery_due = models.BooleanField(default=False)  # it is over, and that is still to be told

    objects = IncidentQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-opened_at", "-id"]
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="incident_newest"),
            models.Index(fields=["closed_at", "-opened_at", "-id"], name="incident_newest_by_end"),
            models.Index(fields=["rule", "closed_at"], name="incident_by_rule"),
            models.Index(fields=["rule", "recovery_due"], name="incident_by_recovery"),
        ]

    def __str__(self) -> str:
        return f"{self.rule}: {self.name}"

    @staticmethod
    def key(rule: int, subject: str) -> str:
        return f"{rule}|{subject}"


class Delivery(models.Model):
    """One message to one channel: a job sends it, and tries again."""

    class Kind(models.TextChoices):
        PROBLEM = "problem", _("alert")
        REPEAT = "repeat", _("reminder")
        RECOVERY = "recovery", _("recovery")
        TEST = "test", _("test")
        PING = "ping", _("ping")
        REPORT = "report", _("report")

    class Status(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="deliveries")
    rule = models.ForeignKey(Rule, models.SET_NULL, null=True, related_name="deliveries")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    message: models.JSONField[Any, Any] = models.JSONField(default=dict)  # alerts/messages.py; nothing secret
    count = models.PositiveIntegerField(default=0)  # of incidents that it is about
    job = models.ForeignKey("jobs.Job", models.SET_NULL, null=True, related_name="+")
    error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)

    objects = ManagedQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-created_at", "-id"]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="delivery_newest"),
            models.Index(fields=["channel", "-created_at", "-id"], name="delivery_newest_by_channel"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} #{self.pk}"


class Ping(models.Model):
    """That a plan's runs are told to a watchman outside, and how far they were: start, success, failure.

    Rows are kept by the rule-less channels of the kind “ping”: a plan that is in none is in no row.
    """

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="pings")
    plan = models.ForeignKey(Plan, models.CASCADE, related_name="pings")
    # The last job whose start, or end, was told; an id, for jobs are forgotten.
    started = models.UUIDField(null=True, editable=False)
    ended = models.UUIDField(null=True, editable=False)

    class Meta:
        default_permissions = ()
        ordering = ["channel", "plan"]
        constraints = [models.UniqueConstraint(fields=["channel", "plan"], name="ping_of_plan")]

    def __str__(self) -> str:
        return f"{self.channel}: {self.plan}"


class MailTemplate(models.Model):
    """What a mail says, in one language, where somebody has changed it; without a row it is ours (alerts/texts.py)."""

    language = models.CharField(_("language"), max_length=2, choices=settings.LANGUAGES, unique=True)
    subject = models.CharField(_("subject"), max_length=500)
    text = models.TextField(_("text"), max_length=20_000)
    html = models.TextField(_("HTML"), max_length=50_000)

    objects = ManagedQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["language"]
        verbose_name = _("mail template")
        verbose_name_plural = _("mail templates")

    def __str__(self) -> str:
        return self.get_language_display()

    def get_absolute_url(self) -> str:
        return reverse("alert_template", args=[self.language])

"""Repositories that are damaged, frozen, or were not checked for too long."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from alerts.events import OfRows, local
from alerts.models import Rule
from backups.models import Repository


class OfRepositories(OfRows):
    model = Repository

    def rows(self) -> QuerySet[Repository]:
        ready = Repository.objects.filter(state=Repository.State.READY).select_related("server")
        return ready.filter(self.scope(servers="server", plans="plans")).distinct().order_by("pk")


class RepositoryStopped(OfRepositories):
    name = "repository_stopped"
    label = gettext_lazy("A repository is frozen or damaged")
    sentence_help = gettext_lazy("Nothing is written to it, or nothing deleted, before somebody has looked.")
    severity = Rule.Severity.CRITICAL

    def is_so(self, now: datetime) -> Q:
        return Q(is_damaged=True) | Q(is_frozen=True)

    def facts(self, row: Any, now: datetime) -> dict[str, Any]:
        return {"damage": row.damage[:500], "frozen": row.frozen[:500]}

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        if facts.get("damage"):
            return _("The repository is damaged: %(why)s") % {"why": facts["damage"]}
        return _("The repository is frozen: %(why)s") % {"why": facts.get("frozen", "")}


class DaysForm(forms.Form):
    days = forms.IntegerField(label=gettext_lazy("Days without a good check"), min_value=1, max_value=3650, initial=60)


class CheckOwed(OfRepositories):
    name = "check_owed"
    label = gettext_lazy("A check failed, or is too long ago")
    sentence_help = gettext_lazy("A check has found damage, or there was no good one for so many days.")
    form = DaysForm

    def is_so(self, now: datetime) -> Q:
        since = now - timedelta(days=self.parameter("days"))
        return Q(is_damaged=True) | Q(checked_at__lt=since) | Q(checked_at=None, created_at__lt=since)

    def facts(self, row: Any, now: datetime) -> dict[str, Any]:
        at = row.checked_at.isoformat(timespec="minutes") if row.checked_at else ""
        return {"damage": row.damage[:500], "days": self.parameter("days"), "checked_at": at}

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        if facts.get("damage"):
            return _("The check failed: %(why)s") % {"why": facts["damage"]}
        if not facts.get("checked_at"):
            return _("It was never checked.")
        return _("No good check for %(days)s days; the last one is of %(at)s.") % {
            "days": facts.get("days"), "at": local(facts["checked_at"]),
        }  # fmt: skip

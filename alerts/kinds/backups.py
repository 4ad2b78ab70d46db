"""How the last backup of a plan went (Plan.last_outcome), and how long ago the last good one was taken."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from alerts.events import Finding, OfPlans, local
from alerts.models import Rule
from backups.models import Plan


class Outcome(OfPlans):
    """The plans whose last backup ended in one way."""

    outcome: Plan.Outcome

    def is_so(self, now: datetime) -> Q:
        return Q(last_outcome=self.outcome)

    def find(self, now: datetime) -> Iterable[Finding]:
        for plan in self.rows().filter(self.is_so(now)).select_related("server", "last_job"):
            yield self.finding(plan, self.facts(plan, now))

    def facts(self, row: Any, now: datetime) -> dict[str, Any]:
        job = row.last_job
        return {"error": job.error[:500] if job else "", "job": str(job.pk) if job else ""}


class BackupFailed(Outcome):
    name = "backup_failed"
    label = gettext_lazy("A backup failed")
    sentence_help = gettext_lazy("The last backup of a plan has failed, after all its attempts.")
    severity = Rule.Severity.CRITICAL
    outcome = Plan.Outcome.FAILED

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        error = facts.get("error")
        return _("The backup failed: %(why)s") % {"why": error} if error else _("The backup failed.")


class BackupWarnings(Outcome):
    name = "backup_warnings"
    label = gettext_lazy("A backup has warnings")
    sentence_help = gettext_lazy("The last backup of a plan left out files that it could not read.")
    outcome = Plan.Outcome.WARNINGS

    def facts(self, row: Any, now: datetime) -> dict[str, Any]:
        return {"warnings": row.last_job.warnings if row.last_job else 0}

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        n = int(facts.get("warnings") or 0)
        return ngettext("The backup has %(n)d warning.", "The backup has %(n)d warnings.", n) % {"n": n}


class Suspicious(Outcome):
    name = "suspicious"
    label = gettext_lazy("An archive is suspicious")
    sentence_help = gettext_lazy("The newest archive of a plan may not be what it should be.")
    severity = Rule.Severity.CRITICAL
    outcome = Plan.Outcome.SUSPICIOUS

    def facts(self, row: Any, now: datetime) -> dict[str, Any]:
        result = (row.last_job and row.last_job.result) or {}
        return {"why": str(result.get("suspicion", ""))[:500]}

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        return _("The newest archive is suspicious: %(why)s") % {"why": facts.get("why", "")}


class HoursForm(forms.Form):
    hours = forms.IntegerField(
        label=gettext_lazy("Hours without a good backup"), min_value=1, max_value=24 * 366, initial=26
    )


class NoGoodBackup(OfPlans):
    """The dead man's switch: whatever the reason, also that nothing ran at all."""

    name = "no_good_backup"
    label = gettext_lazy("No good backup for too long")
    sentence_help = gettext_lazy("A plan has had no good backup for so many hours, whatever the reason.")
    severity = Rule.Severity.CRITICAL
    form = HoursForm

    def is_so(self, now: datetime) -> Q:
        since = now - timedelta(hours=self.parameter("hours"))
        return Q(last_good_at__lt=since) | Q(last_good_at=None, created_at__lt=since)

    def facts(self, row: Any, now: datetime) -> dict[str, Any]:
        return {
            "hours": self.parameter("hours"),
            "last_good_at": row.last_good_at.isoformat(timespec="minutes") if row.last_good_at else "",
        }

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        if not facts.get("last_good_at"):
            return _("There has never been a good backup.")
        return _("No good backup for %(hours)s hours; the last one is of %(at)s.") % {
            "hours": facts.get("hours"), "at": local(facts["last_good_at"]),
        }  # fmt: skip

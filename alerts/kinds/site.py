"""phpBorg itself: processes that are gone, and people who guess passwords."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from redis import RedisError

from accounts.models import AuditEntry
from accounts.throttle import FAILED
from alerts.events import Finding, NotKnown, OfSite
from alerts.models import Rule
from jobs import queue

LOGIN_WINDOW = timedelta(minutes=15)


class WorkersGone(OfSite):
    """Seen by a scheduler, which then sends the message itself (alerts/engine.py)."""

    name = "workers_gone"
    label = gettext_lazy("No worker is there")
    sentence_help = gettext_lazy("Nobody does any job: no backup, no restore.")
    severity = Rule.Severity.CRITICAL
    subject = "site:workers"

    def find(self, now: datetime) -> Iterable[Finding]:
        try:
            is_gone = not queue.live_workers()
        except (RedisError, OSError) as error:
            raise NotKnown from error
        return [self.finding()] if is_gone else []

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        return _("No worker has been heard of: no backup runs.")


class SchedulerGone(OfSite):
    """Seen by workers, which look for it."""

    name = "scheduler_gone"
    label = gettext_lazy("The scheduler is gone")
    sentence_help = gettext_lazy("Nothing starts by itself any more: no backup, no check.")
    severity = Rule.Severity.CRITICAL
    subject = "site:scheduler"
    by_workers = True

    def find(self, now: datetime) -> Iterable[Finding]:
        try:
            is_gone = not queue.scheduler_is_alive()
        except (RedisError, OSError) as error:
            raise NotKnown from error
        return [self.finding()] if is_gone else []

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        return _("No scheduler has been heard of for a minute: no backup starts by itself.")


class LoginsForm(forms.Form):
    count = forms.IntegerField(
        label=gettext_lazy("Wrong passwords within 15 minutes"), min_value=1, max_value=10_000, initial=20
    )


class ManyWrongLogins(OfSite):
    """How many and from where; not the names, which may be passwords in the wrong field."""

    name = "wrong_logins"
    label = gettext_lazy("Many wrong passwords")
    sentence_help = gettext_lazy("Somebody guesses passwords, or a program has an old one.")
    form = LoginsForm
    subject = "site:logins"

    def find(self, now: datetime) -> Iterable[Finding]:
        wrong = AuditEntry.objects.filter(action=FAILED, at__gt=now - LOGIN_WINDOW).order_by()
        count = wrong.count()
        if count < self.parameter("count"):
            return []
        addresses = sorted({str(each) for each in wrong.values_list("address", flat=True).distinct()[:20] if each})
        return [self.finding(count=count, addresses=addresses[:5])]

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        return _("%(count)s wrong passwords within 15 minutes, from %(addresses)s.") % {
            "count": facts.get("count"), "addresses": ", ".join(facts.get("addresses") or ["?"]),
        }  # fmt: skip

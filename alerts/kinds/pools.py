"""Storage pools with little room, or soon with none (backups/growth.py)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from alerts.events import Finding, OfRows
from alerts.models import Rule
from backups import growth
from backups.models import StoragePool


class PoolForm(forms.Form):
    percent = forms.IntegerField(
        label=gettext_lazy("Less than so many percent free"), min_value=0, max_value=100, initial=10,
        help_text=gettext_lazy("0: no matter."),
    )  # fmt: skip
    days = forms.IntegerField(
        label=gettext_lazy("Or full within so many days"), min_value=0, max_value=3650, initial=14,
        help_text=gettext_lazy("As it has grown lately. 0: no matter."),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("percent") == 0 and cleaned.get("days") == 0:
            raise ValidationError(_("With 0 for both nobody would ever be told."))
        return cleaned


class PoolLow(OfRows):
    name = "pool_low"
    label = gettext_lazy("A storage pool is nearly full")
    sentence_help = gettext_lazy("Little of its disk is free, or will be before long at the present growth.")
    severity = Rule.Severity.CRITICAL
    model = StoragePool
    form = PoolForm

    def rows(self) -> QuerySet[StoragePool]:
        pools = self.scope(servers="repositories__server", plans="repositories__plans")
        return StoragePool.objects.filter(pools).distinct().order_by("pk")

    def is_so(self, now: datetime) -> Q:
        return Q(free_bytes__isnull=False, total_bytes__gt=0)

    def find(self, now: datetime) -> Iterable[Finding]:
        pools: list[StoragePool] = list(self.rows().filter(self.is_so(now)))
        forecasts = growth.forecasts(pools) if self.parameter("days") else {}
        for pool in pools:
            free = 100 * (pool.free_bytes or 0) / (pool.total_bytes or 1)
            forecast = forecasts.get(pool.pk)
            full_on = forecast.full_on if forecast else None
            is_soon = full_on is not None and (full_on - now.date()).days <= self.parameter("days")
            if free < self.parameter("percent") or is_soon:
                facts = {"free_percent": round(free, 1), "full_on": str(full_on) if full_on and is_soon else ""}
                yield self.finding(pool, facts)

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        told = {"percent": facts.get("free_percent"), "day": facts.get("full_on")}
        if facts.get("full_on"):
            return _("%(percent)s %% are free; at the present growth it is full on %(day)s.") % told
        return _("Only %(percent)s %% are free.") % told

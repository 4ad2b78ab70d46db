"""Servers that show another host key than the one that somebody confirmed."""

from datetime import datetime
from typing import Any

from django.db.models import F, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from alerts.events import OfRows
from alerts.models import Rule
from servers.models import Server


class HostKeyChanged(OfRows):
    name = "host_key_changed"
    label = gettext_lazy("A host key has changed")
    sentence_help = gettext_lazy(
        "A server shows another host key than the confirmed one: nothing runs until somebody has looked."
    )
    severity = Rule.Severity.CRITICAL
    model = Server

    def rows(self) -> QuerySet[Server]:
        servers = Server.objects.filter(enabled=True).filter(self.scope(servers="pk", plans="plans"))
        return servers.distinct().order_by("pk")

    def is_so(self, now: datetime) -> Q:
        # `is_out_of_order` has the index.
        return Q(is_out_of_order=True) & ~Q(host_key="") & ~Q(host_key_seen="") & ~Q(host_key_seen=F("host_key"))

    def facts(self, row: Any, now: datetime) -> dict[str, Any]:
        return {"seen": row.fingerprint_seen}

    @classmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        return _("It shows another host key, %(seen)s, than the one that was confirmed.") % {"seen": facts.get("seen")}

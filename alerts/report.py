"""The report of a day or a week: who is protected, how backups ended, what is wrong now, and how much room is left."""

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from alerts.engine import start
from alerts.kinds.pools import PoolLow
from alerts.messages import item_of
from alerts.models import Channel, Delivery, Incident, Rule
from backups import growth, health, stats
from backups.health import WORST_FIRST, State
from backups.models import BackupHour, StoragePool
from jobs.config import config
from servers.models import Server

AT = time(7)
DAYS = {Channel.Report.DAILY: 1, Channel.Report.WEEKLY: 7}
NEEDY = (State.AT_RISK, State.ATTENTION)
MOST_SHOWN = 20  # of servers, alerts and pools each: the others are counted


def look() -> int:
    """Returns how many there are to send. Of several schedulers, one takes each by an UPDATE."""
    now = timezone.now()
    due = Channel.objects.filter(enabled=True).exclude(report="")
    return sum(_report(channel, now) for channel in due)


def due_on(report: str, now: datetime) -> date:
    """The day whose report is owed by now, by the clock on the wall of the site's zone."""
    local = now.astimezone(ZoneInfo(config.TIME_ZONE))
    day = local.date() if local.time() >= AT else local.date() - timedelta(days=1)
    return day - timedelta(days=day.weekday()) if report == Channel.Report.WEEKLY else day


@transaction.atomic
def _report(channel: Channel, now: datetime) -> int:
    day = due_on(channel.report, now)
    told = channel.reported_on
    if told and told >= day:
        return 0
    mine = Channel.objects.filter(pk=channel.pk, reported_on=told).update(reported_on=day)
    if not mine or told is None:  # the first one is that of the next day or week
        return 0
    with translation.override(channel.language):
        message, count = Report(Channel.Report(channel.report), now).message()
    start([Delivery.objects.create(channel=channel, kind=Delivery.Kind.REPORT, message=message, count=count)])
    return 1


class Report:
    """Put into words when it is made, in the language that is active: what it says is so at that moment."""

    def __init__(self, kind: Channel.Report, now: datetime) -> None:
        self.kind = kind
        self.now = now
        self.since = now - timedelta(days=DAYS[kind])
        self.items: list[dict[str, Any]] = []
        self.unshown = 0

    def message(self) -> tuple[dict[str, Any], int]:
        """The facts for Delivery.message, and of how many things they are."""
        counts = self._servers()
        failed = self._backups()
        self._alerts()
        self._pools()
        severity = Rule.Severity.INFO
        if counts[State.AT_RISK]:
            severity = Rule.Severity.CRITICAL
        elif counts[State.ATTENTION] or failed:
            severity = Rule.Severity.WARNING
        words = {
            "kind": self.kind.label,
            "protected": counts[State.PROTECTED],
            "n": sum(counts.values()),
            "failed": failed,
        }
        title = (
            _("phpBorg, %(kind)s report: %(protected)d of %(n)d servers protected, backups failed: %(failed)d") % words
        )
        return {"severity": severity, "title": title, "items": self.items}, len(self.items) + self.unshown

    def _add(self, name: str, sentence: str) -> None:
        facts = {"sentence": sentence}
        item = {"subject": "report", "name": name, "event": "report", "facts": facts, "since": "", "until": ""}
        self.items.append(item)

    def _servers(self) -> dict[State, int]:
        servers = Server.objects.all()
        total = servers.count()
        ranks = stats.ranks_of(self.now, total)
        counts = stats.counted(ranks, total)
        self._add(
            _("Servers"),
            _("protected: %(protected)d, at risk: %(at_risk)d, need attention: %(attention)d, not known: %(unknown)d")
            % {state.name.lower(): counts[state] for state in WORST_FIRST},
        )
        needy = sorted((rank, pk) for pk, rank in ranks.items() if WORST_FIRST[rank] in NEEDY)
        named = servers.in_bulk([pk for _rank, pk in needy[:MOST_SHOWN]])
        states = health.of_servers(named.values())
        for pk in named:
            self._add(named[pk].name, states[pk].reason or states[pk].label)
        self.unshown += len(needy[MOST_SHOWN:])
        return counts

    def _backups(self) -> int:
        names = ("completed", "suspicious", "failed", "cancelled")
        hours = BackupHour.objects.filter(began_at__gte=self.since, began_at__lt=self.now)
        sums = hours.aggregate(*(Sum(name, default=0) for name in names))
        counts = {name: sums[f"{name}__sum"] for name in names}
        self._add(
            _("Backups"),
            _("completed: %(completed)d (suspicious: %(suspicious)d), failed: %(failed)d, cancelled: %(cancelled)d")
            % counts,
        )
        return int(counts["failed"])

    def _alerts(self) -> None:
        incidents = Incident.objects.open()
        count = incidents.count()
        self._add(_("Alerts"), _("open: %(n)d") % {"n": count})
        self.items += [item_of(each) for each in incidents.order_by("opened_at", "pk")[:MOST_SHOWN]]
        self.unshown += max(0, count - MOST_SHOWN)

    def _pools(self) -> None:
        known = StoragePool.objects.filter(free_bytes__isnull=False, total_bytes__gt=0).order_by("free_bytes", "pk")
        pools = list(known[:MOST_SHOWN])
        forecasts = growth.forecasts(pools)
        for pool in pools:
            percent = round(100 * (pool.free_bytes or 0) / (pool.total_bytes or 1), 1)
            forecast = forecasts.get(pool.pk)
            full_on = str(forecast.full_on) if forecast and forecast.full_on else ""
            sentence = _("%(percent)s %% are free.") % {"percent": percent}
            facts = {"free_percent": percent, "full_on": full_on}
            self._add(pool.name, PoolLow.sentence(facts) if full_on else sentence)
        self.unshown += known.count() - len(pools)

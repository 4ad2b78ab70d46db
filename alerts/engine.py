"""The look: what is wrong by each rule now, what is not any more, and who is told of it.

A rule's row is locked while it is looked at, so that of several schedulers one opens an incident, closes it, and tells:
all that was told stands in the same transaction as the deliveries and their jobs. A restart changes nothing.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from django.db import DatabaseError, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from redis import RedisError

from alerts.events import EventKind, Finding, NotKnown, kind_of
from alerts.messages import message_of
from alerts.models import Channel, Delivery, Incident, IncidentQuerySet, Rule
from alerts.runners.send import SendAlert
from jobs import queue
from jobs.models import Job
from jobs.runner import perform

logger = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 500  # numbers in one query
ALONE_AFTER = timedelta(minutes=1)  # a worker that is just started again comes first
ALONE_AT_ONCE = 3


def batched(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, AT_ONCE)):
        yield some


def look(*, as_worker: bool = False) -> int:
    """By every rule, or by those that only a worker can look by; returns how many messages there are to send."""
    open_ones = Incident.objects.open().filter(rule=OuterRef("pk"))
    rules = Rule.objects.filter(Q(enabled=True) | Q(Exists(open_ones)))
    sent = 0
    for pk, event in rules.order_by("pk").values_list("pk", "event"):
        kind = EventKind.registry.get(event)
        if as_worker and not (kind and kind.by_workers):
            continue
        try:
            sent += look_by(pk)
        except DatabaseError:
            raise  # the next look finds everything as it was
        except Exception:
            logger.exception("The alert rule %d was not looked at; it will be tried again.", pk)
    return sent


@transaction.atomic
def look_by(pk: int) -> int:
    """By one rule."""
    rule = Rule.objects.select_for_update().filter(pk=pk).first()
    kind = kind_of(rule) if rule else None
    if rule is None:
        return 0
    now = timezone.now()
    if kind is None or not rule.enabled:
        _close(rule.incidents.open(), now, is_told=False)
        return 0
    try:
        found = {finding.subject: finding for finding in kind.find(now)}
    except NotKnown:
        found = None
    if found is not None:
        known = dict(rule.incidents.open().values_list("subject", "pk"))
        _open(rule, [finding for subject, finding in found.items() if subject not in known], now)
        _over(rule, kind, {subject: pk for subject, pk in known.items() if subject not in found}, now)
    return tell(rule, now)


def _open(rule: Rule, findings: Sequence[Finding], now: datetime) -> None:
    """What has come back before anybody was told that it was over is still the same incident."""
    if not findings:
        return
    over = dict(rule.incidents.closed().filter(recovery_due=True).values_list("subject", "pk"))
    new = []
    for finding in findings:
        key = Incident.key(rule.pk, finding.subject)
        if pk := over.get(finding.subject):
            Incident.objects.filter(pk=pk).update(closed_at=None, open_key=key, recovery_due=False, facts=finding.facts)
        else:
            new.append(
                Incident(
                    rule=rule, subject=finding.subject, name=finding.name[:200], event=rule.event,
                    severity=rule.severity, facts=finding.facts, server_id=finding.server, plan_id=finding.plan,
                    open_key=key, opened_at=now,
                )
            )  # fmt: skip
    Incident.objects.bulk_create(new, batch_size=AT_ONCE)


def _over(rule: Rule, kind: EventKind, gone: dict[str, int], now: datetime) -> None:
    """Of what is looked at no more, a plan that is paused say, nobody says that it is well."""
    if not gone:
        return
    watched: set[str] = set()
    for some in batched(gone):
        watched |= kind.watched(some)
    for is_told in (True, False):
        pks = [pk for subject, pk in gone.items() if (subject in watched) == is_told]
        for some_pks in batched(pks):
            _close(Incident.objects.open().filter(pk__in=some_pks), now, is_told=is_told and rule.tell_recovery)


def _close(incidents: IncidentQuerySet, now: datetime, *, is_told: bool) -> None:
    if is_told:  # of what nobody was told of nobody is told that it is over
        incidents.filter(told_at__isnull=False).update(closed_at=now, open_key=None, recovery_due=True)
    incidents.update(closed_at=now, open_key=None)


# --- Telling ------------------------------------------------------------------------------------


def tell(rule: Rule, now: datetime) -> int:
    """Make one message of all that is new, one of what is to be repeated, one of what is over."""
    channels = list(rule.channels.filter(enabled=True).order_by("pk"))
    if not channels or rule.is_quiet(now):
        return 0
    gathered = now - timedelta(minutes=rule.gather_minutes)
    sent = 0
    new = list(rule.incidents.open().filter(told_at=None).order_by("opened_at", "pk"))
    if new and new[0].opened_at <= gathered:
        sent += _send(rule, channels, Delivery.Kind.PROBLEM, new, now)
    if rule.repeat_hours:
        before = now - timedelta(hours=rule.repeat_hours)
        again = list(rule.incidents.open().filter(told_at__lte=before).order_by("opened_at", "pk"))
        if again:
            sent += _send(rule, channels, Delivery.Kind.REPEAT, again, now)
    over = list(rule.incidents.closed().filter(recovery_due=True).order_by("closed_at", "pk"))
    if over and over[0].closed_at and over[0].closed_at <= gathered:
        sent += _send(rule, channels, Delivery.Kind.RECOVERY, over, now)
    return sent


def _send(
    rule: Rule, channels: Iterable[Channel], kind: Delivery.Kind, incidents: Sequence[Incident], now: datetime
) -> int:
    for some in batched(incidents):
        rows = Incident.objects.filter(pk__in=[each.pk for each in some])
        if kind == Delivery.Kind.RECOVERY:
            rows.update(recovery_due=False)
        else:
            rows.update(told_at=now, told_count=F("told_count") + 1)
    message, count = message_of(rule, incidents), len(incidents)
    made = [
        Delivery.objects.create(channel=channel, rule=rule, kind=kind, message=message, count=count)
        for channel in channels
    ]
    start(made)
    return len(made)


def start(deliveries: Sequence[Delivery]) -> None:
    """In the transaction that made them."""
    for delivery, job in zip(deliveries, SendAlert.enqueue_all(deliveries, trigger=Job.Trigger.SYSTEM), strict=True):
        if isinstance(job, Job):
            Delivery.objects.filter(pk=delivery.pk).update(job=job)


def send_alone() -> int:
    """When no worker is left, whoever finds that out sends what there is to say; returns how many."""
    try:
        if queue.live_workers():
            return 0
    except (RedisError, OSError):
        pass  # then nobody rings the workers either
    waiting = Job.objects.due().filter(type=SendAlert.type, created_at__lt=timezone.now() - ALONE_AFTER)
    pks = [str(pk) for pk in waiting.order_by("created_at").values_list("pk", flat=True)[:ALONE_AT_ONCE]]
    for pk in pks:
        perform(pk)
    return len(pks)

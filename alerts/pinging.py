"""Pings of plans: what has begun or ended since it was last told, found by looking, told once."""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import F, OuterRef, Q, Subquery

from alerts.engine import start
from alerts.models import Channel, Delivery, Ping
from backups.models import Plan
from jobs.models import Job

AT_ONCE = 500
GOOD = (Plan.Outcome.GOOD, Plan.Outcome.WARNINGS)


def look() -> int:
    """Returns how many there are to send. Of several schedulers, one takes each by an UPDATE."""
    return sum(map(_started, _running())) + sum(map(_ended, _finished()))


def _running() -> list[tuple[Ping, Job]]:
    jobs = Job.objects.running().filter(type="backup", plan__pings__channel__enabled=True).distinct()[:AT_ONCE]
    by_plan = {job.plan_id: job for job in jobs}
    pings = Ping.objects.filter(plan__in=by_plan, channel__enabled=True).select_related("channel", "plan__server")
    return [(ping, by_plan[ping.plan_id]) for ping in pings if ping.started != by_plan[ping.plan_id].pk]


def _finished() -> list[Ping]:
    is_new = Q(ended=None) | ~Q(ended=F("plan__last_job"))
    pings = Ping.objects.filter(is_new, channel__enabled=True, plan__last_job__isnull=False)
    return list(pings.select_related("channel", "plan__server", "plan__last_job")[:AT_ONCE])


@transaction.atomic
def set_pings(channel: Channel, plans: Iterable[Plan]) -> None:
    """Of these plans it is told from now on: what has run is not told after the event."""
    known = list(channel.pings.values_list("plan", flat=True))
    channel.plans.set(plans)
    last = Plan.objects.filter(pk=OuterRef("plan")).values("last_job")
    channel.pings.exclude(plan__in=known).update(ended=Subquery(last))


@transaction.atomic
def _started(found: tuple[Ping, Job]) -> int:
    ping, job = found
    mine = Ping.objects.filter(pk=ping.pk, started=ping.started).update(started=job.pk)
    return _send(ping, "start") if mine else 0


@transaction.atomic
def _ended(ping: Ping) -> int:
    plan = ping.plan
    if not Ping.objects.filter(pk=ping.pk, ended=ping.ended).update(ended=plan.last_job_id):
        return 0
    assert plan.last_job
    if plan.last_job.status == Job.Status.CANCELLED:
        return 0  # somebody wanted it so: the watchman goes on waiting for the next
    return _send(ping, "success" if plan.last_outcome in GOOD else "failure")


def _send(ping: Ping, what: str) -> int:
    channel: Channel = ping.channel
    message = {"ping": what, "items": [{"name": ping.plan.full_name, "subject": f"plan:{ping.plan_id}", "event": "",
                                        "facts": {}, "since": "", "until": ""}]}  # fmt: skip
    start([Delivery.objects.create(channel=channel, kind=Delivery.Kind.PING, message=message, count=1)])
    return 1

"""What the scheduler does about backups."""

import logging
from datetime import datetime, timedelta

from django.db import OperationalError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from backups import schedule
from backups.models import Plan
from backups.runners.create import RunBackup
from jobs.models import Job
from jobs.periodic import every
from jobs.runner import Refused

logger = logging.getLogger(__name__)

MOST_PER_ROUND = 1_000
MISSED_AFTER = timedelta(minutes=5)  # later than that it is no longer the run that the schedule meant


def reschedule(plan: Plan) -> None:
    """Store when `plan` runs next, from now on; after each change of the plan. A run that is due already stays so."""
    now = timezone.now()
    after = schedule.next_run(plan, now)
    rows = Plan.objects.filter(pk=plan.pk)
    if after is not None:
        rows = rows.exclude(next_run_at__lte=now)
    rows.update(next_run_at=after)
    plan.refresh_from_db(fields=["next_run_at"])


@every(seconds=5)
def start_due_plans() -> int:
    """Start the plans whose time has come; returns how many."""
    now = timezone.now()
    due = Plan.objects.filter(enabled=True, server__enabled=True, next_run_at__lte=now)
    due = due.select_related("server", "repository__pool")
    return sum(_start(plan, now) for plan in due.order_by("next_run_at")[:MOST_PER_ROUND])


def _start(plan: Plan, now: datetime) -> bool:
    """One plan, whose trouble must not stop the others."""
    try:
        with transaction.atomic():  # a scheduler that dies in here has neither taken the run nor lost it
            return _take(plan, now) and _enqueue(plan)
    except OperationalError:
        raise  # the database is in trouble: the next round finds everything as it was
    except Exception:
        logger.exception("The plan %s of %s was not started; it will be tried again.", plan, plan.server)
        return False


def _take(plan: Plan, now: datetime) -> bool:
    """Make the run that is due ours, by one UPDATE; False when it is not to be started by us now."""
    times = schedule.of(plan)
    due_at = plan.next_run_at
    if times is None or due_at is None:
        return False
    following = next(times.runs(now), None)
    free_at = times.out_of_blackout(now) if now - due_at > MISSED_AFTER else now
    if free_at > now and (following is None or following > free_at + times.spread):
        following = free_at  # unless the schedule has a run of its own there
    owed = schedule.owed_since(plan, now) or due_at
    return bool(_as_read(plan).update(next_run_at=following, due_at=owed)) and free_at == now


def _as_read(plan: Plan) -> QuerySet[Plan]:
    """The row, if it still says what `plan` says about when it runs."""
    return Plan.objects.filter(
        pk=plan.pk, enabled=True, next_run_at=plan.next_run_at, schedule=plan.schedule, time_zone=plan.time_zone,
        blackout=plan.blackout, spread_seconds=plan.spread_seconds,
    )  # fmt: skip


def _enqueue(plan: Plan) -> bool:
    try:
        RunBackup.enqueue(plan, trigger=Job.Trigger.SCHEDULE)
    except Refused as refusal:
        if refusal.job:  # one that runs or waits already is as good, if an archive comes of it
            Plan.objects.filter(pk=plan.pk, due_at__gt=refusal.job.created_at).update(due_at=refusal.job.created_at)
        else:
            logger.warning("The plan %s of %s was due, but: %s", plan, plan.server, refusal)
        return False
    return True

"""What the scheduler does about backups."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import OperationalError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from backups import schedule
from backups.models import Plan
from backups.runners.create import RunBackup
from jobs.models import Job
from jobs.periodic import every

logger = logging.getLogger(__name__)

MOST_PER_ROUND = 1_000
AT_ONCE = 100  # in one transaction, for which everybody else who writes may have to wait
MISSED_AFTER = timedelta(minutes=5)  # later than that it is no longer the run that the schedule meant


def reschedule(plan: Plan) -> None:
    """Store when `plan` runs next, from now on; after each change of the plan. A run that is due already stays so."""
    now = timezone.now()
    after = schedule.next_run(plan, now)
    rows = Plan.objects.filter(pk=plan.pk)
    if after is not None:
        rows = rows.exclude(next_run_at__lte=now)
    rows.update(next_run_at=after)
    reschedule_proof(plan, now)
    plan.refresh_from_db(fields=["next_run_at", "proof_due_at", "proof_overdue_at"])


def reschedule_proof(plan: Plan, now: datetime) -> None:
    """Restore tests that come more often than they did do not wait for the turn that they had; 0 days: no turn."""
    period = timedelta(days=plan.proof_days)
    for name, longest in (("proof_due_at", period), ("proof_overdue_at", 2 * period)):
        later = {f"{name}__gt": now + longest} if plan.proof_days else {}
        Plan.objects.filter(pk=plan.pk, **later).update(**{name: None})


@every(seconds=5)
def start_due_plans() -> int:
    """Start the plans whose time has come; returns how many."""
    now = timezone.now()
    # `IN (1)`: for a bare `WHERE enabled`, as Django writes it otherwise, no database takes the index.
    due = Plan.objects.filter(enabled__in=[True], server__enabled=True, next_run_at__lte=now)
    due = due.select_related("server", "repository__pool")
    plans = list(due.order_by("next_run_at", "pk")[:MOST_PER_ROUND])
    return sum(_start(plans[first : first + AT_ONCE], now) for first in range(0, len(plans), AT_ONCE))


def _start(plans: Sequence[Plan], now: datetime) -> int:
    """Some plans together; when one of them makes trouble each on its own, so that it does not stop the others."""
    try:
        with transaction.atomic():  # a scheduler that dies in here has neither taken the runs nor lost them
            return _enqueue([plan for plan in plans if _take(plan, now)])
    except OperationalError:
        raise  # the database is in trouble: the next round finds everything as it was
    except Exception:
        if len(plans) > 1:
            return sum(_start([plan], now) for plan in plans)
        logger.exception("The plan %s of %s was not started; it will be tried again.", plans[0], plans[0].server)
        return 0


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


def _enqueue(plans: Sequence[Plan]) -> int:
    answers = RunBackup.enqueue_all(plans, trigger=Job.Trigger.SCHEDULE)
    for plan, answer in zip(plans, answers, strict=True):
        if isinstance(answer, Job):
            continue
        if job := answer.job:  # one that runs or waits already is as good, if an archive comes of it
            Plan.objects.filter(pk=plan.pk, due_at__gt=job.created_at).update(due_at=job.created_at)
        else:
            logger.warning("The plan %s of %s was due, but: %s", plan, plan.server, answer)
    return sum(isinstance(answer, Job) for answer in answers)

"""Schedulers killed, and several at once, while plans fall due. Real processes; no worker runs what they start."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from backups.models import Plan
from jobs.models import Job
from phpborg.embedded import wait_until
from tests.faults.conftest import PATIENCE_SECONDS, Start

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

PLANS = 40


def fall_due(plan: Plan, first: int) -> None:
    """PLANS more plans, all of which are due now; each runs once a day."""
    due_at = timezone.now() - timedelta(seconds=30)
    Plan.objects.bulk_create(
        Plan(
            name=f"p{number}", server=plan.server, repository=plan.repository, schedule="0 2 * * *", next_run_at=due_at
        )
        for number in range(first, first + PLANS)
    )


def taken() -> int:
    return Plan.objects.filter(next_run_at__gt=timezone.now()).count()


def test_no_run_is_lost_and_none_is_started_twice(plan: Plan, start: Start) -> None:
    """Red without the transaction in `_start`: a scheduler that dies between taking and starting loses the run.

    tests/backups/test_due_plans.py lets two read the same plans before either starts them.
    """
    fall_due(plan, 0)
    both = [start("scheduler"), start("scheduler")]
    wait_until(lambda: taken() > 0, seconds=PATIENCE_SECONDS, what="The first run")
    both[0].kill()  # whatever it has in hand
    fall_due(plan, PLANS)
    wait_until(lambda: taken() > PLANS, seconds=PATIENCE_SECONDS, what="A run that came later")
    both[1].kill()
    fall_due(plan, 2 * PLANS)
    start("scheduler")
    wait_until(lambda: taken() == 3 * PLANS, seconds=PATIENCE_SECONDS, what="Every run")
    wait_until(lambda: Job.objects.count() >= 3 * PLANS, seconds=PATIENCE_SECONDS, what="The job of each")
    assert Job.objects.filter(type="backup", trigger="schedule").count() == 3 * PLANS
    assert Job.objects.values("plan").distinct().count() == 3 * PLANS

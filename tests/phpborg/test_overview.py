"""What the dashboard says comes next."""

from datetime import timedelta

from django.contrib.auth.models import AnonymousUser
from django.test import Client
from django.utils import timezone

from accounts.models import User
from backups.models import Plan
from jobs.models import Job
from phpborg.overview import overview


def test_a_paused_plan_is_not_the_next_one(viewer: User, plan: Plan) -> None:
    """Red when any plan with a time counts: what is paused, or whose server is switched off, will not run."""
    Plan.objects.filter(pk=plan.pk).update(next_run_at=timezone.now() + timedelta(hours=2))
    assert overview(viewer)["next_plan"] == plan
    Plan.objects.filter(pk=plan.pk).update(enabled=False)
    assert overview(viewer)["next_plan"] is None
    Plan.objects.filter(pk=plan.pk).update(enabled=True)
    plan.server.enabled = False
    plan.server.save()
    assert overview(viewer)["next_plan"] is None
    assert overview(AnonymousUser())["next_plan"] is None


def test_what_was_due_and_has_not_begun_is_not_told_as_to_come(as_viewer: Client, plan: Plan) -> None:
    """Red when only one sentence is there for both."""
    Plan.objects.filter(pk=plan.pk).update(next_run_at=timezone.now() - timedelta(hours=2))
    assert "The next one was due <time" in as_viewer.get("/").content.decode()
    Plan.objects.filter(pk=plan.pk).update(next_run_at=timezone.now() + timedelta(hours=2))
    assert "The next one is due <time" in as_viewer.get("/").content.decode()


def test_the_latest_backups_are_those_that_ended_last(viewer: User, plan: Plan) -> None:
    """Red when they are those that were asked for last: a long one that has just ended is not among them."""
    now = timezone.now()

    def backup(asked_ago: int, ended_ago: int | None, status: str = "completed") -> Job:
        ended_at = None if ended_ago is None else now - timedelta(minutes=ended_ago)
        asked_at = now - timedelta(minutes=asked_ago)
        return Job.objects.create(
            type="backup", plan=plan, server=plan.server, status=status, created_at=asked_at, started_at=asked_at,
            completed_at=ended_at,
        )  # fmt: skip

    short = [backup(asked, asked - 5) for asked in range(60, 20, -5)]
    long = backup(600, 1, "failed")
    backup(3, None, "running")
    backup(2, None, "pending")
    shown = overview(viewer)
    assert shown["newest"] == [long, *reversed(short[1:])]
    assert shown["last_end"] == (short[-1].completed_at, plan.server)

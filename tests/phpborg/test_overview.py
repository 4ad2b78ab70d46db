"""What the dashboard says comes next."""

from datetime import timedelta

from django.contrib.auth.models import AnonymousUser
from django.test import Client
from django.utils import timezone

from accounts.models import User
from backups.models import Plan
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

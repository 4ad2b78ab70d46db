"""What the dashboard says comes next."""

from datetime import timedelta

from django.contrib.auth.models import AnonymousUser
from django.test import Client
from django.utils import timezone

from accounts.models import User
from backups.models import Plan, Repository
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


def test_a_failure_is_told_until_a_later_success_cures_it(viewer: User, plan: Plan) -> None:
    """Red when any success cures, also an earlier one, or one of something else; or when none does."""
    now = timezone.now()

    def ended(hours_ago: int, status: str, kind: str = "prune", subject: str = f"plan:{plan.pk}") -> Job:
        at = now - timedelta(hours=hours_ago)
        return Job.objects.create(
            type=kind, subject=subject, plan=plan, server=plan.server, status=status, created_at=at, completed_at=at,
            error="No disk." if status == "failed" else "",
        )  # fmt: skip

    def told() -> list[Job]:
        return list(overview(viewer)["uncured"])

    ended(9, "completed")
    older, newer = ended(8, "failed"), ended(7, "failed")
    ended(6, "completed", subject="plan:999")
    ended(6, "completed", kind="check")
    ended(5, "cancelled")
    ended(24 * 8, "failed", subject="plan:998")  # too long ago
    check = ended(4, "failed", kind="check", subject="repository:1")
    assert told() == [check, newer, older]
    ended(3, "completed")
    assert told() == [check]
    assert overview(AnonymousUser())["uncured"] == []


def test_what_failed_is_on_the_dashboard_with_its_reason(as_viewer: Client, plan: Plan) -> None:
    assert "No later run has succeeded" not in as_viewer.get("/").content.decode()
    now = timezone.now()
    job = Job.objects.create(
        type="prune", subject=f"plan:{plan.pk}", plan=plan, server=plan.server, status="failed", completed_at=now,
        error="The disk <is> full.",
    )  # fmt: skip
    html = as_viewer.get("/").content.decode()
    assert "No later run has succeeded" in html
    assert "The disk &lt;is&gt; full." in html
    assert job.get_absolute_url() in html


def test_numbers_are_those_of_what_one_may_see(viewer: User, plan: Plan) -> None:
    Repository.objects.update(original_bytes=10, deduplicated_bytes=4)
    Job.objects.create(type="backup", plan=plan, server=plan.server)
    seen = overview(viewer)
    assert (seen["servers"], seen["waiting_count"], seen["stored"]["original"], seen["saved"]) == (1, 1, 10, 0.6)
    nobody = overview(AnonymousUser())
    assert (nobody["servers"], nobody["waiting_count"], nobody["stored"]["original"], nobody["saved"]) == (
        0,
        0,
        0,
        None,
    )
    Plan.objects.all().delete()
    Repository.objects.all().delete()
    seen = overview(viewer)
    assert (seen["servers"], seen["waiting_count"], seen["stored"]["original"], seen["unknown_count"]) == (1, 1, 0, 1)

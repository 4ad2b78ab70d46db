"""The same job tried again: what may pass, with pauses, as often as its type allows, unless somebody cancels it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone

from jobs import queue
from jobs.errors import Cause, Failure
from jobs.models import Job, JobQuerySet
from jobs.runner import end, pause_after, perform, try_now
from servers.models import Server
from tests.conftest import run_now
from tests.jobs.conftest import Probe, Unplugged, raising, row, rung, running

pytestmark = pytest.mark.django_db(transaction=True)

News = Callable[[], list[dict[str, Any]]]
HOLD = "repository:7"


class Shaken(Unplugged):
    may_pass = True


@pytest.fixture
def job(probe: type[Probe], server: Server, bell: redis.Redis) -> Job:
    probe.act = raising(Shaken("Something shook."))
    return row(subject=f"server:{server.pk}", server=server, max_attempts=3)


def due(job: Job) -> Job:
    """Its pause is over."""
    Job.objects.filter(pk=job.pk).update(not_before=timezone.now() - timedelta(seconds=1))
    return job


def test_a_failure_that_may_pass_puts_the_job_back_and_says_why(job: Job) -> None:
    before = timezone.now()
    run_now(job)
    assert (job.status, job.attempts, job.completed_at, job.started_at) == ("pending", 1, None, None)
    assert (job.error, job.cause, job.advice) == ("Something shook.", Cause.NETWORK, "Plug it in.")
    assert job.not_before
    assert timedelta(0) <= job.not_before - before - timedelta(seconds=60) < timedelta(seconds=30)
    assert job.is_tried_again


def test_its_hold_is_free_meanwhile(probe: type[Probe], job: Job) -> None:
    probe.hold = HOLD
    run_now(job)
    assert job.holds is None
    assert row().claim("web:2", holds=HOLD)


def test_who_waited_for_its_hold_is_rung(probe: type[Probe], job: Job) -> None:
    probe.hold = HOLD
    waiting = row(waits_for=HOLD)
    run_now(job)
    assert rung() == {"default.normal": [str(waiting.pk)]}


def test_the_hook_of_its_type_is_called_at_the_real_end_only(probe: type[Probe], job: Job) -> None:
    for _ in range(2):
        run_now(job)
        due(job)
    assert probe.seen_by_ended == []
    run_now(job)
    assert (job.status, job.attempts, job.not_before) == ("failed", 3, None)
    assert [status for status, _ in probe.seen_by_ended] == ["failed"]
    assert job.completed_at


def test_an_attempt_that_succeeds_leaves_no_trace_of_the_failure_but_in_the_log(probe: type[Probe], job: Job) -> None:
    run_now(job)
    probe.act = lambda _: {"done": True}
    run_now(due(job))
    assert (job.status, job.attempts, job.error, job.cause, job.advice) == ("completed", 2, "", "", "")
    assert list(job.lines.order_by("number").values_list("attempt", "message")) == [
        (1, "Something shook."),
        (1, "This may pass: attempt 2 of 3 follows in 60 seconds, unless somebody cancels the job."),
    ]


@pytest.mark.parametrize("error", [Unplugged("No."), Failure("No."), RuntimeError("No.")])
def test_what_will_not_pass_by_itself_is_not_tried_again(probe: type[Probe], job: Job, error: Exception) -> None:
    probe.act = raising(error)
    run_now(job)
    assert (job.status, job.attempts) == ("failed", 1)
    assert not job.lines.filter(message__contains="attempt 2").exists()


def test_a_type_with_one_attempt_fails_at_once(job: Job) -> None:
    Job.objects.update(max_attempts=1)
    run_now(job)
    assert (job.status, job.not_before) == ("failed", None)


def test_a_cancel_asked_for_meanwhile_wins(probe: type[Probe], job: Job) -> None:
    def act(runner: Any) -> dict[str, Any]:
        Job.objects.get(pk=job.pk).request_cancel()
        raise Shaken("Something shook.")

    probe.act = act
    run_now(job)
    assert (job.status, job.not_before, job.cancel_requested_at, job.error) == ("cancelled", None, None, "")
    assert [status for status, _ in probe.seen_by_ended] == ["cancelled"]


def test_a_superseded_run_puts_nothing_back(job: Job) -> None:
    old = running(max_attempts=3)
    Job.objects.filter(pk=old.pk).update(status="completed")
    assert end(old, may_pass=True, status=Job.Status.FAILED, error="old news") is False
    old.refresh_from_db()
    assert (old.status, old.error) == ("completed", "")


def test_pages_hear_that_it_waits_again(job: Job, news: News) -> None:
    run_now(job)
    events = [event for event in news() if event["channel"] == "jobs" and event["event"] == "job"]
    assert [event["status"] for event in events] == ["running", "pending"]


def test_pauses_grow_and_the_last_one_repeats(live: Any) -> None:
    live(JOB_RETRY_SECONDS=[60, 300, 900])
    assert [pause_after(attempts) for attempts in range(1, 6)] == [60, 300, 900, 900, 900]


# --- While it waits -------------------------------------------------------------------------------


def test_it_cannot_be_claimed_before_it_is_due(job: Job) -> None:
    run_now(job)
    assert not job.claim("web:1", holds=None)
    perform(str(job.pk))
    job.refresh_from_db()
    assert (job.status, job.attempts) == ("pending", 1)
    assert due(job).claim("web:1", holds=None)
    assert (job.not_before, job.attempts) == (None, 2)


def test_it_is_rung_for_when_it_is_due_and_not_before(job: Job) -> None:
    run_now(job)
    assert queue.ring_forgotten(timedelta(0)) == 0
    due(job)
    assert queue.ring_forgotten(timedelta(0)) == 1
    assert rung() == {"default.normal": [str(job.pk)]}


def test_a_free_hold_is_not_offered_to_one_that_is_not_due(job: Job) -> None:
    Job.objects.update(waits_for=HOLD, not_before=timezone.now() + timedelta(minutes=1))
    queue.ring_next(HOLD)
    assert rung() == {}


def test_it_is_cancelled_at_once(job: Job) -> None:
    run_now(job)
    assert job.request_cancel()
    job.refresh_from_db()
    assert (job.status, job.not_before) == ("cancelled", None)


def test_now_makes_it_due_and_rings(job: Job, news: News) -> None:
    run_now(job)
    news()
    assert try_now(job)
    assert (job.not_before, rung()) == (None, {"default.normal": [str(job.pk)]})
    assert "pending" in [event.get("status") for event in news()]


@pytest.mark.parametrize("status", Job.Status)
def test_now_is_for_those_that_wait_for_an_attempt(bell: redis.Redis, status: Job.Status) -> None:
    assert not try_now(row(status=status))
    assert rung() == {}


def test_now_pressed_twice_rings_once(job: Job) -> None:
    run_now(job)
    assert (try_now(job), try_now(job)) == (True, False)


# --- The claim and the hold -----------------------------------------------------------------------


def test_a_holder_that_ends_between_the_two_steps_of_a_claim_is_not_waited_for(
    bell: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds the hold taken and then notes what it waits for: the holder may have ended, and rung, in between."""
    holder, job = row(), row()
    assert holder.claim("web:1", holds=HOLD)
    usual, calls = JobQuerySet.pending, []

    def pending(self: JobQuerySet) -> JobQuerySet:
        calls.append(1)
        if len(calls) == 2:  # the first one is the claim itself
            holder.finish(Job.Status.COMPLETED)
        return usual(self)

    monkeypatch.setattr(JobQuerySet, "pending", pending)
    assert job.claim("web:2", holds=HOLD)
    assert (job.holds, job.waits_for) == (HOLD, "")


def test_what_follows_from_an_end_cannot_undo_it(probe: type[Probe], job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when `ended` may raise: the backup is made, but its job says "running" until the reaper comes."""

    def broken(_: Job) -> None:
        raise RuntimeError("A bug in what follows.")

    monkeypatch.setattr(probe, "ended", broken)
    assert job.claim("worker", holds=None)
    assert end(job, status=Job.Status.COMPLETED)
    job.refresh_from_db()
    assert job.status == "completed"

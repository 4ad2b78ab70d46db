"""Jobs whose worker is gone: found by their silence, failed in words, and what they held is free."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone

from jobs.models import Job
from jobs.periodic import LOST_AFTER, lose, reap, reap_process, ring_forgotten
from jobs.runner import worker_name
from tests.jobs.conftest import Probe, row, rung, running

pytestmark = pytest.mark.django_db(transaction=True)

News = Callable[[], list[dict[str, Any]]]


def silent(job: Job, since: timedelta = LOST_AFTER + timedelta(seconds=1)) -> Job:
    Job.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - since)
    return job


def test_a_job_without_a_heartbeat_fails_in_words(bell: redis.Redis) -> None:
    job = silent(running())
    assert reap() == 1
    job.refresh_from_db()
    assert (job.status, job.cause) == ("failed", "internal")
    assert job.error == "The worker disappeared (web:1): nothing was heard of it for 90 seconds."
    assert job.advice
    assert job.completed_at is not None


def test_a_job_that_was_heard_of_goes_on(bell: redis.Redis) -> None:
    job = silent(running(), LOST_AFTER - timedelta(seconds=10))
    assert reap() == 0
    job.refresh_from_db()
    assert job.status == "running"


@pytest.mark.parametrize("status", ["pending", "completed", "failed", "cancelled"])
def test_only_running_jobs_are_reaped(bell: redis.Redis, status: str) -> None:
    silent(row(status=status))
    assert reap() == 0


def test_what_it_held_is_free_and_the_next_one_is_rung(bell: redis.Redis) -> None:
    holder, waiting = row(), row(waits_for="repository:7")
    holder.claim("web:1", holds="repository:7")
    silent(holder)
    reap()
    assert rung() == {"default.normal": [str(waiting.pk)]}
    assert waiting.claim("web:2", holds="repository:7")


def test_the_hook_of_its_type_is_called(bell: redis.Redis, probe: type[Probe]) -> None:
    silent(running())
    reap()
    assert probe.seen_by_ended == [("failed", True)]


def test_pages_hear_of_it(news: News) -> None:
    job = silent(running())
    reap()
    statuses = [(event["job"], event["status"]) for event in news() if event["event"] == "job"]
    assert statuses == [(str(job.pk), "failed")]


def test_a_lost_run_that_comes_back_changes_nothing(bell: redis.Redis) -> None:
    job = silent(running())
    reap()
    assert job.beat(log_lines=5) == (False, None)
    assert not job.finish(Job.Status.COMPLETED, result={})


def test_reaping_twice_at_once_is_harmless(bell: redis.Redis) -> None:
    silent(running())
    assert reap() == 1
    assert reap() == 0


def test_a_job_that_says_a_word_between_two_looks_lives(bell: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """As all of them do after an outage of the database, in which none could."""
    job = silent(running())
    monkeypatch.setattr("jobs.periodic.time.sleep", lambda _: job.beat())
    assert reap() == 0
    job.refresh_from_db()
    assert job.status == "running"


def test_a_job_that_says_a_word_in_the_last_moment_lives(bell: redis.Redis) -> None:
    job = silent(running())
    seen = Job.objects.get()
    job.beat()
    assert not lose(seen, "nothing was heard of it.")
    job.refresh_from_db()
    assert (job.status, job.lines.count()) == ("running", 0)


def test_with_attempts_left_it_is_put_back_and_the_log_says_so(bell: redis.Redis, probe: type[Probe]) -> None:
    job = silent(running(max_attempts=2))
    job.log_lines = 7
    job.save(update_fields=["log_lines"])
    assert reap() == 1
    job.refresh_from_db()
    assert (job.status, job.attempts, job.holds, probe.seen_by_ended) == ("pending", 1, None, [])
    assert job.not_before
    assert list(job.lines.order_by("number").values_list("number", "attempt", "level")) == [(8, 1, 40), (9, 1, 20)]


def test_a_cancel_that_the_lost_worker_did_not_see_is_done(bell: redis.Redis) -> None:
    job = silent(running(max_attempts=2))
    job.request_cancel()
    assert reap() == 1
    job.refresh_from_db()
    assert (job.status, job.error) == ("cancelled", "")


def test_the_process_that_was_killed_is_not_waited_for(bell: redis.Redis) -> None:
    mine, other = row(), row()
    mine.claim(worker_name(4711), holds=None)
    other.claim(worker_name(4712), holds=None)
    reap_process(4711)
    assert [(job.status, job.error) for job in (Job.objects.get(pk=mine.pk), Job.objects.get(pk=other.pk))] == [
        ("failed", f"The worker disappeared ({worker_name(4711)}): its process was killed."),
        ("running", ""),
    ]


def test_a_job_whose_type_is_gone_is_reaped_too(bell: redis.Redis) -> None:
    job = silent(running(type="gone"))
    assert reap() == 1
    job.refresh_from_db()
    assert job.status == "failed"


def test_the_periodic_bell_says_how_many(bell: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    row(created_at=timezone.now() - timedelta(minutes=5))
    with caplog.at_level("INFO"):
        ring_forgotten()
    assert "Rang again for 1 waiting jobs." in caplog.text

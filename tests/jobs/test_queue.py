"""rq as a bell: which queue, what is rung again, who is alive."""

from datetime import UTC, datetime, timedelta
from typing import Any

import django_rq
import pytest
import redis
from django.db import transaction
from django.utils import timezone
from rq import Worker
from rq.serializers import JSONSerializer

from jobs import queue
from jobs.models import Job
from tests.jobs.conftest import row, rung

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timedelta(minutes=5)


def forgotten(**values: Any) -> Job:
    """A pending job that has waited for minutes, and that Redis does not know."""
    return row(created_at=timezone.now() - LONG_AGO, **values)


def test_the_queues_stand_in_the_settings_by_place_and_urgency(settings: Any) -> None:
    assert list(settings.RQ_QUEUES) == ["default.high", "default.normal", "default.low"]


@pytest.mark.parametrize("priority", Job.Priority)
def test_a_job_rings_in_the_queue_of_its_priority(bell: redis.Redis, priority: Job.Priority) -> None:
    job = row(priority=priority)
    queue.ring(job)
    assert rung() == {f"default.{priority.name.lower()}": [str(job.pk)]}


def test_a_job_rings_at_its_place(bell: redis.Redis, settings: Any) -> None:
    queues = {f"{place}.{level}": settings.RQ_QUEUES["default.high"] for place in ("default", "cellar")
              for level in ("high", "normal", "low")}  # fmt: skip
    settings.RQ_QUEUES = queues
    job = row(place="cellar")
    queue.ring(job)
    assert rung() == {"cellar.normal": [str(job.pk)]}


def test_a_job_of_a_place_that_is_gone_rings_at_the_first_one(bell: redis.Redis) -> None:
    job = row(place="demolished")
    queue.ring(job)
    assert rung() == {"default.high": [str(job.pk)]}


def test_messages_are_json_and_never_pickles(bell: redis.Redis, settings: Any) -> None:
    """Whoever can write to Redis must not be able to run code in a worker."""
    for name in settings.RQ_QUEUES:
        assert django_rq.get_queue(name).serializer is JSONSerializer
    job = row()
    queue.ring(job)
    assert django_rq.get_queue("default.normal").jobs[0].args == [str(job.pk)]


def test_a_worker_reads_json_too() -> None:
    worker = django_rq.get_worker("default.high", serializer="rq.serializers.JSONSerializer")
    assert worker.serializer is JSONSerializer
    assert all(each.serializer is JSONSerializer for each in worker.queues)


def test_ringing_waits_for_the_commit(bell: redis.Redis) -> None:
    job = row()
    with transaction.atomic():
        queue.ring(job)
        assert rung() == {}
    assert rung() == {"default.normal": [str(job.pk)]}


# --- Ringing again --------------------------------------------------------------------------------


def test_what_redis_forgot_is_rung_again(bell: redis.Redis) -> None:
    first, second = forgotten(), forgotten(priority=Job.Priority.HIGH)
    assert queue.ring_forgotten() == 2
    assert rung() == {"default.normal": [str(first.pk)], "default.high": [str(second.pk)]}


def test_what_redis_knows_is_not_rung_again(bell: redis.Redis) -> None:
    queue.ring(forgotten())
    assert queue.ring_forgotten() == 0
    assert sum(len(ids) for ids in rung().values()) == 1


def test_after_redis_was_emptied_exactly_what_is_missing_is_rung(bell: redis.Redis) -> None:
    jobs = [forgotten() for _ in range(3)]
    for job in jobs:
        queue.ring(job)
    bell.flushdb()
    queue.ring(jobs[0])
    assert queue.ring_forgotten() == 2
    assert sorted(rung()["default.normal"]) == sorted(str(job.pk) for job in jobs)
    assert queue.ring_forgotten() == 0


def test_what_has_just_come_is_left_to_its_own_ring(bell: redis.Redis) -> None:
    row()
    assert queue.ring_forgotten() == 0
    assert queue.ring_forgotten(timedelta(0)) == 1


@pytest.mark.parametrize("status", ["running", "completed", "failed", "cancelled"])
def test_only_pending_jobs_are_rung_again(bell: redis.Redis, status: str) -> None:
    forgotten(status=status)
    assert queue.ring_forgotten() == 0


def test_who_waits_for_a_running_job_is_left_to_it(bell: redis.Redis) -> None:
    forgotten(status="running", holds="repository:7")
    forgotten(waits_for="repository:7")
    assert queue.ring_forgotten() == 0


def test_who_waits_for_what_nobody_holds_any_more_is_rung(bell: redis.Redis) -> None:
    job = forgotten(waits_for="repository:7")
    assert queue.ring_forgotten() == 1
    assert rung() == {"default.normal": [str(job.pk)]}


def test_a_job_that_is_rung_twice_waits_twice_and_runs_once(bell: redis.Redis, probe: Any) -> None:
    job = row()
    queue.ring(job)
    queue.ring(job)
    assert job.claim("web:1", holds=None)
    assert not Job.objects.get(pk=job.pk).claim("web:2", holds=None)


def test_nobody_is_rung_when_nobody_waits_for_the_hold(bell: redis.Redis) -> None:
    row(waits_for="repository:8")
    queue.ring_next("repository:7")
    assert rung() == {}


def test_who_was_cancelled_while_waiting_is_passed_over(bell: redis.Redis) -> None:
    row(waits_for="repository:7").request_cancel()
    second = row(waits_for="repository:7")
    queue.ring_next("repository:7")
    assert rung() == {"default.normal": [str(second.pk)]}


# --- Patience -------------------------------------------------------------------------------------


def waits_since(hours: float, **values: Any) -> Job:
    return row(created_at=timezone.now() - timedelta(hours=hours), **values)


def test_the_one_that_waits_longest_beyond_patience_is_rung_before_the_urgent_ones(bell: redis.Redis) -> None:
    urgent, oldest = row(priority=Job.Priority.HIGH), waits_since(3, priority=Job.Priority.LOW)
    waits_since(2)
    queue.ring(urgent)
    assert queue.ring_patient() == 1
    assert rung() == {"default.high": [str(oldest.pk), str(urgent.pk)]}
    assert queue.ring_patient() == 0  # one at a time


def test_nobody_is_rung_urgently_who_has_not_waited_long_or_cannot_start(bell: redis.Redis) -> None:
    waits_since(0.9)
    waits_since(2, not_before=timezone.now() + timedelta(minutes=1))
    waits_since(2, waits_for="repository:7")
    waits_since(2, priority=Job.Priority.HIGH)
    waits_since(2, status="completed")
    row(status="running", holds="repository:7")
    assert queue.ring_patient() == 0
    assert rung() == {}


def test_a_place_without_workers_keeps_nobody_elsewhere_waiting(bell: redis.Redis, settings: Any) -> None:
    settings.WORKER_PLACES = ["default", "cellar"]
    settings.RQ_QUEUES = {**settings.RQ_QUEUES, "cellar.high": settings.RQ_QUEUES["default.high"]}
    far, near = waits_since(9, place="cellar"), waits_since(2)
    assert queue.ring_patient() == 2
    assert rung() == {"cellar.high": [str(far.pk)], "default.high": [str(near.pk)]}


def test_each_message_has_a_name_of_its_own(bell: redis.Redis) -> None:
    """rq forgets a message that was answered by its name: a second one for the same job must outlive that."""
    job = row()
    queue.ring(job)
    queue.ring(job)
    assert len(set(queue.queue_named("default.normal").job_ids)) == 2


# --- Who is alive ---------------------------------------------------------------------------------


def test_the_scheduler_lives_as_long_as_it_beats(bell: redis.Redis) -> None:
    assert not queue.scheduler_is_alive()
    queue.scheduler_beats()
    assert queue.scheduler_is_alive()
    assert 0 < bell.ttl(queue.SCHEDULER_KEY) <= queue.SCHEDULER_SEEN_WITHIN_SECONDS


def test_workers_that_were_heard_of_lately_live(bell: redis.Redis) -> None:
    worker = Worker([queue.queue_named("default.high")], connection=bell, serializer=JSONSerializer)
    worker.register_birth()  # type: ignore[no-untyped-call]
    assert queue.live_workers() == [worker.name]
    silent = datetime.now(UTC) - queue.WORKER_SEEN_WITHIN - timedelta(seconds=1)
    bell.hset(worker.key, "last_heartbeat", silent.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    assert queue.live_workers() == []


def test_readiness_is_told_by_what_lives(bell: redis.Redis, client: Any) -> None:
    worker = Worker([queue.queue_named("default.high")], connection=bell, serializer=JSONSerializer)
    worker.register_birth()  # type: ignore[no-untyped-call]
    queue.scheduler_beats()
    answer = client.get("/readyz")
    assert (answer.status_code, set(answer.json().values())) == (200, {True})


def test_without_redis_readiness_says_so(dead_redis: None, client: Any) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"database": True, "redis": False, "worker": False, "scheduler": False}


def test_without_redis_nothing_can_be_rung_again(dead_redis: None) -> None:
    assert queue.ring_forgotten() == 0  # nobody waits, so nothing is asked
    forgotten()
    with pytest.raises(redis.RedisError):
        queue.ring_forgotten()

"""Redis stopped and started, or emptied, under real workers and a real listener."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from redis import RedisError

from jobs import live, queue
from jobs.models import Job
from phpborg.embedded import RedisServer, wait_until
from tests.faults.conftest import PATIENCE_SECONDS, Start, let, says, wait_for
from tests.jobs.test_live import hearing

pytestmark = pytest.mark.e2e

Slow = Callable[..., Job]


def test_a_running_job_ends_and_waiting_ones_run_after_redis_was_away(
    start: Start, slow: Slow, outage: RedisServer
) -> None:
    """Without PatientWorker the worker ends in the outage, and with it, under systemd, the job; without
    `ring_forgotten` the waiting one is never rung for again."""
    worker, running = start("worker"), slow()
    wait_for(running, "running")
    waiting = slow()
    outage.stop()
    with pytest.raises(RedisError):
        queue.connection().ping()
    unheard = slow()
    seen = running.log_lines
    wait_until(lambda: lines_of(running) > seen, seconds=PATIENCE_SECONDS, what="Its log")
    let(running, "end-1")
    wait_for(running, "completed")
    wait_until(lambda: says(worker, "could not connect to Redis"), seconds=PATIENCE_SECONDS, what="Its complaint")
    assert worker.is_alive
    outage.start()
    let(waiting, "end-1")
    let(unheard, "end-1")
    assert queue.ring_forgotten(timedelta(0)) == 2
    wait_for(waiting, "completed")
    wait_for(unheard, "completed")
    assert worker.is_alive


def lines_of(job: Job) -> int:
    return Job.objects.get(pk=job.pk).log_lines


def test_after_redis_was_emptied_waiting_jobs_run_and_the_worker_is_known_again(start: Start, slow: Slow) -> None:
    """Without `ring_forgotten` the waiting one never runs; without `_introduce_itself` the worker counts as dead."""
    start("worker")
    running = wait_for(slow(), "running")
    waiting = slow()
    queue.connection().flushall()
    assert queue.live_workers() == []
    let(waiting, "end-1")
    assert queue.ring_forgotten(timedelta(0)) == 1
    let(running, "end-1")
    wait_for(running, "completed")
    wait_for(waiting, "completed")
    wait_until(lambda: len(queue.live_workers()) == 1, seconds=PATIENCE_SECONDS, what="The worker")


def test_a_worker_is_asked_to_stop_while_redis_is_away(start: Start, slow: Slow, outage: RedisServer) -> None:
    """Without `set_shutdown_requested_date` of PatientWorker the signal ends it in mid-job."""
    worker = start("worker")
    running = wait_for(slow(), "running")
    outage.stop()
    worker.terminate()
    seen = lines_of(running)
    wait_until(lambda: lines_of(running) > seen, seconds=PATIENCE_SECONDS, what="Its log")
    wait_until(lambda: says(worker, "it stops all the same"), seconds=PATIENCE_SECONDS, what="Its answer")
    assert worker.is_alive
    let(running, "end-1")
    wait_for(running, "completed")
    assert worker.process
    worker.process.wait(PATIENCE_SECONDS)


@pytest.mark.django_db
def test_live_pages_hear_again_after_redis_was_away(outage: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a listener that ends with its connection, as django-eventstream's own does, nothing is heard any more."""
    monkeypatch.setattr(live, "RECONNECT_SECONDS", 0.05)

    async def story() -> None:
        async with hearing() as (listener, client):
            job = Job()
            await asyncio.to_thread(live.nudge, job, line=1)
            assert await listener.next() == (f"job-{job.pk}", f"job-{job.pk}", '{"line": 1}')
            await listener.next()
            await asyncio.to_thread(outage.stop)
            await asyncio.to_thread(live.nudge, job, line=2)  # lost, and no harm done
            await asyncio.to_thread(outage.start)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (await client.pubsub_numsub("events_channel"))[0][1]:
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(live.nudge, job, line=3)
            assert await listener.next() == (f"job-{job.pk}", f"job-{job.pk}", '{"line": 3}')

    asyncio.run(story())

"""A database that takes nothing for longer than anybody waits for it, in mid-job."""

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from django.db import connection

from jobs.models import Job
from phpborg.embedded import wait_until
from tests.faults.conftest import PATIENCE_SECONDS, Start, let, log_of, says, wait_for, with_pid

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="takes SQLite's lock"),
]

Slow = Callable[..., Job]


@pytest.fixture
def lock(transactional_db: None) -> Iterator[sqlite3.Connection]:
    """A connection that may take the whole database for itself; what it took is free afterwards."""
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        yield other
        if other.in_transaction:
            other.rollback()


def test_a_job_goes_on_while_the_database_is_away_and_its_record_is_complete(
    start: Start, slow: Slow, lock: sqlite3.Connection
) -> None:
    """Without `insist` around the last flush the job never ends; without the patience of Pulse its lines are lost."""
    worker = start("worker", BUSY_SECONDS="0.3")
    job = wait_for(slow(hold="repository:1"), "running")
    lock.execute("BEGIN EXCLUSIVE")
    wait_until(lambda: says(worker, "its log waits", times=2), seconds=PATIENCE_SECONDS, what="Its patience")
    written = Job.objects.get(pk=job.pk).log_lines
    let(job, "end-1")
    wait_until(lambda: says(worker, "trying again in", times=2), seconds=PATIENCE_SECONDS, what="Its insistence")
    assert (Job.objects.get(pk=job.pk).status, job.lines.count()) == ("running", written)
    lock.rollback()
    wait_for(job, "completed")
    assert (job.result, job.holds, job.attempts) == ({"attempt": 1}, None, 1)
    assert log_of(job, 1) == ["Attempt 1 has begun."]
    numbers = list(job.lines.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, job.log_lines + 1))
    assert len(numbers) > written
    assert worker.is_alive


def test_a_job_that_cannot_be_claimed_starts_when_the_database_is_back(
    start: Start, slow: Slow, lock: sqlite3.Connection
) -> None:
    """Without `insist` around the claim its message is used up, and it stands until the scheduler rings again."""
    worker, job = start("worker", BUSY_SECONDS="0.3"), slow()
    wait_for(job, "running")
    second = slow()
    let(second, "end-1")
    with_pid(job, signal.SIGKILL)
    lock.execute("BEGIN EXCLUSIVE")
    wait_until(lambda: says(worker, "trying again in", times=2), seconds=PATIENCE_SECONDS, what="Its insistence")
    lock.rollback()
    wait_for(second, "completed")
    assert (second.attempts, worker.is_alive) == (1, True)

"""A log that never ends: the first half and the newest half are kept, the gap is told by the numbers."""

from typing import Any

import pytest
from django.db import OperationalError

from jobs.log import JobLog
from jobs.models import Job, LogLine
from tests.jobs.conftest import running

pytestmark = pytest.mark.django_db


def numbers(job: Job) -> list[int]:
    return list(LogLine.objects.filter(job=job).order_by("number").values_list("number", flat=True))


def write(log: JobLog, count: int) -> None:
    for _ in range(count):
        log.info("x")


def test_up_to_the_limit_everything_is_kept() -> None:
    job = running()
    log = JobLog(job, limit=10)
    write(log, 10)
    log.flush()
    assert numbers(job) == list(range(1, 11))


def test_beyond_it_the_middle_is_left_out() -> None:
    job = running()
    log = JobLog(job, limit=10)
    write(log, 25)
    log.flush()
    assert numbers(job) == [1, 2, 3, 4, 5, 21, 22, 23, 24, 25]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 11, 40])
def test_however_the_lines_come_the_same_ones_are_kept(at_once: int) -> None:
    job = running()
    log = JobLog(job, limit=10)
    written = 0
    while written < 40:
        write(log, min(at_once, 40 - written))
        written += min(at_once, 40 - written)
        log.flush()
    assert numbers(job) == [1, 2, 3, 4, 5, 36, 37, 38, 39, 40]
    assert Job.objects.get().log_lines == 40


def test_the_log_of_another_job_is_left_alone() -> None:
    other, job = running(), running()
    for owner in (other, job):
        log = JobLog(owner, limit=10)
        write(log, 12 if owner is other else 100)
        log.flush()
    assert numbers(other) == [1, 2, 3, 4, 5, 8, 9, 10, 11, 12]


def test_an_odd_or_small_limit_works_too() -> None:
    job = running()
    log = JobLog(job, limit=3)
    write(log, 9)
    log.flush()
    assert numbers(job) == [1, 9]


def test_a_later_attempt_keeps_a_beginning_of_its_own() -> None:
    job = running()
    first = JobLog(job, limit=10)
    write(first, 30)
    first.flush()
    Job.objects.update(status="pending")
    job = Job.objects.get()
    job.claim("web:2", holds=None)
    second = JobLog(job, limit=10)
    write(second, 30)
    second.flush()
    kept = list(LogLine.objects.filter(attempt=2).order_by("number").values_list("number", flat=True))
    assert kept == [31, 32, 33, 34, 35, 56, 57, 58, 59, 60]


def test_the_default_limit_is_the_setting(live: Any) -> None:
    live(JOB_LOG_LINES=100)
    job = running()
    log = JobLog(job)
    write(log, 205)
    log.flush()
    assert numbers(job) == [*range(1, 51), *range(156, 206)]


def test_a_hundred_thousand_lines_stay_bounded_in_memory_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = running()
    log = JobLog(job, limit=1000)

    def away(*args: Any) -> Any:
        raise OperationalError(2006, "Server has gone away")

    with monkeypatch.context() as patch:
        patch.setattr(log, "_store", away)
        for _ in range(10):
            write(log, 10_000)
            with pytest.raises(OperationalError):
                log.flush()
            assert len(log._head) + len(log._tail) == 1000
    log.flush()
    assert numbers(job) == [*range(1, 501), *range(99_501, 100_001)]
    assert len(log._head) + len(log._tail) == 0


def test_a_hundred_thousand_lines_stay_bounded_in_the_database() -> None:
    job = running()
    log = JobLog(job, limit=1000)
    for _ in range(10):
        write(log, 10_000)
        log.flush()
        assert LogLine.objects.count() == 1000
    assert Job.objects.get().log_lines == 100_000

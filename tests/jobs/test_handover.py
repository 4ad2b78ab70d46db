"""A secret from a web process to one job: once, for two minutes, unreadable on the way."""

import uuid
from collections.abc import Callable
from typing import Any, cast

import pytest
from redis import Redis, RedisError

from jobs import handover
from jobs.models import Job

SECRET = "corréct horse, battery staple"

pytestmark = pytest.mark.usefixtures("bell")


@pytest.fixture
def job() -> Job:
    return Job(type="probe")


def lying(bell: Any) -> list[bytes]:
    return [bell.get(key) for key in bell.keys("phpborg:handover:*")]


def test_what_was_given_is_taken(job: Job) -> None:
    handover.give(job, SECRET)
    assert handover.take(job) == SECRET


def test_it_is_taken_once(job: Job, bell: Any) -> None:
    """Red with GET in the place of GETDEL."""
    handover.give(job, SECRET)
    handover.take(job)
    assert lying(bell) == []
    with pytest.raises(handover.NotThere, match="not there any more") as caught:
        handover.take(job)
    assert "Enter it again" in caught.value.own_advice


def test_it_goes_by_itself(job: Job, bell: Any) -> None:
    """Red without `ex`."""
    handover.give(job, SECRET)
    [key] = bell.keys("phpborg:handover:*")
    assert 0 < bell.ttl(key) <= handover.SECONDS == 120


def test_what_lies_in_redis_is_not_what_was_given(job: Job, bell: Any) -> None:
    """Red without the Sealer."""
    handover.give(job, SECRET)
    [sealed] = lying(bell)
    assert not any(word.encode() in sealed for word in SECRET.split())


def test_another_job_finds_nothing(job: Job) -> None:
    handover.give(job, SECRET)
    with pytest.raises(handover.NotThere):
        handover.take(Job(type="probe", id=uuid.uuid4()))


def test_another_job_cannot_open_it_even_when_somebody_moves_it_there(job: Job, bell: Any) -> None:
    """Red with one key for all jobs."""
    other = Job(type="probe", id=uuid.uuid4())
    handover.give(job, SECRET)
    bell.rename(f"phpborg:handover:{job.pk}", f"phpborg:handover:{other.pk}")
    with pytest.raises(handover.NotThere, match="sealed with another key"):
        handover.take(other)


def test_the_same_secret_looks_different_for_each_job(job: Job, bell: Any) -> None:
    handover.give(job, SECRET)
    handover.give(Job(type="probe", id=uuid.uuid4()), SECRET)
    assert len(set(lying(bell))) == 2


@pytest.mark.parametrize("do", [lambda job: handover.give(job, SECRET), handover.take])
def test_without_redis_it_says_so(job: Job, do: Callable[[Job], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Redis:
        raise RedisError("away")

    monkeypatch.setattr("jobs.queue.connection", cast("Any", away))
    with pytest.raises((handover.NotGiven, handover.NotThere)):
        do(job)

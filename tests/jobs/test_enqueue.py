"""JobRunner.enqueue: a row, and a ring once it is committed. And retry_of, which does it again."""

import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.db import connection, transaction
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from jobs.models import Job
from jobs.runner import Refused, retry_of
from servers.models import Server
from tests.jobs.conftest import Probe, row, rung

News = Callable[[], list[dict[str, Any]]]
committed = pytest.mark.django_db(transaction=True)


def test_the_row_says_what_whose_and_why(probe: type[Probe], server: Server, operator: User) -> None:
    job = probe.enqueue(server, user=operator, trigger=Job.Trigger.API, depth=3)
    job.refresh_from_db()
    assert (job.type, job.status, job.subject, job.server) == ("probe", "pending", f"server:{server.pk}", server)
    assert (job.user, job.trigger, job.payload) == (operator, "api", {"depth": 3})
    assert (job.priority, job.place, job.attempts, job.max_attempts) == (Job.Priority.NORMAL, "default", 0, 1)


@committed
def test_it_rings_when_the_transaction_commits_and_not_before(
    probe: type[Probe], server: Server, bell: redis.Redis
) -> None:
    with transaction.atomic():
        job = probe.enqueue(server)
        assert rung() == {}
    assert rung() == {"default.normal": [str(job.pk)]}


@committed
def test_a_rolled_back_job_neither_exists_nor_rings(
    probe: type[Probe], server: Server, bell: redis.Redis, news: News
) -> None:
    with transaction.atomic():
        probe.enqueue(server)
        transaction.set_rollback(True)
    assert not Job.objects.exists()
    assert rung() == {}
    assert news() == []


@committed
def test_pages_hear_of_the_new_job(probe: type[Probe], server: Server, news: News) -> None:
    job = probe.enqueue(server)
    events = news()
    assert {event["channel"] for event in events} == {"jobs", f"job-{job.pk}"}
    assert all(event["job"] == str(job.pk) and event["status"] == "pending" for event in events)


@committed
def test_without_redis_the_row_is_there_and_waits(
    probe: type[Probe], server: Server, dead_redis: None, caplog: pytest.LogCaptureFixture
) -> None:
    job = probe.enqueue(server)
    assert Job.objects.get().status == "pending"
    assert f"Job {job.pk} waits for the scheduler to ring again" in caplog.text


@committed
def test_the_message_in_redis_is_the_id_and_nothing_else(
    probe: type[Probe], server: Server, operator: User, bell: redis.Redis
) -> None:
    """Whoever reads Redis learns that a job exists; whoever writes there cannot say what it does."""
    job = probe.enqueue(server, user=operator, passphrase_hint="not for Redis")
    everything = dump(bell)
    assert f'["jobs.runner.perform", null, ["{job.pk}"], {{}}]'.encode() in inflated(bell, job)
    for word in (b"not for Redis", server.name.encode(), server.address.encode(), b"otto"):
        assert word not in everything


def dump(bell: Any) -> bytes:
    """Every key and every value of the database, and what is packed in them."""
    read = {
        b"hash": bell.hgetall, b"string": bell.get, b"set": bell.smembers, b"list": lambda key: bell.lrange(key, 0, -1),
        b"zset": lambda key: bell.zrange(key, 0, -1),
    }  # fmt: skip
    found = []
    for key in bell.scan_iter():
        value = read[bell.type(key)](key)
        found.append(repr((key, value)).encode())
        if isinstance(value, dict):
            found.extend(unpacked(each) for each in value.values())
    return b"\n".join(found)


def unpacked(value: bytes) -> bytes:
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value


def key_of(bell: redis.Redis, job: Job) -> bytes:
    """Under which the only message that rings for `job` stands."""
    (key,) = bell.scan_iter(f"rq:job:{job.pk}-*")
    return key  # type: ignore[no-any-return]


def inflated(bell: redis.Redis, job: Job) -> bytes:
    message: dict[bytes, bytes] = bell.hgetall(key_of(bell, job))  # type: ignore[assignment]
    return unpacked(message[b"data"])


@committed
def test_the_message_keeps_no_result_and_has_no_time_limit(
    probe: type[Probe], server: Server, bell: redis.Redis
) -> None:
    message: dict[bytes, bytes] = bell.hgetall(key_of(bell, probe.enqueue(server)))  # type: ignore[assignment]
    assert message[b"timeout"] == b"-1"
    assert message[b"result_ttl"] == b"0"
    assert message[b"failure_ttl"] == b"0"


# --- Refused --------------------------------------------------------------------------------------


def test_a_second_one_is_refused_while_the_first_waits(probe: type[Probe], server: Server) -> None:
    first = probe.enqueue(server)
    with pytest.raises(Refused, match=r"^Probe is already waiting here.$") as refusal:
        probe.enqueue(server)
    assert refusal.value.job == first
    assert Job.objects.count() == 1


def test_a_second_one_is_refused_while_the_first_runs(probe: type[Probe], server: Server) -> None:
    probe.enqueue(server).claim("web:1", holds=None)
    with pytest.raises(Refused, match=r"^Probe is already running here.$"):
        probe.enqueue(server)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_one_that_has_ended_is_not_in_the_way(probe: type[Probe], server: Server, status: str) -> None:
    row(subject=f"server:{server.pk}", status=status)
    assert probe.enqueue(server).status == "pending"


def test_another_subject_or_another_type_is_not_in_the_way(probe: type[Probe], server: Server) -> None:
    row(subject="server:999999")
    row(subject=f"server:{server.pk}", type="server_test")
    assert probe.enqueue(server).status == "pending"


@committed
def test_of_many_at_once_one_is_started(probe: type[Probe], server: Server) -> None:
    start = threading.Barrier(5)
    outcomes: list[str] = []

    def press() -> None:
        try:
            start.wait()
            outcomes.append(probe.enqueue(server).status)
        except Refused as refusal:
            outcomes.append(str(refusal))
        finally:
            connection.close()

    threads = [threading.Thread(target=press) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["Probe is already waiting here."] * 4 + ["pending"]
    assert Job.objects.count() == 1


def test_a_subject_that_was_deleted_is_refused(probe: type[Probe], server: Server) -> None:
    Server.objects.filter(pk=server.pk).delete()
    with pytest.raises(Refused, match=r"It was deleted in the meantime."):
        probe.enqueue(server)
    assert not Job.objects.exists()


# --- Many at once ---------------------------------------------------------------------------------


def made(count: int) -> list[Server]:
    return [Server.objects.create(name=f"s{number}", address="192.0.2.1") for number in range(count)]


@committed
def test_each_of_many_gets_its_job_or_a_refusal(probe: type[Probe], operator: User, bell: redis.Redis) -> None:
    servers = made(4)
    busy = probe.enqueue(servers[1])
    gone, kept = servers[2], servers[2].pk
    gone.delete()
    gone.pk = kept
    bell.flushdb()
    first, second, third, fourth = probe.enqueue_all(servers, user=operator, trigger=Job.Trigger.API, depth=3)
    assert isinstance(second, Refused)
    assert isinstance(third, Refused)
    assert (str(second), second.job) == ("Probe is already waiting here.", busy)
    assert (str(third), third.job) == ("It was deleted in the meantime.", None)
    for server, answer in ((servers[0], first), (servers[3], fourth)):
        job = Job.objects.get(subject=f"server:{server.pk}")
        assert job == answer
        assert (job.server, job.user, job.trigger, job.payload) == (server, operator, "api", {"depth": 3})
    assert Job.objects.count() == 3
    assert {name: set(ids) for name, ids in rung().items()} == {
        "default.normal": {str(answer.pk) for answer in (first, fourth) if isinstance(answer, Job)}
    }


def test_what_one_refuses_is_asked_of_each(probe: type[Probe], db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(subject: Server) -> None:
        if subject.name == "s1":
            raise Refused("Not s1.")

    monkeypatch.setattr(probe, "refuse", refuse)
    answers = probe.enqueue_all(made(3))
    assert [str(answer) if isinstance(answer, Refused) else answer.status for answer in answers] == [
        "pending", "Not s1.", "pending",
    ]  # fmt: skip


@committed
def test_many_are_rung_for_in_one_go(probe: type[Probe], bell: redis.Redis) -> None:
    """So a Redis that is away is asked once, and not for some seconds by each."""
    bell.config_resetstat()
    probe.enqueue_all(made(20))
    assert bell.info("commandstats")["cmdstat_exec"]["calls"] == 1
    assert len(rung()["default.normal"]) == 20


@pytest.mark.parametrize("count", [1, 20])
def test_many_take_as_many_queries_as_one(
    probe: type[Probe], db: None, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    servers = made(count)
    # The locks, who is there already, the rows, their events; the audit trail's head, their entries, the head again; a
    # savepoint around them.
    with django_assert_num_queries(9):
        probe.enqueue_all(servers)


def test_several_at_once_is_for_those_that_say_so(
    probe: type[Probe], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "several_at_once", True)
    assert probe.enqueue(server) != probe.enqueue(server)
    assert Job.objects.pending().count() == 2


# --- Again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_ended_job_can_be_done_again_with_the_same_parameters(
    probe: type[Probe], server: Server, operator: User, status: str
) -> None:
    old = row(subject=f"server:{server.pk}", status=status, payload={"depth": 3}, error="x", attempts=1)
    new = retry_of(old, user=operator, trigger=Job.Trigger.RETRY)
    assert new.pk != old.pk
    assert (new.status, new.payload, new.user, new.trigger) == ("pending", {"depth": 3}, operator, "retry")
    assert (new.error, new.attempts, new.subject) == ("", 0, old.subject)


@pytest.mark.parametrize("status", ["pending", "running"])
def test_what_has_not_ended_is_not_done_again(probe: type[Probe], server: Server, status: str) -> None:
    job = row(subject=f"server:{server.pk}", status=status)
    with pytest.raises(Refused, match=r"The job has not ended yet.") as refusal:
        retry_of(job, user=None, trigger=Job.Trigger.RETRY)
    assert refusal.value.job == job


def test_what_was_deleted_is_not_done_again(probe: type[Probe], db: None) -> None:
    with pytest.raises(Refused, match=r"What the job was for has been deleted."):
        retry_of(row(subject="server:999999", status="failed"), user=None, trigger=Job.Trigger.RETRY)


def test_an_unknown_type_is_not_done_again(db: None) -> None:
    with pytest.raises(Refused, match="does not know the job type “gone”"):
        retry_of(row(type="gone", status="failed"), user=None, trigger=Job.Trigger.RETRY)


def test_doing_it_again_is_refused_as_doing_it_is(probe: type[Probe], server: Server) -> None:
    old = row(subject=f"server:{server.pk}", status="failed")
    probe.enqueue(server)
    with pytest.raises(Refused, match=r"Probe is already waiting here."):
        retry_of(old, user=None, trigger=Job.Trigger.RETRY)

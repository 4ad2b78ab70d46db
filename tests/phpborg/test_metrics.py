"""GET /metrics: who may read it, and what it says."""

import math
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from redis.backoff import NoBackoff
from redis.retry import Retry

from backups.models import Plan, Repository, StoragePool
from jobs import queue
from jobs.models import Job
from servers.models import Server
from tests.conftest import HOST_KEY
from tests.phpborg.test_settings import NEEDED, read_text, refused

TOKEN = "a token of some length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def with_token(settings: Any) -> None:
    settings.METRICS_TOKEN = TOKEN


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


Scraped = dict[tuple[str, ...], float]  # by name and the values of its labels


def scraped(client: Client) -> Scraped:
    """What Prometheus' own parser makes of it."""
    answer = client.get("/metrics", headers=BEARER)
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(answer.content.decode()):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            assert sample.name.startswith("phpborg_")
            labels = [value for _, value in sorted(sample.labels.items(), reverse=True)]  # server, then plan
            key = (sample.name.removeprefix("phpborg_"), *labels)
            assert key not in found
            found[key] = sample.value
    return found


# --- Who may read it ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_without_a_setting_it_is_not_there(client: Client, as_admin: Client) -> None:
    assert client.get("/metrics").status_code == 404
    assert as_admin.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_who_sends_the_token_may_read_it(client: Client, scheme: str) -> None:
    assert client.get("/metrics", headers={"Authorization": f"{scheme} {TOKEN}"}).status_code == 200


@pytest.mark.usefixtures("with_token")
@pytest.mark.parametrize(
    "sent",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"],
)
def test_who_sends_another_is_asked_for_it_and_costs_no_query(client: Client, sent: str) -> None:
    answer = client.get("/metrics", headers={"Authorization": sent})
    assert (answer.status_code, answer["WWW-Authenticate"], answer.content) == (401, 'Bearer realm="metrics"', b"")


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_a_session_opens_nothing(as_admin: Client) -> None:
    assert as_admin.get("/metrics").status_code == 401


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("10.20.30.40", 200), ("::ffff:10.20.30.40", 200), ("2001:db8::7", 200), ("192.0.2.7", 200),
        ("11.0.0.1", 404), ("192.0.2.8", 404), ("2001:db9::7", 404), ("", 404), ("nonsense", 404),
    ],
)  # fmt: skip
def test_who_asks_from_an_allowed_address_may_read_it(client: Client, settings: Any, address: str, status: int) -> None:
    settings.METRICS_ALLOWED = [ip_network(text) for text in ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")]
    assert client.get("/metrics", REMOTE_ADDR=address).status_code == status


def test_what_a_stranger_says_of_its_address_is_not_believed(client: Client, settings: Any) -> None:
    """Whoever may say who the caller is, is uvicorn's business (TRUSTED_PROXIES)."""
    settings.METRICS_ALLOWED = [ip_network("10.0.0.0/8")]
    said = {"X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    assert client.get("/metrics", headers=said, REMOTE_ADDR="203.0.113.5").status_code == 404


@pytest.mark.usefixtures("with_token")
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "head"])
def test_it_is_only_read(client: Client, method: str) -> None:
    assert getattr(client, method)("/metrics", headers=BEARER).status_code == 405


def test_the_settings_are_read_and_nonsense_is_named(tmp_path: Path) -> None:
    networks = "[str(network) for network in s.METRICS_ALLOWED], s.METRICS_TOKEN"
    assert read_text(tmp_path, networks, **NEEDED) == "[]"
    allowed = "10.0.0.0/8,192.0.2.7,2001:db8::/32"
    assert read_text(tmp_path, networks, **NEEDED, METRICS_ALLOWED=allowed, METRICS_TOKEN=TOKEN) == (
        f"['10.0.0.0/8', '192.0.2.7/32', '2001:db8::/32'] {TOKEN}"
    )
    assert "METRICS_ALLOWED must name addresses" in refused(tmp_path, **NEEDED, METRICS_ALLOWED="10.0.0.0/8,prometheus")
    assert "METRICS_TOKEN must have at least 16" in refused(tmp_path, **NEEDED, METRICS_TOKEN="short")


# --- What it says ---------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_a_plan_tells_of_its_last_good_backup_and_of_its_last(client: Client, plan: Plan, now: datetime) -> None:
    job = Job.objects.create(
        type="backup", plan=plan, status="completed", started_at=now - timedelta(seconds=90, hours=1),
        completed_at=now - timedelta(hours=1), result={"original": 2**53, "deduplicated": 7, "suspicion": ""},
    )  # fmt: skip
    good_at = now - timedelta(hours=2)
    Plan.objects.update(last_job=job, last_good_at=good_at)
    found = scraped(client)
    of_plan = {name: value for (name, *labels), value in found.items() if labels == ["web-1", "files"]}
    assert of_plan == {
        "plan_last_good_backup_timestamp_seconds": good_at.timestamp(),
        "plan_last_good_backup_age_seconds": 7200,
        "plan_last_backup_duration_seconds": 90,
        "plan_last_backup_original_bytes": 2**53,
        "plan_last_backup_added_bytes": 7,
    }


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_a_plan_without_a_good_backup_is_as_old_as_can_be(client: Client, plan: Plan) -> None:
    Plan.objects.create(name="home", server=plan.server, repository=plan.repository)
    Plan.objects.filter(pk=plan.pk).update(last_job=Job.objects.create(type="backup", status="failed", result=None))
    found = scraped(client)
    for name in ("files", "home"):
        assert found["plan_last_good_backup_timestamp_seconds", "web-1", name] == 0
        assert found["plan_last_good_backup_age_seconds", "web-1", name] == math.inf
        assert ("plan_last_backup_original_bytes", "web-1", name) not in found


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_what_should_not_run_alarms_nobody(client: Client, plan: Plan) -> None:
    Plan.objects.update(enabled=False)
    assert not [key for key in scraped(client) if key[0].startswith("plan_")]
    Plan.objects.update(enabled=True)
    Server.objects.update(enabled=False)
    assert not [key for key in scraped(client) if key[0].startswith("plan_")]


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_names_can_say_nothing_but_names(client: Client, plan: Plan) -> None:
    evil = 'x"} 1\nphpborg_redis_up 0\n# HELP \\ \N{SNOWMAN}'
    Server.objects.update(name=evil)
    found = scraped(client)
    assert ("plan_last_good_backup_age_seconds", evil, "files") in found
    assert found["redis_up",] == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_jobs_are_counted_by_their_status(client: Client, now: datetime) -> None:
    for status, hours in [
        ("pending", 100), ("pending", 0), ("running", 0), ("completed", 1), ("completed", 30), ("failed", 2),
    ]:  # fmt: skip
        Job.objects.create(type="backup", status=status, created_at=now - timedelta(hours=hours))
    found = scraped(client)
    assert {key[1]: value for key, value in found.items() if key[0] == "jobs"} == {"pending": 2, "running": 1}
    assert {key[1]: value for key, value in found.items() if key[0] == "jobs_last_day"} == {
        "cancelled": 0, "completed": 1, "failed": 1,
    }  # fmt: skip


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_pools_tell_their_room_once_it_is_known(client: Client, pool: StoragePool, repository: Repository) -> None:
    StoragePool.objects.create(name="large", path="/srv/large", free_bytes=10**15, total_bytes=10**16)
    found = scraped(client)
    assert (found["pool_free_bytes", "large"], found["pool_total_bytes", "large"]) == (10**15, 10**16)
    assert ("pool_free_bytes", "disk") not in found
    assert [found[name,] for name in ("repositories", "repositories_damaged", "repositories_frozen")] == [1, 0, 0]
    Repository.objects.update(damage="A byte.", frozen="One is gone.")
    found = scraped(client)
    assert [found[name,] for name in ("repositories", "repositories_damaged", "repositories_frozen")] == [1, 1, 1]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("with_token")
def test_redis_tells_of_queues_workers_and_schedulers(client: Client, now: datetime) -> None:
    found = scraped(client)
    assert (found["redis_up",], found["workers_alive",], found["scheduler_up",]) == (1, 0, 0)
    assert ("scheduler_lag_seconds",) not in found
    queue.ring(Job.objects.create(type="backup"))
    queue.connection().set(queue.SCHEDULER_KEY, (now - timedelta(seconds=12)).isoformat())
    found = scraped(client)
    assert (found["scheduler_up",], found["scheduler_lag_seconds",]) == (1, 12)
    assert {key[1]: value for key, value in found.items() if key[0] == "queue_length"} == {
        "default.high": 0, "default.normal": 1, "default.low": 0,
    }  # fmt: skip
    queue.scheduler_beats()
    assert scraped(client)["scheduler_lag_seconds",] == 0


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_without_redis_the_rest_is_still_told(client: Client, plan: Plan, settings: Any, monkeypatch: Any) -> None:
    gone = redis.Redis(unix_socket_path=f"{settings.DATA_DIR}/gone.sock", retry=Retry(NoBackoff(), 0))
    monkeypatch.setattr(queue, "connection", lambda: gone)
    found = scraped(client)
    assert found["redis_up",] == 0
    assert ("plan_last_good_backup_age_seconds", "web-1", "files") in found
    assert not {"queue_length", "workers_alive", "scheduler_up", "scheduler_lag_seconds"} & {key[0] for key in found}


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_without_a_database_it_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("It is away.")

    monkeypatch.setattr(connection, "cursor", away)
    answer = client.get("/metrics", headers=BEARER)
    assert (answer.status_code, answer.content) == (503, b"The database is away.\n")


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_many_plans_take_as_many_queries_as_none(client: Client, pool: StoragePool) -> None:
    def queries() -> list[dict[str, str]]:
        with CaptureQueriesContext(connection) as caught:
            scraped(client)
        return caught.captured_queries

    assert len(queries()) == 4
    for number in range(20):
        server = Server.objects.create(name=f"s{number}", address="192.0.2.1", host_key=HOST_KEY)
        repository = Repository.objects.create(name=f"s{number}", pool=pool, server=server)
        job = Job.objects.create(type="backup", status="completed", result={"original": 1})
        Plan.objects.create(name="files", server=server, repository=repository, last_job=job)
    found = queries()
    assert len(found) == 4, [query["sql"] for query in found]


@pytest.mark.django_db
@pytest.mark.usefixtures("with_token")
def test_two_scrapes_say_the_same(client: Client, plan: Plan, now: datetime) -> None:
    """Nothing is counted in a process, so it does not matter which one answers."""
    assert scraped(client) == scraped(Client())

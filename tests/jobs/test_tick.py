"""`manage.py tick`: one round of all periodic work."""

import io
import json
from typing import Any

import pytest
import redis
from django.core.management import call_command

from jobs import periodic, queue
from jobs.management.commands import scheduler, tick
from jobs.models import Job
from jobs.periodic import Periodic
from tests.jobs.conftest import child, running

pytestmark = pytest.mark.django_db


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[Periodic]:
    """A registry of the test's own."""
    mine: list[Periodic] = []
    monkeypatch.setattr(tick, "registry", mine)
    monkeypatch.setattr(scheduler, "close_old_connections", lambda: None)  # the test's own connection stays
    return mine


def call(**options: Any) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("tick", stdout=out, stderr=err, **options)
    assert isinstance(end.value.code, int)
    return end.value.code, out.getvalue(), err.getvalue()


def broken() -> None:
    raise RuntimeError("boom")


def test_each_piece_runs_once_however_seldom_it_asks_to(registry: list[Periodic], bell: redis.Redis) -> None:
    made: list[str] = []
    registry += [Periodic(5, lambda: made.append("often")), Periodic(86_400, lambda: made.append("seldom"))]
    assert call() == (0, "", "")
    assert made == ["often", "seldom"]


def test_a_piece_that_fails_stops_nobody_and_is_told(
    registry: list[Periodic], bell: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[int] = []
    registry += [Periodic(5, broken), Periodic(5, lambda: made.append(1))]
    assert call() == (1, "", f"{__name__}.broken failed; the log says why.\n")
    assert made == [1]
    assert "RuntimeError: boom" in caplog.text


def test_it_tells_programs_what_ran(registry: list[Periodic], bell: redis.Redis) -> None:
    def tidy() -> None: ...

    registry += [Periodic(5, broken), Periodic(5, tidy)]
    code, out, err = call(json=True)
    assert json.loads(out) == {
        "ran": [f"{__name__}.broken", f"{__name__}.tidy"], "failed": [f"{__name__}.broken"],
    }  # fmt: skip
    assert (code, err) == (1, "")


def test_it_counts_as_a_scheduler(registry: list[Periodic], bell: redis.Redis) -> None:
    call()
    assert queue.scheduler_is_alive()


def test_without_redis_it_does_what_it_can(registry: list[Periodic], dead_redis: None) -> None:
    made: list[int] = []
    registry.append(Periodic(5, lambda: made.append(1)))
    assert call()[0] == 0
    assert made == [1]


def test_it_runs_what_every_app_has_registered() -> None:
    assert vars(tick)["registry"] is periodic.registry
    assert "backups.periodic.start_due_plans" in {work.name for work in periodic.registry}


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_the_process_does_its_round_and_ends(bell: redis.Redis) -> None:
    job = running()
    Job.objects.update(heartbeat_at=job.created_at.replace(year=2020))
    with child("tick") as process:
        assert process.process
        assert process.process.wait(60) == 0
    assert "The worker disappeared" in Job.objects.get().error

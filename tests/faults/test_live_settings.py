"""Settings changed while real processes run: in force in all of them within about a second, without a restart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from django.test import RequestFactory
from django.utils import timezone

from accounts import tokens
from accounts.models import User
from backups.models import StoragePool
from jobs.config import config
from jobs.models import Job
from phpborg.embedded import wait_until
from tests.faults.conftest import PATIENCE_SECONDS, Serve, Start, Web, let, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("web")]

Slow = Callable[..., Job]
GB = 10**9


def test_a_job_that_runs_already_waits_for_its_next_attempt_as_is_said_now(start: Start, slow: Slow) -> None:
    """Red when a worker reads the settings once: a minute."""
    start("worker")
    job = wait_for(slow(max_attempts=2), "running")
    config.change({"job_retry_seconds": [3600]})
    changed_at = timezone.now()

    def two_seconds_on() -> bool:
        job.refresh_from_db()
        return bool(job.heartbeat_at and job.heartbeat_at > changed_at + timedelta(seconds=2))

    wait_until(two_seconds_on, seconds=PATIENCE_SECONDS, what="Its heartbeat")
    let(job, "fail-1")
    wait_for(job, "pending", attempt=1)
    assert job.not_before
    assert job.not_before > timezone.now() + timedelta(minutes=50)
    assert job.lines.filter(message__contains="follows in 3600 seconds").exists()


def test_what_is_put_at_one_web_process_counts_in_the_other(serve: Serve, admin: User, pool: StoragePool) -> None:
    """Red when what was read is kept for ever, or only dropped where it is changed."""
    StoragePool.objects.update(free_bytes=15 * GB, total_bytes=100 * GB, checked_at=timezone.now())
    access = tokens.log_in(admin, RequestFactory().get("/")).access
    one, other = serve(), serve()
    with httpx.Client(headers={"Authorization": f"Bearer {access}"}, timeout=PATIENCE_SECONDS) as client:

        def state(web: Web) -> str:
            return str(client.get(f"{web.url}/api/stats/dashboard").json()["pools"][0]["state"])

        assert (state(one), state(other)) == ("protected", "protected")
        values = client.get(f"{one.url}/api/settings").json()
        answer = client.put(f"{one.url}/api/settings", json={**values, "pool_low_percent": 20})
        assert (answer.status_code, answer.json()["pool_low_percent"]) == (200, 20)
        assert state(one) == "attention"
        wait_until(lambda: state(other) == "attention", seconds=PATIENCE_SECONDS, what="The other process")

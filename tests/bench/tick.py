"""One round of the periodic work over 10,000 plans, on the database of DATABASE_URL: a JSON line.

`python -m tests.bench tick` starts this once for each kind of database, each with an empty one.
"""

import gc
import json
import os
import statistics
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

PLANS, DUE, SERVERS = 10_000, 1_000, 1_000
IDLE_ROUNDS, WARM_ROUNDS = 1_000, 100


def make_plans() -> None:
    from django.utils import timezone

    from backups.models import Plan, Repository, StoragePool
    from servers.models import Server

    pool = StoragePool.objects.create(name="pool", path="/srv/pool")
    Server.objects.bulk_create(
        Server(name=f"s{n}", address="192.0.2.1", host_key="x", host_key_seen="x") for n in range(SERVERS)
    )
    servers = list(Server.objects.order_by("id"))
    Repository.objects.bulk_create(
        Repository(name=server.name, pool=pool, server=server, state="ready", checked_at=timezone.now())
        for server in servers
    )
    repositories = list(Repository.objects.order_by("id"))
    now = timezone.now()
    Plan.objects.bulk_create(
        [
            Plan(
                name=f"p{n}", server=servers[n % SERVERS], repository=repositories[n % SERVERS], schedule="0 2 * * *",
                time_zone="Europe/Berlin", blackout="mon-fri 12:00-12:30" if n % 2 else "",
                next_run_at=now - timedelta(seconds=n % 60) if n < DUE else now + timedelta(days=1),
            )
            for n in range(PLANS)
        ],
        batch_size=500,
    )  # fmt: skip


def one_round() -> float:
    """Seconds that all pieces take, as `manage.py tick` runs them."""
    from jobs.periodic import registry

    began = time.perf_counter()
    for work in registry:
        work.run()
    return time.perf_counter() - began


def resident_kb() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def measure() -> dict[str, Any]:
    import django

    django.setup()
    from django.core.management import call_command

    from jobs.models import Job

    call_command("migrate", verbosity=0)
    make_plans()
    busy = one_round()
    started = Job.objects.filter(type="backup").count()
    Job.objects.update(status=Job.Status.COMPLETED)
    idle = [one_round() for _ in range(WARM_ROUNDS)]
    before = resident_kb()
    idle += [one_round() for _ in range(IDLE_ROUNDS - WARM_ROUNDS)]
    return {
        "plans": PLANS,
        "started": started,
        "busy_s": round(busy, 2),
        "idle_median_ms": round(statistics.median(idle) * 1000, 1),
        "idle_max_ms": round(max(idle) * 1000, 1),
        "growth_kb": resident_kb() - before,
    }


if __name__ == "__main__":
    print(json.dumps(measure()))

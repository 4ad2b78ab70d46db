"""What the dashboard says: counts by the database, and only the servers that need somebody by name."""

from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import Count, Exists, F, OuterRef, QuerySet, Sum, Value
from django.utils import timezone

from accounts.access import Permission, can
from accounts.models import User
from backups import growth, health, stats
from backups.health import State
from backups.models import Archive, Repository, RepositoryQuerySet, StoragePool
from jobs.models import Job, JobQuerySet
from phpborg.shell import STRIP_SHOWN
from servers.models import Server

SHOWN, POOLS_SHOWN, NEWEST_SHOWN, DAYS_SHOWN = 10, 5, 8, 30
UNCURED_SHOWN, UNCURED_OVER = 5, timedelta(days=7)


def overview(user: User | AnonymousUser) -> dict[str, Any]:
    """Context of templates/dashboard: sentence, needs, running, storage."""
    servers, jobs, now = Server.objects.for_user(user), Job.objects.for_user(user), timezone.now()
    stored = numbers(user, servers, jobs)
    ranks = stats.ranks_of(now, stored["servers"]) if stored["servers"] else {}
    at_risk, attention, unknown = (
        sorted(pk for pk, rank in ranks.items() if rank == stats.RANK[state])
        for state in (State.AT_RISK, State.ATTENTION, State.UNKNOWN)
    )
    shown = servers.in_bulk([*[*at_risk, *attention][:SHOWN], *unknown[:SHOWN]])
    needy = [shown[pk] for pk in [*at_risk, *attention][:SHOWN] if pk in shown]
    states = health.of_servers(needy)
    needy.sort(key=lambda server: health.WORST_FIRST.index(states[server.pk].state))
    running = list(jobs.with_names().running().order_by("started_at")[:SHOWN])
    ended = jobs.with_names().filter(type="backup", completed_at__isnull=False)
    newest = list(ended.order_by("-completed_at", "-id")[:NEWEST_SHOWN])
    pools = list(StoragePool.objects.for_user(user).order_by(F("free_bytes").asc(nulls_last=True)))
    needy_pools = [pool for pool in pools if pool.state_shown in (health.State.AT_RISK, health.State.ATTENTION)]
    forecasts = growth.forecasts(pools[:POOLS_SHOWN])
    next_plan = stats.next_plans(user).first()
    return {
        "servers": stored["servers"],
        "protected": stored["servers"] - len(at_risk) - len(attention) - len(unknown),
        "needs": [(server, states[server.pk]) for server in needy],
        "needs_count": len(at_risk) + len(attention),
        "needy_pools": needy_pools[:SHOWN],
        "attention_count": len(at_risk) + len(attention) + len(needy_pools),
        "unknown": [shown[pk] for pk in unknown[:SHOWN] if pk in shown],
        "unknown_count": len(unknown),
        "running": running,
        "running_jobs": running[:STRIP_SHOWN],  # what the shell would ask for again
        "waiting_count": stored["waiting"],
        "last_end": last_end(newest, user),
        "next_plan": next_plan,
        "next_is_late": bool(next_plan and next_plan.next_run_at and next_plan.next_run_at < now),
        "newest": newest,
        "uncured": uncured(jobs, now),
        "stored": stored,
        "saved": 1 - stored["deduplicated"] / stored["original"] if stored["original"] else None,
        "pools": [(pool, forecasts.get(pool.pk)) for pool in pools[:POOLS_SHOWN]],
        "days": stats.days_of_all(now, DAYS_SHOWN),
        # Only whoever can do something about it is told of kits.
        "unstored_kits": stored["kits"] if can(user, Permission.BACKUP_MANAGE) else 0,
    }


def numbers(user: User | AnonymousUser, servers: QuerySet[Server], jobs: JobQuerySet) -> dict[str, int]:
    """What all repositories hold, and how many there are of what, by one query."""
    one_row = Repository.objects.for_user(user).order_by().annotate(one=Value(1)).values("one")
    columns = {
        "original": Sum("original_bytes"), "deduplicated": Sum("deduplicated_bytes"),
        "kits": Count("pk", filter=RepositoryQuerySet.WITHOUT_STORED_KIT),
        "servers": stats.number_of(servers), "waiting": stats.number_of(jobs.pending()),
    }  # fmt: skip
    found = one_row.annotate(**columns).values_list(*columns)
    # MariaDB's sums are decimals; of no repository there is no sum, and of what nobody may see no row.
    return dict.fromkeys(columns, 0) | {
        name: int(n or 0) for row in found for name, n in zip(columns, row, strict=True)
    }


def uncured(jobs: JobQuerySet, now: datetime) -> list[Job]:
    """The newest failures of the last days that no later success of the same kind, on the same, has cured."""
    same = {name: OuterRef(name) for name in ("type", "subject")}
    later = Job.objects.filter(**same, status=Job.Status.COMPLETED, created_at__gt=OuterRef("created_at"))
    failed = jobs.filter(status=Job.Status.FAILED, created_at__gte=now - UNCURED_OVER)
    return list(failed.with_names().filter(~Exists(later))[:UNCURED_SHOWN])


def last_end(newest: list[Job], user: User | AnonymousUser) -> tuple[datetime, Server] | None:
    """When the last backup ended that ended well, and whose it was."""
    ends = [(job.completed_at, job.server) for job in newest if job.status == Job.Status.COMPLETED]
    known = [(end, server) for end, server in ends if end and server]
    if known:
        return max(known, key=itemgetter(0))
    # Its key first: joined to all that it belongs to, MariaDB would sort all archives.
    archives = Archive.objects.for_user(user)
    pk = archives.values_list("pk", flat=True).first()
    archive = archives.select_related("server").filter(pk=pk).first() if pk else None
    return (archive.end, archive.server) if archive else None

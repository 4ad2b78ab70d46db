"""What the dashboard says: counts by the database, and only the servers that need somebody by name."""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import F, Sum
from django.utils import timezone

from accounts.access import Permission, can
from accounts.models import User
from backups import growth, health, stats
from backups.health import State
from backups.models import Archive, Plan, Repository, StoragePool
from jobs.models import Job
from servers.models import Server

SHOWN, POOLS_SHOWN, DAYS_SHOWN = 10, 5, 30


def overview(user: User | AnonymousUser) -> dict[str, Any]:
    """Context of templates/dashboard: sentence, needs, running, storage."""
    servers = Server.objects.for_user(user)
    count = servers.count()
    now = timezone.now()
    ranks = stats.ranks_of(now) if count else {}
    at_risk, attention, unknown = (
        sorted(pk for pk, rank in ranks.items() if rank == stats.RANK[state])
        for state in (State.AT_RISK, State.ATTENTION, State.UNKNOWN)
    )
    needy = list(servers.filter(pk__in=[*at_risk, *attention][:SHOWN]))
    states = health.of_servers(needy)
    needy.sort(key=lambda server: health.WORST_FIRST.index(states[server.pk].state))
    stored = Repository.objects.for_user(user).aggregate(
        original=Sum("original_bytes"), deduplicated=Sum("deduplicated_bytes")
    )
    jobs = Job.objects.for_user(user).with_scope()
    pools = list(StoragePool.objects.for_user(user).order_by(F("free_bytes").asc(nulls_last=True)))
    needy_pools = [pool for pool in pools if pool.state_shown in (health.State.AT_RISK, health.State.ATTENTION)]
    forecasts = growth.forecasts(pools[:POOLS_SHOWN])
    return {
        "servers": count,
        "protected": count - len(at_risk) - len(attention) - len(unknown),
        "needs": [(server, states[server.pk]) for server in needy],
        "needs_count": len(at_risk) + len(attention),
        "needy_pools": needy_pools[:SHOWN],
        "attention_count": len(at_risk) + len(attention) + len(needy_pools),
        "unknown": servers.filter(pk__in=unknown[:SHOWN]),
        "unknown_count": len(unknown),
        "running": jobs.running().order_by("started_at")[:SHOWN],
        "waiting_count": jobs.pending().count(),
        "last_archive": Archive.objects.for_user(user).with_scope().first(),
        "next_plan": Plan.objects.for_user(user).filter(next_run_at__isnull=False).order_by("next_run_at").first(),
        "newest": jobs.filter(type="backup").exclude(status__in=(Job.Status.PENDING, Job.Status.RUNNING))[:8],
        "stored": stored,
        "saved": 1 - stored["deduplicated"] / stored["original"] if stored["original"] else None,
        "pools": [(pool, forecasts.get(pool.pk)) for pool in pools[:POOLS_SHOWN]],
        "days": stats.days_of_all(now, DAYS_SHOWN),
        # Only whoever can do something about it.
        "unstored_kits": Repository.objects.without_stored_kit().count() if can(user, Permission.BACKUP_MANAGE) else 0,
    }

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.access import Permission, require
from backups import growth, stats
from backups.models import Repository

WEEKS = 13
STORAGE_DAYS = 120


@require_GET
@require(Permission.BACKUP_VIEW)
def index(request: HttpRequest) -> HttpResponse:
    """How backups go, what is stored and how it grows: each picture with its numbers."""
    now, user = timezone.now(), request.user
    stored, servers = stats.total(Repository.objects.for_user(user)), stats.largest_servers(user)
    context = {
        "stored": stored,
        "rates": stats.rates(now),
        "days": stats.days_of_all(now, WEEKS * 7),
        "storage": growth.history(STORAGE_DAYS),
        "servers": servers,
        "others": stored.deduplicated - sum(taken for _, taken in servers),
        "growers": stats.growers(user, now),
        "growth_days": stats.GROWTH_OVER.days,
        "slowest": stats.slowest(user),
    }
    return render(request, "statistics/index.html", context)

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from accounts.access import Permission, require
from accounts.lists import Deep, Searched, as_csv, asked_for, in_batches, is_csv, ordered
from accounts.paging import row_by_row
from backups import health, stats
from backups.health import Health, Mark, State
from backups.models import Archive, Plan
from jobs.models import Job
from servers.models import Server, tags_of

STATES = (State.PROTECTED, State.ATTENTION, State.AT_RISK, State.UNKNOWN)
NEWEST_SHOWN = 8
TABS = ("overview", "plans", "archives", "jobs", "access")


@require_GET
@require(Permission.SERVER_VIEW)
def index(request: HttpRequest) -> HttpResponseBase:
    search, state = asked_for(request), request.GET.get("state", "")
    servers: QuerySet[Server] = Server.objects.for_user(request.user)
    if search:
        tagged = Server.tags.through.objects.filter(tag__name__iexact=search).values("server")
        servers = servers.filter(Q(name__icontains=search) | Q(address__icontains=search) | Q(pk__in=tagged))
    if state:  # what is none finds nothing: a list of everything would be taken for what was asked
        servers = stats.in_state(servers, State(state)) if state in STATES else servers.none()
    servers = ordered(servers, request, "name", "seen_at", "created_at")
    if is_csv(request):
        return as_csv("servers", table(servers))
    are_few = search or state not in ("", State.PROTECTED)
    page = (Searched if are_few else Deep)(servers, 50).get_page(request.GET.get("page"))
    choices = [(each, health.LABELS[each]) for each in STATES]
    context = {"page": page, "rows": rows_of(page.object_list), "search": search, "state": state, "states": choices}
    template = "servers/_list.html" if request.headers.get("HX-Request-Type") == "partial" else "servers/list.html"
    return render(request, template, context)


@dataclass(frozen=True)
class Row:
    """A server as a list shows it."""

    server: Server
    health: Health
    marks: list[Mark]
    next_run_at: datetime | None
    size: int | None  # bytes that its repositories take
    tags: list[str]


def rows_of(servers: Iterable[Server]) -> list[Row]:
    """In three queries, however many there are."""
    servers = list(servers)
    plans, sizes, tags = health.plans_of(servers), stats.sizes_by_server(servers), tags_of(servers)
    return [
        Row(
            server, health.of_server(server, plans[server.pk]), health.marks_of(plans[server.pk]),
            _next_run(server, plans[server.pk]), sizes.get(server.pk), tags[server.pk],
        )
        for server in servers
    ]  # fmt: skip


def _next_run(server: Server, plans: Iterable[Plan]) -> datetime | None:
    times = (plan.next_run_at for plan in plans if server.enabled and plan.enabled)
    return min((at for at in times if at), default=None)


def table(servers: QuerySet[Server]) -> Iterator[tuple[object, ...]]:
    yield (
        _("Server"), _("Address"), _("Port"), _("User"), _("State"), _("Why"),
        *(mark.label for mark in health.marks_of([])), _("Next run"), _("Size"), "borg", _("Seen"), _("Tags"),
    )  # fmt: skip
    for row in chain.from_iterable(map(rows_of, in_batches(servers))):
        server = row.server
        yield (
            server.name, server.address, server.port, server.username, row.health.label, row.health.reason,
            *(mark.at for mark in row.marks), row.next_run_at, row.size, server.borg_version, server.seen_at,
            ", ".join(row.tags),
        )  # fmt: skip


@require_GET
@require(Permission.SERVER_VIEW)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    plans = Plan.objects.with_scope().prefetch_related("sources")
    server = get_object_or_404(
        Server.objects.for_user(request.user).prefetch_related("tags", Prefetch("plans", plans)), pk=pk
    )
    asked = request.GET.get("tab", "")
    tab = asked if asked in TABS else TABS[0]
    archives = Archive.objects.for_user(request.user).filter(server=server).with_scope()
    visible = Job.objects.for_user(request.user)
    jobs = visible.filter(server=server)
    days = stats.days_of(jobs, timezone.now()) if tab == TABS[0] else []
    sizes = [day for day in days if day.data_bytes]
    context = {
        "server": server,
        "health": health.of_server(server),
        "plans": [{"plan": plan, "health": health.of_plan(plan)} for plan in server.plans.all()],
        # Of few, not of all its jobs.
        "running": visible.with_names().running().filter(row_by_row(Q(server=server))).first(),
        "tab": tab,
        "tabs": TABS,
        "last_archive": archives.first(),
        "marks": health.marks_of(server.plans.all()),
        "days": days,
        "sizes": sizes if len(sizes) > 1 else [],  # of one day there is no line to draw
        "newest": jobs.with_names()[:NEWEST_SHOWN] if tab == TABS[0] else None,
        "page": Deep(archives if tab == "archives" else jobs.with_names(), 25).get_page(request.GET.get("page"))
        if tab in ("archives", "jobs")
        else None,
    }
    return render(request, "servers/detail.html", context)

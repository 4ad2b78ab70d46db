from collections.abc import Iterator

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
from backups.health import State
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
    page = (Searched if search else Deep)(servers, 50).get_page(request.GET.get("page"))
    shown = page.object_list
    states, tags = health.of_servers(shown), tags_of(shown)
    rows = [{"server": server, "health": states[server.pk], "tags": tags[server.pk]} for server in shown]
    choices = [(each, health.LABELS[each]) for each in STATES]
    context = {"page": page, "rows": rows, "search": search, "state": state, "states": choices}
    return render(request, "servers/list.html", context)


def table(servers: QuerySet[Server]) -> Iterator[tuple[object, ...]]:
    yield (
        _("Server"), _("Address"), _("Port"), _("User"), _("State"), _("Why"), _("Last good backup"),
        _("Restore test"), "borg", _("Seen"), _("Tags"),
    )  # fmt: skip
    for batch in in_batches(servers):
        states, tags = health.of_servers(batch), tags_of(batch)
        for server in batch:
            found = states[server.pk]
            yield (
                server.name, server.address, server.port, server.username, found.label, found.reason,
                found.last_good_at, found.proved_at, server.borg_version, server.seen_at,
                ", ".join(tags[server.pk]),
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
    visible = Job.objects.for_user(request.user).with_names()
    jobs = visible.filter(server=server)
    context = {
        "server": server,
        "health": health.of_server(server),
        "plans": [{"plan": plan, "health": health.of_plan(plan)} for plan in server.plans.all()],
        "running": visible.running().filter(row_by_row(Q(server=server))).first(),  # of few, not of all its jobs
        "tab": tab,
        "tabs": TABS,
        "last_archive": archives.first(),
        "marks": health.marks_of(server),
        "days": stats.days_of(Job.objects.for_user(request.user).filter(server=server), timezone.now())
        if tab == TABS[0]
        else None,
        "newest": jobs[:NEWEST_SHOWN] if tab == TABS[0] else None,
        "page": Deep(archives if tab == "archives" else jobs, 25).get_page(request.GET.get("page"))
        if tab in ("archives", "jobs")
        else None,
    }
    return render(request, "servers/detail.html", context)

from django.core.paginator import Paginator
from django.db.models import Prefetch, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts.access import Permission, require
from backups import health
from backups.models import Archive, Plan
from jobs.models import Job
from servers.models import Server

TABS = ("overview", "plans", "archives", "jobs", "access")


@require_GET
@require(Permission.SERVER_VIEW)
def index(request: HttpRequest) -> HttpResponse:
    search = request.GET.get("search", "").strip()
    servers = Server.objects.for_user(request.user).prefetch_related("tags")
    if search:
        servers = servers.filter(
            Q(name__icontains=search) | Q(address__icontains=search) | Q(tags__name__iexact=search)
        ).distinct()
    page = Paginator(servers, 50).get_page(request.GET.get("page"))
    states = health.of_servers(page.object_list)
    rows = [{"server": server, "health": states[server.pk]} for server in page.object_list]
    return render(request, "servers/list.html", {"page": page, "rows": rows, "search": search})


@require_GET
@require(Permission.SERVER_VIEW)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    plans = Plan.objects.with_scope().prefetch_related("sources")
    server = get_object_or_404(
        Server.objects.for_user(request.user).prefetch_related("tags", Prefetch("plans", plans)), pk=pk
    )
    tab = request.GET.get("tab", TABS[0])
    archives = Archive.objects.for_user(request.user).filter(server=server).with_scope()
    jobs = Job.objects.for_user(request.user).filter(server=server).with_scope()
    context = {
        "server": server,
        "health": health.of_server(server),
        "plans": [{"plan": plan, "health": health.of_plan(plan)} for plan in server.plans.all()],
        "running": jobs.running().first(),
        "tab": tab if tab in TABS else TABS[0],
        "tabs": TABS,
        "last_archive": archives.first(),
        "marks": health.marks_of(server),
        "page": Paginator(archives if tab == "archives" else jobs, 25).get_page(request.GET.get("page")),
    }
    return render(request, "servers/detail.html", context)

from collections.abc import Iterator
from itertools import chain

from django.contrib import messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit
from accounts.access import Permission, require, signed_in
from accounts.lists import ByOwner, Deep, Searched, as_csv, asked_for, in_batches, is_csv, ordered, with_names
from accounts.meantime import Meantime
from backups import health, schedule
from backups.forms import PlanWithFiles, ScheduleForm
from backups.models import Archive, Plan, Repository, StoragePool
from backups.proposal import Proposal, proposal_for
from backups.runners.create import RunBackup
from backups.runners.init import InitRepository
from backups.sources.base import SourceKind
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from servers.runners.test import found_on
from servers.wizard import stations

SERVERS_SHOWN = 20  # to add a plan to; the others are a page away


@require_GET
@require(Permission.BACKUP_VIEW)
def index(request: HttpRequest) -> HttpResponseBase:
    plans = with_names(Plan.objects.for_user(request.user), server=["name", "enabled"], **health.READS).order_by(
        "server__name", "name"
    )
    if search := asked_for(request):
        named = Server.objects.filter(name__icontains=search)
        plans = plans.filter(Q(name__icontains=search) | Q(server__in=named))
    plans = ordered(plans, request, "name", "last_good_at", "next_run_at")
    if is_csv(request):
        return as_csv("plans", table(plans))
    page = (Searched if search else ByOwner)(plans, 50).get_page(request.GET.get("page"))
    rows = [{"plan": plan, "health": health.of_plan(plan)} for plan in page.object_list]
    servers = Server.objects.for_user(request.user).filter(enabled=True).only("name").order_by("name")[:SERVERS_SHOWN]
    return render(request, "plans/list.html", {"page": page, "rows": rows, "servers": servers, "search": search})


def table(plans: QuerySet[Plan]) -> Iterator[tuple[object, ...]]:
    yield (
        _("Plan"), _("Server"), _("Repository"), _("State"), _("Why"), _("Last good backup"), _("Restore test"),
        _("Schedule"), _("Next run"),
    )  # fmt: skip
    for plan in chain.from_iterable(in_batches(plans)):
        found = health.of_plan(plan)
        yield (
            plan.name, plan.server.name, plan.repository.name, found.label, found.reason, plan.last_good_at,
            plan.proved_at, schedule.words(plan.schedule), plan.next_run_at,
        )  # fmt: skip


@require_GET
@require(Permission.BACKUP_VIEW)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    plan = get_object_or_404(Plan.objects.for_user(request.user).with_scope(), pk=pk)
    sources = [
        {"source": source, "kind": (kind := SourceKind.registry[source.kind]), "text": kind.describe(source.parameters)}
        for source in plan.sources.all()
    ]
    archives = Archive.objects.filter(plan=plan).with_scope()
    context = {
        "plan": plan,
        "health": health.of_plan(plan),
        "runs": schedule.upcoming(plan),
        "sources": sources,
        "running": Job.objects.filter(plan=plan, type=RunBackup.type).unfinished().order_by("-status").first(),
        "page": Deep(archives, 25).get_page(request.GET.get("page")),
        "last_test": plan.restore_tests.defer("evidence").first(),
    }
    return render(request, "plans/detail.html", context)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def add(request: HttpRequest, server_pk: int) -> HttpResponse:
    server = get_object_or_404(Server.objects.for_user(request.user), pk=server_pk)
    found, is_first = found_on(server), not server.plans.exists()
    proposal = _proposal(request, server, folders=found.get("folders", []) if is_first else [])
    forms = PlanWithFiles(server, data=request.POST or None, proposal=proposal)
    if request.method == "POST" and not only_asks_for_runs(request) and forms.is_valid():
        with transaction.atomic():
            plan, new_repository = forms.save()
            record_saved(forms, new_repository)
        if new_repository:
            InitRepository.enqueue(new_repository, user=signed_in(request))
        messages.success(request, _("The plan is saved. Run it now, and see your first archive in a minute."))
        return redirect("plan", pk=plan.pk)
    context = {
        "forms": forms, "server": server, "no_pool": not StoragePool.objects.exists(), "found": found,
        "stations": stations(server) if is_first else None,
    }  # fmt: skip
    return render(request, "plans/form.html", context, status=400 if forms.has_errors else 200)


def record_saved(
    forms: PlanWithFiles, new_repository: Repository | None, plan: audit.Facts | None = None,
    source: audit.Facts | None = None,
) -> None:  # fmt: skip
    """The audit trail has each of what one page saves; `plan` and `source` are the facts of before."""
    if new_repository:
        audit.record_change("repository.added", new_repository, {})
    if forms.source:
        audit.record_change("source.changed" if source else "source.added", forms.source, source or {})
    audit.record_change("plan.changed" if plan else "plan.added", forms.plan.instance, plan or {})


def _proposal(request: HttpRequest, server: Server, *, folders: list[str]) -> Proposal | None:
    """What an imported repository was filled by (`?like=<its id>`), or else `folders`."""
    number = request.GET.get("like", "")
    if number.isascii() and number.isdecimal() and len(number) < 19:
        imported = Repository.objects.for_user(request.user).filter(pk=int(number), server=server).first()
        return proposal_for(imported) if imported else None
    return Proposal(paths=tuple(folders), exclude_caches=True) if folders else None


def only_asks_for_runs(request: HttpRequest) -> bool:
    """Without JavaScript the button for it sends the whole form."""
    return "runs" in request.POST


@require_GET
@require(Permission.BACKUP_MANAGE)
def runs(request: HttpRequest) -> HttpResponse:
    """The next runs of a schedule that is not saved yet, or what is wrong with it."""
    return render(request, "plans/_runs.html", {"when": ScheduleForm(request.GET, plan=Plan())})


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    plan = get_object_or_404(Plan.objects.for_user(request.user).with_scope(), pk=pk)
    forms = PlanWithFiles(plan.server, plan=plan, data=request.POST or None)
    before = audit.facts(plan), audit.facts(forms.source) if forms.source else {}
    meantime = Meantime(request, forms.plan, forms.files, forms.when)
    if request.method == "POST" and not only_asks_for_runs(request) and forms.is_valid() and meantime.is_free():
        with transaction.atomic():
            plan, new_repository = forms.save()
            record_saved(forms, new_repository, *before)
        if new_repository:
            InitRepository.enqueue(new_repository, user=signed_in(request))
        messages.success(request, _("The plan is saved."))
        return redirect("plan", pk=pk)
    context = {"forms": forms, "server": plan.server, "plan": Plan.objects.get(pk=pk), "meantime": meantime}
    return render(request, "plans/form.html", context, status=400 if forms.has_errors else 200)


@require_POST
@require(Permission.BACKUP_CREATE)
def run(request: HttpRequest, pk: int) -> HttpResponse:
    plan = get_object_or_404(Plan.objects.for_user(request.user), pk=pk)
    try:
        job = RunBackup.enqueue(plan, user=signed_in(request))
    except Refused as refusal:
        messages.warning(request, str(refusal))
        return redirect((refusal.job and "job") or "plan", pk=refusal.job.pk if refusal.job else pk)
    return redirect("job", pk=job.pk)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Forget the plan; its archives and its repository stay."""
    plan = get_object_or_404(Plan.objects.for_user(request.user).with_scope(), pk=pk)
    if request.method == "POST":
        if Job.objects.filter(plan=plan).unfinished().exists():
            messages.error(request, _("A job of this plan is still running or waiting. Cancel it first."))
            return redirect("plan", pk=pk)
        name, detail = plan.full_name, audit.difference(audit.facts(plan), {})
        with transaction.atomic():
            plan.delete()
            audit.record("plan.deleted", request=request, target=name, detail=detail)
        messages.success(request, _("The plan is deleted. Its archives are still there."))
        return redirect("plans")
    return render(request, "plans/delete.html", {"plan": plan, "archives": plan.archives.count()})

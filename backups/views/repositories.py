from collections.abc import Iterator
from itertools import chain

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit
from accounts.access import Permission, require, signed_in
from accounts.lists import Deep, Searched, as_csv, asked_for, in_batches, is_csv, ordered
from accounts.meantime import Meantime
from backups import reconcile, stats
from backups.forms import RepositoryCareForm, RepositoryForm
from backups.models import Archive, Repository, StoragePool
from backups.proposal import proposal_for
from backups.runners.import_ import ImportRepository
from backups.runners.init import InitRepository
from backups.runners.keys import GiveKey
from servers.models import Server

POOLS_SHOWN = 100
MAKING = (InitRepository.type, ImportRepository.type)


@require_GET
@require(Permission.BACKUP_VIEW)
def index(request: HttpRequest) -> HttpResponseBase:
    repositories = Repository.objects.for_user(request.user).select_related("pool", "server").order_by("name", "id")
    without_kit = request.GET.get("kit") == "missing"
    if without_kit:
        repositories = repositories.without_stored_kit()
    if search := asked_for(request):
        # Not by a join: the database would look each server up, one for each repository.
        named = Server.objects.filter(name__icontains=search)
        repositories = repositories.filter(Q(name__icontains=search) | Q(server__in=named))
    repositories = ordered(repositories, request, "name", "original_bytes", "deduplicated_bytes")
    if is_csv(request):
        return as_csv("repositories", table(repositories))
    page = (Searched if search else Deep)(repositories, 50).get_page(request.GET.get("page"))
    pools = StoragePool.objects.for_user(request.user).annotate(repository_count=Count("repositories")).order_by("name")
    context = {"page": page, "pools": pools[:POOLS_SHOWN], "without_kit": without_kit, "search": search}
    return render(request, "repositories/list.html", context)


def table(repositories: QuerySet[Repository]) -> Iterator[tuple[object, ...]]:
    yield (
        _("Repository"), _("Server"), _("Pool"), _("State"), _("Archives"), _("Saved data"), _("Compressed"),
        _("On disk"), _("Checked"), _("Recovery kit stored"),
    )  # fmt: skip
    for repository in chain.from_iterable(in_batches(repositories)):
        yield (
            repository.name, repository.server.name, repository.pool.name, repository.state_label,
            repository.archive_count, repository.original_bytes, repository.compressed_bytes,
            repository.deduplicated_bytes, repository.checked_at, repository.kit_stored_at,
        )  # fmt: skip


@require_GET
@require(Permission.BACKUP_VIEW)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    repository = get_object_or_404(Repository.objects.for_user(request.user).select_related("pool", "server"), pk=pk)
    context = {
        "repository": repository,
        "vanished": repository.archives.exclude(vanished_at=None).count() if repository.frozen else 0,
        "plans": repository.plans.select_related("server"),
        "giving": repository.jobs.filter(type=GiveKey.type).order_by("-created_at").first(),
        "making": repository.jobs.filter(type__in=MAKING).order_by("-created_at").first(),
        "proposal": proposal_for(repository) if repository.state == Repository.State.READY else None,
        "added": stats.added_to(repository, timezone.now()),
        "page": Deep(Archive.objects.filter(repository=repository).with_scope(), 25).get_page(request.GET.get("page")),
    }
    return render(request, "repositories/detail.html", context)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def add(request: HttpRequest) -> HttpResponse:
    form = RepositoryForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            repository = form.save()
            InitRepository.enqueue(repository, user=signed_in(request))
            audit.record_change("repository.added", repository, {}, request=request)
        return redirect("repository", pk=repository.pk)
    return render(request, "repositories/form.html", {"form": form}, status=400 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    repository = get_object_or_404(Repository.objects.for_user(request.user), pk=pk)
    before = audit.facts(repository)
    form = RepositoryCareForm(request.POST or None, instance=repository)
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        with transaction.atomic():
            form.save()
            audit.record_change("repository.changed", repository, before, request=request)
        return redirect("repository", pk=pk)
    context = {"form": form, "repository": repository, "meantime": meantime}
    return render(request, "repositories/care.html", context, status=400 if form.errors else 200)


@require_POST
@require(Permission.BACKUP_MANAGE)
def accept(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody has looked at what freezes the repository: go on without what is gone."""
    repository = get_object_or_404(Repository.objects.for_user(request.user), pk=pk)
    with transaction.atomic():
        detail = {"why": repository.frozen, "struck_off": reconcile.accept(repository)}
        audit.record("repository.accepted", request=request, target=repository.name, detail=detail)
    return redirect("repository", pk=pk)

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from accounts import audit
from accounts.access import Permission, require, signed_in
from backups.forms import PoolForm, RepositoryForm
from backups.models import Archive, Repository, StoragePool
from backups.runners.init import InitRepository
from backups.runners.pool import CheckPool
from jobs.models import Job
from jobs.runner import Refused


@require_GET
@require(Permission.BACKUP_VIEW)
def index(request: HttpRequest) -> HttpResponse:
    repositories = Repository.objects.for_user(request.user).select_related("pool", "server")
    counted = repositories.annotate(archive_count=Count("archives")).order_by("name", "id")
    page = Paginator(counted, 50).get_page(request.GET.get("page"))
    pools = StoragePool.objects.for_user(request.user).annotate(repository_count=Count("repositories")).order_by("name")
    return render(request, "repositories/list.html", {"page": page, "pools": pools[:100]})


@require_GET
@require(Permission.BACKUP_VIEW)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    repository = get_object_or_404(Repository.objects.for_user(request.user).select_related("pool", "server"), pk=pk)
    context = {
        "repository": repository,
        "plans": repository.plans.select_related("server"),
        "making": Job.objects.filter(repository=repository, type=InitRepository.type).order_by("-created_at").first(),
        "page": Paginator(Archive.objects.filter(repository=repository).with_scope(), 25).get_page(
            request.GET.get("page")
        ),
    }
    return render(request, "repositories/detail.html", context)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def add(request: HttpRequest) -> HttpResponse:
    form = RepositoryForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            repository = form.save()
            audit.record("repository.added", request=request, target=repository.name)
            InitRepository.enqueue(repository, user=signed_in(request))
        return redirect("repository", pk=repository.pk)
    return render(request, "repositories/form.html", {"form": form}, status=400 if form.errors else 200)


# --- Storage pools ----------------------------------------------------------------------------


@require_GET
@require(Permission.BACKUP_VIEW)
def pool(request: HttpRequest, pk: int) -> HttpResponse:
    pool = get_object_or_404(StoragePool.objects.for_user(request.user), pk=pk)
    repositories = pool.repositories.select_related("server").annotate(archive_count=Count("archives")).order_by("name")
    context = {
        "pool": pool,
        "page": Paginator(repositories, 50).get_page(request.GET.get("page")),
        "check": Job.objects.filter(type=CheckPool.type, subject=f"storagepool:{pk}").order_by("-created_at").first(),
    }
    return render(request, "repositories/pool.html", context)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def pool_add(request: HttpRequest) -> HttpResponse:
    return _save_pool(request, PoolForm(request.POST or None), "pool.added")


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def pool_edit(request: HttpRequest, pk: int) -> HttpResponse:
    pool = get_object_or_404(StoragePool.objects.for_user(request.user), pk=pk)
    return _save_pool(request, PoolForm(request.POST or None, instance=pool), "pool.changed")


def _save_pool(request: HttpRequest, form: PoolForm, action: str) -> HttpResponse:
    if request.method == "POST" and form.is_valid():
        pool = form.save()
        audit.record(action, request=request, target=pool.name, detail={"path": pool.path})
        try:
            CheckPool.enqueue(pool, user=signed_in(request))
        except Refused:
            messages.info(request, _("A check of this pool is already on its way."))
        return redirect("pool", pk=pool.pk)
    return render(request, "repositories/pool_form.html", {"form": form}, status=400 if form.errors else 200)

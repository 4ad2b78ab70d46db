from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit
from accounts.access import Permission, require, signed_in
from accounts.lists import Deep, ordered
from accounts.meantime import Meantime
from backups import growth
from backups.forms import AccountForm, PoolForm
from backups.models import StoragePool
from backups.runners.keys import host_key_confirmed
from backups.runners.pool import CheckPool
from jobs.models import Job
from jobs.runner import Refused


@require_GET
@require(Permission.BACKUP_VIEW)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    # Before the row: a check that ends in between was seen at work, so that the page asks again.
    check = Job.objects.filter(type=CheckPool.type, subject=f"storagepool:{pk}").order_by("-created_at").first()
    pool = get_object_or_404(StoragePool.objects.for_user(request.user), pk=pk)
    repositories = ordered(
        pool.repositories.select_related("server").order_by("name"), request, "name", "original_bytes",
        "deduplicated_bytes",
    )  # fmt: skip
    context = {
        "pool": pool,
        "forecast": growth.forecasts([pool]).get(pool.pk),
        "page": Deep(repositories, 50).get_page(request.GET.get("page")),
        "check": check,
    }
    return render(request, "repositories/pool.html", context)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def add(request: HttpRequest) -> HttpResponse:
    return _save(request, PoolForm(request.POST or None), {})


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def add_account(request: HttpRequest) -> HttpResponse:
    return _save(request, AccountForm(request.POST or None), {})


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    pool = get_object_or_404(StoragePool.objects.for_user(request.user), pk=pk)
    form, before = AccountForm if pool.is_remote else PoolForm, audit.facts(pool)
    return _save(request, form(request.POST or None, instance=pool), before)


def _save(request: HttpRequest, form: PoolForm, before: audit.Facts) -> HttpResponse:
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        with transaction.atomic():
            pool = form.save()
            audit.record_change("pool.changed" if before else "pool.added", pool, before, request=request)
        try:
            CheckPool.enqueue(pool, user=signed_in(request))
        except Refused:
            messages.info(request, _("A check of this pool is already on its way."))
        return redirect("pool", pk=pool.pk)
    context = {"form": form, "at_account": isinstance(form, AccountForm), "meantime": meantime}
    return render(request, "repositories/pool_form.html", context, status=400 if form.errors else 200)


@require_POST
@require(Permission.BACKUP_MANAGE)
def confirm_host_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Trust the key with the fingerprint that the person saw, then look again."""
    pool = get_object_or_404(StoragePool.objects.for_user(request.user), pk=pk)
    detail = {"fingerprint": request.POST.get("fingerprint", ""), "before": pool.fingerprint}
    with transaction.atomic():
        if is_confirmed := pool.confirm_host_key(detail["fingerprint"]):
            audit.record("host_key.confirmed", request=request, target=pool.name, detail=detail)
    if is_confirmed:
        host_key_confirmed(pool, user=signed_in(request), trigger=Job.Trigger.USER)
    else:
        messages.error(request, _("The account now shows another key than the one that you looked at. Look again."))
    return redirect("pool", pk=pk)

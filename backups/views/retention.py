from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit
from accounts.access import Permission, require, signed_in
from accounts.meantime import Meantime
from backups.models import Archive, Plan, RetentionPolicy
from backups.notes import COMMENT_LENGTH, note
from backups.retention import RULES, decide, foresee, objection, runs_of
from backups.runners.delete import DeleteArchive
from jobs.config import config
from jobs.runner import Refused

GOING_SHOWN = 200
DATES_SHOWN = 100


class RetentionForm(forms.ModelForm[RetentionPolicy]):
    class Meta:
        model = RetentionPolicy
        fields = ["name", *RULES, "most_deletions"]
        help_texts = {
            "keep_within": gettext_lazy(
                "The floor: whatever is younger stays. A number with H, d, w, m or y, as 2d; empty: no floor."
            ),
            "keep_last": gettext_lazy("The newest ones, however close together. 0: this rule keeps none."),
            "keep_hourly": gettext_lazy("The last one of each of so many hours."),
            "keep_daily": gettext_lazy("The last one of each of so many days."),
            "keep_weekly": gettext_lazy("The last one of each of so many weeks."),
            "keep_monthly": gettext_lazy("The last one of each of so many months."),
            "keep_yearly": gettext_lazy("The last one of each of so many years."),
        }

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if not self.errors and not any(self.cleaned_data[rule] for rule in RULES):
            raise ValidationError(
                _("These rules keep nothing. Let at least one keep something, or give the plan no retention policy.")
            )
        return cleaned


# --- Of a plan --------------------------------------------------------------------------------


@require_GET
@require(Permission.BACKUP_VIEW)
def plan(request: HttpRequest, pk: int) -> HttpResponse:
    """What would go now and what stays, and what would be there in a year."""
    plan = get_object_or_404(Plan.objects.for_user(request.user).with_scope(), pk=pk)
    now = timezone.now()
    decision = decide(plan, now=now)
    context = {
        "plan": plan,
        "decision": decision,
        "objection": objection(plan),
        "going": decision.going[:GOING_SHOWN],
        "page": Paginator(decision.kept, 50).get_page(request.GET.get("page")),
        "outlooks": foresee(plan, decision, runs_of(plan, now), now=now),
        "dates_shown": DATES_SHOWN,
    }
    return render(request, "plans/retention.html", context)


# --- Policies ---------------------------------------------------------------------------------


@require_GET
@require(Permission.BACKUP_VIEW)
def policies(request: HttpRequest) -> HttpResponse:
    policies = RetentionPolicy.objects.for_user(request.user).annotate(plan_count=Count("plans")).order_by("name")
    page = Paginator(policies, 50).get_page(request.GET.get("page"))
    return render(request, "retention/list.html", {"page": page})


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def policy_add(request: HttpRequest) -> HttpResponse:
    return _save_policy(request, RetentionForm(request.POST or None), {})


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def policy_edit(request: HttpRequest, pk: int) -> HttpResponse:
    policy = get_object_or_404(RetentionPolicy.objects.for_user(request.user), pk=pk)
    before = audit.facts(policy)
    return _save_policy(request, RetentionForm(request.POST or None, instance=policy), before)


def _save_policy(request: HttpRequest, form: RetentionForm, before: audit.Facts) -> HttpResponse:
    meantime, name = Meantime(request, form), form.initial.get("name")
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        with transaction.atomic():
            policy = form.save()
            if name and name == config.PLAN_RETENTION != policy.name:
                config.change({"plan_retention": policy.name}, request=request)
            audit.record_change("retention.changed" if before else "retention.added", policy, before, request=request)
        messages.success(request, _("The retention policy is saved. A plan's retention page shows what it means."))
        return redirect("retention_policies")
    context = {"form": form, "meantime": meantime}
    return render(request, "retention/form.html", context, status=400 if form.errors else 200)


# --- Of an archive ----------------------------------------------------------------------------


@require_POST
@require(Permission.BACKUP_MANAGE)
def pin(request: HttpRequest, pk: int) -> HttpResponse:
    """Keep the archive whatever the rules say, or let them decide again."""
    archive = get_object_or_404(Archive.objects.for_user(request.user), pk=pk)
    pinned = request.POST.get("pinned") == "1"
    try:
        note(archive, request, pinned=pinned)
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("archive", pk=pk)
    messages.success(
        request,
        _("The archive is pinned: it stays, whatever the rules say.")
        if pinned
        else _("The archive is no longer pinned: the rules decide."),
    )
    return redirect("archive", pk=pk)


@require_POST
@require(Permission.BACKUP_MANAGE)
def comment(request: HttpRequest, pk: int) -> HttpResponse:
    archive = get_object_or_404(Archive.objects.for_user(request.user), pk=pk)
    note(archive, request, comment=request.POST.get("comment", "").strip()[:COMMENT_LENGTH])
    messages.success(request, _("The comment is saved."))
    return redirect("archive", pk=pk)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_DELETE)
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Say what is lost, ask for the name, and start the job."""
    archives = Archive.objects.for_user(request.user).with_scope().select_related("repository__pool")
    archive: Archive = get_object_or_404(archives, pk=pk)
    if request.method == "POST":
        if request.POST.get("name") != archive.name:
            messages.error(request, _("Type the archive's name to confirm."))
            return redirect("archive_delete", pk=pk)
        try:
            return redirect("job", pk=DeleteArchive.enqueue(archive, user=signed_in(request)).pk)
        except Refused as refusal:
            messages.error(request, str(refusal))
            return redirect("archive", pk=pk)
    return render(request, "retention/archive_delete.html", {"archive": archive})

import json

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts.access import Permission, require
from backups import proofs
from backups.models import Plan, RestoreTest


@require_GET
@require(Permission.BACKUP_VIEW)
def of_plan(request: HttpRequest, pk: int) -> HttpResponse:
    plan = get_object_or_404(Plan.objects.for_user(request.user).with_scope(), pk=pk)
    tests = plan.restore_tests.for_user(request.user).defer("evidence")
    page = Paginator(tests, 50).get_page(request.GET.get("page"))
    return render(request, "proofs/list.html", {"plan": plan, "page": page})


@require_GET
@require(Permission.BACKUP_VIEW)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One sheet of paper: what was tested, how, what came of it, and how to see that it is genuine."""
    tests = RestoreTest.objects.for_user(request.user).select_related("plan__server", "archive")
    test = get_object_or_404(tests, pk=pk)
    context = {
        "test": test,
        "evidence": json.loads(test.evidence),
        "is_signed": proofs.is_signed(test.evidence, test.signature, test.public_key),
        "is_ours": proofs.is_of_this_site(test.public_key),
        "file_name": file_name(test),
    }
    return render(request, "proofs/detail.html", context)


@require_GET
@require(Permission.BACKUP_VIEW)
def download(request: HttpRequest, pk: int) -> HttpResponse:
    test = get_object_or_404(RestoreTest.objects.for_user(request.user), pk=pk)
    response = HttpResponse(proofs.as_file(test), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{file_name(test)}"'
    return response


def file_name(test: RestoreTest) -> str:
    return f"restore-test-{test.pk}.json"

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from accounts.access import Permission, require, signed_in
from accounts.query import LARGEST
from backups.diffs import KINDS, ORDERS, ROOT, Diff, NotCompared
from backups.models import Archive
from backups.runners.diff import DiffArchives
from backups.views.archives import visible
from jobs.models import Job
from jobs.runner import Refused

ROWS = 200
OTHERS_SHOWN = 200


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_VIEW)
def choose(request: HttpRequest, pk: int) -> HttpResponse:
    """Which other archive: by default the one before of the same plan. A POST also has them compared."""
    archive = visible(request, pk)
    others = Archive.objects.for_user(request.user).filter(repository=archive.repository).exclude(pk=pk)
    wanted = (request.POST if request.method == "POST" else request.GET).get("other", "")
    if wanted.isascii() and wanted.isdecimal() and len(wanted) < len(str(LARGEST)):
        other = get_object_or_404(others, pk=int(wanted))
        if request.method == "POST":
            _compare(request, archive, other)
        return redirect("archive_differences", pk=pk, other=other.pk)
    before = others.filter(plan=archive.plan, start__lt=archive.start).first()
    context = {"archive": archive, "others": others.select_related("plan")[:OTHERS_SHOWN], "before": before}
    return render(request, "archives/diff_choose.html", context)


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_VIEW)
def show(request: HttpRequest, pk: int, other: int) -> HttpResponse:
    """One folder of what has changed since the other archive; a POST has them compared."""
    after = visible(request, pk)
    before = visible(request, other)
    if request.method == "POST":
        _compare(request, after, before)
        return redirect("archive_differences", pk=pk, other=other)
    if before.repository_id != after.repository_id or before == after:
        raise Http404
    context = {"archive": after, "before": before}
    job = _job(after, before)  # before its result is looked for: it may end in between
    try:
        with Diff(before, after) as found:
            return render(request, "archives/diff.html", {**context, **_folder(found, request)})
    except NotCompared:
        return render(request, "archives/diff_unmade.html", {**context, "job": job})


def _compare(request: HttpRequest, after: Archive, before: Archive) -> None:
    """Unless it is done already, or happens just now."""
    try:
        with Diff(before, after):
            return
    except NotCompared:
        pass
    try:
        DiffArchives.enqueue(after, user=signed_in(request), other=before.pk)
    except Refused as refusal:
        if refusal.job is None:
            messages.error(request, str(refusal))


def _folder(found: Diff, request: HttpRequest) -> dict[str, object]:
    """What the page of a folder shows; nonsense behind the question mark is as if it were not there."""
    folder, page = _number(request, "folder", ROOT, 2**62), _number(request, "page", 1, 10**6)
    order, kind = request.GET.get("ordering", ""), request.GET.get("kind", "")
    order, kind = order if order in ORDERS else "-growth", kind if kind in KINDS else ""
    here = found.item(folder)
    if here is None:
        raise Http404
    first = (max(page, 1) - 1) * ROWS
    count = found.count(folder, kind=kind)
    return {
        "here": here, "total": found.item(ROOT), "trail": found.trail(here), "count": count, "kind": kind,
        "order": order, "items": found.folder(folder, order=order, kind=kind, offset=first, limit=ROWS), "page": page,
        "previous": page - 1 if page > 1 else None, "next": page + 1 if first + ROWS < count else None,
    }  # fmt: skip


def _number(request: HttpRequest, name: str, default: int, most: int) -> int:
    text = request.GET.get(name, "")
    return min(int(text), most) if text.isascii() and text.isdecimal() and len(text) < 20 else default


def _job(after: Archive, before: Archive) -> Job | None:
    """The newest job that compared these two."""
    jobs = Job.objects.filter(type=DiffArchives.type, subject=f"archive:{after.pk}", payload__other=before.pk)
    return jobs.order_by("-created_at").first()

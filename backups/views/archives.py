from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import audit
from accounts.access import Permission, require, signed_in
from accounts.lists import Deep, as_csv, in_batches, is_csv, ordered, with_names
from backups import catalog
from backups.catalog import ROOT, Catalog, NotIndexed
from backups.downloads import DownloadFailed, look_up, start_download
from backups.filters import ArchiveFilter
from backups.models import Archive
from backups.packing import PACKINGS
from backups.previews import IMAGE_BYTES, TEXT_BYTES, image_of, preview_of
from backups.ranges import Unsatisfiable
from backups.runners.index import IndexArchive
from jobs.models import Job
from jobs.runner import Refused

ROWS = 200
NAMES = {"server": ["name"], "repository": ["name"], "plan": ["name"]}


@require_GET
@require(Permission.BACKUP_VIEW)
def index(request: HttpRequest) -> HttpResponseBase:
    archives = ArchiveFilter(request.GET, with_names(Archive.objects.for_user(request.user), **NAMES))
    found = ordered(archives.qs, request, "start") if archives.is_valid() else archives.queryset.none()
    if is_csv(request):
        return as_csv("archives", table(found))
    page = Deep(found, 50).get_page(request.GET.get("page"))
    return render(request, "archives/list.html", {"page": page, "filter": archives})


def table(archives: QuerySet[Archive]) -> Iterator[tuple[object, ...]]:
    yield (
        _("Begin"), _("End"), _("Archive"), _("Server"), _("Plan"), _("Repository"), _("Files"), _("Size"),
        _("Compressed"), _("New"), _("Seconds"), _("Pinned"), _("Suspicious"), _("Comment"),
    )  # fmt: skip
    for archive in chain.from_iterable(in_batches(archives)):
        yield (
            archive.start, archive.end, archive.name, archive.server.name, archive.plan and archive.plan.name,
            archive.repository.name, archive.files, archive.original_bytes, archive.compressed_bytes,
            archive.deduplicated_bytes, archive.duration, archive.pinned, archive.suspicion, archive.comment,
        )  # fmt: skip


@require_GET
@require(Permission.BACKUP_VIEW)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    archive = visible(request, pk)
    before = Archive.objects.filter(plan=archive.plan, start__lt=archive.start).first() if archive.plan else None
    context = {"archive": archive, "before": before, "job": archive.job, **listing_context(archive)}
    return render(request, "archives/detail.html", context)


@require_GET
@require(Permission.BACKUP_VIEW)
def browse(request: HttpRequest, pk: int, folder: int = ROOT) -> HttpResponse:
    """One folder of the archive, out of the catalog."""
    archive = visible(request, pk)
    order = request.GET.get("ordering", "name")
    number = request.GET.get("page", "1")
    page = min(max(int(number), 1), 10**6) if number.isdecimal() and len(number) < 9 else 1
    try:
        with Catalog(archive) as listing:
            here = listing.at(folder)
            if here is None or not here.is_folder:
                raise Http404
            count = listing.count(folder)
            context = {
                "archive": archive,
                "folder": here,
                "trail": listing.trail(here),
                "items": listing.folder(
                    folder, order=order if order in catalog.ORDERS else "name", offset=(page - 1) * ROWS, limit=ROWS
                ),
                "count": count,
                "order": order,
                "page": page,
                "previous": page - 1 if page > 1 else None,
                "next": page + 1 if page * ROWS < count else None,
                "packings": PACKINGS,
            }
    except NotIndexed:
        return render(request, "archives/unindexed.html", {"archive": archive, **listing_context(archive)})
    return render(request, "archives/browse.html", context)


@require_GET
@require(Permission.BACKUP_RESTORE)
def download(request: HttpRequest, pk: int, entry: int) -> HttpResponseBase:
    """A file, or the part of it that is asked for; a folder as one file, packed as `format` says."""
    archive, packing = visible(request, pk), request.GET.get("format", "")
    who: dict[str, Any] = {"user": signed_in(request), "trigger": Job.Trigger.USER}
    try:
        return start_download(archive, entry, packing=packing, headers=request.headers, **who)
    except Unsatisfiable as error:
        return HttpResponse(status=416, headers={"Content-Range": error.content_range})
    except NotIndexed:
        return redirect("archive_browse", pk=pk)
    except (DownloadFailed, Refused) as error:
        messages.error(request, str(error))
        return redirect("archive_browse", pk=pk)


@require_GET
@require(Permission.BACKUP_RESTORE)
@never_cache
def preview(request: HttpRequest, pk: int, entry: int) -> HttpResponseBase:
    """The beginning of a text, or an image."""
    archive = visible(request, pk)
    try:
        wanted = look_up(archive, entry)
        if not wanted.item.is_file:
            return redirect("archive_folder", pk=pk, folder=entry)
        seen = preview_of(wanted, user=signed_in(request))
        with Catalog(archive) as listing:
            trail = listing.trail(wanted.item)
    except NotIndexed:
        return redirect("archive_browse", pk=pk)
    except (DownloadFailed, Refused) as error:
        messages.error(request, str(error))
        return redirect("archive_browse", pk=pk)
    context = {
        "archive": archive, "item": wanted.item, "size": wanted.size, "folders": trail[:-1], "preview": seen,
        "shows_image": seen.image and wanted.size <= IMAGE_BYTES, "image_bytes": IMAGE_BYTES, "text_bytes": TEXT_BYTES,
    }  # fmt: skip
    return render(request, "archives/preview.html", context)


@require_GET
@require(Permission.BACKUP_RESTORE)
@never_cache
def image(request: HttpRequest, pk: int, entry: int) -> HttpResponseBase:
    """For the preview's <img> alone: an image by what is in it, never by its name."""
    try:
        wanted = look_up(visible(request, pk), entry)
        found = image_of(wanted, user=signed_in(request)) if wanted.item.is_file else None
    except NotIndexed:
        return redirect("archive_browse", pk=pk)
    except (DownloadFailed, Refused) as error:
        messages.error(request, str(error))
        return redirect("archive_browse", pk=pk)
    if found is None:
        raise Http404
    return found


@require_POST
@require(Permission.BACKUP_MANAGE)
def trust(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody has looked at a suspicious archive: it is as it should be, and counts again."""
    archive = visible(request, pk)
    doubts = archive.suspicion
    with transaction.atomic():
        if doubts and Archive.objects.filter(pk=pk, suspicion=doubts).update(suspicion=""):
            if archive.job and archive.job.result:  # what the pages about the plan read
                archive.job.result = {**archive.job.result, "suspicion": "", "trusted": doubts}
                archive.job.save(update_fields=["result"])
            if archive.plan:
                archive.plan.note_last_good()
            audit.record("archive.trusted", request=request, target=archive.name, detail={"suspicion": doubts})
    return redirect("archive", pk=pk)


def visible(request: HttpRequest, pk: int) -> Archive:
    archives = Archive.objects.for_user(request.user).with_scope().select_related("job", "repository__pool", "mount")
    archive: Archive = get_object_or_404(archives, pk=pk)
    return archive


def listing_context(archive: Archive) -> dict[str, Any]:
    """The job that reads the listing, if the catalog does not have it yet; in this order, as one may end in between."""
    jobs = Job.objects.filter(type=IndexArchive.type, subject=f"archive:{archive.pk}")
    return {"listing_job": jobs.order_by("-created_at").first(), "has_listing": catalog.has(archive)}


def chosen_items(archive: Archive, chosen: list[int]) -> dict[str, Any]:
    try:
        with Catalog(archive) as listing:
            items = [item for number in chosen[:20] if (item := listing.item(number))]
            return {"shown": [{"item": item, "path": catalog.readable(listing.path(item))} for item in items]}
    except NotIndexed:
        return {"shown": []}

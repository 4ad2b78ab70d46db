from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import Permission, ask_to_log_in, can, require, signed_in
from accounts.lists import ROWS_AT_ONCE, as_csv, is_csv
from accounts.paging import walk, walks
from jobs import live
from jobs.filters import JobFilter, LogFilter
from jobs.log import as_text
from jobs.models import Job, LogLine
from jobs.runner import JobRunner, Refused, retry_of, try_now
from jobs.runner import cancel as cancel_job

LINES_AT_ONCE = 500
LINES_AT_FIRST = 1_000
UNFINISHED_SHOWN = 25
SERVERS_OFFERED = 100  # while a name is typed; any other one may be typed too
LOG_LINES_SHOWN = 100


@require_GET
@require(Permission.BACKUP_VIEW)
def index(request: HttpRequest) -> HttpResponseBase:
    jobs = Job.objects.for_user(request.user).with_names()
    asked, servers = by_name(request)
    found = JobFilter(asked, jobs.order_by("-created_at", "-id"))
    if is_csv(request):
        return as_csv("jobs", job_table(found))
    page = walk(found, request.GET.get("cursor"), 50)
    types = sorted((str(runner.label), runner.type) for runner in JobRunner.registry.values())
    unfinished = jobs.unfinished().order_by("status", "created_at")
    shown = list(unfinished[:UNFINISHED_SHOWN])
    context = {
        "filter": found, "page": page, "unfinished": shown, "job_types": types, **servers,
        "unfinished_count": unfinished.count() if len(shown) == UNFINISHED_SHOWN else len(shown),
    }  # fmt: skip
    template = "jobs/_list.html" if request.headers.get("HX-Request-Type") == "partial" else "jobs/list.html"
    return render(request, template, context)


def by_name(request: HttpRequest) -> tuple[QueryDict, dict[str, Any]]:
    """What is asked for, with the number of the server that a person names; and what a form needs to let them."""
    servers = Job.server.field.related_model._default_manager.for_user(request.user)  # type: ignore[attr-defined]
    asked, name = request.GET.copy(), request.GET.get("server", "").strip()
    for field in [field for field, values in asked.lists() if not any(values)]:
        del asked[field]  # left empty in the form
    if name:
        found = servers.filter(Q(pk=name) if name.isdecimal() and len(name) < 19 else Q(name=name)).first()
        name = found.name if found else name
        asked["server"] = str(found.pk) if found else "?"  # which no filter takes for everything
    names = servers.order_by("name").values_list("name", flat=True)[:SERVERS_OFFERED]
    missing = bool(name) and asked["server"] == "?"
    return asked, {"server_name": name, "server_names": names, "no_such_server": missing}


def job_table(found: JobFilter) -> Iterator[tuple[object, ...]]:
    yield (
        _("Created"), _("Job"), _("State"), _("Server"), _("Plan"), _("Repository"), _("Started by"), _("Began"),
        _("Ended"), _("Seconds"), _("Warnings"), _("Error"), _("Number"),
    )  # fmt: skip
    for job in chain.from_iterable(walks(found, ROWS_AT_ONCE)):
        label = JobRunner.registry[job.type].label if job.type in JobRunner.registry else job.type
        yield (
            job.created_at, label, job.get_status_display(), job.server, job.plan, job.repository,
            job.user.username if job.user else job.get_trigger_display(), job.started_at, job.completed_at,
            job.seconds, job.warnings, job.error, job.pk,
        )  # fmt: skip


@require_GET
@require(Permission.LOGS_VIEW)
def logs(request: HttpRequest) -> HttpResponseBase:
    """Lines of all logs, the newest first, as they come."""
    asked, servers = by_name(request)
    # Not joined: MariaDB would begin with the jobs, and sort all lines of all of them.
    lines = LogLine.objects.for_user(request.user).prefetch_related("job__server", "job__plan", "job__repository")
    found = LogFilter(asked, lines.order_by("-id"))
    if is_csv(request):
        return as_csv("logs", log_table(found))
    page = walk(found, request.GET.get("cursor"), LOG_LINES_SHOWN)
    # Whoever reads older lines, or has paused, does not want them to move.
    follows = "cursor" not in request.GET and "paused" not in request.GET
    context = {"filter": found, "page": page, "follows": follows, **servers}
    template = "jobs/_logs.html" if request.headers.get("HX-Request-Type") == "partial" else "jobs/logs.html"
    return render(request, template, context)


def log_table(found: LogFilter) -> Iterator[tuple[object, ...]]:
    yield (_("Time"), _("Level"), _("Server"), _("Job"), _("Line"), _("Text"))
    for line in chain.from_iterable(walks(found, ROWS_AT_ONCE)):
        yield (line.at, line.get_level_display(), line.job.server, line.job_id, line.number, line.message)


@require_GET
@require(Permission.BACKUP_VIEW)
def strip(request: HttpRequest) -> HttpResponse:
    """The running jobs at the bottom of every page, and a toast for what has just ended."""
    return render(request, "jobs/_strip.html")


@require_GET
@require(Permission.BACKUP_VIEW)
def detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = get_object_or_404(Job.objects.for_user(request.user).with_scope(), pk=pk)
    after = max(0, job.log_lines - LINES_AT_FIRST)
    return render(request, "jobs/detail.html", {"job": job, **log_after(request, job, after, limit=LINES_AT_FIRST)})


@require_GET
@require(Permission.BACKUP_VIEW)
def live_part(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What changed on the job's page since line `after`: its state anew, and the lines that came."""
    job = get_object_or_404(Job.objects.for_user(request.user).with_scope(), pk=pk)
    after = request.GET.get("after", "")
    cursor = int(after) if after.isdecimal() and len(after) < 10 else 0
    context = log_after(request, job, cursor)
    response = render(request, "jobs/_live.html", {"job": job, **context})
    if context["more"]:
        response["HX-Trigger"] = "more"  # the page asks again at once
    return response


@require_GET
@require(Permission.BACKUP_VIEW)
def toast(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What a corner of the page says of a job that has just ended: only to the one who started it."""
    job = Job.objects.for_user(request.user).with_scope().filter(pk=pk, user=signed_in(request)).first()
    if job is None or not job.has_ended:
        return HttpResponse(status=204)
    return render(request, "jobs/_toast.html", {"job": job})


def log_after(request: HttpRequest, job: Job, number: int, *, limit: int = LINES_AT_ONCE) -> dict[str, Any]:
    visible = LogLine.objects.for_user(request.user).filter(job=job)
    lines = list(visible.after(number)[:limit])
    last, attempt = number, 1
    if job.attempts > 1:  # each attempt has its heading
        before = visible.filter(number__lte=number).order_by("-number").first()
        attempt = before.attempt if before else 0
    for line in lines:
        line.skipped = line.number - last - 1  # type: ignore[attr-defined]  # what the cap left out before it
        line.begins_attempt = line.attempt != attempt  # type: ignore[attr-defined]
        last, attempt = line.number, line.attempt
    return {"lines": lines, "after": number, "more": len(lines) == limit}


@require_GET
@require(Permission.LOGS_VIEW)
def download_log(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    job = get_object_or_404(Job.objects.for_user(request.user), pk=pk)

    lines = job.lines.order_by("number").iterator(chunk_size=1000)
    response = StreamingHttpResponse(as_text(lines, job), content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{job.type}-{job.pk}.log"'
    return response


@require_POST
@require(Permission.BACKUP_CREATE)
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = get_object_or_404(Job.objects.for_user(request.user), pk=pk)
    if cancel_job(job, by_somebody=True):
        live.announce(job, job.status)
        messages.info(request, _("The job is being cancelled."))
    else:
        messages.warning(request, _("The job had already ended."))
    return redirect("job", pk=pk)


@require_POST
@require(Permission.BACKUP_VIEW)
def now(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The next attempt of a job that failed, without its pause."""
    job = get_object_or_404(Job.objects.for_user(request.user), pk=pk)
    runner = JobRunner.registry.get(job.type)
    if runner is None or not can(request.user, runner.permission):
        raise PermissionDenied
    if try_now(job):
        messages.info(request, _("The next attempt starts as soon as a worker is free."))
    else:
        messages.warning(request, _("The job does not wait for another attempt."))
    return redirect("job", pk=pk)


@require_POST
@require(Permission.BACKUP_VIEW)
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = get_object_or_404(Job.objects.for_user(request.user), pk=pk)
    runner = JobRunner.registry.get(job.type)
    if runner is None or not can(request.user, runner.permission):
        raise PermissionDenied
    try:
        return redirect("job", pk=retry_of(job, user=signed_in(request), trigger=Job.Trigger.RETRY).pk)
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("job", pk=refusal.job.pk if refusal.job else pk)


@require_http_methods(["GET", "POST"])
def start(request: HttpRequest, job_type: str, pk: int) -> HttpResponseBase:
    """Start a job of nearly any type: its parameters as a form, then its page, or the one of `back`, with it too."""
    runner = JobRunner.registry.get(job_type)
    if runner is None or runner.has_own_page:
        raise Http404
    if not request.user.is_authenticated:
        return ask_to_log_in(request)
    if not can(request.user, runner.permission):
        raise PermissionDenied
    subject = get_object_or_404(runner.visible_to(signed_in(request)), pk=pk)
    form = runner.form(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            job = runner.enqueue(subject, user=signed_in(request), **form.cleaned_data)
        except Refused as refusal:
            if refusal.job:
                messages.info(request, str(refusal))
                return _told_at(request, refusal.job)
            form.add_error(None, str(refusal))
        else:
            return _told_at(request, job)
    status = 400 if form.errors else 200
    return render(request, "jobs/start.html", {"form": form, "runner": runner, "subject": subject}, status=status)


def _told_at(request: HttpRequest, job: Job) -> HttpResponse:
    back = request.POST.get("back", "")
    here = back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return redirect(back) if here else redirect("job", pk=job.pk)


@require_GET
@require(Permission.BACKUP_VIEW)
def events(request: HttpRequest) -> HttpResponseBase:
    """The page's event stream: `?job=<uuid>` for the one that it shows."""
    try:
        job = UUID(request.GET["job"]) if "job" in request.GET else None
    except ValueError:
        raise Http404 from None
    return live.stream(request, job=job)

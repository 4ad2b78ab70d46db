from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET
from redis import RedisError

from accounts.access import Permission, page_of_form, require
from accounts.lists import asked_for
from jobs import queue
from phpborg.errors import CODES
from phpborg.overview import overview
from phpborg.search import job_of, look_everywhere


@require_GET
@require(Permission.BACKUP_VIEW)
def dashboard(request: HttpRequest) -> HttpResponse:
    """One sentence, what needs somebody, what runs, what is stored."""
    template = "dashboard/_live.html" if request.headers.get("HX-Request-Type") == "partial" else "dashboard/page.html"
    return render(request, template, overview(request.user))


@require_GET
@require(Permission.BACKUP_VIEW)
def search(request: HttpRequest) -> HttpResponse:
    """A job by its number at once; else what there is of each kind, and the way to a file of that name."""
    text = asked_for(request, "q")
    if job := job_of(text, request.user):
        return redirect("job", pk=job.pk)
    found = look_everywhere(text, request.user) if text else []
    if len(found) == 1 and len(found[0].rows) == 1 and found[0].rows[0].name == text:
        return redirect(found[0].rows[0])
    return render(request, "search.html", {"text": text, "found": found})


@require_GET
def healthz(request: HttpRequest) -> JsonResponse:
    """This process answers."""
    return JsonResponse({"status": "ok"})


@require_GET
def readyz(request: HttpRequest) -> JsonResponse:
    """Everything that a backup needs is there: database, Redis, a live worker, a live scheduler."""
    found = {"database": _database_answers(), "redis": False, "worker": False, "scheduler": False}
    try:
        found["worker"] = bool(queue.live_workers())
        found["scheduler"] = queue.scheduler_is_alive()
        found["redis"] = True
    except (RedisError, OSError):
        pass
    return JsonResponse(found, status=200 if all(found.values()) else 503)


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


# --- Errors: a page for people, JSON below /api ------------------------------------------------


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_part(request):
        return _error(request, 404, _("This is gone: somebody has deleted it, or you may not see it any more."))
    return _error(request, 404, _("There is nothing here, or you may not see it."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 403, _("You may not do this."))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 400, _("This request makes no sense."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Without a template: it may be the templates that fail."""
    sentence = _("phpBorg itself made a mistake. The web process's log has the details.")
    if request.path.startswith("/api/"):
        return _error(request, 500, sentence)
    return HttpResponse(f"<!DOCTYPE html><title>phpBorg</title><h1>500</h1><p>{sentence}</p>", status=500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Whoever logged in again in another tab has forms with the keys of before; app.js brings back what was typed."""
    sentence = _(
        "This form has expired, maybe because of a login in another tab. Open its page again, and send it again."
    )
    page = page_of_form(request)
    # With a "?": a link to the page that one is at loads nothing.
    return _error(request, 403, sentence, again=page and f"{page}{'&' if '?' in page else '?'}#again")


def api_not_found(request: HttpRequest) -> HttpResponse:
    """Any path below /api that no route knows: JSON, also when DEBUG would show a page."""
    return _error(request, 404, _("There is no such route."))


def _error(request: HttpRequest, status: int, sentence: str, again: str = "") -> HttpResponse:
    if request.path.startswith("/api/"):
        error = {"code": CODES.get(status, "error"), "message": sentence, "fields": {}}
        return JsonResponse({"error": error}, status=status)
    if _is_part(request):
        return render(request, "components/refusal.html", {"sentence": sentence}, status=status)
    return render(request, "error.html", {"status": status, "sentence": sentence, "again": again}, status=status)


def _is_part(request: HttpRequest) -> bool:
    """Whether htmx puts the answer into an open page."""
    return request.headers.get("HX-Request") == "true"

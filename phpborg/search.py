"""One field for everything that has a name: what a person types is looked for in each kind of thing."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from accounts.access import Permission, require
from accounts.lists import asked_for
from accounts.models import User
from backups.filters import ArchiveFilter
from backups.models import Archive, Plan, Repository
from jobs.models import Job
from servers.models import Server

SHOWN = 8


@dataclass(frozen=True)
class Found:
    label: str | Promise
    icon: str
    rows: list[Any]
    all: str  # the address of the list with the same search; "" if these are all


@require_GET
@require(Permission.BACKUP_VIEW)
def search(request: HttpRequest) -> HttpResponseBase:
    """A job by its number at once; else what there is of each kind, and the way to a file of that name."""
    text = asked_for(request, "q")
    if job := job_of(text, request.user):
        return redirect("job", pk=job.pk)
    found = look_everywhere(text, request.user) if text else []
    if len(found) == 1 and len(found[0].rows) == 1 and found[0].rows[0].name == text:
        return redirect(found[0].rows[0])
    return _page(request, text, found)


def _page(request: HttpRequest, text: str, found: list[Found]) -> HttpResponse:
    return render(request, "search.html", {"text": text, "found": found})


def job_of(text: str, user: User | AnonymousUser) -> Job | None:
    try:
        return Job.objects.for_user(user).filter(pk=UUID(text)).first()
    except ValueError:
        return None


def look_everywhere(text: str, user: User | AnonymousUser) -> list[Found]:
    """Only the kinds of which there is something."""
    by_name = Q(name__icontains=text)
    servers = Server.objects.for_user(user).filter(by_name | Q(address__icontains=text))
    plans = Plan.objects.for_user(user).filter(by_name).select_related("server").order_by("name", "pk")
    repositories = Repository.objects.for_user(user).filter(by_name).select_related("server").order_by("name", "pk")
    archives = ArchiveFilter({"search": text}, Archive.objects.for_user(user).with_scope())
    kinds: list[tuple[str | Promise, str, QuerySet[Model], str]] = [
        (_("Servers"), "server-2", servers, "servers"),
        (_("Plans"), "calendar-repeat", plans, "plans"),
        (_("Repositories"), "database", repositories, "repositories"),
        (_("Archives"), "archive", archives.qs if archives.is_valid() else archives.queryset.none(), "archives"),
    ]
    found = []
    for label, icon, rows, page in kinds:
        first = list(rows[: SHOWN + 1])
        if first:
            more = reverse(page, query={"search": text}) if len(first) > SHOWN else ""
            found.append(Found(label, icon, first[:SHOWN], more))
    return found

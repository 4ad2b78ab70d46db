"""One field for everything that has a name: what a person types is looked for in each kind of thing."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, Q, QuerySet
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.lists import by_key
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
        # Their keys first: of tables that are joined MariaDB may begin with another one, and sort all archives.
        first = by_key(rows, list(rows.values_list("pk", flat=True)[: SHOWN + 1]))
        if first:
            more = reverse(page, query={"search": text}) if len(first) > SHOWN else ""
            found.append(Found(label, icon, first[:SHOWN], more))
    return found

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _
from django_filters.constants import EMPTY_VALUES

from accounts.paging import Asked, NewestFilter
from accounts.query import IdFilter, TrueOrFalseFilter
from backups.models import Archive, ArchiveQuerySet, RestoreTest
from jobs.models import Job

LAST_CHARACTER = "\U0010ffff"


class ArchiveFilter(django_filters.FilterSet):  # type: ignore[misc]
    server = IdFilter(field_name="server_id", label=_("Server"))
    plan = IdFilter(field_name="plan_id", label=_("Plan"))
    repository = IdFilter(field_name="repository_id", label=_("Repository"))
    suspicious = TrueOrFalseFilter(field_name="is_suspicious", method="is_so", label=_("Suspicious"))
    pinned = TrueOrFalseFilter(method="is_so", label=_("Pinned"))
    since = django_filters.IsoDateTimeFilter(field_name="start", lookup_expr="gte", label=_("Since"))
    until = django_filters.IsoDateTimeFilter(field_name="start", lookup_expr="lt", label=_("Until"))
    # Of hundreds of thousands an index finds only how a name begins: with the server's name, and the plan's.
    search = django_filters.CharFilter(method="begins", label=_("Name begins with"))

    class Meta:
        model = Archive
        fields: list[str] = []

    def filter_queryset(self, archives: ArchiveQuerySet) -> ArchiveQuerySet:
        """Hundreds of thousands are counted by those that are missing, and a search is in the order of its index."""
        found: ArchiveQuerySet = super().filter_queryset(archives)
        asked = {name: value for name, value in self.form.cleaned_data.items() if value not in EMPTY_VALUES}
        if "search" in asked:
            found = found.order_by("-name_lower", "-start", "-id")
        if len(asked) == 1 and (rest := self._rest(archives, *asked.popitem())) is not None:
            return found.counted_without(rest)
        return found

    def _rest(self, archives: ArchiveQuerySet, name: str, value: Any) -> ArchiveQuerySet | None:
        """What is left out, if that filter alone leaves out fewer than it finds (as far as can be told at a glance)."""
        if value is False:
            return archives.filter(**{f"{self.filters[name].field_name}__in": [True]})
        if name not in ("since", "until"):
            return None
        ends = [archives.order_by(order).values_list("start", flat=True).first() for order in ("start", "-start")]
        if None in ends or ((value - ends[0] < ends[1] - value) != (name == "since")):
            return None
        return archives.filter(**{"start__lt" if name == "since" else "start__gte": value})

    def is_so(self, archives: QuerySet[Archive], name: str, value: bool) -> QuerySet[Archive]:
        """SQLite takes no index for a bare `WHERE pinned`, which is right where another filter leaves few."""
        leaves_few = any(self.form.cleaned_data[other] for other in ("server", "plan", "repository"))
        return archives.filter(**({name: value} if leaves_few else {f"{name}__in": [value]}))

    def begins(self, archives: QuerySet[Archive], name: str, value: str) -> QuerySet[Archive]:
        begin = value.lower()
        return archives.filter(name_lower__gte=begin, name_lower__lt=begin + LAST_CHARACTER)


class RestoreTestFilter(django_filters.FilterSet):  # type: ignore[misc]
    plan = IdFilter(field_name="plan_id", label=_("Plan"))
    server = IdFilter(field_name="server_id", label=_("Server"))

    class Meta:
        model = RestoreTest
        fields: list[str] = []


class BackupFilter(NewestFilter):
    """Of jobs: those that are backups."""

    server = IdFilter(field_name="server_id", label=_("Server"))
    plan = IdFilter(field_name="plan_id", label=_("Plan"))
    repository = IdFilter(field_name="repository_id", label=_("Repository"))
    status = django_filters.MultipleChoiceFilter(choices=Job.Status.choices, label=_("Status"))
    since = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte", label=_("Since"))
    until = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt", label=_("Until"))
    search = django_filters.CharFilter(field_name="error", lookup_expr="icontains", label=_("Text of the error"))

    lanes = ("server", "plan", "repository", "status")

    class Meta:
        model = Job
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[Job]) -> QuerySet[Job]:
        backups: QuerySet[Job] = super().filter_queryset(queryset.filter(type="backup"))
        return backups.filter(server=self._server) if self._server else backups

    @property
    def _server(self) -> int | None:
        """Of the path, for /api/servers/{id}/backups."""
        found: int | None = self.request.parser_context["kwargs"].get("server_pk")
        return found

    def asked(self) -> Asked:
        asked = super().asked()
        asked.lanes.append([Q(type="backup")])
        if self._server:
            asked.lanes.append([Q(server=self._server)])
        if self.form.cleaned_data["search"]:
            asked.lanes.append([Q(status=status) for status in Job.WITH_ERROR])
        return asked

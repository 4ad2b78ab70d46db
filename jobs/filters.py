from datetime import datetime, timedelta
from typing import Any, ClassVar

import django_filters
from django.db.models import Max, Q, QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.paging import Asked, NewestFilter
from accounts.query import IdFilter
from jobs.models import Job, LogLine

CLOCKS_DIFFER = timedelta(minutes=5)  # between workers, at most
JOBS_ASKED = 20


class JobFilter(NewestFilter):
    status = django_filters.MultipleChoiceFilter(choices=Job.Status.choices, label=_("Status"))
    type = django_filters.CharFilter(label=_("Type"))
    server = IdFilter(field_name="server_id", label=_("Server"))
    plan = IdFilter(field_name="plan_id", label=_("Plan"))
    repository = IdFilter(field_name="repository_id", label=_("Repository"))
    trigger = django_filters.MultipleChoiceFilter(choices=Job.Trigger.choices, label=_("Started by"))
    since = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte", label=_("Since"))
    until = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt", label=_("Until"))

    lanes = ("status", "type", "server", "plan", "repository")

    class Meta:
        model = Job
        fields: list[str] = []


class LogFilter(NewestFilter):
    level = django_filters.ChoiceFilter(
        choices=[(level.name.lower(), level.label) for level in LogLine.Level], method="at_least", label=_("At least")
    )
    job = django_filters.UUIDFilter(field_name="job_id", label=_("Job"))
    server = IdFilter(field_name="server_id", label=_("Server"))
    since = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte", label=_("Since"))
    search = django_filters.CharFilter(field_name="message", lookup_expr="icontains", label=_("Text"))

    lanes = ("job", "server")
    spans: ClassVar[tuple[str, ...]] = ()

    class Meta:
        model = LogLine
        fields: list[str] = []

    def at_least(self, lines: QuerySet[LogLine], name: str, value: str) -> QuerySet[LogLine]:
        return lines.filter(level__gte=LogLine.Level[value.upper()])

    def asked(self) -> Asked:
        asked = super().asked()
        if since := self.form.cleaned_data["since"]:
            asked.span["gt"] = written_by(since)
        return asked

    def ask(self, asked: Asked, name: str, value: Any) -> None:
        if name != "level":
            return super().ask(asked, name, value)
        levels = [level for level in LogLine.Level if level >= LogLine.Level[value.upper()]]
        if LogLine.Level.INFO in levels:  # as nearly all of them are
            asked.rest &= Q(level__in=levels)
        else:
            asked.lanes.append([Q(level=level) for level in levels])
        return None


def written_by(moment: datetime) -> int:
    """The number of a line up to which all were written before `moment`; 0 if nobody knows one.

    Lines have no index by time, but they are numbered as they are written: those of a job that had ended by then,
    and all before them, are older.
    """
    before = moment - CLOCKS_DIFFER
    ended = Job.objects.filter(created_at__lte=before, completed_at__lte=before).order_by("-created_at", "-id")
    jobs = list(ended.values_list("pk", flat=True)[:JOBS_ASKED])
    return LogLine.objects.filter(job__in=jobs).aggregate(newest=Max("pk"))["newest"] or 0

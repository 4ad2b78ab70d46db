import django_filters
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from jobs.models import Job, LogLine


class JobFilter(django_filters.FilterSet):  # type: ignore[misc]
    status = django_filters.MultipleChoiceFilter(choices=Job.Status.choices, label=_("Status"))
    type = django_filters.CharFilter(label=_("Type"))
    server = django_filters.NumberFilter(field_name="server_id", label=_("Server"))
    plan = django_filters.NumberFilter(field_name="plan_id", label=_("Plan"))
    repository = django_filters.NumberFilter(field_name="repository_id", label=_("Repository"))
    trigger = django_filters.MultipleChoiceFilter(choices=Job.Trigger.choices, label=_("Started by"))
    since = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte", label=_("Since"))
    until = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt", label=_("Until"))

    class Meta:
        model = Job
        fields: list[str] = []


class LogFilter(django_filters.FilterSet):  # type: ignore[misc]
    level = django_filters.ChoiceFilter(
        choices=[(level.name.lower(), level.label) for level in LogLine.Level], method="at_least", label=_("At least")
    )
    job = django_filters.UUIDFilter(field_name="job_id", label=_("Job"))
    server = django_filters.NumberFilter(field_name="job__server_id", label=_("Server"))
    since = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte", label=_("Since"))
    search = django_filters.CharFilter(field_name="message", lookup_expr="icontains", label=_("Text"))

    class Meta:
        model = LogLine
        fields: list[str] = []

    def at_least(self, lines: QuerySet[LogLine], name: str, value: str) -> QuerySet[LogLine]:
        return lines.filter(level__gte=LogLine.Level[value.upper()])

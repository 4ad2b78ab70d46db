import django_filters
from django.utils.translation import gettext_lazy as _

from backups.models import Archive
from jobs.models import Job


class ArchiveFilter(django_filters.FilterSet):  # type: ignore[misc]
    server = django_filters.NumberFilter(field_name="server_id", label=_("Server"))
    plan = django_filters.NumberFilter(field_name="plan_id", label=_("Plan"))
    repository = django_filters.NumberFilter(field_name="repository_id", label=_("Repository"))
    suspicious = django_filters.BooleanFilter(field_name="suspicion", method="is_suspicious", label=_("Suspicious"))
    pinned = django_filters.BooleanFilter(label=_("Pinned"))
    since = django_filters.IsoDateTimeFilter(field_name="start", lookup_expr="gte", label=_("Since"))
    until = django_filters.IsoDateTimeFilter(field_name="start", lookup_expr="lt", label=_("Until"))
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains", label=_("Name"))

    class Meta:
        model = Archive
        fields: list[str] = []

    def is_suspicious(self, archives: object, name: str, value: bool) -> object:
        return archives.exclude(suspicion="") if value else archives.filter(suspicion="")  # type: ignore[attr-defined]


class BackupFilter(django_filters.FilterSet):  # type: ignore[misc]
    server = django_filters.NumberFilter(field_name="server_id", label=_("Server"))
    plan = django_filters.NumberFilter(field_name="plan_id", label=_("Plan"))
    repository = django_filters.NumberFilter(field_name="repository_id", label=_("Repository"))
    status = django_filters.MultipleChoiceFilter(choices=Job.Status.choices, label=_("Status"))
    since = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte", label=_("Since"))
    until = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt", label=_("Until"))
    search = django_filters.CharFilter(field_name="error", lookup_expr="icontains", label=_("Text of the error"))

    class Meta:
        model = Job
        fields: list[str] = []

from typing import Any

import django_filters
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.query import IdFilter, TrueOrFalseFilter
from alerts.models import Channel, Delivery, Incident, Rule


class IncidentFilter(django_filters.FilterSet):  # type: ignore[misc]
    open = TrueOrFalseFilter(method="still", label=_("Whether it is so now"))
    severity = django_filters.MultipleChoiceFilter(choices=Rule.Severity.choices, label=_("Severity"))
    event = django_filters.CharFilter(label=_("Kind of event"))
    rule = IdFilter(field_name="rule_id", label=_("Rule"))
    server = IdFilter(field_name="server_id", label=_("Server"))
    plan = IdFilter(field_name="plan_id", label=_("Plan"))
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains", label=_("Text of the name"))

    class Meta:
        model = Incident
        fields: list[str] = []

    def still(self, incidents: QuerySet[Incident], name: str, value: Any) -> QuerySet[Incident]:
        return incidents.filter(closed_at__isnull=value)


class RuleFilter(django_filters.FilterSet):  # type: ignore[misc]
    event = django_filters.CharFilter(label=_("Kind of event"))
    enabled = TrueOrFalseFilter(label=_("Enabled"))

    class Meta:
        model = Rule
        fields: list[str] = []


class ChannelFilter(django_filters.FilterSet):  # type: ignore[misc]
    kind = django_filters.CharFilter(label=_("Kind"))

    class Meta:
        model = Channel
        fields: list[str] = []


class DeliveryFilter(django_filters.FilterSet):  # type: ignore[misc]
    channel = IdFilter(field_name="channel_id", label=_("Channel"))
    rule = IdFilter(field_name="rule_id", label=_("Rule"))
    status = django_filters.MultipleChoiceFilter(choices=Delivery.Status.choices, label=_("Status"))
    kind = django_filters.MultipleChoiceFilter(choices=Delivery.Kind.choices, label=_("Kind"))

    class Meta:
        model = Delivery
        fields: list[str] = []

import django_filters
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.query import TrueOrFalseFilter
from servers.models import Server


class ServerFilter(django_filters.FilterSet):  # type: ignore[misc]
    search = django_filters.CharFilter(method="matching", label=_("Name or address"))
    tag = django_filters.CharFilter(field_name="tags__name", lookup_expr="iexact", label=_("Tag"))
    enabled = TrueOrFalseFilter(label=_("Enabled"))

    class Meta:
        model = Server
        fields: list[str] = []

    def matching(self, servers: QuerySet[Server], name: str, value: str) -> QuerySet[Server]:
        return servers.filter(Q(name__icontains=value) | Q(address__icontains=value))

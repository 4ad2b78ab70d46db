from typing import Any

import django_filters
from django import forms
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field

from accounts.models import ApiToken, AuditEntry, User
from accounts.paging import Asked, NewestFilter
from accounts.query import IdFilter, TrueOrFalseFilter, UntilField


class UserFilter(django_filters.FilterSet):  # type: ignore[misc]
    search = django_filters.CharFilter(method="containing", label=_("Name or e-mail address"))
    role = django_filters.CharFilter(field_name="groups__name", label=_("Role"))
    is_active = TrueOrFalseFilter(label=_("Active"))

    class Meta:
        model = User
        fields: list[str] = []

    def containing(self, users: QuerySet[User], name: str, value: str) -> QuerySet[User]:
        return users.filter(
            Q(username__icontains=value) | Q(email__icontains=value)
            | Q(first_name__icontains=value) | Q(last_name__icontains=value)
        )  # fmt: skip


class ApiTokenFilter(django_filters.FilterSet):  # type: ignore[misc]
    user = IdFilter(field_name="user_id", label=_("User"))

    class Meta:
        model = ApiToken
        fields: list[str] = []


@extend_schema_field({"type": "string"})
class AddressFilter(django_filters.Filter):  # type: ignore[misc]
    """Of a machine, however an IPv6 address is written."""

    field_class = forms.GenericIPAddressField


class UntilFilter(django_filters.IsoDateTimeFilter):  # type: ignore[misc]
    field_class = UntilField


class AuditFilter(NewestFilter):
    username = django_filters.CharFilter(label=_("Who"))
    action = django_filters.CharFilter(label=_("What, as `plan.changed`"))
    address = AddressFilter(label=_("From the address"))
    since = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte", label=_("Since"))
    until = UntilFilter(field_name="at", lookup_expr="lt", label=_("Until; a day: until its end"))
    search = django_filters.CharFilter(method="containing", label=_("Text in what it was about, or in who did it"))

    lanes = ("username", "action", "address")

    class Meta:
        model = AuditEntry
        fields: list[str] = []

    def containing(self, entries: QuerySet[AuditEntry], name: str, value: str) -> QuerySet[AuditEntry]:
        return entries.filter(has_text(value))

    def ask(self, asked: Asked, name: str, value: Any) -> None:
        if name == "search":
            asked.rest &= has_text(value)
        else:
            super().ask(asked, name, value)


def has_text(text: str) -> Q:
    return Q(target__icontains=text) | Q(username__icontains=text)

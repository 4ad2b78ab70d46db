import django_filters
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiToken, User
from accounts.query import IdFilter, TrueOrFalseFilter


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

"""How the API's lists are paged, filtered and ordered."""

from typing import Any

from django.db.models import Model, QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request

from accounts.lists import Deep, Searched
from accounts.query import refuse_empty, whole

MOST_PAGES = 10**9


class Pages(PageNumberPagination):
    """`?page=&page_size=`, with a count. A view says if no index helps its search (`search_looks_at_all`)."""

    django_paginator_class: type[Deep] = Deep
    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        if "search" in request.query_params and getattr(view, "search_looks_at_all", False):
            self.django_paginator_class = Searched
        return super().paginate_queryset(queryset, request, view)

    def get_page_number(self, request: Request, paginator: Any) -> int:
        return whole(request, self.page_query_param, 1, MOST_PAGES)

    def get_page_size(self, request: Request) -> int:
        return whole(request, "page_size", self.page_size, self.max_page_size)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        described = super().get_paginated_response_schema(schema)
        for link in ("next", "previous"):
            described["properties"][link]["type"] = ["string", "null"]
        return described

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        page, size = super().get_schema_operation_parameters(view)
        page["schema"] = {"type": "integer", "minimum": 1, "maximum": MOST_PAGES, "default": 1}
        size["schema"] = {
            "type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size,
        }  # fmt: skip
        return [page, size]


class StrictFilters(DjangoFilterBackend):  # type: ignore[misc]
    """Filters that refuse what they do not know: a filter with a typo must not mean "everything".

    What else an action takes, it names as its `query_parameters`.
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[Model], view: Any) -> Any:
        known = {"format", *getattr(view, "query_parameters", ())}
        if not view.detail:
            known |= self._of_a_list(queryset, view)
        if unknown := set(request.query_params) - known:
            raise ValidationError({name: ["There is no such filter here."] for name in sorted(unknown)})
        if view.detail:
            return queryset
        refuse_empty(request)
        return super().filter_queryset(request, queryset, view)

    def _of_a_list(self, queryset: QuerySet[Model], view: Any) -> set[str]:
        filter_class = self.get_filterset_class(view, queryset)
        known = {*(filter_class.base_filters if filter_class else ())}
        if view.paginator:
            known |= {parameter["name"] for parameter in view.paginator.get_schema_operation_parameters(view)}
            known.add("page")  # a list without numbered pages says so itself
        return known | {"ordering"} if orderings_of(view) else known


class Ordering(BaseFilterBackend):
    """`?ordering=`: one of the `orderings` of a view, each a column, with a dash backwards; then by number.

    Of long lists only those that an index has.
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        asked = request.query_params.get("ordering")
        if asked is None or view.detail:
            return queryset
        if asked not in (known := orderings_of(view)):
            raise ValidationError({"ordering": [f"This list can be ordered by: {', '.join(known)}."]})
        return queryset.order_by(asked, "-id" if asked.startswith("-") else "id")

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        if not (known := orderings_of(view)):
            return []
        what = "A dash: backwards. What is alike is ordered by id."
        schema = {"type": "string", "enum": list(known)}
        return [{"name": "ordering", "in": "query", "schema": schema, "description": what}]


def orderings_of(view: Any) -> tuple[str, ...]:
    return getattr(view, "orderings", ())

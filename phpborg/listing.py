"""How the API's lists are paged and filtered."""

from typing import Any

from django.db.models import Model, QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import CursorPagination, PageNumberPagination
from rest_framework.request import Request
from rest_framework.views import APIView

PAGING = {"page", "page_size", "ordering", "cursor", "format"}


class Pages(PageNumberPagination):
    """`?page=&page_size=`, with a count."""

    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"


class NewestFirst(CursorPagination):
    """By cursor, for lists that grow while they are read: no count, the same cost on every page."""

    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"
    ordering = ("-created_at", "-id")


class StrictFilters(DjangoFilterBackend):  # type: ignore[misc]
    """Filters that refuse what they do not know: a filter with a typo must not mean "everything"."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Model], view: APIView) -> Any:
        filter_class = self.get_filterset_class(view, queryset)
        known = set(filter_class.base_filters) if filter_class else set()
        known |= set(getattr(view, "query_parameters", ()))
        if unknown := set(request.query_params) - known - PAGING:
            raise ValidationError({name: ["There is no such filter here."] for name in sorted(unknown)})
        return super().filter_queryset(request, queryset, view)

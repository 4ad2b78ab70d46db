"""How jobs, log lines and the audit trail are listed: by cursor, newest first, at the same cost on every page.

A page is read from an index: of all rows, or of those that one filter asks for (its lane). What other filters ask for
is looked at row by row, in MOST_READ rows of the lane at most. Such a page may be short, or empty; `next` goes on.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import django_filters
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Case, IntegerField, Model, Q, QuerySet, Value, When
from django.db.models.lookups import Exact
from django_filters.constants import EMPTY_VALUES
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from accounts.query import whole

MOST_READ, MOST_LANES = 2_000, 4
Lane = list[Q]  # one of these: each has an index that ends with the list's own order
Position = tuple[Any, ...]  # of a row: the values of the columns that the list is ordered by


@dataclass
class Asked:
    """What the filters of a request ask for: one of each lane, and all of the rest."""

    lanes: list[Lane] = field(default_factory=list)
    span: dict[str, Any] = field(default_factory=dict)  # by lookup: `lt` this, `gte` that; of the order's first column
    rest: Q = field(default_factory=Q)

    def few_lanes(self) -> list[Lane]:
        """Those that are worth a look, the shortest first; together no more than MOST_LANES."""
        few: list[Lane] = []
        for lane in sorted(self.lanes, key=len):
            if sum(map(len, [*few, lane])) <= MOST_LANES:
                few.append(lane)
        return few or [[Q()]]

    def beside(self, lane: Lane) -> Q:
        """What is left to ask of the rows of `lane`."""
        rest = self.rest
        for other in self.lanes:
            if other is not lane:
                rest &= any_of(other)
        return rest


class NewestFilter(django_filters.FilterSet):  # type: ignore[misc]
    """Filters of a list that is NewestFirst: `lanes` have an index, `spans` limit the first column of its order."""

    lanes: ClassVar[tuple[str, ...]] = ()
    spans: ClassVar[tuple[str, ...]] = ("since", "until")

    def asked(self) -> Asked:
        """Of valid filters."""
        asked = Asked()
        for name, value in self.form.cleaned_data.items():
            if value not in EMPTY_VALUES:
                self.ask(asked, name, value)
        return asked

    def ask(self, asked: Asked, name: str, value: Any) -> None:
        """Add what one of the filters asks for."""
        each = self.filters[name]
        values = value if isinstance(value, list) else [value]
        either = [Q(**{f"{each.field_name}__{each.lookup_expr}": one}) for one in values]
        if name in self.spans:
            asked.span[each.lookup_expr] = value
        elif name in self.lanes:
            asked.lanes.append(either)
        else:
            asked.rest &= any_of(either)


class NewestFirst(BasePagination):
    """`?cursor=&page_size=`, as the links of each page say."""

    page_size = 50
    max_page_size = 500

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        if "page" in request.query_params:
            raise ValidationError({"page": ["This list has no numbered pages. Go on with the link in `next`."]})
        filters = DjangoFilterBackend().get_filterset(request, view.get_queryset(), view)
        assert filters.is_valid()  # StrictFilters refused it otherwise
        self._url = request.build_absolute_uri()
        self._cursor = Cursor.read(request.query_params.get("cursor"), queryset)
        size = whole(request, "page_size", self.page_size, self.max_page_size)
        self._walk = Walk(filters.queryset, filters.asked(), self._cursor, size)
        return self._walk.rows

    def get_paginated_response(self, data: Any) -> Response:
        older, newer = self._walk.older, self._walk.newer
        return Response({"next": self._link(older), "previous": self._link(newer), "results": data})

    def _link(self, cursor: "Cursor | None") -> str | None:
        if cursor is None:
            return None
        url = remove_query_param(self._url, "cursor")
        return replace_query_param(url, "cursor", cursor.text)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        more = "Older ones. A page with filters may be short, or empty, and still have this: it looked far enough."
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": {**link, "description": more},
                "previous": {**link, "description": "Newer ones."},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        size = {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        what = "Where to go on, as `next` and `previous` say."
        return [
            {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": what},
            {"name": "page_size", "in": "query", "schema": size, "description": "Results on a page."},
        ]


def walk(filters: NewestFilter, cursor: str | None, size: int) -> "Walk":
    """For a page: what `cursor` asks for, or the newest if it is none of this list. Wrong filters find nothing."""
    if not filters.is_valid():
        return Walk(filters.queryset.none(), Asked(), Cursor(None), size)
    try:
        begin = Cursor.read(cursor, filters.queryset)
    except ValidationError:
        begin = Cursor(None)
    return Walk(filters.queryset, filters.asked(), begin, size)


def walks(filters: NewestFilter, size: int) -> Iterator[list[Any]]:
    """All that the filters find, a page after the other."""
    page = walk(filters, None, size)
    yield page.rows
    while page.older:
        page = Walk(filters.queryset, filters.asked(), page.older, size)
        yield page.rows


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: beyond a row, towards older or newer ones; without a position at the end of the list."""

    position: Position | None
    towards_newer: bool = False

    @property
    def text(self) -> str:
        words = ["newer" if self.towards_newer else "older", *map(str, self.position or ())]
        return base64.urlsafe_b64encode("~".join(words).encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str | None, queryset: QuerySet[Any]) -> Self:
        """Raises ValidationError for what is no cursor of this list."""
        if text is None:
            return cls(None)
        try:
            way, *words = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("~")
            columns = [queryset.model._meta.get_field(name) for name in order_of(queryset)]
            position = tuple(column.clean(word, None) for column, word in zip(columns, words, strict=bool(words)))
            towards_newer = {"older": False, "newer": True}[way]
        except (ValueError, KeyError, DjangoValidationError) as error:
            raise ValidationError({"cursor": ["This is no cursor of this list."]}) from error
        return cls(position or None, towards_newer)


class Walk:
    """Reads one page; `rows` are newest first, `older` and `newer` say where the list goes on."""

    def __init__(self, queryset: QuerySet[Any], asked: Asked, cursor: Cursor, size: int) -> None:
        self._names = order_of(queryset)
        self._back = cursor.towards_newer
        onward, backward = ("gt", "lt") if self._back else ("lt", "gt")
        self._queryset = queryset.reverse() if self._back else queryset
        self._span = beyond(self._names, cursor.position, onward) if cursor.position else Q()
        for lookup, value in asked.span.items():
            if not self._is_said(lookup, value, cursor.position):
                self._span &= Q(**{f"{self._names[0]}__{lookup}": value})
        lane, rest, end = self._narrowest(asked)
        within = beyond(self._names, end, backward, itself=True) if end else Q()
        found, has_more = self._read(lane, self._span & within & rest, size)
        self.rows = found[:: -1 if self._back else 1]
        goes_on = self._position(found[-1]) if has_more and found else end
        ahead = Cursor(goes_on, self._back) if goes_on else None
        behind = Cursor(self._position(found[0]) if found else end, not self._back) if cursor.position else None
        self.older, self.newer = (behind, ahead) if self._back else (ahead, behind)

    def _is_said(self, lookup: str, value: Any, position: Position | None) -> bool:
        """Whether the cursor says it already: of two limits SQLite might take the wider one for its index."""
        is_upper = lookup == "lt"
        return position is not None and is_upper != self._back and (position[0] < value) == is_upper

    def _narrowest(self, asked: Asked) -> tuple[Lane, Q, Position | None]:
        """The lane that gets furthest within MOST_READ rows; what is left to look at in it; the row where it stops."""
        lanes = asked.few_lanes()
        if len(lanes) == 1 and not asked.beside(lanes[0]):
            return lanes[0], Q(), None
        ends = [self._end_of(lane) for lane in lanes]
        furthest = max if self._back else min
        end = None if None in ends else furthest(end for end in ends if end)
        lane = lanes[ends.index(end)]
        return lane, row_by_row(asked.beside(lane)), end

    def _end_of(self, lane: Lane) -> Position | None:
        """The row that comes after the MOST_READ that may be looked at, None if the lane has no more than these."""
        nearest, most = min if self._back else max, MOST_READ // len(lane)
        columns = (self._queryset.filter(self._span, one).values_list(*self._names) for one in lane)
        ends = [row for rows in columns for row in rows[most : most + 1]]
        return nearest(ends, default=None)

    def _read(self, lane: Lane, rest: Q, size: int) -> tuple[list[Any], bool]:
        """The rows, and whether there are more; what is deleted meanwhile is missing, and ends no list."""
        if lane == [Q()]:
            rows = list(self._queryset.filter(rest)[: size + 1])
            return rows[:size], len(rows) > size
        # Their keys first: asked for whole rows of one status MariaDB walks along all jobs instead of its index.
        each = (self._queryset.filter(one, rest).values_list("pk", flat=True)[: size + 1] for one in lane)
        keys = [key for found in each for key in found]
        return list(self._queryset.filter(pk__in=keys)[:size]), len(keys) > size

    def _position(self, row: Model) -> Position:
        return tuple(getattr(row, name) for name in self._names)


def beyond(names: Sequence[str], position: Position, way: str, *, itself: bool = False) -> Q:
    """Rows that come after that one (`lt`) or before it (`gt`); the first column stands alone, for an index."""
    (name, value), *others = zip(names, position, strict=True)
    if not others:
        return Q(**{f"{name}__{way}{'e' if itself else ''}": value})
    rest = beyond(names[1:], position[1:], way, itself=itself)
    return Q(**{f"{name}__{way}e": value}) & (Q(**{f"{name}__{way}": value}) | rest)


def order_of(queryset: QuerySet[Any]) -> list[str]:
    """The columns that a list is ordered by, all of them descending."""
    return [str(name).removeprefix("-") for name in queryset.query.order_by]


def any_of(lane: Iterable[Q]) -> Q:
    either = Q()
    for one in lane:
        either |= one
    return either


def row_by_row(condition: Q) -> Q:
    """The same, but no database takes an index for it."""
    if not condition:
        return condition
    return Q(Exact(Case(When(condition, then=Value(1)), default=Value(0), output_field=IntegerField()), 1))

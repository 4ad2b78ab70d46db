"""What a page with a list needs: an order, and all of it as CSV. What the address says that is not known is ignored."""

import csv
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.core.exceptions import EmptyResultSet
from django.core.paginator import Page, Paginator
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.text import slugify
from django.utils.translation import get_language, override

ROWS_AT_ONCE = 500
MANY, REMEMBERED_SECONDS = 20_000, 10  # nobody sees which of so many is new
LONGEST = 200  # characters of what is searched for
# A spreadsheet takes a cell that begins with one of these for a formula, and runs it (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Rows = TypeVar("Rows", bound=QuerySet[Any])
Row = TypeVar("Row")


def ordered(rows: Rows, request: HttpRequest, *columns: str) -> Rows:
    """As `?ordering=` says: by one of `columns`, with a dash backwards, then by number. Else as they are."""
    asked = request.GET.get("ordering", "")
    if asked.removeprefix("-") not in columns:
        return rows
    return rows.order_by(asked, "-pk" if asked.startswith("-") else "pk")


def with_names(rows: Rows, **shown: Sequence[str]) -> Rows:
    """With those that they belong to, and of these no more than a list shows, as `server=["name"]`: rows are long."""
    own = [field.name for field in rows.model._meta.concrete_fields]
    theirs = [f"{relation}__{name}" for relation, names in shown.items() for name in names]
    return rows.select_related(*shown).only(*own, *theirs)


class Deep(Paginator[Any]):
    """A deep page costs little more than the first: what is skipped is skipped in an index, from the nearer end."""

    @cached_property
    def count(self) -> int:
        """As it is kept (`kept_count` of the rows) where it is; of very many how many they were some seconds ago."""
        rows: Any = self._rows
        kept: int | None = rows.kept_count() if hasattr(rows, "kept_count") else None
        return remembered_count(rows) if kept is None else kept

    @property
    def _rows(self) -> QuerySet[Any]:
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        return rows

    def page(self, number: int | str) -> Page[Any]:
        number = self.validate_number(number)
        first = (number - 1) * self.per_page
        return Page(by_key(self._rows, self._keys(first, min(first + self.per_page, self.count))), number, self)

    def _keys(self, first: int, end: int) -> list[Any]:
        return self._cut(self._rows.values_list("pk", flat=True), first, end)

    def _cut(self, values: QuerySet[Any], first: int, end: int) -> list[Any]:
        if first > self.count // 2:
            return list(values.reverse()[self.count - end : self.count - first])[::-1]
        return list(values[first:end])


class ByOwner(Deep):
    """Of rows that are ordered by whose they are, as `server__name`, which is unique, and then among themselves.

    No index has both, and a database would sort all of them. Whose the rows of a page are it reads from an index, and
    then there are few to sort. Ordered by a column of their own they are as in any list.
    """

    def _keys(self, first: int, end: int) -> list[Any]:
        column = str(self._rows.query.order_by[0])
        relation = column.rpartition("__")[0]
        if not relation or first == end:
            return super()._keys(first, end)
        owners = self._cut(self._rows.order_by(column).values_list(relation, flat=True), first, end)
        found = list(self._rows.filter(**{f"{relation}__in": set(owners)}).values_list(relation, "pk"))
        on_the_page_before = [owner for owner, _ in found].count(owners[0]) - owners.count(owners[0])
        if on_the_page_before and owners[0] == owners[-1]:  # or on the page after: of one owner there are few to sort
            return super()._keys(first, end)
        return [key for _, key in found][on_the_page_before:][: len(owners)]


def remembered_count(rows: QuerySet[Any]) -> int:
    """How many there are. MariaDB counts 80,000 entries of an index in 50 ms, at each page that somebody turns."""
    try:
        asked = rows.query.sql_with_params()
    except EmptyResultSet:
        return 0
    key = hashlib.sha256(repr(asked).encode()).hexdigest()
    found: int | None = cache.get(key)
    if found is None:
        found = rows.count()
        if found > MANY:
            cache.set(key, found, REMEMBERED_SECONDS)
    return found


class Searched(Deep):
    """Where no index finds what is asked for: to count them all rows are looked at, and their keys come along."""

    @cached_property
    def _all(self) -> list[Any]:
        return list(self._rows.values_list("pk", flat=True))

    @cached_property
    def count(self) -> int:
        return len(self._all)

    def _keys(self, first: int, end: int) -> list[Any]:
        return self._all[first:end]


def by_key(rows: QuerySet[Any], keys: list[Any]) -> list[Any]:
    """Those rows, in this order. What chose them is not asked again: SQLite would take its index, and not the keys."""
    chosen = rows.order_by()
    chosen.query.clear_where()
    found = {row.pk: row for row in chosen.filter(pk__in=keys)}
    return [found[key] for key in keys if key in found]


def asked_for(request: HttpRequest, name: str = "search") -> str:
    """What somebody typed; without NULs, after which SQLite would read no further."""
    return request.GET.get(name, "").replace("\0", "").strip()[:LONGEST]


def is_csv(request: HttpRequest) -> bool:
    return request.GET.get("format") == "csv"


def in_batches(rows: QuerySet[Any]) -> Iterator[list[Any]]:
    """All of them in their order, so many at once: no database's client holds them all."""
    keys = list(rows.values_list("pk", flat=True))
    for first in range(0, len(keys), ROWS_AT_ONCE):
        yield by_key(rows, keys[first : first + ROWS_AT_ONCE])


def as_csv(name: str, rows: Iterator[Sequence[object]]) -> StreamingHttpResponse:
    """A file for a spreadsheet, its heads first; streamed: rows are read while they are sent."""
    mark = "\ufeff"  # by which a spreadsheet knows that it is UTF-8
    return _file(f"{name}.csv", "text/csv", _pieces(rows, _text, mark))


def as_json_lines(name: str, rows: Iterator[Mapping[str, object]]) -> StreamingHttpResponse:
    """A file for programs, an object a line; streamed too."""
    return _file(f"{name}.jsonl", "application/x-ndjson", _pieces(rows, json_lines))


def json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row, cls=DjangoJSONEncoder) + "\n" for row in rows)


def _file(name: str, kind: str, pieces: AsyncIterator[str]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(pieces, content_type=f"{kind}; charset=utf-8")
    stamp = timezone.localtime().strftime("%Y-%m-%d-%H%M")
    stem, _, ending = name.rpartition(".")
    response["Content-Disposition"] = f'attachment; filename="phpborg-{slugify(stem)}-{stamp}.{ending}"'
    return response


def _pieces(rows: Iterator[Row], as_text: Callable[[Iterable[Row]], str], mark: str = "") -> AsyncIterator[str]:
    """In the zone and the language of now: the request will be over when most of it is read."""
    zone, language = timezone.get_current_timezone(), get_language()

    @sync_to_async
    def piece() -> str:
        with timezone.override(zone), override(language):
            return as_text(islice(rows, ROWS_AT_ONCE))

    async def pieces() -> AsyncIterator[str]:
        if mark:
            yield mark
        while text := await piece():
            yield text

    return pieces()


class _Lines(list[str]):
    """What csv.writer writes to."""

    write = list.append


def _text(rows: Iterable[Sequence[object]]) -> str:
    lines = _Lines()
    csv.writer(lines).writerows([_cell(value) for value in row] for row in rows)
    return "".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return timezone.localtime(value).isoformat(timespec="seconds")
    text = str(value)
    return text if isinstance(value, int | float) or not text.startswith(FORMULA) else f"'{text}"

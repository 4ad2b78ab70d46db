"""Rows by the million, past the ORM, which would take hours for what `manage.py make_fleet` writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from django.db import connection
from django.db.models import DateTimeField, Field, JSONField, Model, UUIDField
from django.db.models.fields import NOT_PROVIDED

ROWS_AT_ONCE = 20_000


@contextmanager
def hurried() -> Iterator[None]:
    """Inside the block this connection takes great heaps of rows that are known to fit together."""
    before, after = {
        # What is read again and again while indexes grow stays in memory: 400 MB.
        "sqlite": ("PRAGMA cache_size = -400000", "PRAGMA cache_size = -8000"),
        "mysql": ("SET foreign_key_checks = 0, unique_checks = 0", "SET foreign_key_checks = 1, unique_checks = 1"),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(before)
        try:
            yield
        finally:
            cursor.execute(after)


def settle() -> None:
    """Let MariaDB know what it knows of tables that have grown slowly. Ends a transaction."""
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE TABLE " + ", ".join(connection.introspection.table_names(cursor)))


class Heap:
    """New rows of one table. Those columns that `add` is not told have their default in each of them."""

    def __init__(self, model: type[Model], *names: str) -> None:
        told = fields_of(model, *names)
        written = (field for field in model._meta.concrete_fields if not (field.primary_key or field.generated))
        rest = [field for field in written if field not in told]
        self._prepare = [prepared_by(field) for field in told]
        self._same = tuple(field.get_db_prep_save(default_of(field), connection) for field in rest)
        quote = connection.ops.quote_name
        columns = ", ".join(quote(str(field.column)) for field in (*told, *rest))
        places = ", ".join(["%s"] * (len(told) + len(rest)))
        self._sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({places})"  # noqa: S608  # our own names
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *values: Any) -> None:
        self.add_prepared(*(prepare(value) for prepare, value in zip(self._prepare, values, strict=True)))

    def add_prepared(self, *values: Any) -> None:
        """The same with values as the database takes them (`prepared_by`)."""
        self._rows.append(values + self._same)
        if len(self._rows) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(self._sql, self._rows)
        self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.flush()


def fields_of(model: type[Model], *names: str) -> list[Field[Any, Any]]:
    fields = {field.name: field for field in model._meta.concrete_fields}
    return [fields[name] for name in names]


def prepared_by(field: Field[Any, Any]) -> Callable[[Any], Any]:
    """What makes of a value what the database takes for `field`; most it takes as they are."""
    kind = getattr(field, "target_field", field)
    if isinstance(kind, DateTimeField):
        return lambda value: value and str(value.replace(tzinfo=None))  # all of it is UTC
    if isinstance(kind, UUIDField | JSONField):
        return lambda value: field.get_db_prep_save(value, connection)
    return lambda value: value


def default_of(field: Field[Any, Any]) -> Any:
    return None if field.null and field.default is NOT_PROVIDED else field.get_default()

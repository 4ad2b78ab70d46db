"""The live settings: in force in every process about a second after they were changed.

CONSTANCE_CONFIG in phpborg/settings.py declares them. What nobody has set is not stored, and follows the environment.
Of django-constance these are the table, the format of its values, and the fields. They are read here: it would ask the
database for one at a time, store a default because it was read, and take a database that is away for an empty one.
"""

import logging
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from constance.codecs import dumps, loads
from constance.forms import FIELDS
from constance.models import Constance
from django import forms
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import Error, close_old_connections, connection, transaction
from django.http import HttpRequest
from rest_framework.request import Request

from accounts import audit

logger = logging.getLogger(__name__)

KEPT_SECONDS = 1.0
# What reading a value that is damaged may raise.
UNFIT = (ValidationError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)

Values = dict[str, Any]  # by their names in lower case, as forms and API have them


@cache
def fields() -> dict[str, forms.Field]:
    """A field of a form for each, with its sentence and its bounds."""
    found = {}
    for name, (default, sentence, kind) in settings.CONSTANCE_CONFIG.items():
        field_class, bounds = FIELDS[kind]
        found[name.lower()] = field_class(label=name, help_text=sentence, initial=default, **bounds)
    return found


@cache
def form_class() -> type[forms.Form]:
    """All of them together: a page's form, and what the API takes."""
    return type("ConfigForm", (forms.Form,), dict(fields()))


def defaults() -> Values:
    return {name.lower(): default for name, (default, *_) in settings.CONSTANCE_CONFIG.items()}


def refuse_defaults() -> None:
    """Raise ImproperlyConfigured when one that the environment gives is out of bounds."""
    for name, default in defaults().items():
        try:
            fields()[name].clean(default)
        except ValidationError as error:
            raise ImproperlyConfigured(f"{name.upper()}: {' '.join(error.messages)}") from error


class Config:
    """`config.JOB_KEEP_DAYS` is its value now, as far as the last second knows. Never raises for the database."""

    def __init__(self) -> None:
        self._known: Values | None = None
        self._until = 0.0
        self._told: set[tuple[str, str | None]] = set()  # what is stored and does not fit

    def __getattr__(self, name: str) -> Any:
        if name not in settings.CONSTANCE_CONFIG:
            raise AttributeError(name)
        known = self._known if self._known is not None and time.monotonic() < self._until else self.read()
        return known[name.lower()]

    def read(self) -> Values:
        """All of them, in one query. If the database is away the last known ones go on counting."""
        asked_at = time.monotonic()
        try:
            self._known = {**defaults(), **self._fitting(_stored())}
        except Error as error:
            logger.warning("The settings cannot be read, the last known ones count: %s", error)
            self._known, asked_at = self._known or defaults(), time.monotonic()
        self._until = asked_at + KEPT_SECONDS
        return self._known

    def forget(self) -> None:
        """Whoever wants to know one next reads them anew."""
        self._until = 0.0

    def change(self, values: Mapping[str, Any], *, request: HttpRequest | Request | None = None) -> Values:
        """Store what is different in `values`, which fit, and return all of them as they are then.

        What is as it was stays as it is: if nobody has set it, it goes on following the environment.
        """
        with transaction.atomic():
            # One at a time, also when the first row of a setting is yet to be made: the row of their table's own name.
            list(ContentType.objects.select_for_update().filter(app_label="constance", model="constance"))
            stored = _stored()
            fitting = self._fitting(stored)
            before = {**defaults(), **fitting}
            after = {**before, **values}
            changed = sorted(name for name in after if after[name] != before[name])
            for name in {*changed, *(values.keys() & stored.keys() - fitting.keys())}:
                Constance.objects.update_or_create(key=name.upper(), defaults={"value": dumps(after[name])})
            if changed:
                detail = {"before": {n: before[n] for n in changed}, "after": {n: after[n] for n in changed}}
                audit.record("settings.changed", request=request, detail=detail)
            transaction.on_commit(self.forget)
        return after

    def _fitting(self, stored: Mapping[str, str | None]) -> Values:
        """What is stored, without what is damaged or out of bounds by now, of which the log is told once."""
        found = {}
        for name, text in stored.items():
            if (name, text) in self._told:
                continue
            try:
                found[name] = fields()[name].clean(loads(text))
            except UNFIT as error:
                why = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
                logger.warning("The setting %s cannot be %.200r, its default counts: %s", name.upper(), text, why)
                self._told.add((name, text))
        return found


def _stored() -> dict[str, str | None]:
    """What somebody has set, as it is stored. Raises what a database does that is away."""
    rows = Constance.objects.filter(key__in=settings.CONSTANCE_CONFIG).values_list("key", "value")
    try:
        found = dict(rows)
    except Error:
        if connection.in_atomic_block:
            raise  # whose transaction it is would lose it
        close_old_connections()  # a job of many hours may come back to a connection that the server has ended
        found = dict(rows.all())
    return {name.lower(): text for name, text in found.items()}


config = Config()

"""The live settings: in force in every process about a second after they were changed.

CONSTANCE_CONFIG in phpborg/settings.py declares them. What nobody has set is not stored, and follows the environment.
Of django-constance these are the table, the format of its values, and the fields. They are read here: it would ask the
database for one at a time, store a default because it was read, and take a database that is away for an empty one.
"""

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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

from accounts import audit, encryption
from jobs.fields import SecretField

logger = logging.getLogger(__name__)

KEPT_SECONDS = 1.0
# What reading a value that is damaged may raise.
UNFIT = (ValidationError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)

Values = dict[str, Any]  # by their names in lower case, as forms and API have them


@cache
def fields() -> dict[str, forms.Field]:
    """A field of a form for each, with its sentence and its bounds."""
    found = {}
    for name, (_default, sentence, kind) in settings.CONSTANCE_CONFIG.items():
        field_class, bounds = FIELDS[kind]
        found[name.lower()] = field_class(label=name, help_text=sentence, **bounds)
    return found


@dataclass(frozen=True)
class Secret:
    """What is stored encrypted. Only who needs it opens it; nothing else tells more than whether there is one."""

    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, text: str) -> "Secret":
        return cls(encryption.encrypt(text)) if text else cls()

    def __bool__(self) -> bool:
        return bool(self.token)

    def __str__(self) -> str:
        return audit.HIDDEN if self else ""

    def open(self) -> str:
        """Raises WrongKey."""
        return encryption.decrypt(self.token) if self.token else ""


def is_secret(name: str) -> bool:
    return isinstance(fields()[name], SecretField)


def defaults() -> Values:
    found = {name.lower(): default for name, (default, *_) in settings.CONSTANCE_CONFIG.items()}
    return {name: Secret.of(default) if is_secret(name) else default for name, default in found.items()}


def refuse_defaults() -> None:
    """Raise ImproperlyConfigured when one that the environment gives is out of bounds."""
    for name, (default, *_) in settings.CONSTANCE_CONFIG.items():
        try:
            fields()[name.lower()].clean(default)
        except ValidationError as error:
            raise ImproperlyConfigured(f"{name}: {' '.join(error.messages)}") from error


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

    def shown(self) -> Values:
        """Those that may be shown: for a form."""
        return {name: value for name, value in self.read().items() if not is_secret(name)}

    def set_here(self) -> frozenset[str]:
        """The names of those that somebody has set; the others follow the environment."""
        return frozenset(self._fitting(_stored()))

    def change(
        self,
        values: Mapping[str, Any],
        *,
        unset: Collection[str] = (),
        request: HttpRequest | Request | None = None,
    ) -> Values:
        """Store what is different in `values`, which fit, and return all of them as they are then.

        What is as it was stays as it is: if nobody has set it, it goes on following the environment. So does a secret
        that is empty. What is `unset` follows the environment again.
        """
        with transaction.atomic():
            # One at a time, also when the first row of a setting is yet to be made: the row of their table's own name.
            list(ContentType.objects.select_for_update().filter(app_label="constance", model="constance"))
            stored = _stored()
            fitting = self._fitting(stored)
            usual = defaults()
            before = {**usual, **fitting}
            after = {**before, **_sealed(values), **{name: usual[name] for name in unset}}
            changed = sorted(name for name in after if after[name] != before[name])
            mended = values.keys() & stored.keys() - fitting.keys()
            for name in {*changed, *mended} - {*unset}:
                Constance.objects.update_or_create(key=name.upper(), defaults={"value": _as_stored(after[name])})
            dropped = sorted(stored.keys() & {*unset})
            Constance.objects.filter(key__in=[name.upper() for name in dropped]).delete()
            if changed or dropped:
                detail = {"before": {n: before[n] for n in changed}, "after": {n: after[n] for n in changed}}
                said = {**detail, **({"unset": dropped} if dropped else {})}
                audit.record("settings.changed", request=request, detail=said)
            transaction.on_commit(self.forget)
        return after

    def _fitting(self, stored: Mapping[str, str | None]) -> Values:
        """What is stored, without what is damaged or out of bounds by now, of which the log is told once."""
        found = {}
        for name, text in stored.items():
            if (name, text) in self._told:
                continue
            try:
                found[name] = _from_store(name, text)
            except UNFIT as error:
                why = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
                shown = "what is stored" if is_secret(name) else f"{text!r:.200}"
                logger.warning("The setting %s cannot be %s, its default counts: %s", name.upper(), shown, why)
                self._told.add((name, text))
        return found


def _from_store(name: str, text: str | None) -> Any:
    """Raises one of UNFIT."""
    value = loads(text)
    if not is_secret(name):
        return fields()[name].clean(value)
    if not isinstance(value, str):
        raise ValidationError("It is no encrypted text.")
    return Secret(value)


def _as_stored(value: Any) -> str:
    text: str = dumps(value.token if isinstance(value, Secret) else value)
    return text


def _sealed(values: Mapping[str, Any]) -> Values:
    """The same with secrets encrypted, without those that are to stay as they were."""
    return {
        name: Secret.of(value) if isinstance(value, str) and is_secret(name) else value
        for name, value in values.items()
        if value or not is_secret(name)
    }


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

"""What stands behind the question mark: numbers and choices that are refused if they are none."""

import re
from contextlib import suppress
from datetime import date, timedelta
from typing import Any

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from django_filters.fields import IsoDateTimeField
from drf_spectacular.utils import extend_schema_field
from rest_framework import exceptions
from rest_framework.request import Request

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
LARGEST = 2**63 - 1  # that a database counts to


def whole(request: Request, name: str, default: int, most: int, *, least: int = 1) -> int:
    """A whole number of the query, or the default if it is not there. Raises ValidationError."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise exceptions.ValidationError({name: [f"This must be a whole number from {least} to {most}."]})
    return int(text)


def refuse_empty(request: Request) -> None:
    """A filter without a value must not mean "everything" either. Raises ValidationError."""
    if empty := sorted(name for name, value in request.query_params.items() if not value):
        raise exceptions.ValidationError({name: ["It has no value. Say one, or leave it out."] for name in empty})


class WholeField(forms.IntegerField):
    """Digits and nothing else: not 1.0, nor 1_000, nor another script's."""

    def to_python(self, value: Any) -> int | None:
        text = "" if value is None else str(value)
        if text and not (text.isascii() and text.isdecimal()):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(text)


class TrueOrFalseField(forms.NullBooleanField):
    """Django's own takes whatever it does not know for "no matter"."""

    widget = forms.TextInput

    def to_python(self, value: Any) -> bool | None:  # type: ignore[override]  # as its own does
        known = {"": None, "true": True, "false": False}
        if (text := str(value or "").lower()) not in known:
            raise ValidationError(_("This must be true or false."), code="invalid")
        return known[text]


class UntilField(IsoDateTimeField):  # type: ignore[misc]
    """A moment; a day means its end."""

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and DAY.fullmatch(value.strip()):
            with suppress(ValueError, OverflowError):  # then it is refused below
                value = (date.fromisoformat(value.strip()) + timedelta(days=1)).isoformat()
        return super().to_python(value)


@extend_schema_field({"type": "integer", "minimum": 1, "maximum": LARGEST})
class IdFilter(django_filters.NumberFilter):  # type: ignore[misc]
    """Of one thing, by its number."""

    field_class = WholeField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, min_value=1, max_value=LARGEST, **kwargs)


class TrueOrFalseFilter(django_filters.BooleanFilter):  # type: ignore[misc]
    field_class = TrueOrFalseField

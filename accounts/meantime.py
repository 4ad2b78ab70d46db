"""Two people at one form: whoever saves second is told what the first one has saved, field by field.

A page with a form carries, in a hidden field, how each field's value was when it was shown. What is another one when
the form comes back was changed in the meantime; then nothing is saved before the person has seen both.
"""

import hashlib
from typing import Any

from django import forms
from django.forms import BoundField
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

NAME = "as_of"
LONGEST = 200  # characters of a value that are shown


class Meantime:
    def __init__(self, request: HttpRequest, *filled_in: forms.BaseForm) -> None:
        """Of forms whose initial values are what is stored now."""
        self._fields = [bound for form in filled_in for bound in form]
        self._before = dict(part.split(":", 1) for part in request.POST.get(NAME, "").split() if ":" in part)
        self._others = [
            bound
            for bound in self._fields
            if self._before.get(bound.html_name, _mark(bound)) != _mark(bound) and _plain(bound.data) != _stored(bound)
        ]
        self._untold = {bound.html_name for bound in self._others}

    def is_free(self) -> bool:
        """Whether nobody has saved other values since; says at each field what they saved."""
        self._untold.clear()
        for bound in self._others:
            words = {"value": _words(bound)[:LONGEST]}
            sentence = _("Meanwhile somebody saved “%(value)s” here. Save again to put yours in its place.") % words
            bound.form.add_error(bound.name, sentence)
        return not self._others

    @property
    def hidden(self) -> SafeString:
        """For the form. As soon as a person was told what others saved, and not before, the next save goes by that."""
        marks = {bound.html_name: _mark(bound) for bound in self._fields}
        marks |= {name: self._before[name] for name in self._untold}
        text = " ".join(f"{name}:{mark}" for name, mark in marks.items())
        return format_html('<input type="hidden" name="{}" value="{}">', NAME, text)


def _stored(bound: BoundField) -> list[str] | str:
    """As the form would send it."""
    return _plain(bound.field.prepare_value(bound.initial))


def _plain(value: Any) -> list[str] | str:
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return "" if value is None else str(value).replace("\r\n", "\n").strip()


def _mark(bound: BoundField) -> str:
    return hashlib.sha256(repr(_stored(bound)).encode()).hexdigest()[:12]


def _words(bound: BoundField) -> str:
    value = bound.field.prepare_value(bound.initial)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    labels = {str(key): str(label) for key, label in getattr(bound.field, "choices", [])}
    values = value if isinstance(value, list | tuple) else [value]
    return ", ".join(labels.get(str(each), str(each)) for each in values if each is not None)

"""What a kind of source is: its parameters, and how it becomes something that borg can save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from servers.ssh.transport import Tick, Transport

LINE_BYTES = 4_096  # as long as a path can be
MOST_LINES = 1_000


@dataclass(frozen=True)
class Prepared:
    """What one source hands to `borg create`."""

    paths: tuple[str, ...]
    excludes: tuple[str, ...] = ()
    one_file_system: bool = False
    exclude_caches: bool = False


class SourceKind(ABC):
    """A kind of source. `form` validates its parameters, for the page and for the API alike."""

    kind: ClassVar[str]
    label: ClassVar[str | Promise]
    icon: ClassVar[str]
    form: ClassVar[type[forms.Form]]

    registry: ClassVar[dict[str, SourceKind]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.registry[cls.kind] = cls()

    @abstractmethod
    def prepare(self, machine: Transport, parameters: dict[str, Any], tick: Tick) -> AbstractContextManager[Prepared]:
        """Get ready on `machine` what is to be saved, and clean up after. Raises Failure."""

    @abstractmethod
    def describe(self, parameters: dict[str, Any]) -> str:
        """What it saves, in a few words."""


class LinesField(forms.Field):
    """A list of texts: one per line on a page, a JSON list in the API."""

    widget = forms.Textarea
    json_type = list, _("This must be a list of texts.")
    default_error_messages: ClassVar = {
        "required": _("Enter at least one line."),
        "not_lines": _("This must be a list of texts."),
        "too_long": _("“%(start)s...” is longer than %(limit)d bytes."),
        "too_many": _("These are more than %(limit)d lines."),
        "not_text": _("“%(start)s” has a character that cannot be part of a path."),
    }

    def to_python(self, value: Any) -> list[str]:
        if not value:
            return []
        # Not splitlines(): it also cuts at characters that may be part of a name.
        lines = value.rstrip("\r\n").split("\n") if isinstance(value, str) else value
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise ValidationError(self.error_messages["not_lines"], code="not_lines")
        if len(lines) > MOST_LINES:
            raise ValidationError(self.error_messages["too_many"], code="too_many", params={"limit": MOST_LINES})
        return [line for line in map(self._checked, lines) if line]

    def _checked(self, line: str) -> str:
        line = line.strip("\r\n")
        start = line[:40].encode("utf-8", "backslashreplace").decode()
        try:
            size = len(line.encode())
        except UnicodeEncodeError:
            raise ValidationError(self.error_messages["not_text"], code="not_text", params={"start": start}) from None
        if "\0" in line:
            raise ValidationError(self.error_messages["not_text"], code="not_text", params={"start": start})
        if size > LINE_BYTES:
            params = {"start": start, "limit": LINE_BYTES}
            raise ValidationError(self.error_messages["too_long"], code="too_long", params=params)
        return line if line.strip() else ""

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


def join(prepared: Iterator[Prepared] | list[Prepared]) -> Prepared:
    """All sources of a plan as one `borg create`: what any of them asks for holds for all."""
    everything = list(prepared)
    return Prepared(
        paths=tuple(dict.fromkeys(path for one in everything for path in one.paths)),
        excludes=tuple(dict.fromkeys(pattern for one in everything for pattern in one.excludes)),
        one_file_system=any(one.one_file_system for one in everything),
        exclude_caches=any(one.exclude_caches for one in everything),
    )

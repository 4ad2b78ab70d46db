from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from backups.sources.base import LinesField, Prepared, SourceKind
from servers.ssh.transport import Tick, Transport

STYLES = ("fm", "sh", "re", "pp", "pf")  # borg help patterns


class FilesForm(forms.Form):
    paths = LinesField(
        label=_("Folders and files"),
        help_text=_("One path per line, each from the root: /etc, /home ..."),
        error_messages={"required": _("Enter at least one path. Nothing is never taken to mean everything.")},
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
    )
    excludes = LinesField(
        label=_("Leave out"),
        required=False,
        help_text=_("Borg's patterns, one per line: *.tmp, sh:/home/*/.cache, /var/lib/docker ..."),
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    one_file_system = forms.BooleanField(
        label=_("Stay on one file system"), required=False, help_text=_("Do not follow into other mounts.")
    )
    exclude_caches = forms.BooleanField(
        label=_("Leave out caches"),
        required=False,
        initial=True,
        help_text=_("Folders that are marked with a CACHEDIR.TAG."),
    )

    def clean_paths(self) -> list[str]:
        paths: list[str] = self.cleaned_data["paths"]
        for path in paths:
            if not path.startswith("/"):
                raise ValidationError(_("“%(path)s” does not begin with /."), params={"path": path[:60]})
            if {".", ".."} & set(path.split("/")):
                raise ValidationError(_("“%(path)s” has a “.” or “..” in it."), params={"path": path[:60]})
        return paths

    def clean_excludes(self) -> list[str]:
        excludes: list[str] = self.cleaned_data["excludes"]
        for pattern in excludes:
            style, colon, rest = pattern.partition(":")
            if colon and len(style) == 2 and style.isalpha() and style not in STYLES:
                raise ValidationError(
                    _("“%(style)s:” is no style of pattern that borg knows (%(styles)s)."),
                    params={"style": style, "styles": ", ".join(f"{name}:" for name in STYLES)},
                )
            if colon and style in STYLES and not rest:
                raise ValidationError(_("The pattern “%(pattern)s” is empty."), params={"pattern": pattern})
        return excludes


class Files(SourceKind):
    """Folders and files of the server, as they are."""

    kind = "files"
    label = _("Files")
    icon = "files"
    form = FilesForm

    @contextmanager
    def prepare(self, machine: Transport, parameters: dict[str, Any], tick: Tick) -> Iterator[Prepared]:
        yield Prepared(
            paths=tuple(parameters["paths"]),
            excludes=tuple(parameters.get("excludes", ())),
            one_file_system=bool(parameters.get("one_file_system")),
            exclude_caches=bool(parameters.get("exclude_caches")),
        )

    def describe(self, parameters: dict[str, Any]) -> str:
        return ", ".join(parameters["paths"])

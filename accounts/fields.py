"""A time zone in a form."""

from functools import cache
from typing import Any

from django import forms
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from accounts.models import validate_time_zone, zone_names


class ZoneSelect(forms.Select):
    """All zones that there are, written once: of six hundred options a template makes 60 ms of work for each page."""

    template_name = "components/zones.html"
    empty: str | Promise | None = None  # what it says for none; None: it does not offer that

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = forms.Widget.get_context(self, name, value, attrs)
        return context | {"zones": _with_chosen(str(value or "")), "empty": self.empty}


class TimeZoneField(forms.CharField):
    widget = ZoneSelect
    default_validators = [validate_time_zone]

    def __init__(self, *, empty: str | Promise | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widget.empty = empty


def _with_chosen(zone: str) -> SafeString:
    option = format_html('<option value="{}"', zone)
    return mark_safe(_options().replace(option, f"{option} selected", 1))  # noqa: S308


@cache
def _options() -> SafeString:
    return format_html_join("\n", '<option value="{}">{}</option>', ((zone, zone) for zone in sorted(zone_names())))

"""Time zones in forms, and selects as our template writes them."""

import re

import pytest
from django import forms
from django.core.exceptions import ValidationError
from django.utils.safestring import SafeString

from accounts.fields import TimeZoneField
from accounts.models import zone_names


class ZoneForm(forms.Form):
    zone = TimeZoneField()
    other = TimeZoneField(required=False, empty="As <the> site")


def options_of(shown: SafeString) -> list[tuple[str, bool]]:
    """Their values, and whether they are selected."""
    return [(value, bool(selected)) for value, selected in re.findall(r'<option value="([^"]*)"( selected)?>', shown)]


def test_all_zones_are_offered_and_one_is_chosen() -> None:
    shown = options_of(ZoneForm({"zone": "Europe/Paris"})["zone"].as_widget())
    assert shown == [(zone, zone == "Europe/Paris") for zone in sorted(zone_names())]


def test_the_one_that_was_chosen_before_is_not_chosen_any_more() -> None:
    """Red when what is written once is not left as it is."""
    for zone in ("Asia/Tokyo", "Europe/Oslo"):
        shown = options_of(ZoneForm({"zone": zone})["zone"].as_widget())
        assert [each for each, selected in shown if selected] == [zone]


@pytest.mark.parametrize("typed", ["", "Mars/Base", '"><script>alert(1)</script>', "Europe/Pari"])
def test_what_is_no_zone_is_not_shown(typed: str) -> None:
    shown = ZoneForm({"zone": typed})["zone"].as_widget()
    assert "<script" not in shown
    assert not any(selected for _, selected in options_of(shown))


def test_none_may_be_offered_too() -> None:
    shown = ZoneForm()["other"].as_widget()
    assert '<option value="">As &lt;the&gt; site</option>' in shown
    assert len(options_of(shown)) == len(zone_names()) + 1
    assert ("", False) not in options_of(ZoneForm()["zone"].as_widget())


@pytest.mark.parametrize("typed", ["Mars/Base", "../../etc/passwd", "x" * 1000])
def test_what_is_no_zone_is_refused_in_words(typed: str) -> None:
    with pytest.raises(ValidationError, match="There is no time zone “"):
        TimeZoneField().clean(typed)
    assert TimeZoneField(required=False).clean("") == ""


def test_a_select_is_as_django_s_own() -> None:
    """Red when the template of ours leaves out groups, a selected one, attributes, or an escape."""
    choices = [("", "None"), ("Two <b>", [(1, 'a "quoted" one'), ("2", "<i>")]), (3, "three")]
    select = forms.Select(attrs={"class": "form-select", "required": True}, choices=choices)
    own = select.render("what", 2, renderer=forms.renderers.DjangoTemplates())
    ours = select.render("what", 2)

    def parts(shown: str) -> list[str]:
        return re.findall(r"<[^>]+>|[^<>\s][^<>]*", re.sub(r"\s*\n\s*", "", shown))

    assert parts(ours) == parts(own)

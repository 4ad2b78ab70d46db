"""Fields of forms that Django does not have."""

from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http.request import split_domain_port, validate_host
from django.utils.translation import gettext_lazy as _


class WholeNumbersField(forms.Field):
    """A list of whole numbers: with commas between them on a page, a JSON list in the API."""

    widget = forms.TextInput
    json_type = list, _("This must be a list of whole numbers.")
    default_error_messages: ClassVar = {
        "required": _("Enter at least one number."),
        "not_numbers": _("This must be a list of whole numbers."),
        "too_many": _("These are more than %(most)d numbers."),
    }

    def __init__(self, *, min_value: int, max_value: int, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most = most
        self.child = forms.IntegerField(min_value=min_value, max_value=max_value)

    def to_python(self, value: Any) -> list[int]:
        kind: type = str if isinstance(value, str) else int
        numbers = value.split(",") if value and kind is str else value or []
        if not isinstance(numbers, list) or not all(type(number) is kind for number in numbers):
            raise ValidationError(self.error_messages["not_numbers"], code="not_numbers")
        if len(numbers) > self.most:
            raise ValidationError(self.error_messages["too_many"], code="too_many", params={"most": self.most})
        return [self.child.clean(number) for number in numbers]

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value


class SiteAddressField(forms.CharField):
    """Where this site is, for links: a scheme and a host that it answers to."""

    widget = forms.URLInput
    default_error_messages: ClassVar = {
        "no_address": _("Enter an address as https://backup.example.org: nothing behind the host and its port."),
        "not_answered": _(
            "phpBorg does not answer to “%(host)s”: name it in ALLOWED_HOSTS first, and restart the web."
        ),
    }

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").rstrip("/")

    def validate(self, value: str) -> None:
        super().validate(value)
        try:
            parts = urlsplit(value)
            is_one = parts.geturl() == f"{parts.scheme}://{parts.netloc}" and parts.port != 0
        except ValueError:
            is_one = False
        host, _port = split_domain_port(parts.netloc) if is_one else ("", "")
        if not host or parts.scheme not in ("http", "https") or not value.isascii():
            raise ValidationError(self.error_messages["no_address"], code="no_address")
        if not validate_host(host, settings.ALLOWED_HOSTS):
            raise ValidationError(self.error_messages["not_answered"], code="not_answered", params={"host": host})


class SecretField(forms.CharField):
    """What is never shown again. Empty: as it was."""

    widget = forms.PasswordInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "strip": False, **kwargs})

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        return {**super().widget_attrs(widget), "autocomplete": "new-password"}

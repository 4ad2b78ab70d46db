"""Fields of forms whose values only this app can judge. No models: they read the live settings as they load."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from backups import schedule
from backups.schedule import InvalidSchedule

validate_compression = RegexValidator(
    r"\A(auto,)?(none|lz4|zstd(,([1-9]|1\d|2[0-2]))?|zlib(,[0-9])?|lzma(,[0-9])?)\Z",
    _("Enter none, lz4, zstd, zlib or lzma, with a level if you like (zstd,9)."),
)


class CompressionField(forms.CharField):
    default_validators = [validate_compression]


class CronField(forms.CharField):
    """A cron expression with single spaces."""

    def clean(self, value: Any) -> str:
        text: str = super().clean(value)
        try:
            return schedule.checked_cron(text) if text else ""
        except InvalidSchedule as error:
            raise ValidationError(str(error)) from error

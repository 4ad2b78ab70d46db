"""Fields of forms that Django does not have."""

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
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

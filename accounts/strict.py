"""Serializers that take a JSON body at its word.

Fields that they do not know, and values of another type, are refused by name. What we say ourselves and nobody sets is
refused too; only a PUT may send back what a GET has shown. By itself DRF passes over what it does not know, and takes
"22" for 22, 1 for true and 7 for "7": a typo would change nothing and be answered with success.

The classes have no docstrings: the API's schema would show them as the descriptions of what is derived from them.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from django.db import IntegrityError, models, transaction
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import serializers

M = TypeVar("M", bound=models.Model)
MOST_TOLD = 20  # mistakes of one request: a body of megabytes must not be answered with more of them


class JsonType(NamedTuple):
    """What JSON has for a field, and the sentence for whoever sends something else."""

    kind: type | tuple[type, ...]
    sentence: str | Promise

    def takes(self, value: Any) -> bool:
        return isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))


TRUE_OR_FALSE = JsonType(bool, gettext_lazy("This must be true or false."))
WHOLE_NUMBER = JsonType(int, gettext_lazy("This must be a whole number."))
NUMBER = JsonType((int, float), gettext_lazy("This must be a number."))
LIST = JsonType(list, gettext_lazy("This must be a list."))
OBJECT = JsonType(dict, gettext_lazy("This must be an object."))
LIST_OR_OBJECT = JsonType((list, dict), gettext_lazy("This must be a list or an object."))
TEXT = JsonType(str, gettext_lazy("This must be a text."))

# The first that a field is one of says what JSON has for it.
JSON_TYPES: list[tuple[type[serializers.Field[Any, Any, Any, Any]] | tuple[type, ...], JsonType]] = [
    (serializers.BooleanField, TRUE_OR_FALSE),
    ((serializers.IntegerField, serializers.PrimaryKeyRelatedField), WHOLE_NUMBER),
    (serializers.FloatField, NUMBER),
    ((serializers.ListField, serializers.ManyRelatedField, serializers.MultipleChoiceField), LIST),
    (serializers.DictField, OBJECT),
    (serializers.Field, TEXT),
]


def misfits(field: Any, value: Any) -> Iterator[str]:
    """What is wrong with the type of a JSON value, as sentences; null is the field's own affair."""
    if value is None:
        return
    json_type = next(json_type for of, json_type in JSON_TYPES if isinstance(field, of))
    if not json_type.takes(value):
        yield str(json_type.sentence)
    elif json_type is LIST and (child := getattr(field, "child", None) or getattr(field, "child_relation", None)):
        for number, one in enumerate(value, 1):
            yield from (f"{number}: {sentence}" for sentence in misfits(child, one))


class StrictSerializer(serializers.Serializer[Any]):
    def to_internal_value(self, data: Any) -> Any:
        wrong = self._wrong(data) if isinstance(data, Mapping) else {}
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            wrong = {**error.detail, **wrong}  # type: ignore[dict-item]  # by field, as the base class has it
        if wrong:
            raise serializers.ValidationError(wrong)
        return value

    def _wrong(self, data: Mapping[str, Any]) -> dict[str, Any]:
        wrong: dict[str, Any] = {}
        is_put = self.instance is not None and not self.partial
        for name, value in data.items():
            field = self.fields.get(name)
            if field is None:
                wrong[name] = [_("There is no such field.")]
            elif field.read_only:
                if not is_put:
                    wrong[name] = [_("This is shown, and cannot be set.")]
            elif sentences := list(islice(misfits(field, value), MOST_TOLD)):
                wrong[name] = sentences
            if len(wrong) == MOST_TOLD:
                break
        return wrong


class StrictModelSerializer(StrictSerializer, serializers.ModelSerializer[M]):
    def save(self, **kwargs: Any) -> M:
        """What somebody else has taken since it was looked at is refused as if it had been so all along."""
        try:
            with transaction.atomic():
                return super().save(**kwargs)
        except IntegrityError:
            self.run_validation(self.initial_data)  # with their row there: raises, and names the field
            raise

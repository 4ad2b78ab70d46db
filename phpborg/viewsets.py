"""`/api/settings`: the live settings, which belong to no app alone."""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar, cast

from constance.models import Constance
from django import forms
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.access import Permission
from accounts.strict import StrictSerializer
from jobs.config import config, fields, is_secret
from jobs.fields import WholeNumbersField
from jobs.starting import validated
from phpborg.forms import SettingsForm, of_number

Described = serializers.Field[Any, Any, Any, Any]


def described(field: forms.Field, **more: Any) -> Described:
    """A form's field as the schema has it."""
    more["help_text"] = str(field.help_text) or None
    if isinstance(field, WholeNumbersField):
        return serializers.ListField(child=described(field.child), min_length=1, max_length=field.most, **more)
    if isinstance(field, forms.IntegerField):
        least, most = of_number(field)
        return serializers.IntegerField(min_value=least, max_value=most, **more)
    if isinstance(field, forms.ChoiceField):
        return serializers.ChoiceField(choices=list(cast("Iterable[Any]", field.choices)), **more)
    assert isinstance(field, forms.CharField)
    return serializers.CharField(max_length=field.max_length, allow_blank=not field.required, **more)


class ConfigSerializer(StrictSerializer):
    def get_fields(self) -> dict[str, Described]:
        """Of a secret only whether there is one."""
        return {
            shown(name): serializers.BooleanField(source=name, help_text=f"Whether there is a `{name}`.")
            if is_secret(name)
            else described(field)
            for name, field in fields().items()
        }


class ConfigChangeSerializer(StrictSerializer):
    """For the schema; what is sent is taken as the form has it."""

    def get_fields(self) -> dict[str, Described]:
        return {
            name: described(field, allow_null=True, required=not is_secret(name)) for name, field in fields().items()
        }


def refuse_missing(sent: Collection[str]) -> None:
    """Raises ValidationError: by itself a form takes for empty what may be empty and is not there."""
    missing = [name for name in fields() if name not in sent and not is_secret(name)]
    if missing:
        raise ValidationError({name: [str(fields()[name].error_messages["required"])] for name in missing})


def shown(name: str) -> str:
    return f"{name}_set" if is_secret(name) else name


class ConfigViewSet(GenericViewSet[Any]):
    queryset = Constance.objects.none()
    serializer_class = ConfigSerializer
    permissions: ClassVar[dict[str, Permission | None]] = dict.fromkeys(
        ("retrieve", "update"), Permission.CONFIG_MANAGE
    )

    @extend_schema(summary="Show the settings")
    def retrieve(self, request: Request) -> Response:
        """Those that can be changed while everything runs, as they are in force."""
        self.filter_queryset(self.get_queryset())  # refuses what is no filter
        return Response(ConfigSerializer(config.read()).data)

    @extend_schema(summary="Replace the settings", request=ConfigChangeSerializer)
    def update(self, request: Request) -> Response:
        """All of them, or nothing is changed. In force within about a second, without a restart.

        One that is sent as it was and that nobody has set goes on following the environment; one that is sent as null
        follows it again. A secret is never shown, and stays as it was unless it is sent.
        """
        self.filter_queryset(self.get_queryset())
        sent, unset = request.data, []
        if isinstance(sent, dict):
            unset = [name for name, value in sent.items() if value is None and name in fields()]
            only_shown = {shown(name) for name in fields()} - fields().keys()  # which a GET has, too
            sent = {name: value for name, value in sent.items() if name not in only_shown}
            refuse_missing(sent)
        values = validated(SettingsForm, sent, unset=unset)
        return Response(ConfigSerializer(config.change(values, unset=unset, request=request)).data)

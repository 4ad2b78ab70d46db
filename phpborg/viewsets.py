"""`/api/settings`: the live settings, which belong to no app alone."""

from typing import Any, ClassVar

from constance.models import Constance
from django import forms
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.access import Permission
from accounts.strict import StrictSerializer
from jobs.config import config, fields, form_class
from jobs.fields import WholeNumbersField
from jobs.starting import validated

Described = serializers.Field[Any, Any, Any, Any]


def described(field: forms.Field) -> Described:
    """A form's field as the schema has it."""
    if isinstance(field, WholeNumbersField):
        child = described(field.child)
        return serializers.ListField(child=child, min_length=1, max_length=field.most, help_text=field.help_text)
    assert isinstance(field, forms.IntegerField)
    bounds: dict[str, Any] = {"min_value": field.min_value, "max_value": field.max_value}
    return serializers.IntegerField(help_text=field.help_text or None, **bounds)


class ConfigSerializer(StrictSerializer):
    """For the schema; what is sent is taken as the form has it."""

    def get_fields(self) -> dict[str, Described]:
        return {name: described(field) for name, field in fields().items()}


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

    @extend_schema(summary="Replace the settings")
    def update(self, request: Request) -> Response:
        """All of them, or nothing is changed. In force within about a second, without a restart.

        One that is sent as it was and that nobody has set goes on following the environment.
        """
        self.filter_queryset(self.get_queryset())
        values = validated(form_class(), request.data)
        return Response(ConfigSerializer(config.change(values, request=request)).data)

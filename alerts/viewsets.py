"""`/api/alerts`, `/api/alert-rules`, `/api/alert-channels`, `/api/alert-deliveries`."""

from typing import Any, ClassVar

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from accounts import audit
from accounts.access import Permission, signed_in
from alerts.filters import ChannelFilter, DeliveryFilter, IncidentFilter, RuleFilter
from alerts.models import Channel, Delivery, Incident, Rule
from alerts.serializers import AlertSerializer, ChannelSerializer, DeliverySerializer, RuleSerializer
from alerts.testing import send_test
from jobs.models import Job
from jobs.starting import ONE_JOB, queued, refuse_parameters

MANAGE = dict.fromkeys(("list", "retrieve", "create", "update", "partial_update", "destroy"), Permission.CONFIG_MANAGE)


@extend_schema_view(
    list=extend_schema(summary="List alerts, newest first", description="What is wrong, and what was."),
    retrieve=extend_schema(summary="Show an alert"),
)
class AlertViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Any]):
    serializer_class = AlertSerializer
    filterset_class = IncidentFilter
    orderings = ("opened_at", "-opened_at")
    lookup_value_converter = "int"
    permissions: ClassVar[dict[str, Permission | None]] = dict.fromkeys(("list", "retrieve"), Permission.BACKUP_VIEW)

    def get_queryset(self) -> QuerySet[Incident]:
        return Incident.objects.for_user(self.request.user).order_by("-opened_at", "-id")


class Audited(ModelViewSet[Any]):
    """Adding, changing and deleting, each in the audit trail."""

    audited_as: ClassVar[str]
    lookup_value_converter = "int"
    orderings = ("name", "-name", "created_at", "-created_at")
    permissions: ClassVar[dict[str, Permission | None]] = {**MANAGE}

    @transaction.atomic
    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        told = self.told(serializer)
        audit.record_change(f"{self.audited_as}.added", serializer.save(), {}, request=self.request, **told)

    @transaction.atomic
    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        assert serializer.instance is not None
        before, told = audit.facts(serializer.instance), self.told(serializer)
        audit.record_change(f"{self.audited_as}.changed", serializer.save(), before, request=self.request, **told)

    @transaction.atomic
    def perform_destroy(self, instance: Any) -> None:
        detail, name = audit.difference(audit.facts(instance), {}), audit.name_of(instance)
        instance.delete()
        audit.record(f"{self.audited_as}.deleted", request=self.request, target=name, detail=detail)

    def told(self, serializer: BaseSerializer[Any]) -> dict[str, str]:
        return {"destination": "set"} if "target" in serializer.validated_data else {}


@extend_schema_view(
    list=extend_schema(summary="List alert rules"),
    retrieve=extend_schema(summary="Show an alert rule"),
    create=extend_schema(summary="Add an alert rule"),
    update=extend_schema(summary="Replace an alert rule"),
    partial_update=extend_schema(summary="Change an alert rule"),
    destroy=extend_schema(summary="Delete an alert rule", description="With the alerts that it has raised."),
)
class RuleViewSet(Audited):
    serializer_class = RuleSerializer
    filterset_class = RuleFilter
    audited_as = "alert_rule"

    def get_queryset(self) -> QuerySet[Rule]:
        rules = Rule.objects.for_user(self.request.user).order_by("name")
        return rules.prefetch_related("tags", "servers", "plans", "channels")


@extend_schema_view(
    list=extend_schema(summary="List channels", description="Where they lead is shown to nobody."),
    retrieve=extend_schema(summary="Show a channel"),
    create=extend_schema(summary="Add a channel"),
    update=extend_schema(summary="Replace a channel", description="Without `target` it leads where it led."),
    partial_update=extend_schema(summary="Change a channel"),
    destroy=extend_schema(summary="Delete a channel", description="With the history of its deliveries."),
)
class ChannelViewSet(Audited):
    serializer_class = ChannelSerializer
    filterset_class = ChannelFilter
    audited_as = "alert_channel"
    permissions: ClassVar[dict[str, Permission | None]] = {**MANAGE, "test": Permission.CONFIG_MANAGE}

    def get_queryset(self) -> QuerySet[Channel]:
        return Channel.objects.for_user(self.request.user).prefetch_related("plans").order_by("name")

    @extend_schema(summary="Send a test", request=None, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: Any = None) -> Response:
        """A job sends a message to the channel."""
        refuse_parameters(request)
        return queued(send_test(self.get_object(), user=signed_in(request), trigger=Job.Trigger.API))


@extend_schema_view(
    list=extend_schema(summary="List deliveries, newest first", description="Which messages went to which channel.")
)
class DeliveryViewSet(mixins.ListModelMixin, GenericViewSet[Any]):
    serializer_class = DeliverySerializer
    filterset_class = DeliveryFilter
    orderings = ("created_at", "-created_at")
    permissions: ClassVar[dict[str, Permission | None]] = {"list": Permission.CONFIG_MANAGE}

    def get_queryset(self) -> QuerySet[Delivery]:
        return Delivery.objects.for_user(self.request.user).order_by("-created_at", "-id")

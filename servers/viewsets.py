from typing import Any, ClassVar

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ModelViewSet

from accounts import audit
from accounts.access import Permission
from jobs.starting import ONE_JOB, queued, start
from servers import removal
from servers.filters import ServerFilter
from servers.models import Server
from servers.runners.test import TestConnection
from servers.serializers import HostKeySerializer, ServerSerializer


@extend_schema_view(
    list=extend_schema(summary="List servers"),
    retrieve=extend_schema(summary="Show a server"),
    create=extend_schema(summary="Add a server", description="Its key pair is made along."),
    update=extend_schema(summary="Replace a server's settings"),
    partial_update=extend_schema(summary="Change a server's settings"),
    destroy=extend_schema(
        summary="Delete a server",
        description="Its key pair, its sources and the record of its jobs go with it; the machine stays as it is. 409, "
        "with what is in the way, while it has plans, repositories, archives or an unfinished job.",
    ),
)
class ServerViewSet(ModelViewSet[Server]):
    serializer_class = ServerSerializer
    lookup_value_converter = "int"
    filterset_class = ServerFilter
    search_looks_at_all = True
    orderings = ("name", "-name", "created_at", "-created_at", "seen_at", "-seen_at")
    permissions: ClassVar[dict[str, Permission | None]] = {
        "list": Permission.SERVER_VIEW,
        "retrieve": Permission.SERVER_VIEW,
        **dict.fromkeys(
            ("create", "update", "partial_update", "destroy", "test", "host_key"), Permission.SERVER_MANAGE
        ),
    }

    def get_queryset(self) -> QuerySet[Server]:
        return Server.objects.for_user(self.request.user).prefetch_related("tags").order_by("name")

    @transaction.atomic
    def perform_create(self, serializer: BaseSerializer[Server]) -> None:
        audit.record_change("server.added", serializer.save(), {}, request=self.request)

    @transaction.atomic
    def perform_update(self, serializer: BaseSerializer[Server]) -> None:
        assert serializer.instance
        before = audit.facts(serializer.instance)
        audit.record_change("server.changed", serializer.save(), before, request=self.request)

    def perform_destroy(self, instance: Server) -> None:
        removal.delete(instance)

    @extend_schema(summary="Test the connection", request=None, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: Any = None) -> Response:
        """Reach, host key, login, sudo, borg, free space; the job's result has a sentence for each."""
        return queued(start(TestConnection, self.get_object(), request))

    @extend_schema(summary="Confirm the host key", request=HostKeySerializer, responses=ServerSerializer)
    @action(detail=True, methods=["post"], url_path="host-key")
    def host_key(self, request: Request, pk: Any = None) -> Response:
        """Trust the key that the server showed, named by its fingerprint; before that only the test runs."""
        server = self.get_object()
        asked = HostKeySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        fingerprint, before = asked.validated_data["fingerprint"], server.fingerprint
        with transaction.atomic():
            if not server.confirm_host_key(fingerprint):
                raise ValidationError({"fingerprint": ["The server did not show a key with this fingerprint last."]})
            detail = {"fingerprint": fingerprint, "before": before}
            audit.record("host_key.confirmed", request=request, target=server.name, detail=detail)
        return Response(self.get_serializer(self.get_object()).data)

"""`/api/restore-tests`: what restore tests found, with the evidence; `/api/plans/{id}/prove` starts one."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from accounts.access import Permission
from backups.filters import RestoreTestFilter
from backups.models import RestoreTest
from backups.runners.proof import ProveRestore
from backups.serializers import EvidenceSerializer, ProveSerializer, RestoreTestSerializer
from jobs.starting import ONE_JOB, queued, start


@extend_schema_view(
    list=extend_schema(summary="List restore tests, newest first"),
    retrieve=extend_schema(summary="Show a restore test, with its evidence", responses=EvidenceSerializer),
)
class RestoreTestViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Any]):
    serializer_class = RestoreTestSerializer
    filterset_class = RestoreTestFilter
    orderings = ("at", "-at")
    lookup_value_converter = "int"
    permissions: ClassVar[dict[str, Permission | None]] = {
        "list": Permission.BACKUP_VIEW, "retrieve": Permission.BACKUP_VIEW,
    }  # fmt: skip

    def get_queryset(self) -> QuerySet[RestoreTest]:
        tests = RestoreTest.objects.for_user(self.request.user).order_by("-at", "-id")
        return tests.defer("evidence") if self.action == "list" else tests

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return EvidenceSerializer if self.action == "retrieve" else RestoreTestSerializer


class ProveMixin(GenericViewSet[Any]):
    @extend_schema(summary="Test a restore", request=ProveSerializer, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def prove(self, request: Request, pk: Any = None) -> Response:
        """A job restores files of a good archive on its worker's machine and compares them; 409 if there is none."""
        return queued(start(ProveRestore, self.get_object(), request))

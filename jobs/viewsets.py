from typing import ClassVar
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.access import Permission, can, signed_in
from accounts.paging import NewestFirst
from accounts.query import whole
from jobs import live
from jobs.filters import JobFilter, LogFilter
from jobs.models import Job, JobQuerySet, LogLine, LogLineQuerySet
from jobs.runner import JobRunner, Refused, cancel, retry_of, try_now
from jobs.serializers import JobSerializer, LogLineSerializer, RunningSerializer, StartJobSerializer
from jobs.starting import ONE_JOB, queued, refuse_parameters, start

LINES = 1000
MOST_LINES = 10**9 - 1


@extend_schema_view(list=extend_schema(summary="List jobs, newest first"), retrieve=extend_schema(summary="Show a job"))
class JobViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Job]):
    serializer_class = JobSerializer
    filterset_class = JobFilter
    pagination_class = NewestFirst
    orderings: ClassVar[tuple[str, ...]] = ("-created_at",)
    query_parameters: ClassVar[tuple[str, ...]] = ()
    lookup_value_converter = "uuid"
    permissions: ClassVar[dict[str, Permission | None]] = {
        "list": Permission.BACKUP_VIEW,
        "retrieve": Permission.BACKUP_VIEW,
        "running": Permission.BACKUP_VIEW,
        "log": Permission.BACKUP_VIEW,
        "create": None,  # the type's own permission is asked below
        "destroy": Permission.BACKUP_CREATE,
        "retry": None,
        "now": None,
    }
    permission_notes: ClassVar[dict[str, str]] = dict.fromkeys(
        ("create", "retry", "now"), "Needs the permission of the job's type, as `backup.create` for a backup."
    )
    other_errors: ClassVar[dict[str, tuple[int, ...]]] = {"create": (404,)}

    def get_queryset(self) -> JobQuerySet:
        return Job.objects.for_user(self.request.user).select_related("user").order_by("-created_at", "-id")

    @extend_schema(summary="Start a job of any type", request=StartJobSerializer, responses=ONE_JOB)
    def create(self, request: Request) -> Response:
        """Start a job on something that you may see; `parameters` are those of the type's page."""
        asked = StartJobSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        runner = JobRunner.registry.get(asked.validated_data["type"])
        if runner is None:
            raise ValidationError({"type": [f"There is no job type “{asked.validated_data['type']}”."]})
        if not can(request.user, runner.permission):
            raise PermissionDenied
        subject = get_object_or_404(runner.visible_to(signed_in(request)), pk=asked.validated_data["subject"])
        return queued(start(runner, subject, request, asked.validated_data["parameters"]))

    @extend_schema(summary="Cancel a job", responses=ONE_JOB)
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Ask the job to stop; it is cancelled within seconds, or 409 if it had ended."""
        job = self.get_object()
        if not cancel(job, by_somebody=True):
            raise Refused(_("The job has already ended."))
        live.announce(job, job.status)
        return queued(job)

    @extend_schema(summary="List running jobs", filters=False, responses=RunningSerializer)
    @action(detail=False, filterset_class=None, pagination_class=None, orderings=())
    def running(self, request: Request) -> Response:
        """What runs now, in one answer without pages."""
        jobs = self.filter_queryset(self.get_queryset().running().order_by("started_at"))[:500]
        return Response(
            {"count": len(jobs), "next": None, "previous": None, "results": JobSerializer(jobs, many=True).data}
        )

    @extend_schema(
        summary="Read a job's log",
        parameters=[OpenApiParameter("after", int, description="Only lines with a larger number.")],
        responses=LogLineSerializer(many=True),
        filters=False,
    )
    @action(detail=True, pagination_class=None, filterset_class=None, query_parameters=("after",))
    def log(self, request: Request, pk: UUID) -> Response:
        """Up to 1,000 lines after number `after`; ask again with the last number to go on."""
        job = self.get_object()
        after = whole(request, "after", 0, MOST_LINES, least=0)
        lines = LogLine.objects.filter(job=job).after(after)[:LINES]
        return Response(LogLineSerializer(lines, many=True).data)

    @extend_schema(summary="Try a job again now", request=None, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def now(self, request: Request, pk: UUID) -> Response:
        """The next attempt of a job that failed, without its pause; 409 if it waits for none."""
        job = self.get_object()
        self._may_run(job)
        refuse_parameters(request)
        if not try_now(job):
            raise Refused(_("The job does not wait for another attempt."))
        return queued(job)

    @extend_schema(summary="Run a job again", request=None, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: UUID) -> Response:
        """Start what an ended job did, as a new job with the same parameters."""
        job = self.get_object()
        self._may_run(job)
        refuse_parameters(request)
        return queued(retry_of(job, user=signed_in(request), trigger=Job.Trigger.RETRY))

    def _may_run(self, job: Job) -> None:
        """Raises NotFound when nobody knows the job's type, PermissionDenied when this person may not start it."""
        runner = JobRunner.registry.get(job.type)
        if runner is None:
            raise NotFound
        if not can(self.request.user, runner.permission):
            raise PermissionDenied


@extend_schema_view(list=extend_schema(summary="List log lines of all jobs, newest first"))
class LogViewSet(mixins.ListModelMixin, GenericViewSet[LogLine]):
    serializer_class = LogLineSerializer
    filterset_class = LogFilter
    pagination_class = NewestFirst
    orderings = ("-id",)
    permissions: ClassVar[dict[str, Permission | None]] = {"list": Permission.LOGS_VIEW}

    def get_queryset(self) -> LogLineQuerySet:
        return LogLine.objects.for_user(self.request.user).order_by("-id")

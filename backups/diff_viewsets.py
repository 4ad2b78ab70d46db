"""What the API has of comparisons, and of names and notes, as parts of /api/archives."""

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.utils.urls import replace_query_param
from rest_framework.viewsets import GenericViewSet

from accounts.query import LARGEST, whole
from accounts.strict import StrictSerializer
from backups.borg.changes import Kind
from backups.diffs import ORDERS, Diff, Item, NotCompared
from backups.models import Archive
from backups.notes import note
from backups.runners.diff import DiffArchives
from backups.runners.rename import RenameArchive
from jobs.runner import Refused
from jobs.starting import ONE_JOB, queued, start

ROWS, MOST_ROWS = 100, 1000
DIFF_QUERY = ("other", "path", "kind", "ordering", "page", "page_size")


class DifferenceSerializer(serializers.Serializer[Item]):
    """A file or a folder in which something differs, with the sums of what is below it."""

    name = serializers.CharField(source="text", help_text="What is not UTF-8 is spelled out.")
    kind = serializers.CharField(
        help_text="added, removed, changed, attributes; empty for a folder that differs only in what is below it."
    )
    mode = serializers.CharField(help_text="Before and after, if it is another one.")
    owner = serializers.CharField(help_text="The same.")
    times = serializers.BooleanField(help_text="Whether its times are others.")
    exact = serializers.BooleanField(help_text="False: of several names that look the same nobody knows which.")
    added = serializers.IntegerField(help_text="Bytes; of files that changed, whole chunks.")
    removed = serializers.IntegerField(help_text="The same.")
    growth = serializers.IntegerField(help_text="Exact: what it is larger by.")
    below = serializers.IntegerField(help_text="How many entries below it differ.")
    count_added = serializers.IntegerField(help_text="With itself, as those that follow.")
    count_removed = serializers.IntegerField()
    count_changed = serializers.IntegerField()
    count_attributes = serializers.IntegerField()


class DiffSerializer(serializers.Serializer[None]):
    path = serializers.CharField()
    folder = DifferenceSerializer(help_text="The folder itself: its sums.")
    count = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = DifferenceSerializer(many=True)


class StartDiffSerializer(StrictSerializer):
    other = serializers.IntegerField(
        min_value=1, max_value=LARGEST, help_text="An archive of the same repository: what has changed since that one."
    )


class RenameSerializer(StrictSerializer):
    name = serializers.CharField(max_length=200, trim_whitespace=False)


class NotedMixin(mixins.UpdateModelMixin, GenericViewSet[Any]):
    """Changing what people say of an archive."""

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        archive: Any = serializer.instance
        note(archive, self.request, **serializer.validated_data)
        archive.refresh_from_db()


class RenameMixin(GenericViewSet[Any]):
    @extend_schema(summary="Rename an archive", request=RenameSerializer, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def rename(self, request: Request, pk: Any = None) -> Response:
        """Borg gives it another id with its name: `borg_id` follows. 409 if the name is taken, or it is in use."""
        return queued(start(RenameArchive, self.get_object(), request))


class DiffMixin(GenericViewSet[Any]):
    @extend_schema(
        summary="See what changed between two archives",
        parameters=[
            OpenApiParameter("other", int, required=True, description="What has changed since this archive."),
            OpenApiParameter("path", str, description="A folder; the leading slash does not matter."),
            OpenApiParameter(
                "kind", str, enum=list(Kind), description="Only what has, or holds, changes of this kind."
            ),
            OpenApiParameter("ordering", str, enum=list(ORDERS), description="By growth, the largest first."),
            OpenApiParameter("page", int),
            OpenApiParameter("page_size", int, description=f"{ROWS}, at most {MOST_ROWS}."),
        ],
        responses=DiffSerializer,
        filters=False,
    )
    @action(detail=True, filterset_class=None, pagination_class=None, query_parameters=DIFF_QUERY)
    def diff(self, request: Request, pk: Any = None) -> Response:
        """One folder of the comparison; 409 while it is not made. It is kept for a week."""
        archive = self.get_object()
        if "other" not in request.query_params:
            raise ValidationError({"other": ["Name the archive to compare with."]})
        number = whole(request, "other", 0, LARGEST)
        other = get_object_or_404(Archive.objects.for_user(request.user), pk=number, repository=archive.repository_id)
        path, kind = request.query_params.get("path", ""), request.query_params.get("kind", "")
        order = request.query_params.get("ordering", "-growth")
        page, size = whole(request, "page", 1, 10**6), whole(request, "page_size", ROWS, MOST_ROWS)
        if order not in ORDERS:
            raise ValidationError({"ordering": [f"It can be ordered by: {', '.join(ORDERS)}."]})
        if kind and kind not in list(Kind):
            raise ValidationError({"kind": [f"This is one of: {', '.join(Kind)}."]})
        try:
            with Diff(other, archive) as found:
                folder = found.find(path.encode())
                if folder is None:
                    raise NotFound("Nothing differs at this path.")
                items = found.folder(folder.id, order=order, kind=kind, offset=(page - 1) * size, limit=size)
                count = found.count(folder.id, kind=kind)
        except NotCompared as error:
            raise Refused(_("These two archives have not been compared yet, or it is too long ago.")) from error
        url = request.build_absolute_uri()
        return Response(
            {
                "path": path,
                "folder": DifferenceSerializer(folder).data,
                "count": count,
                "next": replace_query_param(url, "page", page + 1) if page * size < count else None,
                "previous": replace_query_param(url, "page", page - 1) if page > 1 else None,
                "results": [DifferenceSerializer(item).data for item in items],
            }
        )

    @extend_schema(summary="Compare two archives", request=StartDiffSerializer, responses=ONE_JOB)
    @diff.mapping.post
    def start_diff(self, request: Request, pk: Any = None) -> Response:
        """A job looks what has changed since `other`. 409 for the same archive, or one of another repository."""
        return queued(start(DiffArchives, self.get_object(), request))


noted = extend_schema_view(
    update=extend_schema(summary="Replace what is said of an archive", description="Its comment, and its pin."),
    partial_update=extend_schema(
        summary="Pin an archive, or comment on it",
        description="What is pinned is deleted by nobody; 409 if it is being deleted already.",
    ),
)

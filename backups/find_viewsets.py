"""`/api/files`: find a file in all archives."""

from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.viewsets import GenericViewSet

from accounts.access import Permission
from accounts.query import whole
from backups.catalog.finding import MOST_VERSIONS
from backups.find import MOST_SHOWN, SHOWN, File, FindForm, Page, Row, look
from backups.models import Archive
from jobs.starting import form_errors


class VersionSerializer(serializers.Serializer[Row]):
    """How the file looked in some archives, one after the other."""

    entry = serializers.IntegerField(help_text="Its number in each of these archives, for download and restore.")
    archive = serializers.IntegerField(source="last.pk", help_text="The newest of them.")
    taken_at = serializers.DateTimeField(source="last.taken_at")
    first_archive = serializers.IntegerField(source="first.pk")
    first_taken_at = serializers.DateTimeField(source="first.taken_at")
    archives = serializers.IntegerField(source="version.archives", help_text="How many they are.")
    kind = serializers.CharField(source="version.item.kind", help_text="As in `ls -l`: d, -, l, p, c, b, s.")
    mode = serializers.CharField(source="version.item.mode")
    owner = serializers.CharField(source="version.item.owner")
    group = serializers.CharField(source="version.item.group")
    size = serializers.IntegerField(source="version.item.size", help_text="Of a folder, all that is below it.")
    modified_at = serializers.DateTimeField(source="version.item.modified_at", allow_null=True)
    differs = serializers.BooleanField(
        allow_null=True,
        help_text="In size, time or target from the version before; null: it is the first.",
    )


class FoundFileSerializer(serializers.Serializer[File]):
    server = serializers.IntegerField(source="repository.server_id")
    repository = serializers.IntegerField(source="repository.pk")
    path = serializers.CharField(source="text", help_text="What is not UTF-8 is spelled out.")
    versions = VersionSerializer(source="rows", many=True, help_text=f"Newest first, at most {MOST_VERSIONS}.")


@extend_schema_serializer(many=False)  # of a list, and yet one object
class FoundSerializer(serializers.Serializer[Page]):
    next = serializers.URLField(
        allow_null=True, help_text="More, or where the looking goes on: a page may be short, or empty, and have this."
    )
    unread = serializers.IntegerField(help_text="Repositories of which no listing has been read.")
    results = FoundFileSerializer(source="files", many=True)


class FileViewSet(GenericViewSet[Any]):
    queryset = Archive.objects.none()
    serializer_class = FoundSerializer
    pagination_class = None
    query_parameters = ("search", "server", "before", "cursor", "page_size")
    permissions: ClassVar[dict[str, Permission | None]] = {"list": Permission.BACKUP_VIEW}

    @extend_schema(
        summary="Find a file",
        parameters=[
            OpenApiParameter(
                "search",
                str,
                required=True,
                description="Part of a name or of a path, or with `*`, `?` and `**` a pattern of a whole name or path.",
            ),
            OpenApiParameter("server", int, description="Only of this one."),
            OpenApiParameter("before", OpenApiTypes.DATETIME, description="Only in archives that were taken before."),
            OpenApiParameter("cursor", str, description="Where to go on, as `next` says."),
            OpenApiParameter("page_size", int, description=f"{SHOWN}, at most {MOST_SHOWN}."),
        ],
        responses=FoundSerializer,
    )
    def list(self, request: Request) -> Response:
        """In the listings of all archives, or of one server's, by path, with every version that there is."""
        self.filter_queryset(self.get_queryset())  # refuses what is no filter
        form = FindForm(request.query_params)
        if not form.is_valid():
            raise ValidationError(form_errors(form))
        page = look(form, request.user, limit=whole(request, "page_size", SHOWN, MOST_SHOWN))
        answer = FoundSerializer(page).data
        answer["next"] = page.next and replace_query_param(request.build_absolute_uri(), "cursor", page.next)
        return Response(answer)

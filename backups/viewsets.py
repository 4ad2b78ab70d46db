from typing import Any, ClassVar

from django.db import transaction
from django.db.models import ProtectedError, QuerySet
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.utils.urls import replace_query_param
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from accounts import audit
from accounts.access import Permission, signed_in
from accounts.dependents import dependents_of
from accounts.errors import NoSuchRange, Unavailable
from accounts.paging import NewestFirst
from accounts.query import whole
from backups.catalog import ORDERS, ROOT, Catalog, Item, NotIndexed
from backups.diff_viewsets import DiffMixin, NotedMixin, RenameMixin, noted
from backups.downloads import DownloadFailed, NobodyThere, start_download
from backups.filters import ArchiveFilter, BackupFilter
from backups.forms import ImportForm
from backups.kit import note_stored
from backups.models import Archive, Mount, Plan, Repository, Source, StoragePool
from backups.packing import PACKINGS, PLAIN
from backups.proof_viewsets import ProveMixin
from backups.ranges import Unsatisfiable
from backups.removal import forget
from backups.retention import as_data, decide, foresee, objection, runs_of
from backups.runners.create import RunBackup
from backups.runners.delete import DeleteArchive
from backups.runners.import_ import ImportRepository
from backups.runners.index import IndexArchive
from backups.runners.init import InitRepository
from backups.runners.keys import host_key_confirmed
from backups.runners.mount import MountArchive
from backups.runners.pool import CheckPool
from backups.runners.restore import RestoreFiles
from backups.runners.unmount import UnmountArchive
from backups.serializers import (
    AccountHostKeySerializer,
    ArchiveSerializer,
    BackupSerializer,
    FileSerializer,
    FolderSerializer,
    ImportRepositorySerializer,
    KitStoredSerializer,
    MountSerializer,
    PlanSerializer,
    RepositorySerializer,
    RestoreSerializer,
    RetentionSerializer,
    RunBackupSerializer,
    SourceSerializer,
    StoragePoolSerializer,
)
from jobs.models import Job
from jobs.runner import Refused
from jobs.starting import JOBS, ONE_JOB, form_errors, queued, start
from servers.models import Server

READ = dict.fromkeys(("list", "retrieve"), Permission.BACKUP_VIEW)
WRITE = dict.fromkeys(("create", "update", "partial_update", "destroy"), Permission.BACKUP_MANAGE)
FILES_SHOWN, MOST_FILES_SHOWN = 100, 1000
FILES_QUERY = ("path", "search", "ordering", "page", "page_size")


class AuditedViewSet(ModelViewSet[Any]):
    """Adding, changing and deleting, each in the audit trail; what others hold on to is not deleted."""

    audited_as: ClassVar[str]
    lookup_value_converter = "int"

    @transaction.atomic
    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        made = serializer.save()
        self.after_create(made)
        audit.record_change(f"{self.audited_as}.added", made, {}, request=self.request)

    def after_create(self, made: Any) -> None:
        """Start what follows from there being a new one."""

    @transaction.atomic
    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        assert serializer.instance is not None
        before = audit.facts(serializer.instance)
        audit.record_change(f"{self.audited_as}.changed", serializer.save(), before, request=self.request)

    @transaction.atomic
    def perform_destroy(self, instance: Any) -> None:
        before, name = audit.facts(instance), audit.name_of(instance)
        try:
            instance.delete()
        except ProtectedError as error:
            what = {"name": instance.name, "what": dependents_of(instance)}
            raise Refused(_("%(name)s still has: %(what)s. Delete those first.") % what) from error
        detail = audit.difference(before, {})
        audit.record(f"{self.audited_as}.deleted", request=self.request, target=name, detail=detail)


@extend_schema_view(
    list=extend_schema(summary="List storage pools"),
    retrieve=extend_schema(summary="Show a storage pool"),
    create=extend_schema(summary="Add a storage pool", description="A job looks whether its folder can be used."),
    update=extend_schema(summary="Replace a storage pool's settings"),
    partial_update=extend_schema(summary="Change a storage pool's settings"),
    destroy=extend_schema(summary="Delete a storage pool", description="409 while repositories lie in it."),
)
class StoragePoolViewSet(AuditedViewSet):
    serializer_class = StoragePoolSerializer
    orderings = ("name", "-name", "created_at", "-created_at", "free_bytes", "-free_bytes")
    permissions: ClassVar[dict[str, Permission | None]] = {**READ, **WRITE, "host_key": Permission.BACKUP_MANAGE}
    audited_as = "pool"

    def get_queryset(self) -> QuerySet[StoragePool]:
        return StoragePool.objects.for_user(self.request.user).order_by("name")

    def after_create(self, made: StoragePool) -> None:
        CheckPool.enqueue(made, user=signed_in(self.request), trigger=Job.Trigger.API)

    @extend_schema(summary="Confirm the host key", request=AccountHostKeySerializer, responses=StoragePoolSerializer)
    @action(detail=True, methods=["post"], url_path="host-key")
    def host_key(self, request: Request, pk: Any = None) -> Response:
        """Trust the key that the account's machine showed, named by its fingerprint."""
        pool = self.get_object()
        asked = AccountHostKeySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        detail = {"fingerprint": asked.validated_data["fingerprint"], "before": pool.fingerprint}
        with transaction.atomic():
            if not pool.confirm_host_key(detail["fingerprint"]):
                raise ValidationError({"fingerprint": ["The account did not show a key with this fingerprint last."]})
            audit.record("host_key.confirmed", request=request, target=pool.name, detail=detail)
        host_key_confirmed(pool, user=signed_in(request), trigger=Job.Trigger.API)
        return Response(self.get_serializer(self.get_object()).data)


@extend_schema_view(
    list=extend_schema(summary="List repositories"),
    retrieve=extend_schema(summary="Show a repository"),
    create=extend_schema(
        summary="Add a repository", description="A job makes it, with a random passphrase; `state` tells how far it is."
    ),
    update=extend_schema(summary="Replace a repository's settings", description="Its name and its place stay."),
    partial_update=extend_schema(summary="Change a repository's settings", description="Its name and its place stay."),
    destroy=extend_schema(
        summary="Strike off a repository",
        description="Where it lies nothing happens. 409 while it has plans, archives or an unfinished job; and, unless "
        "`leave_data=true`, if it was ever made: its folder stays, and its passphrase is forgotten.",
        parameters=[OpenApiParameter("leave_data", bool, description="I know what stays, and what is lost.")],
    ),
)
class RepositoryViewSet(AuditedViewSet):
    serializer_class = RepositorySerializer
    orderings = ("name", "-name", "created_at", "-created_at", "deduplicated_bytes", "-deduplicated_bytes")
    permissions: ClassVar[dict[str, Permission | None]] = {
        **READ,
        **WRITE,
        "import_existing": Permission.BACKUP_MANAGE,
        "kit_stored": Permission.BACKUP_MANAGE,
    }
    audited_as = "repository"

    @property
    def query_parameters(self) -> tuple[str, ...]:
        return ("leave_data",) if self.action == "destroy" else ()

    def get_queryset(self) -> QuerySet[Repository]:
        # Of a list a database that knows too little of its tables would begin a join with the pools.
        return Repository.objects.for_user(self.request.user).prefetch_related("pool").order_by("name", "id")

    def after_create(self, made: Repository) -> None:
        InitRepository.enqueue(made, user=signed_in(self.request), trigger=Job.Trigger.API)

    def perform_destroy(self, instance: Repository) -> None:
        answer = self.request.query_params.get("leave_data", "false")
        if answer not in ("true", "false"):
            raise ValidationError({"leave_data": ["This must be true or false."]})
        forget(instance, leave_data=answer == "true")

    @extend_schema(summary="Import a repository", request=ImportRepositorySerializer, responses=ONE_JOB)
    @action(detail=False, methods=["post"], url_path="import", url_name="import")
    def import_existing(self, request: Request) -> Response:
        """Get to know a repository that exists, with all of its archives; nothing in it is changed."""
        asked = ImportRepositorySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        form = ImportForm(asked.validated_data)
        if not form.is_valid():
            raise ValidationError(form_errors(form))
        return queued(ImportRepository.begin(**form.chosen, user=signed_in(request), trigger=Job.Trigger.API))

    @extend_schema(
        summary="Note that the recovery kit is stored", request=KitStoredSerializer, responses=RepositorySerializer
    )
    @action(detail=True, methods=["post"], url_path="kit/stored")
    def kit_stored(self, request: Request, pk: Any = None) -> Response:
        """409 if the kit of this number is not the one of now. The kit itself is taken out on the page only."""
        asked = KitStoredSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        repository = self.get_object()
        note_stored(repository, asked.validated_data["kit"], request)
        return Response(self.get_serializer(repository).data)


@extend_schema_view(
    list=extend_schema(summary="List sources"),
    retrieve=extend_schema(summary="Show a source"),
    create=extend_schema(summary="Add a source"),
    update=extend_schema(summary="Replace a source"),
    partial_update=extend_schema(summary="Change a source"),
    destroy=extend_schema(
        summary="Delete a source", description="409 while a plan would be left with nothing to save."
    ),
)
class SourceViewSet(AuditedViewSet):
    serializer_class = SourceSerializer
    orderings = ("name", "-name", "created_at", "-created_at")
    permissions: ClassVar[dict[str, Permission | None]] = {**READ, **WRITE}
    audited_as = "source"

    def get_queryset(self) -> QuerySet[Source]:
        return Source.objects.for_user(self.request.user).order_by("server_id", "name")

    def perform_destroy(self, instance: Source) -> None:
        if plan := instance.plans.first():
            raise Refused(_("The plan %(plan)s saves this source. Take it out there first.") % {"plan": plan.name})
        super().perform_destroy(instance)


@extend_schema_view(
    list=extend_schema(summary="List plans"),
    retrieve=extend_schema(summary="Show a plan"),
    create=extend_schema(summary="Add a plan"),
    update=extend_schema(summary="Replace a plan"),
    partial_update=extend_schema(summary="Change a plan"),
    destroy=extend_schema(
        summary="Delete a plan", description="Its archives stay. 409 while a job of it is unfinished."
    ),
)
class PlanViewSet(ProveMixin, AuditedViewSet):
    serializer_class = PlanSerializer
    orderings = (
        "name", "-name", "created_at", "-created_at", "next_run_at", "-next_run_at", "last_good_at", "-last_good_at",
    )  # fmt: skip
    permissions: ClassVar[dict[str, Permission | None]] = {
        **READ, **WRITE, "retention": Permission.BACKUP_VIEW, "prove": Permission.BACKUP_CREATE,
    }  # fmt: skip
    audited_as = "plan"

    def get_queryset(self) -> QuerySet[Plan]:
        return Plan.objects.for_user(self.request.user).prefetch_related("sources").order_by("server_id", "name")

    def perform_destroy(self, instance: Plan) -> None:
        if Job.objects.filter(plan=instance).unfinished().exists():
            raise Refused(_("A job of this plan is still running or waiting. Cancel it first."))
        super().perform_destroy(instance)

    @extend_schema(summary="Preview a plan's retention", responses=RetentionSerializer)
    @action(detail=True)
    def retention(self, request: Request, pk: Any = None) -> Response:
        """What would go now and what stays, each with its reason, and what there would be in a year."""
        plan = self.get_object()
        now = timezone.now()
        decision = decide(plan, now=now)
        outlooks = foresee(plan, decision, runs_of(plan, now), now=now)
        told = {**as_data(decision), "refused": objection(plan), "outlooks": outlooks}
        return Response(RetentionSerializer(told).data)


@extend_schema_view(
    list=extend_schema(summary="List backups, newest first"), retrieve=extend_schema(summary="Show a backup")
)
class BackupViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Any]):
    serializer_class = BackupSerializer
    filterset_class = BackupFilter
    pagination_class = NewestFirst
    orderings = ("-created_at",)
    lookup_value_converter = "uuid"
    permissions: ClassVar[dict[str, Permission | None]] = {**READ, "create": Permission.BACKUP_CREATE}

    def get_queryset(self) -> QuerySet[Job]:
        jobs = Job.objects.for_user(self.request.user).order_by("-created_at", "-id")
        # Of a list BackupFilter says it, so that the index to read is chosen there (accounts/paging.py).
        return jobs if self.action == "list" else jobs.filter(type=RunBackup.type)

    @extend_schema(summary="Run backups", request=RunBackupSerializer, responses=JOBS)
    def create(self, request: Request) -> Response:
        """Start one plan of a server, or all that are enabled; nothing is started if one is refused."""
        asked = RunBackupSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        server = Server.objects.for_user(request.user).filter(pk=asked.validated_data["server_id"]).first()
        if server is None:
            raise ValidationError({"server_id": ["There is no such server, or you may not see it."]})
        plans = self._plans(server, asked.validated_data)
        with transaction.atomic():
            jobs = RunBackup.enqueue_all(plans, user=signed_in(request), trigger=Job.Trigger.API)
            if refused := next((job for job in jobs if isinstance(job, Refused)), None):
                raise refused
            return queued([job for job in jobs if isinstance(job, Job)])

    def _plans(self, server: Server, wanted: dict[str, Any]) -> list[Plan]:
        plans = Plan.objects.filter(server=server).with_scope()
        if "plan_id" in wanted:
            plans = plans.filter(pk=wanted["plan_id"])
            if not plans:
                raise ValidationError({"plan_id": ["This server has no such plan."]})
            return list(plans)
        plans = plans.filter(enabled=True)
        if "type" in wanted:
            plans = plans.filter(sources__kind=wanted["type"]).distinct()
        if not plans:
            raise ValidationError({"server_id": ["No enabled plan of this server fits."]})
        return list(plans)


class ServerBackupsView(mixins.ListModelMixin, GenericViewSet[Any]):
    """`/api/servers/{id}/backups`."""

    queryset = Job.objects.none()  # for the schema, which knows no server
    serializer_class = BackupSerializer
    filterset_class = BackupFilter
    pagination_class = NewestFirst
    orderings = ("-created_at",)
    permissions: ClassVar[dict[str, Permission | None]] = {"list": Permission.BACKUP_VIEW}

    def get_queryset(self) -> QuerySet[Job]:
        if "server_pk" not in self.kwargs:
            return self.queryset
        return Job.objects.for_user(self.request.user).order_by("-created_at", "-id")  # BackupFilter says the rest

    @extend_schema(summary="List a server's backups, newest first")
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        get_object_or_404(Server.objects.for_user(request.user), pk=self.kwargs["server_pk"])
        return super().list(request, *args, **kwargs)


BINARY = "application/octet-stream"


class AsItIs(DefaultContentNegotiation):
    """A file is sent whatever is accepted, and `format` is a parameter of ours."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


PATH = OpenApiParameter("path", str, description="Inside the archive; the leading slash does not matter.")


@noted
@extend_schema_view(
    list=extend_schema(summary="List archives, newest first"), retrieve=extend_schema(summary="Show an archive")
)
class ArchiveViewSet(
    DiffMixin, RenameMixin, NotedMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Any]
):
    serializer_class = ArchiveSerializer
    lookup_value_converter = "int"
    filterset_class = ArchiveFilter
    orderings = ("start", "-start")
    query_parameters: ClassVar[tuple[str, ...]] = ()
    permissions: ClassVar[dict[str, Permission | None]] = {
        **READ,
        "files": Permission.BACKUP_VIEW,
        "download": Permission.BACKUP_RESTORE,
        **dict.fromkeys(("restore", "mount", "unmount"), Permission.BACKUP_RESTORE),
        "index": Permission.BACKUP_VIEW,
        "prune": Permission.BACKUP_DELETE,
        **dict.fromkeys(("diff", "start_diff"), Permission.BACKUP_VIEW),
        **dict.fromkeys(("rename", "update", "partial_update"), Permission.BACKUP_MANAGE),
    }
    other_errors: ClassVar[dict[str, tuple[int, ...]]] = {
        "files": (409,), "download": (409, 416, 503), **dict.fromkeys(("diff", "update", "partial_update"), (409,)),
    }  # fmt: skip

    def get_queryset(self) -> QuerySet[Archive]:
        archives = Archive.objects.for_user(self.request.user).prefetch_related("mount").order_by("-start", "-id")
        return archives if self.action == "list" else archives.select_related("repository__pool")

    @extend_schema(
        summary="Browse an archive",
        parameters=[
            PATH,
            OpenApiParameter("search", str, description="Entries anywhere whose name holds this, instead of a folder."),
            OpenApiParameter("ordering", str, enum=list(ORDERS), description="Of a folder, folders first; by name."),
            OpenApiParameter("page", int),
            OpenApiParameter("page_size", int, description=f"{FILES_SHOWN}, at most {MOST_FILES_SHOWN}."),
        ],
        responses=FolderSerializer,
        filters=False,
    )
    @action(detail=True, filterset_class=None, pagination_class=None, query_parameters=FILES_QUERY)
    def files(self, request: Request, pk: Any = None) -> Response:
        """One folder of the archive, or a search in it; 409 while its listing is not read."""
        archive = self.get_object()
        path, search = request.query_params.get("path", ""), request.query_params.get("search", "")
        page, size = whole(request, "page", 1, 10**6), whole(request, "page_size", FILES_SHOWN, MOST_FILES_SHOWN)
        order = request.query_params.get("ordering", "name")
        if order not in ORDERS or (search and "ordering" in request.query_params):
            raise ValidationError({"ordering": [f"A folder can be ordered by: {', '.join(ORDERS)}."]})
        if path and search:
            raise ValidationError({"search": ["This looks everywhere. Name a folder, or what to search for."]})
        with listing_of(archive) as listing:
            if search:
                items, count = listing.search(search.encode(), offset=(page - 1) * size, limit=size)
            else:
                folder = folder_at(listing, path)
                items = listing.folder(folder, order=order, offset=(page - 1) * size, limit=size)
                count = listing.count(folder)
        url = request.build_absolute_uri()
        return Response(
            {
                "path": path,
                "count": count,
                "next": replace_query_param(url, "page", page + 1) if page * size < count else None,
                "previous": replace_query_param(url, "page", page - 1) if page > 1 else None,
                "results": [FileSerializer(item).data for item in items],
            }
        )

    @extend_schema(
        summary="Download a file or a folder",
        parameters=[
            PATH,
            OpenApiParameter("entry", int, description="Its number, instead of its path."),
            OpenApiParameter("format", str, enum=list(PACKINGS), description=f"Of a folder; {PLAIN}."),
            OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="Of a file, one range of bytes."),
            OpenApiParameter(
                "If-Range", str, OpenApiParameter.HEADER, description="The `ETag` that a part belongs to."
            ),
        ],
        responses=dict.fromkeys(((200, BINARY), (206, BINARY)), OpenApiTypes.BINARY),
        filters=False,
    )
    @action(
        detail=True, filterset_class=None, pagination_class=None, query_parameters=("path", "entry", "format"),
        content_negotiation_class=AsItIs,
    )  # fmt: skip
    def download(self, request: Request, pk: Any = None) -> HttpResponseBase:
        """A file as it is, or a part of it; a folder as one file, “/” for everything. Streamed while borg reads it.

        A tar has everything but ACLs, extended attributes, and the fractions of seconds. A zip has no hard links
        either (each becomes a file), no pipes and no devices; odd characters of names are spelled as %XX.
        """
        archive = self.get_object()
        packing = request.query_params.get("format", "")
        if "format" in request.query_params and packing not in PACKINGS:
            raise ValidationError({"format": [f"A folder can be had as: {', '.join(PACKINGS)}."]})
        with listing_of(archive) as listing:
            item = chosen_item(listing, request)
        if packing and not item.is_folder:
            raise ValidationError({"format": ["Only a folder has a format: a file is sent as it is."]})
        try:
            return start_download(
                archive, item.id, user=signed_in(request), trigger=Job.Trigger.API, packing=packing,
                headers=request.headers, only_headers=request.method == "HEAD",
            )  # fmt: skip
        except Unsatisfiable as error:
            raise NoSuchRange(str(error), error.content_range) from error
        except NobodyThere as error:
            raise Unavailable(str(error)) from error
        except DownloadFailed as error:
            raise Refused(str(error)) from error

    @extend_schema(summary="Restore to a server", request=RestoreSerializer, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, pk: Any = None) -> Response:
        """Put paths, or everything, back: below a directory, beside what is there, or in its place."""
        return queued(start(RestoreFiles, self.get_object(), request))

    @extend_schema(summary="Mount an archive", request=MountSerializer, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def mount(self, request: Request, pk: Any = None) -> Response:
        """Show it as a folder on its worker's machine, read-only, to the worker's user; the job's result says where."""
        return queued(start(MountArchive, self.get_object(), request))

    @extend_schema(summary="Unmount an archive", responses=ONE_JOB)
    @mount.mapping.delete
    def unmount(self, request: Request, pk: Any = None) -> Response:
        """Take that folder away, also from somebody who is in it; 409 if there is none."""
        found = Mount.objects.filter(archive=self.get_object()).select_related("archive", "job").first()
        if found is None:
            raise Refused(_("The archive is not mounted."))
        return queued(start(UnmountArchive, found, request))

    @extend_schema(summary="Read the listing", request=None, responses=ONE_JOB)
    @action(detail=True, methods=["post"])
    def index(self, request: Request, pk: Any = None) -> Response:
        """Read the archive's listing anew, so that it can be browsed."""
        return queued(start(IndexArchive, self.get_object(), request))

    @extend_schema(summary="Delete an archive", responses=ONE_JOB)
    @action(detail=True, methods=["delete"])
    def prune(self, request: Request, pk: Any = None) -> Response:
        """A job deletes it; 409 while it is pinned, in use, or the last good one of its plan."""
        return queued(start(DeleteArchive, self.get_object(), request))


def listing_of(archive: Archive) -> Catalog:
    try:
        return Catalog(archive)
    except NotIndexed as error:
        raise Refused(_("The listing of this archive has not been read yet.")) from error


def folder_at(listing: Catalog, path: str) -> int:
    if not path.strip("/"):
        return ROOT
    item = listing.find(path.encode())
    if item is None or not item.is_folder:
        raise NotFound("There is no such folder in the archive.")
    return item.id


def chosen_item(listing: Catalog, request: Request) -> Item:
    entry, path = request.query_params.get("entry"), request.query_params.get("path")
    if (entry is None) == (path is None):
        raise ValidationError({"path": ["Name one thing: by path, or by entry."]})
    if entry is not None:
        item = listing.item(whole(request, "entry", 0, 2**62))
    elif path and not path.strip("/"):
        item = listing.at(ROOT)
    else:
        item = listing.find((path or "").encode())
    if item is None:
        raise NotFound("There is nothing at this path in the archive.")
    return item

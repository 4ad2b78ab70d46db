"""`/api/stats`: the numbers of backups/stats.py, and how they are shown."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.access import Permission
from backups import stats
from backups.health import Health, State
from backups.models import Plan, Repository, StoragePool
from backups.stats import Dashboard, Outcome, ServerStats, Sizes
from servers.models import Server

STATES = [state.value for state in State]


class SizesSerializer(serializers.Serializer[Sizes]):
    """As borg itself says, in bytes."""

    original = serializers.IntegerField()
    compressed = serializers.IntegerField(help_text="Before deduplication.")
    deduplicated = serializers.IntegerField(help_text="What it takes on disk, about.")
    compression = serializers.FloatField(allow_null=True, help_text="original / compressed.")
    deduplication = serializers.FloatField(allow_null=True, help_text="compressed / deduplicated.")
    saved_share = serializers.FloatField(allow_null=True, help_text="1 - deduplicated / original.")


class OutcomeSerializer(serializers.Serializer[Outcome]):
    """How backups ended. Each counts when it was asked for, however long it took."""

    completed = serializers.IntegerField()
    suspicious = serializers.IntegerField(help_text="Of the completed: those whose archive is no good one.")
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()
    success_rate = serializers.FloatField(
        allow_null=True,
        help_text="(completed - suspicious) / (completed + failed): cancelled ones do not count. null: there was none.",
    )


class RateSerializer(OutcomeSerializer):
    days = serializers.IntegerField(help_text="Of how many days until now; by full hours.")


class DaySerializer(OutcomeSerializer):
    day = serializers.DateField(help_text="In UTC.")
    added_bytes = serializers.IntegerField(help_text="What its archives added to the repository when they were made.")
    duration = serializers.FloatField(help_text="Seconds that its backups ran, together.")


class HealthCountsSerializer(serializers.Serializer[dict[str, int]]):
    protected = serializers.IntegerField()
    attention = serializers.IntegerField()
    at_risk = serializers.IntegerField(source=State.AT_RISK.value)
    unknown = serializers.IntegerField()


class JobCountsSerializer(serializers.Serializer[dict[str, int]]):
    """Of every type."""

    pending = serializers.IntegerField(help_text="Now.")
    running = serializers.IntegerField(help_text="Now.")
    completed = serializers.IntegerField(help_text="Of those made in the last 24 hours; so are the next two.")
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()


class PoolRoomSerializer(serializers.ModelSerializer[StoragePool]):
    state = serializers.ChoiceField(STATES, source="state_shown")

    class Meta:
        model = StoragePool
        fields = ["id", "name", "state", "problem", "free_bytes", "total_bytes", "checked_at"]
        read_only_fields = fields


class NextRunSerializer(serializers.ModelSerializer[Plan]):
    class Meta:
        model = Plan
        fields = ["id", "name", "server", "next_run_at"]
        read_only_fields = fields


class DashboardSerializer(serializers.Serializer[Dashboard]):
    at = serializers.DateTimeField()
    servers = serializers.IntegerField()
    plans = serializers.IntegerField()
    repositories = serializers.IntegerField()
    repositories_damaged = serializers.IntegerField()
    repositories_frozen = serializers.IntegerField()
    archives = serializers.IntegerField()
    health = HealthCountsSerializer(help_text="Servers by their state.")
    stored = SizesSerializer(help_text="All repositories together.")
    jobs = JobCountsSerializer()
    backups = RateSerializer(many=True, help_text="Over 1, 7 and 30 days.")
    pools = PoolRoomSerializer(many=True, help_text=f"Up to {stats.POOLS_SHOWN}, the fullest first.")
    next_runs = NextRunSerializer(many=True, help_text=f"Up to {stats.NEXT_RUNS_SHOWN}.")


class RepositorySizesSerializer(serializers.ModelSerializer[Repository]):
    sizes = serializers.SerializerMethodField()

    class Meta:
        model = Repository
        fields = ["id", "name", "server", "sizes", "measured_at"]
        read_only_fields = fields

    @extend_schema_field(SizesSerializer)
    def get_sizes(self, repository: Repository) -> dict[str, Any]:
        return SizesSerializer(stats.sizes_of(repository)).data


class PlanHealthSerializer(serializers.Serializer[Health]):
    id = serializers.IntegerField(source="plan.pk")
    name = serializers.CharField(source="plan.name")
    state = serializers.ChoiceField(STATES)
    reason = serializers.CharField()
    last_good_at = serializers.DateTimeField(allow_null=True)
    next_run_at = serializers.DateTimeField(source="plan.next_run_at", allow_null=True)


class ServerStatsSerializer(serializers.Serializer[ServerStats]):
    at = serializers.DateTimeField()
    id = serializers.IntegerField(source="server.pk")
    name = serializers.CharField(source="server.name")
    state = serializers.ChoiceField(STATES, source="health.state")
    reason = serializers.CharField(source="health.reason")
    stored = SizesSerializer(help_text="Its repositories together.")
    repositories = RepositorySizesSerializer(many=True)
    plans = PlanHealthSerializer(many=True)
    archives = serializers.IntegerField()
    newest_archive_at = serializers.DateTimeField(allow_null=True)
    oldest_archive_at = serializers.DateTimeField(allow_null=True)
    days = DaySerializer(many=True, help_text=f"The last {stats.SERVER_DAYS} days, oldest first, today last.")


class EfficiencySerializer(serializers.Serializer[None]):
    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    total = SizesSerializer(help_text="Of all repositories, whatever the page.")
    results = RepositorySizesSerializer(many=True)


class StatsViewSet(GenericViewSet[Any]):
    queryset = Server.objects.none()  # for the schema: whose id stands in the path
    permissions: ClassVar[dict[str, Permission | None]] = dict.fromkeys(
        ("dashboard", "server", "efficiency"), Permission.BACKUP_VIEW
    )

    @extend_schema(summary="Numbers about everything", responses=DashboardSerializer)
    @action(detail=False, pagination_class=None)
    def dashboard(self, request: Request) -> Response:
        """Counts, health, sizes, how jobs and backups ended, room, and what runs next."""
        self.filter_queryset(self.get_queryset())  # refuses what is no filter
        return Response(DashboardSerializer(stats.dashboard(request.user)).data)

    @extend_schema(summary="Numbers about a server", responses=ServerStatsSerializer)
    @action(detail=False, url_path="server/<int:pk>", pagination_class=None)
    def server(self, request: Request, pk: int) -> Response:
        """Its repositories' sizes, its plans, its archives, and how its backups of the last days ended."""
        self.filter_queryset(self.get_queryset())
        server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
        return Response(ServerStatsSerializer(stats.of_server(server, request.user)).data)

    @extend_schema(
        summary="What compression and deduplication spare",
        parameters=[OpenApiParameter("page", int), OpenApiParameter("page_size", int)],
        responses=EfficiencySerializer,
    )
    @action(detail=False)
    def efficiency(self, request: Request) -> Response:
        """By repository, the largest on disk first, and in total."""
        repositories: QuerySet[Repository] = Repository.objects.for_user(request.user)
        found = self.filter_queryset(repositories.order_by("-deduplicated_bytes", "pk"))
        answer = self.get_paginated_response(RepositorySizesSerializer(self.paginate_queryset(found), many=True).data)
        answer.data["total"] = SizesSerializer(stats.total(repositories)).data
        return answer

"""The routes of the API; API.md is the contract."""

from csp.decorators import csp_update
from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from accounts import viewsets as accounts
from alerts import viewsets as alerts
from backups import viewsets as backups
from backups.find_viewsets import FileViewSet
from backups.proof_viewsets import RestoreTestViewSet
from backups.stats_viewsets import StatsViewSet
from jobs import streamviews as streams
from jobs import viewsets as jobs
from phpborg.views import api_not_found
from phpborg.viewsets import ConfigViewSet
from servers import viewsets as servers

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("servers", servers.ServerViewSet, basename="server")
router.register("servers/<int:server_pk>/backups", backups.ServerBackupsView, basename="server-backup")
router.register("backups", backups.BackupViewSet, basename="backup")
router.register("files", FileViewSet, basename="file")
router.register("archives", backups.ArchiveViewSet, basename="archive")
router.register("repositories", backups.RepositoryViewSet, basename="repository")
router.register("storage-pools", backups.StoragePoolViewSet, basename="storage-pool")
router.register("sources", backups.SourceViewSet, basename="source")
router.register("plans", backups.PlanViewSet, basename="plan")
router.register("restore-tests", RestoreTestViewSet, basename="restore-test")
router.register("jobs", jobs.JobViewSet, basename="job")
router.register("logs", jobs.LogViewSet, basename="log")
router.register("logs/tail", streams.LogStream, basename="log-tail")
router.register("sse/jobs", streams.JobStream, basename="sse-job")
router.register("sse/backups", streams.BackupStream, basename="sse-backup")
router.register("sse/logs", streams.LogStream, basename="sse-log")
router.register("tokens", accounts.ApiTokenViewSet, basename="token")
router.register("users", accounts.UserViewSet, basename="user")
router.register("roles", accounts.RoleViewSet, basename="role")
router.register("audit", accounts.AuditViewSet, basename="audit-entry")
router.register("alerts", alerts.AlertViewSet, basename="alert")
router.register("alert-rules", alerts.RuleViewSet, basename="alert-rule")
router.register("alert-channels", alerts.ChannelViewSet, basename="alert-channel")
router.register("alert-deliveries", alerts.DeliveryViewSet, basename="alert-delivery")
router.register("stats", StatsViewSet, basename="stats")

urlpatterns: list[URLPattern | URLResolver] = [
    path("auth/login", accounts.Login.as_view(), name="api_login"),
    path("auth/refresh", accounts.Refresh.as_view(), name="api_refresh"),
    path("auth/logout", accounts.Logout.as_view(), name="api_logout"),
    path("auth/me", accounts.Me.as_view(), name="api_me"),
    path("settings", ConfigViewSet.as_view({"get": "retrieve", "put": "update"}, detail=True), name="api_settings"),
    path("schema", SpectacularAPIView.as_view(), name="api_schema"),
    path(
        "docs",
        csp_update(settings.CSP_SWAGGER)(SpectacularSwaggerSplitView.as_view(url_name="api_schema")),
        name="api_docs",
    ),
    path("", include(router.urls)),
    re_path(r"^.*$", api_not_found),
]

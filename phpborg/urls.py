"""Every page, the API, the admin."""

from django.contrib import admin
from django.urls import include, path

from phpborg import config_views as config
from phpborg import reset_views as reset
from phpborg import views
from phpborg.metrics import metrics
from phpborg.setup_views import setup

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("search", views.search, name="search"),
    path("setup", setup, name="setup"),
    path("password/forgotten", reset.forgotten, name="password_forgotten"),
    path("password/reset", reset.new_password, name="password_reset"),
    path("settings", config.settings, name="settings"),
    path("settings/mail-test", config.mail_test, name="settings_mail_test"),
    path("", include("accounts.urls")),
    path("", include("alerts.urls")),
    path("", include("backups.urls")),
    path("", include("servers.urls")),
    path("", include("jobs.urls")),
    path("api/", include("phpborg.api")),
    path("admin/", admin.site.urls),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
]
handler400 = "phpborg.views.bad_request"
handler403 = "phpborg.views.forbidden"
handler404 = "phpborg.views.not_found"
handler500 = "phpborg.views.server_error"

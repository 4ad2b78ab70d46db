from django.urls import path

from backups.views import archives, plans, repositories, servers

urlpatterns = [
    path("servers", servers.index, name="servers"),
    path("servers/<int:pk>", servers.detail, name="server"),
    path("servers/<int:server_pk>/plans/add", plans.add, name="plan_add"),
    path("plans", plans.index, name="plans"),
    path("plans/<int:pk>", plans.detail, name="plan"),
    path("plans/<int:pk>/edit", plans.edit, name="plan_edit"),
    path("plans/<int:pk>/run", plans.run, name="plan_run"),
    path("plans/<int:pk>/delete", plans.delete, name="plan_delete"),
    path("repositories", repositories.index, name="repositories"),
    path("repositories/add", repositories.add, name="repository_add"),
    path("repositories/<int:pk>", repositories.detail, name="repository"),
    path("pools/add", repositories.pool_add, name="pool_add"),
    path("pools/<int:pk>", repositories.pool, name="pool"),
    path("pools/<int:pk>/edit", repositories.pool_edit, name="pool_edit"),
    path("archives", archives.index, name="archives"),
    path("archives/<int:pk>", archives.detail, name="archive"),
    path("archives/<int:pk>/browse", archives.browse, name="archive_browse"),
    path("archives/<int:pk>/browse/<int:folder>", archives.browse, name="archive_folder"),
    path("archives/<int:pk>/download/<int:entry>", archives.download, name="archive_download"),
    path("archives/<int:pk>/restore", archives.restore, name="archive_restore"),
]

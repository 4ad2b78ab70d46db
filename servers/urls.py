from django.urls import path

from servers import views

urlpatterns = [
    path("servers/add", views.add, name="server_add"),
    path("servers/<int:pk>/edit", views.edit, name="server_edit"),
    path("servers/<int:pk>/access", views.access, name="server_access"),
    path("servers/<int:pk>/access/steps", views.steps, name="server_steps"),
    path("servers/<int:pk>/access/knock", views.knock, name="server_knock"),
    path("servers/<int:pk>/host-key", views.confirm_host_key, name="server_host_key"),
    path("servers/<int:pk>/let-in", views.let_in, name="server_let_in"),
    path("servers/<int:pk>/delete", views.delete, name="server_delete"),
]

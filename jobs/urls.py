from django.urls import path

from jobs import views

urlpatterns = [
    path("jobs", views.index, name="jobs"),
    path("jobs/strip", views.strip, name="jobs_strip"),
    path("jobs/<uuid:pk>", views.detail, name="job"),
    path("jobs/<uuid:pk>/live", views.live_part, name="job_live"),
    path("jobs/<uuid:pk>/toast", views.toast, name="job_toast"),
    path("jobs/<uuid:pk>/log", views.download_log, name="job_log"),
    path("jobs/<uuid:pk>/cancel", views.cancel, name="job_cancel"),
    path("jobs/<uuid:pk>/now", views.now, name="job_now"),
    path("jobs/<uuid:pk>/retry", views.retry, name="job_retry"),
    path("jobs/start/<slug:job_type>/<int:pk>", views.start, name="job_start"),
    path("logs", views.logs, name="logs"),
    path("events", views.events, name="events"),
]

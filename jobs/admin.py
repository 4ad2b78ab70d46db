from constance.admin import Config
from django.contrib import admin

from accounts.access import Permission
from accounts.operators import OperatorAdmin
from jobs.models import Job, LogLine

admin.site.unregister([Config])  # its page would bypass the audit trail


@admin.register(Job)
class JobAdmin(OperatorAdmin):
    list_display = (
        "created_at",
        "type",
        "status",
        "server",
        "plan",
        "trigger",
        "user",
        "attempts",
        "warnings",
        "worker",
    )
    list_filter = ("status", "type", "trigger")
    list_select_related = ("server", "plan", "user")
    search_fields = ("id", "error")
    date_hierarchy = "created_at"
    show_full_result_count = False


@admin.register(LogLine)
class LogLineAdmin(OperatorAdmin):
    seen_with = Permission.LOGS_VIEW
    list_display = ("at", "level", "job", "number", "message")
    list_filter = ("level",)
    list_select_related = ("job",)
    search_fields = ("message",)
    show_full_result_count = False

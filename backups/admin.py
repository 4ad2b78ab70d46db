from django.contrib import admin

from accounts.access import Permission
from accounts.operators import OperatorAdmin
from backups.models import Archive, Mount, Plan, Repository, RestoreTest, RetentionPolicy, Source, StoragePool


@admin.register(StoragePool)
class StoragePoolAdmin(OperatorAdmin):
    list_display = ("name", "path", "place", "free_bytes", "total_bytes", "checked_at", "problem")
    search_fields = ("name", "path")


@admin.register(Repository)
class RepositoryAdmin(OperatorAdmin):
    list_display = ("name", "pool", "server", "state", "deduplicated_bytes", "measured_at")
    list_filter = ("state", "pool")
    list_select_related = ("pool", "server")
    search_fields = ("name", "borg_id")
    exclude = ("passphrase_encrypted", "key_encrypted")


@admin.register(Source)
class SourceAdmin(OperatorAdmin):
    list_display = ("name", "server", "kind")
    list_filter = ("kind",)
    list_select_related = ("server",)
    search_fields = ("name", "server__name")


@admin.register(RetentionPolicy)
class RetentionPolicyAdmin(OperatorAdmin):
    audited_as = "retention"
    changed_with = Permission.BACKUP_MANAGE
    list_display = ("name", "keep_within", "keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")


@admin.register(Plan)
class PlanAdmin(OperatorAdmin):
    list_display = ("name", "server", "repository", "enabled", "schedule", "next_run_at", "last_good_at")
    list_filter = ("enabled",)
    list_select_related = ("server", "repository")
    search_fields = ("name", "server__name")


@admin.register(Archive)
class ArchiveAdmin(OperatorAdmin):
    list_display = ("name", "server", "plan", "start", "files", "original_bytes", "warnings", "suspicion", "pinned")
    list_filter = ("pinned",)
    list_select_related = ("server", "plan")
    search_fields = ("name", "borg_id")
    date_hierarchy = "start"
    show_full_result_count = False


@admin.register(Mount)
class MountAdmin(OperatorAdmin):
    list_display = ("path", "machine", "archive", "mounted_at", "expires_at")
    list_select_related = ("archive",)
    search_fields = ("path", "machine")


@admin.register(RestoreTest)
class RestoreTestAdmin(OperatorAdmin):
    list_display = ("name", "server", "plan", "at", "held", "files", "bytes", "seconds")
    list_filter = ("held",)
    list_select_related = ("server", "plan")
    search_fields = ("name",)

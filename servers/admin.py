from django.contrib import admin

from accounts.access import Permission
from accounts.operators import OperatorAdmin
from servers.models import Server, Tag


@admin.register(Server)
class ServerAdmin(OperatorAdmin):
    seen_with = Permission.SERVER_VIEW
    list_display = ("name", "address", "port", "username", "enabled", "borg_version", "test_ok", "seen_at")
    list_filter = ("enabled", "test_ok", "tags")
    search_fields = ("name", "address")
    exclude = ("private_key_encrypted",)


@admin.register(Tag)
class TagAdmin(OperatorAdmin):
    seen_with = Permission.SERVER_VIEW
    changed_with = Permission.SERVER_MANAGE
    list_display = ("name",)

from typing import ClassVar

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission, can
from accounts.models import ApiToken, AuditEntry, TokenFamily, User
from accounts.operators import OperatorAdmin

admin.site.unregister(Group)


class ManagedByUserManagers:
    """Users and groups: whoever may manage users may do everything here."""

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return can(request.user, Permission.USER_MANAGE)

    has_change_permission = has_delete_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        return can(request.user, Permission.USER_MANAGE)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return can(request.user, Permission.USER_MANAGE)


@admin.register(User)
class AccountAdmin(ManagedByUserManagers, UserAdmin):  # type: ignore[type-arg]
    list_display = ("username", "email", "is_active", "last_login")
    list_filter = ("is_active", "groups")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("first_name", "last_name", "email", "language", "time_zone", "theme")}),
        (_("Access"), {"fields": ("is_active", "groups")}),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")


@admin.register(Group)
class RoleAdmin(ManagedByUserManagers, GroupAdmin):
    pass


@admin.register(TokenFamily)
class TokenFamilyAdmin(OperatorAdmin):
    seen_with = Permission.USER_MANAGE
    list_display = ("user", "address", "user_agent", "created_at", "used_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    fields = ("user", "address", "user_agent", "created_at", "used_at", "expires_at", "revoked_at")
    search_fields = ("user__username", "address")

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Ends that login; without it nobody who ever had one could be deleted."""
        return can(request.user, Permission.USER_MANAGE)


@admin.register(ApiToken)
class ApiTokenAdmin(OperatorAdmin):
    seen_with = Permission.USER_MANAGE
    list_display = ("user", "name", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    fields = ("user", "name", "prefix", "permissions", "created_at", "last_used_at", "expires_at", "revoked_at")
    search_fields = ("user__username", "name", "prefix")

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Ends it; without it nobody who ever had one could be deleted."""
        return can(request.user, Permission.USER_MANAGE)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return "sha256" not in lookup and super().lookup_allowed(lookup, value, request)


@admin.register(AuditEntry)
class AuditAdmin(OperatorAdmin):
    seen_with: ClassVar[Permission] = Permission.USER_MANAGE
    list_display = ("at", "username", "action", "target", "address")
    list_filter = ("action",)
    search_fields = ("username", "target", "address")
    show_full_result_count = False

"""The Django admin, which asks `accounts.access` like everybody else."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission, can
from accounts.forms import LoginForm


class OperatorSite(admin.AdminSite):
    site_header = site_title = _("phpBorg for operators")
    index_title = _("Tables")
    login_form = LoginForm  # Django's own asks for is_staff, which nobody here has

    def has_permission(self, request: HttpRequest) -> bool:
        return can(request.user, Permission.CONFIG_MANAGE)


class OperatorAdmin(admin.ModelAdmin[Any]):
    """A table in the admin: `seen_with` to look, `changed_with` (None: nobody) to change.

    Nothing is added or deleted there unless a subclass says so: pages and API do that with the
    rules that belong to it.
    """

    seen_with: ClassVar[Permission] = Permission.BACKUP_VIEW
    changed_with: ClassVar[Permission | None] = None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can(request.user, self.seen_with)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.changed_with is not None and can(request.user, self.changed_with)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """What is not shown cannot be guessed letter by letter in the list's address either."""
        return "_encrypted" not in lookup and super().lookup_allowed(lookup, value, request)

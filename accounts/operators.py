"""The Django admin, which asks `accounts.access` like everybody else."""

from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts import audit
from accounts.access import Permission, can


class OperatorSite(admin.AdminSite):
    site_header = site_title = _("phpBorg for operators")
    index_title = _("Tables")

    def has_permission(self, request: HttpRequest) -> bool:
        return can(request.user, Permission.CONFIG_MANAGE)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """There is one door: whoever could log in here past the second factor would not need one."""
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect(reverse("login", query={"next": request.GET.get("next") or reverse("admin:index")}))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return self._recorded("password.changed", request, super().password_change(request, extra_context))

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method == "POST" and request.user.is_authenticated:
            audit.record("logout", request=request)
        return super().logout(request, extra_context)

    def _recorded(self, action: str, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if request.method == "POST" and response.status_code == 302:  # else the form is shown again
            audit.record(action, request=request)
        return response


class AuditedAdmin(admin.ModelAdmin[Any]):
    """What is changed in the admin is in the audit trail too, with what was before and after."""

    audited_as: ClassVar[str] = ""  # the name of the model, unless it says something else

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            obj.facts_before = audit.facts(type(obj)._base_manager.get(pk=obj.pk))
        super().save_model(request, obj, form, change)

    # When what belongs to it is saved too, and after the admin's own line about it, which locks the user's row.

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        line = super().log_addition(request, obj, message)
        audit.record_change(self._action("added"), obj, {}, request=request)
        return line

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        line = super().log_change(request, obj, message)
        if hasattr(obj, "facts_before"):
            audit.record_change(self._action("changed"), obj, obj.facts_before, request=request)
        return line

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        before, name = audit.facts(obj), audit.name_of(obj)
        with transaction.atomic():
            super().delete_model(request, obj)
            detail = audit.difference(before, {})
            audit.record(self._action("deleted"), request=request, target=name, detail=detail)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                self.delete_model(request, obj)

    def _action(self, what: str) -> str:
        model: type[Model] = self.model
        return f"{self.audited_as or model._meta.model_name}.{what}"


class OperatorAdmin(AuditedAdmin):
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

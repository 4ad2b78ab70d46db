from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _

from accounts import audit, sessions
from accounts.access import ROLES, Permission, can, signed_in
from accounts.errors import Conflict, NotAllowed
from accounts.forms import refuse_own_name
from accounts.models import ApiToken, AuditEntry, TokenFamily, User
from accounts.operators import AuditedAdmin, OperatorAdmin
from accounts.people import beyond, beyond_reach, somebody_stays_in_charge

admin.site.unregister(Group)


class ManagedByUserManagers:
    """Users and groups: whoever may manage users may do everything here, but leave nobody in charge, nor give more
    than they have, nor touch what has more.
    """

    @abstractmethod
    def beyond(self, manager: User, obj: Any) -> list[str]:
        """What `obj` has and `manager` has not."""

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return can(request.user, Permission.USER_MANAGE)

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return self.has_view_permission(request) and not (obj and self.beyond(signed_in(request), obj))

    has_delete_permission = has_change_permission

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        if more := self.beyond(signed_in(request), form.instance):
            raise NotAllowed(_("You may not do this yourself: %(names)s.") % {"names": ", ".join(more)})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return can(request.user, Permission.USER_MANAGE)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return can(request.user, Permission.USER_MANAGE)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return somebody_in_charge(super().changelist_view, request, *args, **kwargs)  # type: ignore[misc]

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return somebody_in_charge(super().changeform_view, request, *args, **kwargs)  # type: ignore[misc]

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return somebody_in_charge(super().delete_view, request, *args, **kwargs)  # type: ignore[misc]


def somebody_in_charge(view: Callable[..., HttpResponse], request: HttpRequest, *args: Any, **kw: Any) -> HttpResponse:
    """What would leave no administrator, or give too much, is taken back, and said instead of what the view says."""
    if request.method != "POST":
        return view(request, *args, **kw)
    try:
        with somebody_stays_in_charge():
            return view(request, *args, **kw)
    except (Conflict, NotAllowed) as refusal:
        list(messages.get_messages(request))  # “was changed successfully”: forgotten, as it was not
        messages.error(request, str(refusal.detail))
        return redirect(request.get_full_path())


@admin.register(User)
class AccountAdmin(ManagedByUserManagers, AuditedAdmin, UserAdmin):  # type: ignore[type-arg]
    list_display = ("username", "email", "is_active", "last_login")
    list_filter = ("is_active", "groups")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("first_name", "last_name", "email", "language", "time_zone", "theme")}),
        (_("Access"), {"fields": ("is_active", "groups")}),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")

    def beyond(self, manager: User, obj: User) -> list[str]:
        return beyond_reach(manager, obj)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not obj.is_active:
            sessions.end_all(obj)

    def log_change(self, request: HttpRequest, obj: User, message: Any) -> Any:
        line = super().log_change(request, obj, message)
        if not hasattr(obj, "facts_before"):  # nothing but the password, on a page of its own
            audit.record("user.password_set", request=request, target=obj.username)
        return line


class GroupForm(forms.ModelForm[Group]):
    def clean_name(self) -> str:
        return refuse_own_name(self.cleaned_data["name"])


@admin.register(Group)
class RoleAdmin(ManagedByUserManagers, AuditedAdmin, GroupAdmin):
    audited_as = "role"
    form = GroupForm

    def beyond(self, manager: User, obj: Group) -> list[str]:
        return beyond(manager, [obj])

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not of those that phpBorg brings: an administrator whose role gives nothing is none."""
        return super().has_change_permission(request, obj) and not (obj and obj.name in ROLES)

    has_delete_permission = has_change_permission


@admin.register(TokenFamily)
class TokenFamilyAdmin(OperatorAdmin):
    audited_as = "api_login"
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
    audited_as = "api_token"
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
    list_display = ("number", "at", "username", "action", "target", "address")
    ordering = ("-number",)
    list_filter = ("action",)
    search_fields = ("username", "target", "address")
    show_full_result_count = False

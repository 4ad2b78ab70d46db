"""The one place that decides who may do what: pages, API, event streams and admin ask here.

Permissions are Django permissions of the `accounts` app, named as in the API (`backup.view`).
A role is a Django group that holds some of them, so an administrator can add groups.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate
from urllib.parse import urlsplit

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import BasePermission

if TYPE_CHECKING:  # this module is imported by models, and these import models
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from accounts.models import User


class Permission(StrEnum):
    BACKUP_VIEW = "backup.view"
    BACKUP_CREATE = "backup.create"
    BACKUP_RESTORE = "backup.restore"
    BACKUP_DELETE = "backup.delete"
    BACKUP_MANAGE = "backup.manage"
    SERVER_VIEW = "server.view"
    SERVER_MANAGE = "server.manage"
    USER_MANAGE = "user.manage"
    CONFIG_MANAGE = "config.manage"
    LOGS_VIEW = "logs.view"


PERMISSION_LABELS = {
    Permission.BACKUP_VIEW: _("See backups, archives and jobs"),
    Permission.BACKUP_CREATE: _("Run, retry and cancel backups"),
    Permission.BACKUP_RESTORE: _("Download and restore files"),
    Permission.BACKUP_DELETE: _("Delete archives"),
    Permission.BACKUP_MANAGE: _("Change plans, sources, repositories and storage pools"),
    Permission.SERVER_VIEW: _("See servers"),
    Permission.SERVER_MANAGE: _("Add, change and test servers, confirm host keys"),
    Permission.USER_MANAGE: _("Manage users and roles"),
    Permission.CONFIG_MANAGE: _("Change settings, use the admin"),
    Permission.LOGS_VIEW: _("Read logs"),
}

_VIEWER = {Permission.BACKUP_VIEW, Permission.SERVER_VIEW, Permission.LOGS_VIEW}
ROLES: Mapping[str, frozenset[Permission]] = {
    "ROLE_ADMIN": frozenset(Permission),
    "ROLE_OPERATOR": frozenset({*_VIEWER, Permission.BACKUP_CREATE}),
    "ROLE_VIEWER": frozenset(_VIEWER),
}
ROLE_LABELS = {
    "ROLE_ADMIN": _("Administrator"),
    "ROLE_OPERATOR": _("Operator"),
    "ROLE_VIEWER": _("Viewer"),
}


def can(user: "User | AnonymousUser", permission: Permission) -> bool:
    limit: frozenset[str] | None = getattr(user, "limited_to", None)
    if limit is not None and permission not in limit:
        return False
    return user.is_active and user.has_perm(f"accounts.{permission}")


def signed_in(request: "HttpRequest | Request") -> "User":
    """The caller, behind `require` or ApiPermission."""
    assert request.user.is_authenticated
    return request.user


def permissions_of(user: "User") -> list[str]:
    """The names of all that `user` may do, sorted."""
    return sorted(permission for permission in Permission if can(user, permission))


View = Callable[Concatenate[HttpRequest, ...], HttpResponseBase]


def require(permission: Permission) -> Callable[[View], View]:
    """Decorate a page: whoever is not signed in goes to the login, who lacks the permission gets 403."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return ask_to_log_in(request)
            if not can(request.user, permission):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def ask_to_log_in(request: HttpRequest) -> HttpResponseBase:
    """Redirect to the login; a fragment that HTMX asked for makes the whole page go there."""
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(status=401, headers={"HX-Refresh": "true"})
    return redirect(reverse("login", query={"next": _where_one_is(request)}))


def _where_one_is(request: HttpRequest) -> str:
    """The page to come back to: of a form that was sent the one that showed it, for its address may take only POST."""
    if request.method in ("GET", "HEAD"):
        return request.get_full_path()
    return page_of_form(request) or request.get_full_path()


def page_of_form(request: HttpRequest) -> str:
    """The page of ours that showed the form that was sent, or "" where the browser does not say."""
    shown = urlsplit(request.headers.get("Referer", ""))
    if shown.netloc != request.get_host() or shown.path.startswith("//"):
        return ""
    return shown._replace(scheme="", netloc="", fragment="").geturl() or "/"


class ApiPermission(BasePermission):
    """Read `view.permissions`: one Permission by action (or method); None means "signed in".

    A view that names none for what is asked is a mistake of ours and refuses everybody.
    """

    def has_permission(self, request: "Request", view: "APIView") -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        wanted: Mapping[str, Permission | None] = getattr(view, "permissions", {})
        method = (request.method or "").lower()
        if not hasattr(view, method):
            return True  # DRF answers 405
        name = getattr(view, "action", None) or {"head": "get"}.get(method, method)
        if name in ("metadata", "options"):
            return True
        if name not in wanted:
            return False
        permission = wanted[name]
        return permission is None or can(request.user, permission)

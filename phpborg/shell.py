"""What every page shows around its content."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission, can
from jobs.models import Job

STRIP_SHOWN = 5
NAVIGATION = [
    ("dashboard", _("Dashboard"), "layout-dashboard", Permission.BACKUP_VIEW),
    ("servers", _("Servers"), "server-2", Permission.SERVER_VIEW),
    ("plans", _("Plans"), "calendar-repeat", Permission.BACKUP_VIEW),
    ("archives", _("Archives"), "archive", Permission.BACKUP_VIEW),
    ("find", _("Find a file"), "search", Permission.BACKUP_VIEW),
    ("jobs", _("Jobs"), "activity", Permission.BACKUP_VIEW),
    ("repositories", _("Repositories"), "database", Permission.BACKUP_VIEW),
    ("alerts", _("Alerts"), "bell", Permission.BACKUP_VIEW),
    ("statistics", _("Statistics"), "chart-bar", Permission.BACKUP_VIEW),
    ("logs", _("Logs"), "list-details", Permission.LOGS_VIEW),
    ("users", _("Users"), "users", Permission.USER_MANAGE),
    ("settings", _("Settings"), "settings", Permission.CONFIG_MANAGE),
    ("audit", _("Audit"), "list-search", Permission.USER_MANAGE),
]


def shell(request: HttpRequest) -> dict[str, Any]:
    """Context for templates/base.html; everything in it is lazy, a fragment costs nothing."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {
        "navigation": lambda: [
            {"url": url, "label": label, "icon": icon, "is_here": is_below(request.path, url)}
            for name, label, icon, permission in NAVIGATION
            if can(user, permission)
            for url in [reverse(name)]
        ],
        "running_jobs": lambda: Job.objects.for_user(user).running().with_names().order_by("started_at")[:STRIP_SHOWN],
    }


def is_below(path: str, url: str) -> bool:
    return path == url or (url != "/" and path.startswith(f"{url}/"))

from collections.abc import Callable
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

from accounts.models import User
from jobs.config import config


class SiteTimeZoneMiddleware:
    """Show times in the site's zone, which is a live setting, to whoever is signed in and has chosen none."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not isinstance(request.user, User) or request.user.time_zone:
            return self.get_response(request)
        with timezone.override(ZoneInfo(config.TIME_ZONE)):
            return self.get_response(request)

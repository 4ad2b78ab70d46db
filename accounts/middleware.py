from collections.abc import Callable
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from accounts import audit
from accounts.errors import refusal
from accounts.factor_views import OWED
from accounts.models import User


class PreferencesMiddleware:
    """Show times in the person's zone and words in the person's language."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        user = request.user
        zone = user.time_zone if isinstance(user, User) else ""
        if isinstance(user, User) and user.language:
            translation.activate(user.language)
            request.LANGUAGE_CODE = user.language
        with timezone.override(ZoneInfo(zone) if zone else None):  # without one the site's: phpborg/middleware.py
            return self.get_response(request)


class AuditMiddleware:
    """What is recorded meanwhile comes from here, however deep below the view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        audit.answered.set(request)
        try:
            return self.get_response(request)
        finally:
            audit.answered.set(None)


class FactorMiddleware:
    """Whoever owes a second factor, as a role of theirs asks for one, comes nowhere but to where it is set up."""

    FREE = ("factor", "logout")

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.user.is_authenticated or not request.session.get(OWED):
            return self.get_response(request)
        if request.path.startswith("/api/"):
            return refusal(403, "second_factor_needed", _("Set up your second factor first, on your profile."))
        if request.path in {reverse(name) for name in self.FREE}:
            return self.get_response(request)
        return redirect("factor")

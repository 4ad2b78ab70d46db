import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit, factor, sessions, tokens
from accounts.access import Permission, require, signed_in
from accounts.factor_views import OWED, ask_for_code
from accounts.filters import AuditFilter
from accounts.forms import ApiTokenForm, LoginForm, ProfileForm
from accounts.lists import ROWS_AT_ONCE, as_csv, as_json_lines, is_csv
from accounts.models import ApiToken, AuditEntry, User
from accounts.paging import walk, walks

FORM_METHODS = ["get", "head", "post", "options"]  # Django itself takes a PUT for a POST


class Login(auth_views.LoginView):
    http_method_names = FORM_METHODS
    template_name = "accounts/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """While nobody has an account every page leads here, and from here to where the first one is made."""
        if not User.objects.exists():
            return redirect("setup")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        user = form.get_user()
        if factor.is_set_up(user):
            return ask_for_code(self.request, user, self.get_success_url())
        response = super().form_valid(form)
        sessions.note(self.request)
        audit.record("login", request=self.request)
        if factor.is_required(user):
            self.request.session[OWED] = True
        return response


class Logout(auth_views.LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            audit.record("logout", request=request)
        return super().post(request, *args, **kwargs)


@require_http_methods(["GET", "POST"])
@login_required
def profile(request: HttpRequest) -> HttpResponse:
    user = User.objects.get(pk=signed_in(request).pk)
    before = audit.facts(user) if request.method == "POST" else {}
    form = ProfileForm(request.POST or None, instance=user)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            form.save()
            audit.record_change("profile.changed", user, before, request=request)
        messages.success(request, _("Your profile is saved."))
        return redirect("profile")
    return show_profile(request, form=form, status=400 if form.errors else 200)


def show_profile(request: HttpRequest, *, status: int = 200, **shown: Any) -> HttpResponse:
    user = signed_in(request)
    context = {
        "form": ProfileForm(instance=User.objects.get(pk=user.pk)),
        "token_form": ApiTokenForm(user=user),
        "logins": sessions.logins_of(user, request.session.session_key),
        "page": Paginator(ApiToken.objects.of(user), 25).get_page(request.GET.get("page")),
        **shown,
    }
    return render(request, "accounts/profile.html", context, status=status)


@never_cache
@require_http_methods(["GET", "POST"])
@login_required
def api_tokens(request: HttpRequest) -> HttpResponse:
    """Make an API token. Its text is in this one answer: after a redirect it would have to be kept for a while."""
    if request.method == "GET":
        return redirect("profile")  # somebody who loads the answer's address again
    form = ApiTokenForm(request.POST, user=signed_in(request))
    if not form.is_valid():
        return show_profile(request, token_form=form, status=400)
    token, text = tokens.make_api_token(signed_in(request), request, **form.cleaned_data)
    return show_profile(request, made=token, made_text=text)


@require_POST
@login_required
def api_token_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    token = get_object_or_404(ApiToken.objects.of(request.user), pk=pk)
    tokens.revoke_api_token(token, request)
    messages.success(request, _("The token “%(name)s” is revoked.") % {"name": token.name})
    return redirect("profile")


@require_POST
@login_required
def login_end(request: HttpRequest, name: str) -> HttpResponse:
    say_ended(request, was_there=sessions.end(signed_in(request), name, request))
    return redirect("profile")


@require_POST
@login_required
def logins_end(request: HttpRequest) -> HttpResponse:
    sessions.end_others(signed_in(request), request)
    messages.success(request, _("Every other session and login has ended."))
    return redirect("profile")


def say_ended(request: HttpRequest, *, was_there: bool) -> None:
    sentence = _("The session or login has ended.") if was_there else _("It had ended already.")
    messages.success(request, sentence)


class PasswordChange(auth_views.PasswordChangeView):
    http_method_names = FORM_METHODS
    template_name = "accounts/password.html"
    success_url = reverse_lazy("profile")

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        response = super().form_valid(form)
        sessions.end_all(signed_in(self.request), but=self.request.session.session_key)
        audit.record("password.changed", request=self.request)
        messages.success(
            self.request,
            _("Your password is changed. Every other session and login has ended. API tokens go on; see below."),
        )
        return response


@require_GET
@require(Permission.USER_MANAGE)
def audit_trail(request: HttpRequest) -> HttpResponseBase:
    """Who did what, the newest first; all that is asked for also as CSV, and as JSON lines."""
    found = AuditFilter(request.GET, AuditEntry.objects.order_by("-at", "-id"))
    if is_csv(request):
        return as_csv("audit", audit_table(found))
    if request.GET.get("format") == "jsonl":
        return as_json_lines("audit", map(audit.as_data, chain.from_iterable(walks(found, ROWS_AT_ONCE))))
    page = walk(found, request.GET.get("cursor"), 50)
    return render(request, "accounts/audit.html", {"filter": found, "page": page})


def audit_table(found: AuditFilter) -> Iterator[tuple[object, ...]]:
    yield (_("Number"), _("Time"), _("Who"), _("Address"), _("Action"), _("On what"), _("Details"))
    for entry in chain.from_iterable(walks(found, ROWS_AT_ONCE)):
        detail = json.dumps(entry.detail, ensure_ascii=False) if entry.detail else ""
        yield (entry.number, entry.at, entry.username, entry.address, entry.action, entry.target, detail)

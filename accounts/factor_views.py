"""Pages about the second factor: its code at the login, and setting it up."""

import time
from typing import Any

from django import forms
from django.contrib import auth, messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from accounts import audit, factor, sessions
from accounts.access import Permission, require, signed_in
from accounts.errors import Conflict, NotAllowed
from accounts.models import SecondFactor, User
from accounts.throttle import refuse_another

PENDING, OWED = "factor_pending", "factor_owed"  # in the session
PENDING_SECONDS = 300


class CodeForm(forms.Form):
    code = forms.CharField(
        label=gettext_lazy("Code"), max_length=64,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autofocus": True}),
    )  # fmt: skip


class OwnPasswordForm(forms.Form):
    password = forms.CharField(
        label=gettext_lazy("Your password"), max_length=4096, strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )  # fmt: skip

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        refuse_another(password, self._request)
        return password


# --- At the login ---------------------------------------------------------------------------------


def ask_for_code(request: HttpRequest, user: User, following: str) -> HttpResponse:
    """The password was right; nobody is signed in before the code is too."""
    request.session.cycle_key()
    request.session[PENDING] = {
        "user": user.pk, "password": user.get_session_auth_hash(), "at": int(time.time()), "next": following,
    }  # fmt: skip
    return redirect("login_code")


def _pending(request: HttpRequest) -> User | None:
    """Whose password was right a moment ago, and still is."""
    kept = request.session.get(PENDING)
    if not kept or kept["at"] + PENDING_SECONDS < time.time():
        return None
    user = User.objects.filter(pk=kept["user"], is_active=True).first()
    same = user is not None and constant_time_compare(user.get_session_auth_hash(), kept["password"])
    return user if same else None


@never_cache
@sensitive_variables("form")
@sensitive_post_parameters("code")
@require_http_methods(["GET", "POST"])
def login_code(request: HttpRequest) -> HttpResponse:
    user = _pending(request)
    if user is None:
        return redirect("login")
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            factor.check(user, form.cleaned_data["code"], request)
        except ValidationError as error:
            form.add_error("code", error)
        else:
            following = request.session.pop(PENDING)["next"]
            auth.login(request, user, backend="accounts.throttle.ThrottledBackend")
            sessions.note(request)
            audit.record("login", request=request, user=user, detail={"second_factor": True})
            return redirect(following)
    return render(request, "accounts/login_code.html", {"form": form})


# --- One's own ------------------------------------------------------------------------------------


def _show(request: HttpRequest, status: int = 200, **shown: Any) -> HttpResponse:
    user = signed_in(request)
    context = {
        "kept": SecondFactor.objects.filter(user=user).exclude(confirmed_at=None).first(),
        "codes_left": factor.codes_left(user), "form": OwnPasswordForm(request=request),
        "is_owed": OWED in request.session, "is_required": factor.is_required(user), **shown,
    }  # fmt: skip
    return render(request, "accounts/factor.html", context, status=status)


@never_cache
@sensitive_variables("form")
@sensitive_post_parameters("password", "code")
@require_http_methods(["GET", "POST"])
@login_required
def own(request: HttpRequest) -> HttpResponse:
    """The password begins it, and shows the key; a right code ends it, and shows the recovery codes this once."""
    user = signed_in(request)
    if request.method == "GET":
        return _show(request)
    if "code" in request.POST:
        return _confirm(request, user)
    form = OwnPasswordForm(request.POST, request=request)
    if not form.is_valid():
        return _show(request, 400, form=form)
    try:
        begun = factor.begin(user)
    except Conflict as refusal:
        form.add_error(None, str(refusal.detail))
        return _show(request, 400, form=form)
    return _show(request, begun=begun, qr=factor.picture_of(begun), typed=factor.typed(begun), code_form=CodeForm())


def _confirm(request: HttpRequest, user: User) -> HttpResponse:
    begun = SecondFactor.objects.filter(user=user, confirmed_at=None).first()
    form = CodeForm(request.POST)
    if begun is None:
        return redirect("factor")
    try:
        codes = factor.confirm(user, form.cleaned_data["code"], request) if form.is_valid() else None
    except ValidationError as error:
        form.add_error("code", error)
        codes = None
    if codes is None:
        shown = {"begun": begun, "qr": factor.picture_of(begun), "typed": factor.typed(begun), "code_form": form}
        return _show(request, 400, **shown)
    request.session.pop(OWED, None)
    return _show(request, codes=codes)


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
@login_required
def codes(request: HttpRequest) -> HttpResponse:
    """New recovery codes, in this one answer."""
    user = signed_in(request)
    if request.method == "GET" or not factor.is_set_up(user):
        return redirect("factor")
    form = OwnPasswordForm(request.POST, request=request)
    if not form.is_valid():
        return _show(request, 400, form=form)
    return _show(request, codes=factor.renew_codes(user, request))


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
@login_required
def remove(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    if request.method == "GET":
        return redirect("factor")
    form = OwnPasswordForm(request.POST, request=request)
    if not form.is_valid():
        return _show(request, 400, form=form)
    factor.remove(user, request=request)
    if factor.is_required(user):
        request.session[OWED] = True
        return redirect("factor")
    messages.success(request, _("Your second factor is removed. Your password alone lets you in."))
    return redirect("profile")


# --- Of others ------------------------------------------------------------------------------------


@require_POST
@require(Permission.USER_MANAGE)
def reset(request: HttpRequest, pk: int) -> HttpResponse:
    user = get_object_or_404(User, pk=pk)
    try:
        done = factor.reset(user, request)
    except (Conflict, NotAllowed) as refusal:
        messages.error(request, str(refusal.detail))
    else:
        sentence = _("%(name)s logs in with the password alone now.") if done else _("%(name)s has no second factor.")
        messages.success(request, sentence % {"name": user.username})
    return redirect("user_edit", pk=pk)


@require_POST
@require(Permission.USER_MANAGE)
def of_role(request: HttpRequest, pk: int) -> HttpResponse:
    role = get_object_or_404(Group, pk=pk)
    try:
        factor.require_of(role, request, needs_factor="needs_factor" in request.POST)
    except NotAllowed as refusal:
        messages.error(request, str(refusal.detail))
    else:
        messages.success(request, _("Saved. It counts from everybody's next login on."))
    return redirect("role_edit", pk=pk)

"""A forgotten password: a link by mail. What is answered is the same whether or not an account has the address.

The token stands behind the link's "#", which no browser sends: it is in no log, here or at a proxy, and in no Referer.
"""

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib.auth.password_validation import password_validators_help_text_html, validate_password
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import urlsafe_base64_decode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts import audit, sessions, throttle
from accounts.models import User
from jobs.config import config
from jobs.models import Job
from jobs.runner import Refused
from jobs.runners.password_link import BETWEEN, MailPasswordLink

MOST = 10  # accounts of one address


class ForgottenForm(forms.Form):
    email = forms.EmailField(
        label=gettext_lazy("E-mail address of your account"), max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )  # fmt: skip

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request

    def clean(self) -> dict[str, Any]:
        throttle.refuse_forgetful(self._request)
        return self.cleaned_data


class NewPasswordForm(forms.Form):
    token = forms.CharField(
        label=gettext_lazy("Code"), max_length=200,
        help_text=gettext_lazy("What stands behind the # of the link in the mail."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "data-from-hash": True}),
    )  # fmt: skip
    new_password = forms.CharField(
        label=gettext_lazy("New password"), max_length=4096, strip=False,
        help_text=password_validators_help_text_html(),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )  # fmt: skip
    again = forms.CharField(
        label=gettext_lazy("Once more"), max_length=4096, strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if "token" in data and whose(data["token"]) is None:
            self.add_error("token", _("This link was used, or its time is over. Ask for a new one."))
        if "new_password" in data and data["new_password"] != data.get("again"):
            self.add_error("again", _("These two are not the same."))
        return data


def whose(token: str, *, locked: bool = False) -> User | None:
    """The account whose password this token may still change."""
    number, _dot, rest = token.strip().partition(BETWEEN)
    try:
        pk = int(urlsafe_base64_decode(number))
    except ValueError:
        return None
    users = User.objects.select_for_update() if locked else User.objects.all()
    user = users.filter(pk=pk, is_active=True).first()
    return user if user and default_token_generator.check_token(user, rest) else None


@never_cache
@require_http_methods(["GET", "POST"])
def forgotten(request: HttpRequest) -> HttpResponse:
    form = ForgottenForm(request.POST or None, request=request)
    is_sent = request.method == "POST" and form.is_valid()
    if is_sent:
        _send_links(form.cleaned_data["email"], request)
    context = {"form": form, "is_sent": is_sent, "can_mail": bool(config.SMTP_HOST)}
    return render(request, "accounts/password_forgotten.html", context, status=400 if form.errors else 200)


@transaction.atomic
def _send_links(address: str, request: HttpRequest) -> None:
    """To the address as the account has it: a database may take another spelling for the same."""
    found = [
        user
        for user in User.objects.filter(email__iexact=address, is_active=True).order_by("pk")[:MOST]
        if user.has_usable_password()
    ]
    for user in found:
        with suppress(Refused):  # nobody who asks learns more than that they have asked
            MailPasswordLink.enqueue(user, trigger=Job.Trigger.SYSTEM)
    audit.record(throttle.FORGOTTEN, request=request, target=", ".join(user.username for user in found))


@never_cache
@sensitive_variables("form")
@sensitive_post_parameters("token", "new_password", "again")
@require_http_methods(["GET", "POST"])
def new_password(request: HttpRequest) -> HttpResponse:
    """Nobody is signed in by it: they may have a second factor."""
    form = NewPasswordForm(request.POST or None)
    done = request.method == "POST" and form.is_valid() and _set(form, request)
    context = {"form": form, "done": done}
    return render(request, "accounts/password_reset.html", context, status=400 if form.errors else 200)


@transaction.atomic
def _set(form: NewPasswordForm, request: HttpRequest) -> bool:
    """Of two who send the form at once one sets it: the other finds the token used."""
    user, password = whose(form.cleaned_data["token"], locked=True), form.cleaned_data["new_password"]
    if user is None:
        form.add_error("token", _("This link was used, or its time is over. Ask for a new one."))
        return False
    try:
        validate_password(password, user)
    except ValidationError as error:
        form.add_error("new_password", error)
        return False
    user.set_password(password)
    user.save(update_fields=["password"])
    sessions.end_all(user)
    audit.record("password.reset", request=request, user=user, target=user.username)
    return True

"""A forgotten password: a link by mail. What is answered is the same whether or not an account has the address."""

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib.auth import views as auth_views
from django.contrib.auth.forms import SetPasswordForm
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import audit, sessions, throttle
from accounts.models import User
from jobs.config import config
from jobs.models import Job
from jobs.runner import Refused
from jobs.runners.password_link import MailPasswordLink

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


class NewPassword(auth_views.PasswordResetConfirmView):
    http_method_names = ["get", "head", "post", "options"]
    template_name = "accounts/password_reset.html"

    def get_user(self, uidb64: str) -> User | None:
        user = super().get_user(uidb64)
        return user if isinstance(user, User) and user.is_active else None

    def form_valid(self, form: SetPasswordForm) -> HttpResponse:
        """Of two who open the link at once one sets it. Nobody is signed in by it: they may have a second factor."""
        token = self.request.session.pop(auth_views.INTERNAL_RESET_SESSION_TOKEN, "")
        with transaction.atomic():
            user = User.objects.select_for_update().get(pk=form.user.pk)
            if not self.token_generator.check_token(user, token):
                return render(self.request, self.template_name, {"validlink": False})
            user.set_password(form.cleaned_data["new_password1"])
            user.save(update_fields=["password"])
            sessions.end_all(user)
            audit.record("password.reset", request=self.request, user=user, target=user.username)
        return render(self.request, self.template_name, {"done": True})

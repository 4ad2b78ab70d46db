"""The first run, `/setup`: an account, then where this is, where to save to, and mail.

Who has the token from the console makes the first account; the rest is that person's, who may stop and come back.
"""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.forms import BaseUserCreationForm
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts import audit, encryption, sessions, throttle
from accounts.access import Permission, ask_to_log_in, can, signed_in
from accounts.models import User
from backups.forms import PoolForm
from backups.models import StoragePool
from backups.runners.pool import CheckPool
from jobs.config import config
from jobs.models import Job
from jobs.runner import JobRunner, Refused, subject_key
from jobs.runners.mail_test import MailTestForm, SendTestMail
from phpborg.config_views import newest_test
from phpborg.forms import SettingsForm
from phpborg.models import FirstRun

IN_SESSION = "first_run"
NEEDED = (Permission.CONFIG_MANAGE, Permission.BACKUP_MANAGE, Permission.SERVER_MANAGE)
SITE = ("site_url", "time_zone")
MAIL = ("smtp_host", "smtp_port", "smtp_tls", "smtp_user", "smtp_password", "mail_sender")


class TokenForm(forms.Form):
    token = forms.CharField(
        label=gettext_lazy("Token"), max_length=200, widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("Whoever started phpBorg finds it in the console; `manage.py setup` prints a new one."),
    )  # fmt: skip

    def __init__(self, *args: Any, request: HttpRequest, run: FirstRun, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request
        self._run = run

    def clean_token(self) -> str:
        token: str = self.cleaned_data["token"]
        throttle.refuse_guesses(self._request)
        if not self._run.fits(token):
            audit.record(throttle.SETUP_REFUSED, request=self._request)
            raise forms.ValidationError(_("This is not the token, or no longer."))
        return token


class AccountForm(BaseUserCreationForm[User]):
    class Meta:
        model = User
        fields = ["username", "email"]


@never_cache
@sensitive_variables()
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def setup(request: HttpRequest) -> HttpResponseBase:
    """The step that is next; 404 when there is none."""
    run = FirstRun.under_way()
    if run is None:
        if not User.objects.exists():
            return render(request, "setup/untold.html")
        raise Http404
    if run.waits_for_its_token:
        has_shown_it = request.session.get(IN_SESSION) == run.token_sha256
        return _account(request, run) if has_shown_it else _token(request, run)
    if not request.user.is_authenticated:
        return ask_to_log_in(request)
    if not all(can(request.user, permission) for permission in NEEDED):
        raise PermissionDenied
    if request.method == "POST" and (request.POST.get("step") != run.step or "next" in request.POST):
        return _next(request, run)
    return {"site": _site, "pool": _pool, "mail": _mail, "server": _server}[run.step](request, run)


def _token(request: HttpRequest, run: FirstRun) -> HttpResponse:
    form = TokenForm(request.POST or None, request=request, run=run)
    if request.method == "POST" and form.is_valid():
        request.session.cycle_key()
        request.session[IN_SESSION] = run.token_sha256
        return redirect("setup")
    return render(request, "setup/token.html", {"form": form}, status=400 if form.errors else 200)


def _account(request: HttpRequest, run: FirstRun) -> HttpResponse:
    form = AccountForm(request.POST or None)
    if problem := _key_problem():
        return render(request, "setup/account.html", {"form": form, "problem": problem}, status=503)
    if request.method == "POST" and form.is_valid():
        if not (user := first_account(form, run)):
            raise Http404
        login(request, user)
        sessions.note(request)
        audit.record("setup.account", request=request, user=user, target=user.username)
        return redirect("setup")
    return render(request, "setup/account.html", {"form": form}, status=400 if form.errors else 200)


def first_account(form: AccountForm, run: FirstRun) -> User | None:
    """The account, if it is still the first, and the token still good; it is used then."""
    with transaction.atomic():
        unused = FirstRun.objects.filter(pk=run.pk, token_sha256=run.token_sha256).exclude(token_sha256="")
        if User.objects.exists() or not unused.update(token_sha256=""):
            return None
        user: User = form.save()
        user.groups.add(Group.objects.get(name="ROLE_ADMIN"))
    return user


def _key_problem() -> str:
    """Why nothing could be encrypted that is read again; "": it can."""
    try:
        encryption.verify()
    except (encryption.WrongKey, ImproperlyConfigured) as error:
        return str(error)
    return ""


def _next(request: HttpRequest, run: FirstRun) -> HttpResponse:
    """Leave the step behind, unless another window has done so."""
    step = request.POST.get("step", "")
    if step == run.step:
        run.go_on(step)
        if run.finished_at:
            audit.record("setup.finished", request=request)
            messages.success(request, _("phpBorg is set up. Everything can be changed on the page Settings."))
            return redirect("server_add" if "server" in request.POST else "dashboard")
    return redirect("setup")


def _show(request: HttpRequest, run: FirstRun, form: forms.BaseForm | None, **more: Any) -> HttpResponse:
    template = "setup/_job.html" if request.headers.get("HX-Request-Type") == "partial" else "setup/step.html"
    number = FirstRun.STEPS.index(run.step)
    labels = (_("Account"), _("Site"), _("Storage pool"), _("Mail"), _("First server"))
    states = ["done"] * (number + 1) + ["current"] + ["ahead"] * (len(FirstRun.STEPS) - number - 1)
    stations = [{"label": label, "state": state} for label, state in zip(labels, states, strict=True)]
    context = {"form": form, "step": run.step, "stations": stations, **more}
    is_wrong = any(each and each.errors for each in (form, more.get("mail_form")))
    return render(request, template, context, status=400 if is_wrong else 200)


def _site(request: HttpRequest, run: FirstRun) -> HttpResponse:
    values = {name: config.read()[name] for name in SITE}
    here = request.build_absolute_uri("/").rstrip("/")
    form = SettingsForm(request.POST or None, only=SITE, initial={**values, "site_url": here})
    if request.method == "POST" and form.is_valid():
        config.change(form.cleaned_data, request=request)
        run.go_on("site")
        return redirect("setup")
    return _show(request, run, form)


def _pool(request: HttpRequest, run: FirstRun) -> HttpResponse:
    pool = StoragePool.objects.filter(address="").order_by("pk").first()
    initial = {} if pool else {"name": "main", "path": "/srv/borg"}
    form = PoolForm(request.POST or None, instance=pool, initial=initial)
    if request.method == "POST" and form.is_valid():
        pool = form.save()
        audit.record("pool.added", request=request, target=pool.name, detail={"where": pool.where})
        _start(CheckPool, pool, request)
        return redirect("setup")
    check = Job.objects.filter(type=CheckPool.type, subject=subject_key(pool)) if pool else Job.objects.none()
    job = check.order_by("-created_at", "-id").first()
    return _show(request, run, form, job=job, is_good=bool(job and job.status == Job.Status.COMPLETED), pool=pool)


def _mail(request: HttpRequest, run: FirstRun) -> HttpResponse:
    form = SettingsForm(request.POST or None, only=MAIL, initial=config.shown())
    to = MailTestForm(request.POST or None, initial={"to": signed_in(request).email})
    if request.method == "POST" and form.is_valid() and to.is_valid():
        config.change(form.cleaned_data, request=request)
        _start(SendTestMail, signed_in(request), request, **to.cleaned_data)
        return redirect("setup")
    job = newest_test()
    is_good = bool(job and job.status == Job.Status.COMPLETED)
    return _show(request, run, form, mail_form=to, job=job, is_good=is_good)


def _server(request: HttpRequest, run: FirstRun) -> HttpResponse:
    return _show(request, run, None, is_good=True)


def _start(runner: type[JobRunner[Any]], subject: Any, request: HttpRequest, **parameters: Any) -> None:
    try:
        runner.enqueue(subject, user=signed_in(request), **parameters)
    except Refused as refusal:
        messages.warning(request, str(refusal))

"""The page with the settings."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts.access import Permission, require, signed_in
from accounts.meantime import Meantime
from jobs.config import config
from jobs.models import Job
from jobs.runner import Refused
from jobs.runners.mail_test import MailTestForm, SendTestMail
from phpborg import about
from phpborg.forms import SettingsForm


@never_cache
@sensitive_variables()
@sensitive_post_parameters("smtp_password")
@require_http_methods(["GET", "POST"])
@require(Permission.CONFIG_MANAGE)
def settings(request: HttpRequest) -> HttpResponse:
    """The live ones to change, and what the environment decides to read."""
    form = SettingsForm(request.POST or None, unset=request.POST.getlist("unset"), initial=config.shown())
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        config.change(form.cleaned_data, unset=form.unset, request=request)
        messages.success(request, _("The settings are saved, and in force everywhere within about a second."))
        return redirect("settings")
    return page(request, form, meantime)


@require_http_methods(["GET", "POST"])
@require(Permission.CONFIG_MANAGE)
def mail_test(request: HttpRequest) -> HttpResponse:
    """POST: send one. GET: the part of the page that says what became of the last one."""
    if request.method == "GET":
        return render(request, "settings/_mail_test.html", {"job": newest_test()})
    form = MailTestForm(request.POST)
    if form.is_valid():
        try:
            SendTestMail.enqueue(signed_in(request), user=signed_in(request), **form.cleaned_data)
        except Refused as refusal:
            form.add_error("to", str(refusal))
        else:
            return redirect("settings")
    settings_form = SettingsForm(initial=config.shown())
    return page(request, settings_form, Meantime(request, settings_form), mail_form=form)


def page(
    request: HttpRequest, form: SettingsForm, meantime: Meantime, mail_form: MailTestForm | None = None
) -> HttpResponse:
    context = {
        "form": form, "meantime": meantime, "sections": list(form.sections(set_here=config.set_here())),
        "mail_form": mail_form or MailTestForm(initial={"to": signed_in(request).email}), "job": newest_test(),
        "environment": list(about.environment()), "versions": list(about.versions()),
        "has_password": bool(config.SMTP_PASSWORD),
    }  # fmt: skip
    status = 400 if form.errors or (mail_form and mail_form.errors) else 200
    return render(request, "settings/page.html", context, status=status)


def newest_test() -> Job | None:
    return Job.objects.filter(type=SendTestMail.type).order_by("-created_at", "-id").first()

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit
from accounts.access import Permission, require, signed_in
from accounts.meantime import Meantime
from accounts.models import User
from jobs import handover
from jobs.models import Job
from jobs.runner import Refused
from servers import removal
from servers.forms import PasswordForm, ServerForm
from servers.models import Server
from servers.runners.let_in import LetIn
from servers.runners.test import TestConnection
from servers.wizard import stations, waits_for_key


@require_http_methods(["GET", "POST"])
@require(Permission.SERVER_MANAGE)
def add(request: HttpRequest) -> HttpResponse:
    """Step one: who it is. Its key pair is made here, and the next page shows what to do with it."""
    form = ServerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            server = form.save()
            start_test(server, signed_in(request))
            audit.record_change("server.added", server, {}, request=request)
        return redirect("server_access", pk=server.pk)
    context = {"form": form, "stations": stations(None)}
    return render(request, "servers/form.html", context, status=400 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@require(Permission.SERVER_MANAGE)
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    before, initial = audit.facts(server), {"tags": list(server.tags.all())}
    form = ServerForm(request.POST or None, instance=server, initial=initial)
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        with transaction.atomic():
            server = form.save()
            audit.record_change("server.changed", server, before, request=request)
        messages.success(request, _("%(name)s is saved.") % {"name": server.name})
        return redirect("server", pk=pk)
    context = {"form": form, "server": Server.objects.get(pk=pk), "meantime": meantime}
    return render(request, "servers/form.html", context, status=400 if form.errors else 200)


@require_GET
@require(Permission.SERVER_MANAGE)
def access(request: HttpRequest, pk: int) -> HttpResponse:
    """How to let us in: host key, our public key, sudo, and the connection test as it ticks."""
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    return access_page(request, server, PasswordForm())


def access_page(request: HttpRequest, server: Server, form: PasswordForm) -> HttpResponse:
    context = {"server": server, "form": form, **test_context(server)}
    return render(request, "servers/access.html", context, status=400 if form.errors else 200)


@require_GET
@require(Permission.SERVER_MANAGE)
def steps(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of that page that changes while a test runs."""
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    return render(request, "servers/_steps.html", {"server": server, "is_live": True, **test_context(server)})


def test_context(server: Server) -> dict[str, Any]:
    """The newest connection test with its steps, the way in by a password while it matters, and how far all that is."""
    newest = Job.objects.filter(server=server).order_by("-created_at")
    test, let_in = newest.filter(type=TestConnection.type).first(), newest.filter(type=LetIn.type).first()
    is_ready = bool(test and test.status == Job.Status.COMPLETED and (test.result or {}).get("ok"))
    how_far = stations(server, test)
    if let_in and test and test.created_at > let_in.created_at:
        let_in = None if is_ready else let_in
    elif let_in and test and test.status == Job.Status.FAILED:
        test = None  # nobody was let in then: that is what somebody works on now
    return {
        "test": test, "steps": TestConnection.shown(test), "let_in": let_in, "let_in_steps": LetIn.shown(let_in),
        "is_ready": is_ready, "found": test.result.get("found") if test and is_ready else None,
        "stations": how_far, "waits_for_key": waits_for_key(server, test),
    }  # fmt: skip


@require_POST
@require(Permission.SERVER_MANAGE)
def confirm_host_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Trust the key with the fingerprint that the person saw, then test again."""
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    before = server.fingerprint
    fingerprint = request.POST.get("fingerprint", "")
    with transaction.atomic():
        if is_confirmed := server.confirm_host_key(fingerprint):
            detail = {"fingerprint": fingerprint, "before": before}
            audit.record("host_key.confirmed", request=request, target=server.name, detail=detail)
    if is_confirmed:
        start_test(server, signed_in(request))
    else:
        messages.error(request, _("The server now shows another key than the one that you looked at. Look again."))
    return redirect("server_access", pk=pk)


@never_cache
@sensitive_variables()
@sensitive_post_parameters("password")
@require_POST
@require(Permission.SERVER_MANAGE)
def let_in(request: HttpRequest, pk: int) -> HttpResponse:
    """Let us in with a password that the job gets once (jobs/handover.py), and that nobody keeps."""
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    form = PasswordForm(request.POST)
    if not form.is_valid():
        return access_page(request, server, form)
    try:
        with transaction.atomic():
            job = LetIn.enqueue(server, user=signed_in(request))
            audit.record("server.let_in", request=request, target=server.name)
            handover.give(job, form.cleaned_data["password"])
    except Refused as refusal:
        messages.error(request, str(refusal))
    except handover.NotGiven:
        messages.error(request, _("Redis is away, so the password reached no worker. Try again in a moment."))
    return redirect("server_access", pk=pk)


@require_POST
@require(Permission.SERVER_MANAGE)
def knock(request: HttpRequest, pk: int) -> HttpResponse:
    """The open page tests again by itself while somebody pastes the key; what comes of it is told as of any job."""
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    if test_context(server)["waits_for_key"]:
        start_test(server, signed_in(request), Job.Trigger.SYSTEM)
    return HttpResponse(status=204)


def start_test(server: Server, user: User, trigger: Job.Trigger = Job.Trigger.USER) -> None:
    """Test the connection, unless that happens already."""
    try:
        TestConnection.enqueue(server, user=user, trigger=trigger)
    except Refused:
        return


@require_http_methods(["GET", "POST"])
@require(Permission.SERVER_MANAGE)
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    if request.method == "POST":
        name = server.name
        if request.POST.get("name") != name:
            messages.error(request, _("Type the server's name to confirm."))
            return redirect("server_delete", pk=pk)
        try:
            removal.delete(server)
        except Refused as refusal:
            messages.error(request, str(refusal))
            return redirect("server", pk=pk)
        messages.success(request, _("%(name)s is deleted. Nothing was changed on the machine.") % {"name": name})
        return redirect("servers")
    return render(request, "servers/delete.html", {"server": server})

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit
from accounts.access import Permission, require, signed_in
from accounts.meantime import Meantime
from accounts.models import User
from jobs.models import Job
from jobs.runner import Refused
from servers import removal
from servers.forms import ServerForm
from servers.models import Server
from servers.runners.test import STEPS, TestConnection


@require_http_methods(["GET", "POST"])
@require(Permission.SERVER_MANAGE)
def add(request: HttpRequest) -> HttpResponse:
    """Step one: who it is. Its key pair is made here, and the next page shows what to do with it."""
    form = ServerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            server = form.save()
            audit.record("server.added", request=request, target=server.name)
            start_test(server, signed_in(request))
        return redirect("server_access", pk=server.pk)
    return render(request, "servers/form.html", {"form": form}, status=400 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@require(Permission.SERVER_MANAGE)
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    initial = {"tags": list(server.tags.all())}
    form = ServerForm(request.POST or None, instance=server, initial=initial)
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        server = form.save()
        audit.record("server.changed", request=request, target=server.name, detail={"fields": form.changed_data})
        messages.success(request, _("%(name)s is saved.") % {"name": server.name})
        return redirect("server", pk=pk)
    context = {"form": form, "server": Server.objects.get(pk=pk), "meantime": meantime}
    return render(request, "servers/form.html", context, status=400 if form.errors else 200)


@require_GET
@require(Permission.SERVER_MANAGE)
def access(request: HttpRequest, pk: int) -> HttpResponse:
    """How to let us in: host key, our public key, sudo, and the connection test as it ticks."""
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    return render(request, "servers/access.html", {"server": server, **test_context(server)})


@require_GET
@require(Permission.SERVER_MANAGE)
def steps(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of that page that changes while a test runs."""
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    return render(request, "servers/_steps.html", {"server": server, **test_context(server)})


def test_context(server: Server) -> dict[str, Any]:
    """The newest connection test and its steps, with their labels."""
    test = Job.objects.filter(type=TestConnection.type, server=server).order_by("-created_at").first()
    known = {step["name"]: step for step in (test.progress.get("steps", []) if test else [])}
    shown = [{"label": label, "state": "waiting", "text": "", **known.get(name, {})} for name, label in STEPS.items()]
    return {"test": test, "steps": shown}


@require_POST
@require(Permission.SERVER_MANAGE)
def confirm_host_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Trust the key with the fingerprint that the person saw, then test again."""
    server = get_object_or_404(Server.objects.for_user(request.user), pk=pk)
    before = server.fingerprint
    fingerprint = request.POST.get("fingerprint", "")
    if server.confirm_host_key(fingerprint):
        detail = {"fingerprint": fingerprint, "before": before}
        audit.record("host_key.confirmed", request=request, target=server.name, detail=detail)
        start_test(server, signed_in(request))
    else:
        messages.error(request, _("The server now shows another key than the one that you looked at. Look again."))
    return redirect("server_access", pk=pk)


def start_test(server: Server, user: User) -> None:
    """Test the connection, unless that happens already."""
    try:
        TestConnection.enqueue(server, user=user)
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
        audit.record("server.deleted", request=request, target=name)
        messages.success(request, _("%(name)s is deleted. Nothing was changed on the machine.") % {"name": name})
        return redirect("servers")
    return render(request, "servers/delete.html", {"server": server})

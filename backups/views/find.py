from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.access import Permission, require
from backups.find import FindForm, look
from servers.models import Server

SERVERS_SHOWN = 500


@require_GET
@require(Permission.BACKUP_VIEW)
def index(request: HttpRequest) -> HttpResponse:
    """A name or a pattern, over all archives; each file with its versions."""
    asked = "search" in request.GET
    form = FindForm(request.GET if asked else None)
    page = look(form, request.user) if asked and form.is_valid() else None
    servers = Server.objects.for_user(request.user).only("name").order_by("name")[:SERVERS_SHOWN]
    context = {"form": form, "page": page, "servers": servers, "server": request.GET.get("server", "")}
    return render(request, "archives/find.html", context, status=400 if form.errors else 200)

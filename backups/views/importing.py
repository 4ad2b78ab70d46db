from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts.access import Permission, require, signed_in
from backups.forms import ImportForm
from backups.models import Repository
from backups.removal import forget as forget_repository
from backups.runners.import_ import ImportRepository
from jobs.runner import Refused


@sensitive_post_parameters("passphrase", "key")
@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
def add(request: HttpRequest) -> HttpResponse:
    form = ImportForm(request.POST or None, initial=_again(request))
    if request.method == "POST" and form.is_valid():
        try:
            job = ImportRepository.begin(**form.chosen, user=signed_in(request))
        except Refused as refusal:
            form.add_error(None, str(refusal))
        else:
            return redirect("repository", pk=job.repository_id)
    return render(request, "repositories/import.html", {"form": form}, status=400 if form.errors else 200)


def _again(request: HttpRequest) -> dict[str, Any]:
    """What can be said again of an import that failed: `?repository=<id>`."""
    number = request.GET.get("repository", "")
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        return {}
    failed = Repository.objects.for_user(request.user).filter(pk=int(number), state=Repository.State.FAILED).first()
    return {"server": failed.server_id, "pool": failed.pool_id, "name": failed.name} if failed else {}


@require_POST
@require(Permission.BACKUP_MANAGE)
def forget(request: HttpRequest, pk: int) -> HttpResponse:
    """Strike off a repository that could not be imported, or made; on the disk nothing happens."""
    repository = get_object_or_404(Repository.objects.for_user(request.user), pk=pk)
    try:
        forget_repository(repository)
    except Refused as refusal:
        messages.warning(request, str(refusal))
        return redirect("repository", pk=pk)
    messages.success(request, _("%(name)s is struck off. Its folder is as it was.") % {"name": repository.name})
    return redirect("repositories")

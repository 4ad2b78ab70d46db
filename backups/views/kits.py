"""The recovery kit of a repository: the one page that shows secrets, once, to somebody who says again who they are."""

import base64
from hashlib import sha256
from typing import Any

from django.contrib import messages
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from accounts import audit
from accounts.access import Permission, require
from backups import kit as kits
from backups.forms import KitForm
from backups.models import Repository
from jobs.runner import Refused

SECRETS = ("password", "file_passphrase", "file_passphrase_again")


@never_cache  # which also says: no-store
@sensitive_variables()
@sensitive_post_parameters(*SECRETS)
@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_MANAGE)
@require(Permission.BACKUP_RESTORE)  # it reads every file of every archive
def take_out(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask for the person's own password; the answer to that has the kit in it, and it is kept nowhere."""
    repository = visible(request, pk)
    try:
        kits.refuse_unkept(repository)
    except Refused as refusal:
        messages.warning(request, str(refusal))
        return redirect("repository", pk=pk)
    form = KitForm(request.POST or None, request=request)
    if request.method == "POST" and form.is_valid():
        kit = kits.kit_of(repository)
        sealed = kit.sealed(passphrase) if (passphrase := form.cleaned_data["file_passphrase"]) else b""
        detail = {"kit": kit.number, "file": bool(sealed)}
        audit.record("kit.taken_out", request=request, target=repository.name, detail=detail)
        return render(request, "repositories/kit.html", {"repository": repository, "kit": kit, **file_context(sealed)})
    context = {"repository": repository, "form": form}
    return render(request, "repositories/kit_form.html", context, status=400 if form.errors else 200)


def file_context(sealed: bytes) -> dict[str, Any]:
    """The encrypted file inside the page: fetched by a second request it would have to be kept until then."""
    if not sealed:
        return {}
    url = f"data:application/octet-stream;base64,{base64.b64encode(sealed).decode()}"
    return {"file_url": url, "file_sha256": sha256(sealed).hexdigest()}


@require_POST
@require(Permission.BACKUP_MANAGE)
def stored(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody says that the kit is stored where phpBorg is not."""
    repository = visible(request, pk)
    if "kit" not in request.POST:
        raise SuspiciousOperation("It does not say which kit.")
    try:
        kits.note_stored(repository, request.POST["kit"], request)
    except Refused as refusal:
        messages.warning(request, str(refusal))
    else:
        messages.success(request, _("The recovery kit of %(name)s is noted as stored.") % {"name": repository.name})
    return redirect("repository", pk=pk)


def visible(request: HttpRequest, pk: int) -> Repository:
    repositories = Repository.objects.for_user(request.user).select_related("pool", "server")
    repository: Repository = get_object_or_404(repositories, pk=pk)
    return repository

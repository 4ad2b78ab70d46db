from typing import Any

from django import forms
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from accounts.access import Permission, require, signed_in
from accounts.models import User
from backups.models import Archive
from backups.runners.restore import RestoreFiles, RestoreForm
from backups.views.archives import chosen_items, visible
from jobs.runner import Refused
from servers.models import Server

SERVERS_SHOWN = 500  # beyond that, over the API


class RestorePage(RestoreForm):
    """The same for a person, who chooses the server by its name, and confirms what cannot be taken back."""

    server = forms.TypedChoiceField(label=_("Server"), coerce=int)  # type: ignore[assignment]  # of the same values
    confirm = forms.CharField(
        label=_("To put everything in its place, type the server's name"), required=False, max_length=60
    )

    def __init__(self, archive: Archive, user: User, data: dict[str, Any] | None = None) -> None:
        into = f"/var/tmp/restored-{archive.name}"[:200]  # noqa: S108  # a suggestion
        super().__init__(data, initial={"directory": into})
        for name, first in {"server": archive.server_id, "where": "directory", "existing": "overwrite"}.items():
            self.fields[name].initial = first
        self.fields["owners"].initial = True
        others = Server.objects.for_user(user).usable().only("name").exclude(pk=archive.server_id)[:SERVERS_SHOWN]
        self.names = {archive.server_id: str(archive.server), **{server.pk: str(server) for server in others}}
        self.fields["server"].choices = list(self.names.items())  # type: ignore[attr-defined]  # as its kind has

    def clean(self) -> dict[str, Any]:
        values = self.cleaned_data
        typed = values.pop("confirm", "")
        is_everything = values.get("where") == "place" and not values.get("entries") and not values.get("dry_run")
        if is_everything and typed != self.names.get(values.get("server") or 0):
            self.add_error("confirm", _("Type the server's name as it is written above."))
        return values


@require_http_methods(["GET", "POST"])
@require(Permission.BACKUP_RESTORE)
def restore(request: HttpRequest, pk: int) -> HttpResponse:
    """What, where to, and then the job's page. The folder's page posts here with the chosen entries."""
    archive, user = visible(request, pk), signed_in(request)
    numbers = (request.POST if request.method == "POST" else request.GET).getlist("entry")
    chosen = [int(number) for number in numbers if number.isdecimal() and len(number) < 16]
    if len(chosen) < len(numbers):  # left with none of them, we would restore everything
        raise SuspiciousOperation("An entry is no number.")
    form = RestorePage(archive, user, filled_in(request.POST, archive, chosen) if "directory" in request.POST else None)
    if form.is_bound and form.is_valid():
        try:
            job = RestoreFiles.enqueue(archive, user=user, **form.cleaned_data)
        except Refused as refusal:
            form.add_error(None, str(refusal))
        else:
            return redirect("job", pk=job.pk)
    context = {"archive": archive, "form": form, "chosen": chosen, **chosen_items(archive, chosen)}
    return render(request, "archives/restore.html", context, status=400 if form.errors else 200)


def filled_in(sent: QueryDict, archive: Archive, chosen: list[int]) -> dict[str, Any]:
    return {"server": archive.server_id, **sent.dict(), "entries": chosen, "paths": ""}

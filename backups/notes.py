"""What people say of an archive: that it must stay, and why they care."""

from typing import Any

from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from rest_framework.request import Request

from accounts import audit
from backups.models import Archive
from backups.retention import is_going
from jobs.runner import Refused

COMMENT_LENGTH = 2_000


@transaction.atomic
def note(archive: Archive, request: HttpRequest | Request, **said: Any) -> None:
    """Store `comment` or `pinned`, and nothing else of the row; what changes is audited. Raises Refused.

    The row is locked as a deletion locks it: a pin either holds, or its owner is told that it is too late.
    """
    row = Archive.objects.select_for_update().get(pk=archive.pk)
    if said.get("pinned") and not row.pinned and is_going(row):
        raise Refused(_("The archive is just being deleted: it is too late to pin it."))
    changes = {name: value for name, value in said.items() if getattr(row, name) != value}
    Archive.objects.filter(pk=row.pk).update(**changes)
    for name, value in changes.items():
        action = "commented" if name == "comment" else "pinned" if value else "unpinned"
        detail = {"before": getattr(row, name), "after": value}
        audit.record(f"archive.{action}", request=request, target=row.name, detail=detail)

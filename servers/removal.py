"""How a server is deleted, for page and API."""

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.dependents import dependents_of
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server


@transaction.atomic
def delete(server: Server) -> None:
    """With its key pair, its sources and the record of its jobs. Raises Refused, and says what is in the way."""
    Server.objects.select_for_update().get(pk=server.pk)
    name = {"name": server.name}
    if job := Job.objects.unfinished().filter(server=server).first():
        raise Refused(_("A job of %(name)s is still running or waiting. Cancel it first.") % name, job=job)
    if what := dependents_of(server):
        sentence = _(
            "%(name)s still has: %(what)s. Delete the plans first, then the archives, then the repositories; what lies "
            "on a disk stays there until you remove it."
        )
        raise Refused(sentence % {**name, "what": what})
    before = audit.facts(server)
    server.delete()
    audit.record("server.deleted", target=server.name, detail=audit.difference(before, {}))

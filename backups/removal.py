"""How a repository is struck off our record, for page and API; where it lies nothing happens."""

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.dependents import dependents_of
from backups import catalog
from backups.models import Repository
from backups.runners.import_ import refuse_in_use
from jobs.models import Job
from jobs.runner import Refused


@transaction.atomic
def forget(repository: Repository, *, leave_data: bool = False) -> None:
    """Raises Refused, and says what is in the way; `leave_data`: the person knows what stays, and what is lost."""
    locked = Repository.objects.select_for_update().get(pk=repository.pk)
    name = {"name": locked.name}
    if plan := locked.plans.first():
        raise Refused(_("The plan %(plan)s saves into it. Delete that first.") % {"plan": plan.name})
    if what := dependents_of(locked):
        raise Refused(_("%(name)s still has: %(what)s. Delete those first.") % {**name, "what": what})
    if locked.state != Repository.State.READY:
        refuse_in_use(locked)
    elif job := Job.objects.unfinished().filter(repository=locked).first():
        raise Refused(_("A job of %(name)s is still running or waiting. Cancel it first.") % name, job=job)
    elif not leave_data:
        sentence = _(
            "What lies at %(where)s would stay there, and its passphrase would be forgotten, so that nobody could "
            "read it any more. If that is meant, say leave_data=true."
        )
        raise Refused(sentence % {"where": locked.location})
    key, detail = repository.pk, {"left": locked.location, **audit.difference(audit.facts(locked), {})}
    repository.delete()
    audit.record("repository.forgotten", target=locked.name, detail=detail)
    # What is left of it in the data directory is worth no failure.
    transaction.on_commit(lambda: catalog.drop_all(key), robust=True)

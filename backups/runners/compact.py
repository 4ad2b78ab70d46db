import re
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.access import Permission
from backups.borg import commands
from backups.models import Mount, Repository
from backups.pools import measure
from backups.reconcile import compare
from backups.runners.base import RepositoryRunner, refuse_frozen, still
from jobs.models import Job
from jobs.runner import Refused

FREED = re.compile(r"compaction freed about (?P<size>[0-9.]+ \S+) repository space")


class CompactRepository(RepositoryRunner):
    """`borg compact`: give back the room of what was deleted. After it nothing of that can be had back."""

    type = "compact"
    label = gettext_lazy("Compaction")
    permission = Permission.BACKUP_DELETE
    icon = "database"
    priority = Job.Priority.LOW

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        refuse_unchecked(subject)

    def run(self) -> dict[str, Any]:
        repository = self.subject
        still(refuse_unchecked, repository)
        compare(self, repository)
        deleted_at = repository.deleted_at
        ran = self.ask(commands.compact(self.here(repository)), "compact")
        Repository.objects.filter(pk=repository.pk).update(compacted_at=timezone.now())
        Repository.objects.filter(pk=repository.pk, deleted_at=deleted_at).update(deleted_at=None)
        measure(repository.pool)
        freed = [found["size"] for message in ran.messages if (found := FREED.search(message.text))]
        return {"freed": freed[-1] if freed else ""}


def refuse_unchecked(repository: Repository) -> None:
    """Raise Refused where a compaction might make final what nobody has looked at."""
    refuse_frozen(repository)
    if Mount.objects.filter(archive__repository=repository).exists():
        sentence = _("An archive of %(name)s is mounted, and a compaction may move what it shows. Unmount it first.")
        raise Refused(sentence % {"name": repository.name})
    if repository.checked_at is None or (repository.deleted_at and repository.checked_at < repository.deleted_at):
        sentence = _("%(name)s has not been checked since something was deleted. Let a check run first.")
        raise Refused(sentence % {"name": repository.name})

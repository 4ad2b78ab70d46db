from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups.borg import commands
from backups.borg.results import Unreadable, parse_totals
from backups.models import Repository
from backups.pools import measure
from backups.reconcile import compare
from backups.runners.base import RepositoryRunner, refuse_unready
from jobs.errors import Failure
from jobs.models import Job


class CompareRepository(RepositoryRunner):
    """Look what is in a repository, and how large it is: what our record says is compared with it."""

    type = "compare"
    label = _("Comparison with our record")
    permission = Permission.BACKUP_CREATE
    icon = "list-search"
    priority = Job.Priority.LOW

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        refuse_unready(subject)

    def run(self) -> dict[str, Any]:
        repository = self.subject
        found = compare(self, repository)
        try:
            totals = parse_totals(self.ask(commands.info(self.here(repository)), "info").stdout)
        except Unreadable as error:
            raise Failure(f"What borg says of {repository.name} cannot be read: {error}.") from error
        Repository.objects.filter(pk=repository.pk).update(
            original_bytes=totals.original, compressed_bytes=totals.compressed, deduplicated_bytes=totals.deduplicated,
            measured_at=timezone.now(),
        )  # fmt: skip
        measure(repository.pool)
        return {"adopted": [archive.pk for archive in found.adopted]}

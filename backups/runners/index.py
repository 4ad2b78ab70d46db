from collections.abc import Iterator
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups import catalog
from backups.borg import commands
from backups.borg.errors import failure_of
from backups.borg.results import Entry, Unreadable, parse_files
from backups.models import Archive
from backups.runners.base import ArchiveRunner, Follower
from jobs.errors import Failure
from jobs.models import Job
from servers.ssh.local import Local
from servers.ssh.transport import Process


class IndexArchive(ArchiveRunner):
    """Read the listing of an archive into the catalog: from our side, so it also proves that the archive is there."""

    type = "index"
    label = _("Listing")
    permission = Permission.BACKUP_VIEW
    icon = "list-search"
    priority = Job.Priority.LOW
    max_attempts = 3

    def run(self) -> dict[str, Any]:
        archive = self.subject
        command = commands.list_files(self.here(archive.repository), archive.name)
        self.log.info(f"$ {command}")
        with Local().start(command, self.log.checkpoint) as process:
            try:
                count = catalog.build(archive, self._entries(process), self.log.checkpoint)
            except Unreadable as error:
                raise Failure(f"The listing of {archive.name} cannot be read: {error}.") from error
        Archive.objects.filter(pk=archive.pk).update(indexed_at=timezone.now())
        return {"entries": count}

    def _entries(self, process: Process) -> Iterator[Entry]:
        """All that borg lists, if it then ends well."""
        follower = Follower(self.log)
        for number, entry in enumerate(parse_files(follower.stdout_of(process)), 1):
            if number % 1000 == 0:
                self.log.progress(entries=number)
            yield entry
        if not follower.ran.is_ok:
            raise failure_of("list", follower.ran.code, follower.ran.messages)

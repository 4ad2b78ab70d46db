from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups import catalog
from backups.borg import commands
from backups.borg.errors import failure_of
from backups.borg.results import Entry, Unreadable, parse_files
from backups.models import Archive, Repository
from backups.runners.base import ArchiveRunner, BorgRunner, Follower, RepositoryRunner, refuse_unready
from jobs.errors import Failure
from jobs.models import Job
from jobs.runner import Refused
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
        return {"entries": read_listing(self, self.subject)}


class IndexForm(forms.Form):
    anew = forms.BooleanField(
        label=_("Read all anew"), required=False,
        help_text=_("Also those that have been read. Until that is done, fewer files are found."),
    )  # fmt: skip


class IndexRepository(RepositoryRunner):
    """Read the listings of all archives that have none: after an import, or when the catalog was lost."""

    type = "listings"
    label = _("All listings")
    permission = Permission.BACKUP_MANAGE
    form = IndexForm
    icon = "list-search"
    priority = Job.Priority.LOW

    @classmethod
    def holds(cls, job: Job) -> None:
        """It only reads."""

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        refuse_unready(subject)

    def run(self) -> dict[str, Any]:
        if self.job.payload.get("anew"):
            catalog.drop_all(self.subject.pk)
        # Each is like the one before it, so that in this order the least is written.
        archives = self.subject.archives.filter(vanished_at=None).select_related("repository__pool")
        of_all = list(archives.order_by("taken_at", "pk"))
        read = 0
        for number, archive in enumerate(of_all):
            self.log.progress(percent=number * 100 // len(of_all), exact=True, step=archive.name)
            if not catalog.has(archive):  # asked just now: a job of its own may have read it meanwhile
                read_listing(self, archive)
                read += 1
        return {"archives": read}


def read_listing(runner: BorgRunner[Any], archive: Archive) -> int:
    """Let borg list an archive, and write that into the catalog; returns how many entries it has."""
    command = commands.list_files(runner.here(archive.repository), archive.name)
    runner.log.info(f"$ {command}")
    known = set(archive.repository.archives.values_list("borg_id", flat=True))
    with Local().start(command, runner.log.checkpoint) as process:
        try:
            count = catalog.build(archive, _entries(runner, process), runner.log.checkpoint, known=known)
        except Unreadable as error:
            raise Failure(f"The listing of {archive.name} cannot be read: {error}.") from error
        except catalog.Damaged as error:
            catalog.drop_all(archive.repository_id)
            with suppress(Refused):  # it waits already
                IndexRepository.enqueue(archive.repository, trigger=Job.Trigger.SYSTEM)
            name = archive.repository.name
            raise Failure(f"The catalog of {name} was damaged ({error}). All its listings are read anew.") from error
    Archive.objects.filter(pk=archive.pk).update(indexed_at=timezone.now())
    return count


def _entries(runner: BorgRunner[Any], process: Process) -> Iterator[Entry]:
    """All that borg lists, if it then ends well."""
    follower = Follower(runner.log)
    for number, entry in enumerate(parse_files(follower.stdout_of(process)), 1):
        if number % 1000 == 0:
            runner.log.progress(entries=number)
        yield entry
    if not follower.ran.is_ok:
        raise failure_of("list", follower.ran.code, follower.ran.messages)

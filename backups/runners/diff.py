from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from accounts.query import LARGEST
from backups import diffs
from backups.borg import commands
from backups.borg.changes import Change, parse_changes
from backups.borg.errors import failure_of
from backups.borg.results import Entry, Unreadable, parse_files
from backups.diffs import Diff, Item, NotCompared
from backups.models import Archive
from backups.runners.base import ArchiveRunner, Follower, refuse_unready
from jobs.errors import Cause, Failure
from jobs.models import Job
from jobs.runner import Refused, subject_key
from servers.ssh.command import Command
from servers.ssh.local import Local

T = TypeVar("T")


class DiffForm(forms.Form):
    other = forms.IntegerField(
        label=_("Compare with"), min_value=1, max_value=LARGEST,
        help_text=_("The number of another archive of the same repository: what has changed since that one."),
    )  # fmt: skip


class ArchiveGone(Failure):
    cause = Cause.SOURCE
    advice = "Look at the list of archives, and compare others."


class DiffArchives(ArchiveRunner):
    """What has changed from another archive to this one, file by file, into a store of its own."""

    type = "diff"
    label = _("Comparison")
    permission = Permission.BACKUP_VIEW
    form = DiffForm
    icon = "list-search"
    several_at_once = True  # of one archive with others; of the same two one is enough

    @classmethod
    def refuse(cls, subject: Archive) -> None:
        refuse_unready(subject.repository)

    @classmethod
    def _job(cls, subject: Archive, **values: Any) -> Job:
        payload = values["payload"]
        refuse_odd(subject, payload["other"])
        same = Job.objects.unfinished().filter(type=cls.type, subject=subject_key(subject), payload=payload).first()
        if same:
            raise Refused(gettext("These two are being compared already."), job=same)
        return super()._job(subject, **values)

    def run(self) -> dict[str, Any]:
        after = self.subject
        before = Archive.objects.filter(pk=self.job.payload["other"], repository=after.repository_id).first()
        if before is None:
            raise ArchiveGone("The archive to compare with has been deleted.")
        try:
            with Diff(before, after) as known:
                total = known.item(diffs.ROOT)
        except NotCompared:
            total = self._compare(before, after)
        assert total
        return {
            "before": before.pk, "added": total.added, "removed": total.removed, "entries": total.below,
        }  # fmt: skip

    def _compare(self, before: Archive, after: Archive) -> Item:
        try:
            with closing(self._changes(before, after)) as changes:
                return diffs.build(before, after, changes, self._entries)
        except Unreadable as error:
            raise Failure(f"What borg says of the two archives cannot be read: {error}.") from error

    def _changes(self, before: Archive, after: Archive) -> Generator[Change]:
        command = commands.diff(self.here(after.repository), before.name, after.name)
        yield from self._counted(parse_changes(self._printed(command, "diff")))
        self._refuse_others(before, after)

    def _entries(self, archive: Archive) -> Iterator[Entry]:
        """A listing, for what borg left out of the comparison."""
        command = commands.list_files(self.here(archive.repository), archive.name)
        yield from self._counted(parse_files(self._printed(command, "list")))

    def _printed(self, command: Command, name: str) -> Iterator[bytes]:
        self.log.info(f"$ {command}")
        follower = Follower(self.log)
        with Local().start(command, self.log.checkpoint) as process:
            yield from follower.stdout_of(process)
        # Borg 1.2 warns with its exit code of archives that were cut into chunks by different rules.
        if not follower.ran.is_ok and not (name == "diff" and follower.ran.has_warnings):
            raise failure_of(name, follower.ran.code, follower.ran.messages)

    def _counted(self, things: Iterable[T]) -> Iterator[T]:
        for number, thing in enumerate(things, 1):
            if number % 1000 == 0:
                self.log.progress(entries=number)
            yield thing

    def _refuse_others(self, *compared: Archive) -> None:
        """Borg knows them by name: whoever has another archive's name by now was not the one that was meant."""
        for archive in compared:
            if not Archive.objects.filter(pk=archive.pk, name=archive.name, borg_id=archive.borg_id).exists():
                raise ArchiveGone(f"{archive.name} was deleted or renamed while it was compared.")


def refuse_odd(archive: Archive, other: int) -> None:
    """Raise Refused for what cannot be compared."""
    if other == archive.pk:
        raise Refused(gettext("These are one and the same archive: choose another one."))
    found = Archive.objects.filter(pk=other).first()
    if found is None:
        raise Refused(gettext("The archive to compare with does not exist any more."))
    if found.repository_id != archive.repository_id:
        raise Refused(gettext("The two archives lie in different repositories: borg cannot compare them."))

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups.borg import commands
from backups.borg.errors import RepositoryUnreadable, failure_of
from backups.catalog import Catalog, NotIndexed, as_argument
from backups.models import Archive
from backups.runners.base import ArchiveRunner, Ran, refuse_keyless, refuse_unready
from backups.sources.base import LinesField
from jobs.errors import Cause, Failure
from jobs.models import Job
from servers.runners.base import refuse_unusable
from servers.ssh.command import NO_DIRECTORY, Command
from servers.ssh.transport import Transport, run

NEVER_MATCHED = re.compile(r"Include pattern '(?P<path>.*)' never matched\.", re.DOTALL)
DAMAGED = 102  # borg's warning for a file of which parts are gone and zeros took their place


class TargetUnusable(Failure):
    cause = Cause.SOURCE
    advice = "Choose a directory that the SSH user may create or enter."


class NotAllRestored(Failure):
    cause = Cause.SOURCE
    advice = "What else was asked for has been restored. The list below, and the log, say what is missing and why."


class NumbersField(forms.JSONField):
    json_type = list, _("This must be a list of numbers.")


class RestoreForm(forms.Form):
    """What to restore, and where to. Without paths and entries, everything."""

    paths = LinesField(
        label=_("Paths"), required=False, help_text=_("One per line, as in the archive; empty: everything.")
    )
    entries = NumbersField(required=False, widget=forms.HiddenInput, help_text=_("Numbers from the listing."))
    directory = forms.CharField(
        label=_("Into the directory"),
        max_length=4096,
        strip=False,
        help_text=_("On the server; made if it does not exist. The archive's folders are put below it."),
    )

    def clean_entries(self) -> list[int]:
        entries = self.cleaned_data["entries"] or []
        if not isinstance(entries, list) or not all(type(number) is int for number in entries):
            raise ValidationError(_("This must be a list of numbers."))
        return entries

    def clean_directory(self) -> str:
        directory: str = self.cleaned_data["directory"]
        if not directory.startswith("/"):
            raise ValidationError(_("Enter a path from the root, as /srv/restore."))
        if any(ord(character) < 32 for character in directory):
            raise ValidationError(_("The path has a character that cannot be meant, as a line break."))
        return directory


class RestoreFiles(ArchiveRunner):
    """Let borg on the server extract into a directory there."""

    type = "restore"
    label = _("Restore")
    permission = Permission.BACKUP_RESTORE
    form = RestoreForm
    icon = "restore"
    priority = Job.Priority.HIGH
    several_at_once = True

    @classmethod
    def refuse(cls, subject: Archive) -> None:
        refuse_unusable(subject.server)
        refuse_unready(subject.repository)
        refuse_keyless(subject.repository)

    def run(self) -> dict[str, Any]:
        archive = self.subject
        directory: str = self.job.payload["directory"]
        paths = self._paths(archive)
        with self.reached(archive.repository, archive.server) as (machine, access):
            self.log.phase("prepare")
            self._make_directory(machine, directory)
            self.log.phase("transfer")
            ran = self.follow(machine, commands.extract(access, archive.name, paths, directory=directory))
        if ran.code == NO_DIRECTORY:
            raise TargetUnusable(f"{archive.server.username} may not enter {directory} on {archive.server.name}.")
        if ran.code == DAMAGED:
            raise RepositoryUnreadable("Parts of the archive are gone: what was restored has zeros in their place.")
        if not (ran.is_ok or ran.has_warnings):
            raise failure_of("extract", ran.code, ran.messages)
        result = {"directory": directory, "archive": archive.pk, "bytes": self.log.latest("total", 0)}
        if missing := what_is_missing(ran):
            raise NotAllRestored(f"{ran.unreadable or len(missing)} paths could not be restored.", result={
                **result, "unreadable_paths": missing,
            })  # fmt: skip
        self.log.info(f"Restored into {directory} on {archive.server.name}.")
        return result

    def _paths(self, archive: Archive) -> list[str]:
        """The chosen paths as words for borg; numbers stand for entries of the listing, whatever their names."""
        paths = [path.strip("/") for path in self.job.payload.get("paths", [])]
        numbers = self.job.payload.get("entries", [])
        if numbers:
            try:
                with Catalog(archive) as listing:
                    items = [item for number in numbers if (item := listing.item(number))]
                    paths += [as_argument(listing.path(item)) for item in items]
            except NotIndexed:
                raise Failure("The listing of this archive is gone; read it anew, then choose again.") from None
            if len(items) != len(numbers):
                raise Failure("Some of the chosen entries are not in the archive's listing; choose again.")
        # The root is everything; borg would take it for the one entry "." that it lists of a whole machine.
        return [] if {"", "."} & set(paths) else paths

    def _make_directory(self, machine: Transport, directory: str) -> None:
        made = run(machine, Command(("mkdir", "-p", "--", directory)), self.log.checkpoint)
        if made.code != 0:
            complaint = " ".join(made.stderr)[-200:]
            raise TargetUnusable(f"The directory {directory} cannot be made on {machine.name}: {complaint}")


def what_is_missing(ran: Ran) -> list[list[str]]:
    """[path, why] of what borg could not restore, as far as it is kept."""
    never_matched = [
        [found["path"], "It is not in the archive."]
        for message in ran.messages
        if (found := NEVER_MATCHED.fullmatch(message.text))
    ]
    return never_matched + [[warning.path, warning.why] for warning in ran.file_warnings]

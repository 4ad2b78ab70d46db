import re
from contextlib import suppress
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups.borg import commands
from backups.models import Archive, Mount
from backups.reconcile import compare, follow_renamed, is_renamed
from backups.runners.base import ArchiveRunner, refuse_damaged, refuse_frozen, still
from backups.runners.delete import NotAsAsked, listed, refuse_used
from jobs.errors import Cancelled, Cause, Failure
from jobs.log import insist
from jobs.models import Job
from jobs.runner import Refused
from servers import borg_versions

# Borg takes nearly anything; these need no quoting, are no placeholders, and look like what they are in a log.
NAME = re.compile(r"\w[\w.,:=+@~-]*")
CHECKPOINT = re.compile(r"\.checkpoint(\.\d+)?\Z")  # by this end borg knows an unfinished archive, and lists it no more


def validate_archive_name(name: str) -> None:
    if not NAME.fullmatch(name) or "::" in name:
        raise ValidationError(
            _("A name begins with a letter or a digit, and has only those and . , : = + @ ~ _ - but no “::”.")
        )
    if CHECKPOINT.search(name):
        raise ValidationError(_("Borg takes what is called .checkpoint for an archive that was never finished."))


class RenameForm(forms.Form):
    name = forms.CharField(
        label=_("New name"), max_length=200, strip=False, validators=[validate_archive_name],
        help_text=_("Letters, digits and . , : = + @ ~ _ - as borg and shells take them."),
    )  # fmt: skip


class BorgTooOld(Failure):
    cause = Cause.BORG
    advice = "Install borg 1.2.6 or newer where phpBorg's worker runs (BORG_PATH), and rename it then."


class RenameArchive(ArchiveRunner):
    """Another name for an archive. Borg gives it another id with it, so our record follows, whatever comes between."""

    type = "rename"
    label = _("Renaming")
    permission = Permission.BACKUP_MANAGE
    form = RenameForm
    icon = "pencil"
    max_attempts = 3

    @classmethod
    def holds(cls, job: Job) -> str | None:
        return f"repository:{job.repository_id}"

    @classmethod
    def refuse(cls, subject: Archive) -> None:
        refuse_frozen(subject.repository)
        refuse_busy(subject)

    @classmethod
    def _job(cls, subject: Archive, **values: Any) -> Job:
        refuse_taken(subject, values["payload"]["name"])
        return super()._job(subject, **values)

    def run(self) -> dict[str, Any]:
        name: str = self.job.payload["name"]
        archive = Archive.objects.with_scope().select_related("repository__pool").get(pk=self.subject.pk)
        was = archive.name
        still(refuse_damaged, archive.repository)
        compare(self, archive.repository)  # which also finds what an attempt before this one did
        archive.refresh_from_db()
        if archive.name != name:
            self._refuse_old_borg()
            self._refuse_now(archive, name)
            self._rename(archive, name)
        self.log.info(f"{was} is called {name} now.")
        return {"name": name}

    def _refuse_old_borg(self) -> None:
        """Before 1.2.6 it keeps the old name's seal, for which every newer borg refuses the archive afterwards."""
        said = self.ask(commands.version(settings.BORG_PATH), "version").stdout.decode("utf-8", "replace").strip()
        version = borg_versions.parse(said)
        if version is None or version < borg_versions.SAFE:
            raise BorgTooOld(f"{said[:40]} would make the archive unreadable for newer borgs: nothing was renamed.")

    def _refuse_now(self, archive: Archive, name: str) -> None:
        try:
            refuse_busy(archive)
            refuse_taken(archive, name)
        except Refused as refusal:
            raise Failure(str(refusal)) from refusal

    def _rename(self, archive: Archive, name: str) -> None:
        insist(lambda: Job.objects.filter(pk=self.job.pk).update(made=[name]))
        try:
            self.ask(commands.rename(self.here(archive.repository), archive.name, name), "rename")
        except (Failure, Cancelled):
            with suppress(Failure):  # then the next comparison finds out
                self._settle(archive, name)
            raise
        if not self._settle(archive, name):
            raise NotAsAsked(f"{archive.name} is not called {name} although borg was to rename it.")

    def _settle(self, archive: Archive, name: str) -> bool:
        """Look whether borg has done it, and let our record say so."""
        items = listed(self, archive.repository)
        there = {item.archive_id for item in items}
        found = next((item for item in items if is_renamed(archive, name, item, there)), None)
        if found:
            insist(lambda: follow_renamed(archive, found, self.job))
        else:
            insist(lambda: Job.objects.filter(pk=self.job.pk).update(made=[]))
        return found is not None


def refuse_busy(archive: Archive) -> None:
    """Raise Refused while somebody reads it by its name, or nobody knows what it is."""
    if archive.quarantine or archive.vanished_at:
        raise Refused(gettext("The archive is not in the repository as we recorded it: it keeps its name."))
    if Mount.objects.filter(archive=archive).exists():
        raise Refused(gettext("The archive is mounted. Unmount it first."))
    refuse_used(archive, but_by=(RenameArchive.type,))


def refuse_taken(archive: Archive, name: str) -> None:
    if archive.name == name:
        raise Refused(gettext("That is its name already."))
    if Archive.objects.filter(repository=archive.repository_id, name=name).exclude(pk=archive.pk).exists():
        raise Refused(gettext("The repository has an archive of this name already."))

from datetime import timedelta
from pathlib import Path
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups import mounts
from backups.borg import commands
from backups.borg.errors import failure_of
from backups.models import Archive, Mount
from backups.runners.base import ArchiveRunner, Ran, refuse_unready
from jobs.errors import Cause, Failure
from jobs.log import insist
from jobs.models import Job
from jobs.runner import Refused
from servers.ssh.local import Local

DEFAULT_HOURS, MOST_HOURS = 24, 7 * 24
MOST_AT_ONCE = 20  # at one place: each is a borg that stays
NO_FUSE = "no FUSE support"  # what borg says, 1.2 and 1.4, where its Python has no module for it


class CannotMount(Failure):
    cause = Cause.BORG
    advice = (
        "The worker's machine needs FUSE: Debian's packages fuse3 and python3-pyfuse3 beside borgbackup, and "
        "/dev/fuse, which a container must be given. Until then, download or restore what you need."
    )


class MountForm(forms.Form):
    hours = forms.IntegerField(
        label=_("For how many hours"), min_value=1, max_value=MOST_HOURS, initial=DEFAULT_HOURS, required=False,
        help_text=_("Then it is unmounted, also while somebody is in it. Empty: 24; at most 168, a week."),
    )  # fmt: skip

    def clean_hours(self) -> int:
        return self.cleaned_data["hours"] or DEFAULT_HOURS


class MountArchive(ArchiveRunner):
    """Show an archive as a folder on the worker's machine, read-only, to the user that the worker is."""

    type = "mount"
    label = _("Mount")
    permission = Permission.BACKUP_RESTORE
    form = MountForm
    icon = "folder"
    priority = Job.Priority.HIGH

    @classmethod
    def refuse(cls, subject: Archive) -> None:
        refuse_unready(subject.repository)
        if Mount.objects.filter(archive=subject).exists():
            raise Refused(gettext("The archive is mounted already. Unmount it first."))
        if Mount.objects.filter(place=subject.repository.pool.place).count() >= MOST_AT_ONCE:
            raise Refused(gettext("%(n)d archives are mounted there already. Unmount one first.") % {"n": MOST_AT_ONCE})

    def run(self) -> dict[str, Any]:
        archive = self.subject
        mount = self._note(archive)
        folder = mounts.folder_of(mount)
        try:
            self._mount(archive, folder)
            insist(lambda: Mount.objects.filter(pk=mount.pk).update(mounted_at=timezone.now()))
        except BaseException:
            mounts.take_down(folder, lambda: None)
            insist(mount.delete)
            raise
        self.log.info(f"Mounted at {mount.path} on {mount.machine} until {mount.expires_at:%Y-%m-%d %H:%M} UTC.")
        return {"path": mount.path, "machine": mount.machine, "expires_at": mount.expires_at.isoformat()}

    def _note(self, archive: Archive) -> Mount:
        """The row before the deed: a worker that dies in between leaves nothing that nobody knows of."""
        mount: Mount = Mount.objects.create(
            archive=archive, job=self.job, place=self.job.place, machine=mounts.this_machine(),
            expires_at=timezone.now() + timedelta(hours=self.job.payload["hours"]),
        )  # fmt: skip
        mount.path = str(mounts.folder_of(mount))
        mount.save(update_fields=["path"])
        return mount

    def _mount(self, archive: Archive, folder: Path) -> None:
        if not mounts.DEVICE.exists():
            raise CannotMount("The worker's machine has no FUSE.")
        mounts.make_folder(folder)
        ran = self.follow(Local(), commands.mount(self.here(archive.repository), archive.name, str(folder)))
        if not mounts.is_mounted(folder):
            raise why_not(ran)


def why_not(ran: Ran) -> Failure:
    """What kept borg from mounting."""
    if any(NO_FUSE in message.text for message in ran.messages):
        return CannotMount("The worker's borg cannot mount: it was installed without FUSE.")
    if "fuse" in ran.noise:  # which speaks in plain text
        return CannotMount(f"The worker's machine did not let borg mount: {ran.noise[:300]}")
    return failure_of("mount", ran.code, ran.messages)

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups import mounts
from backups.models import Mount
from jobs.errors import Cause, Failure
from jobs.models import Job
from jobs.runner import JobRunner, Refused


class Elsewhere(Failure):
    cause = Cause.INTERNAL
    advice = "One place is one machine: look at WORKER_PLACES. It is unmounted when its time is over."


class StillMounted(Failure):
    cause = Cause.INTERNAL
    advice = "It is tried again when its time is over."


class UnmountArchive(JobRunner[Mount]):
    """Take an archive's folder away again, also while somebody is in it."""

    type = "unmount"
    label = _("Unmount")
    model = Mount
    permission = Permission.BACKUP_RESTORE
    icon = "folder"
    priority = Job.Priority.HIGH
    idle_limit_seconds = 120

    @classmethod
    def scope(cls, subject: Mount) -> dict[str, Any]:
        archive = subject.archive
        whose = {"plan": archive.plan, "server": archive.server, "repository": archive.repository} if archive else {}
        return {**whose, "place": subject.place}

    @classmethod
    def refuse(cls, subject: Mount) -> None:
        if subject.mounted_at is None and subject.job and not subject.job.has_ended:
            raise Refused(gettext("The archive is just being mounted. Cancel that first."), job=subject.job)

    def run(self) -> dict[str, Any]:
        mount, here = self.subject, mounts.this_machine()
        if mount.machine != here:
            self._give_up(mount, here)
        elif complaint := mounts.take_down(mounts.folder_of(mount), self.log.checkpoint):
            raise StillMounted(f"{mount.path} is still mounted: {complaint}.")
        mount.delete()
        mounts.sweep(self.log.checkpoint)
        self.log.info(f"{mount.path} is unmounted.")
        return {"path": mount.path, "machine": mount.machine}

    def _give_up(self, mount: Mount, here: str) -> None:
        """It is another machine's: strike it off once it has expired. That machine's next worker takes it down."""
        if mount.expires_at > timezone.now():
            raise Elsewhere(f"It is mounted on {mount.machine}; this worker is on {here}.")
        self.log.warning(f"It was mounted on {mount.machine}; this worker is on {here}, and cannot look.")

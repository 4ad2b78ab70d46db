from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from accounts.query import LARGEST
from backups.borg import commands
from backups.borg.errors import failure_of
from backups.catalog import Catalog, NotIndexed, as_argument
from backups.models import Archive
from backups.runners.base import ArchiveRunner, Follower, refuse_unready
from jobs.errors import Failure
from jobs.models import Job
from jobs.pipe import NobodyReads, Pipe
from servers.ssh.command import Command
from servers.ssh.local import Local


class DownloadForm(forms.Form):
    entry = forms.IntegerField(
        min_value=1, max_value=LARGEST, help_text=_("The number of a file or folder in the archive's listing.")
    )


class DownloadFile(ArchiveRunner):
    """Extract one file, or one folder as a tar, into the pipe that a web process reads."""

    type = "download"
    label = _("Download")
    permission = Permission.BACKUP_RESTORE
    form = DownloadForm
    icon = "download"
    priority = Job.Priority.HIGH
    several_at_once = True
    idle_limit_seconds = 600

    @classmethod
    def refuse(cls, subject: Archive) -> None:
        refuse_unready(subject.repository)

    def run(self) -> dict[str, Any]:
        pipe = Pipe(self.job.pk)
        try:
            sent = self._send(pipe, self._command())
        except NobodyReads:
            pipe.close()
            raise
        except Failure as error:
            pipe.fail(str(error))
            raise
        except BaseException:
            pipe.fail("The download was ended.")
            raise
        pipe.finish()
        return {"bytes": sent}

    def _command(self) -> Command:
        archive = self.subject
        access = self.here(archive.repository)
        try:
            with Catalog(archive) as listing:
                item = listing.item(self.job.payload["entry"])
                if item is None:
                    raise Failure("This entry is not in the archive's listing.")
                if item.is_folder:
                    return commands.export_tar(access, archive.name, as_argument(listing.path(item)))
                path = as_argument(listing.path(listing.content_of(item)))
                return commands.extract_to_stdout(access, archive.name, path)
        except NotIndexed:
            raise Failure("The listing of this archive is gone; read it anew, then try again.") from None

    def _send(self, pipe: Pipe, command: Command) -> int:
        self.log.info(f"$ {command}")
        follower, sent = Follower(self.log), 0
        with Local().start(command, self.log.checkpoint) as process:
            for piece in follower.stdout_of(process):
                pipe.write(piece, self.log.checkpoint)
                sent += len(piece)
                self.log.progress(original=sent)
        if not follower.ran.is_ok:
            raise failure_of("extract", follower.ran.code, follower.ran.messages)
        return sent

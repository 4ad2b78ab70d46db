from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from accounts.query import LARGEST
from backups.borg import commands
from backups.borg.errors import failure_of
from backups.catalog import Catalog, NotIndexed, as_argument, paths_of
from backups.models import Archive
from backups.packing import PACKINGS, PLAIN, Export
from backups.runners.base import NEVER_MATCHED, ArchiveRunner, Follower, refuse_unready
from jobs.errors import Failure
from jobs.models import Job
from jobs.pipe import NobodyReads, Outgoing, Pipe
from servers.ssh.command import Command
from servers.ssh.local import Local

LEFT_OUT_TOLD = 100


class DownloadForm(forms.Form):
    entry = forms.IntegerField(
        min_value=0,
        max_value=LARGEST,
        help_text=_("The number of a file or folder in the archive's listing; 0: everything."),
    )


class DownloadFile(ArchiveRunner):
    """Extract one file or a part of it, or one folder as an archive file, into the pipe that a web process reads."""

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

    @classmethod
    def audited(cls, subject: Archive, job: Job) -> dict[str, Any]:
        return {"paths": paths_of(subject, [job.payload["entry"]]), **super().audited(subject, job)}

    def run(self) -> dict[str, Any]:
        pipe = Pipe(self.job.pk)
        self._outgoing = Outgoing(pipe, self.log.checkpoint)
        self._read = self._left_out = 0
        try:
            self._send()
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
        return {"bytes": self._outgoing.bytes, **({"left_out": self._left_out} if self._left_out else {})}

    def _send(self) -> None:
        folder, path = self._chosen()
        access, name = self.here(self.subject.repository), self.subject.name
        if folder:
            with closing(self._printed(commands.export_tar(access, name, path))) as pieces:
                export = Export(pieces, again=self._again, leave_out=self._leave_out)
                PACKINGS[self.job.payload.get("packing", PLAIN)](export, self._outgoing.write)
        else:
            with closing(self._printed(commands.extract_to_stdout(access, name, path))) as pieces:
                payload = self.job.payload
                for piece in part_of(pieces, payload.get("first", 0), payload.get("length")):
                    self._outgoing.write(piece)
        self._outgoing.flush()

    def _chosen(self) -> tuple[bool, str]:
        """Whether it is a folder, and its path; of a file, the path at which borg has its content."""
        try:
            with Catalog(self.subject) as listing:
                item = listing.at(self.job.payload["entry"])
                if item is None:
                    raise Failure("This entry is not in the archive's listing.")
                held = item if item.is_folder else listing.content_of(item)
                return item.is_folder, as_argument(listing.path(held))
        except NotIndexed:
            raise Failure("The listing of this archive is gone; read it anew, then try again.") from None

    def _printed(self, command: Command, *, told: str = "") -> Generator[bytes]:
        """What borg prints, until nobody takes more: then it is ended. Raises Failure if it ends badly by itself.

        With `told`, which the log has instead of the command, borg 1.2 ends with a warning that says nothing.
        """
        self.log.info(told or f"$ {command}")
        follower = Follower(self.log, untrue=NEVER_MATCHED if told else None)
        with Local(in_bulk=True).start(command, self._outgoing.tick) as process:
            for piece in follower.stdout_of(process):
                self._read += len(piece)
                self.log.progress(original=self._read)
                yield piece
        if not (follower.ran.is_ok or (told and follower.ran.has_warnings)):
            raise failure_of(command.argv[1], follower.ran.code, follower.ran.messages)

    def _again(self, paths: Sequence[str]) -> Iterator[bytes]:
        """A tar of these files alone; whoever reads it looks whether all are there."""
        told = f"Borg is asked once more for what is in {len(paths)} files that have several names."
        return self._printed(
            commands.export_files(self.here(self.subject.repository), self.subject.name, paths), told=told
        )

    def _leave_out(self, path: str) -> None:
        self._left_out += 1
        if self._left_out <= LEFT_OUT_TOLD:
            self.log.warning(f"Left out, as a zip has no place for pipes and devices: {path}")


def part_of(pieces: Iterator[bytes], first: int, length: int | None) -> Iterator[bytes]:
    """Of all bytes only `length` from the `first` on, None: to their end; no more is read than that."""
    for piece in pieces:
        if first >= len(piece):
            first -= len(piece)
            continue
        wanted = piece[first:] if length is None else piece[first : first + length]
        first = 0
        yield wanted
        if length is not None and (length := length - len(wanted)) <= 0:
            return

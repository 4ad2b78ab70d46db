from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import audit
from accounts.access import Permission
from backups import catalog, diffs, retention
from backups.borg import commands
from backups.borg.errors import failure_of
from backups.borg.results import ArchiveInfo, Unreadable, parse_archives
from backups.models import Archive, Mount, Repository
from backups.reconcile import compare
from backups.runners.base import ArchiveRunner, BorgRunner, Follower, refuse_damaged, refuse_frozen, still
from jobs.errors import Cancelled, Cause, Failure
from jobs.log import Level, insist
from jobs.models import Job
from jobs.runner import Refused, subject_key
from servers.ssh.local import Local

NAMES_AT_ONCE = 200  # of at most 200 characters each: a command line takes 128 kB at the very least
NAMES_SHOWN = 5


class NotAsAsked(Failure):
    cause = Cause.BORG
    advice = (
        "Nothing is lost for good before the repository is compacted. Compare it with our record, and look at what "
        "the log says, before anything else is deleted."
    )


class Deletion:
    """Deletes archives by name, looks what became of it, and only then strikes them off our record."""

    def __init__(self, runner: BorgRunner[Any], repository: Repository, archives: Sequence[Archive]) -> None:
        self._runner = runner
        self._repository = repository
        self._access = runner.here(repository)
        self._asked = {archive.borg_id: archive for archive in archives}

    def run(self) -> list[str]:
        """Return the names of what was deleted. The caller holds the repository and has compared it. Raises Failure."""
        before = self._listed()
        self._refuse_strangers(before)
        insist(self._announce)
        names = [archive.name for archive in self._asked.values()]
        try:
            for first in range(0, len(names), NAMES_AT_ONCE):
                self._runner.ask(commands.delete(self._access, names[first : first + NAMES_AT_ONCE]), "delete")
        except (Failure, Cancelled) as error:
            self._salvage(before, error)
            raise
        deleted, complaint = self._settle(before)
        if complaint:
            raise NotAsAsked(complaint, result={"deleted": deleted})
        return deleted

    @transaction.atomic
    def _announce(self) -> None:
        """Write down what is about to go; whoever pins one of them is either seen here, or told that it is too late."""
        rows = Archive.objects.select_for_update().filter(pk__in=[archive.pk for archive in self._asked.values()])
        if pinned := [archive.name for archive in rows.order_by("pk") if archive.pinned]:
            raise NotAsAsked(f"{pinned[0]} was pinned meanwhile: nothing was deleted.")
        retention.announce(self._runner.job, self._asked.values())

    def _refuse_strangers(self, before: dict[str, str]) -> None:
        for archive in self._asked.values():
            if before.get(archive.borg_id) != archive.name:
                raise NotAsAsked(f"{archive.name} is not in the repository as we recorded it: nothing was deleted.")

    def _salvage(self, before: dict[str, str], error: Failure | Cancelled) -> None:
        """After an end before the end: what is gone is struck off; the rest stays announced, or is still there."""
        result: dict[str, Any] = {"deleting": list(self._asked)}
        with suppress(Failure):
            deleted, complaint = self._settle(before, all_of_them=False)
            result = {"deleted": deleted}
            if complaint:
                self._runner.log.error(complaint)
        if isinstance(error, Failure):
            error.result = result
        else:
            insist(lambda: Job.objects.filter(pk=self._runner.job.pk).update(result=result))

    def _settle(self, before: dict[str, str], *, all_of_them: bool = True) -> tuple[list[str], str]:
        """Strike off what is gone; the names of that, and what is not as it should be as a sentence."""
        after = self._listed()
        deleted = [archive for borg_id, archive in self._asked.items() if borg_id not in after]
        insist(lambda: self._forget(deleted))
        catalog.drop(*deleted)
        for archive in deleted:
            diffs.drop(archive)
        complaints = [
            (sorted(name for borg_id, name in before.items() if borg_id not in self._asked and borg_id not in after),
             "Gone from the repository although nobody asked for it"),
            (sorted(name for borg_id, name in after.items() if borg_id not in before),
             "There now, and not before"),
            (sorted(after[borg_id] for borg_id in self._asked if all_of_them and borg_id in after),
             "Still there although borg was to delete it"),
        ]  # fmt: skip
        return [archive.name for archive in deleted], " ".join(
            f"{what}: {', '.join(names[:NAMES_SHOWN])}{' ...' if len(names) > NAMES_SHOWN else ''}."
            for names, what in complaints
            if names
        )

    @transaction.atomic
    def _forget(self, deleted: Sequence[Archive]) -> None:
        if not deleted:
            return
        job = self._runner.job
        Archive.objects.filter(pk__in=[archive.pk for archive in deleted]).delete()
        Repository.objects.filter(pk=self._repository.pk).update(deleted_at=timezone.now())
        self._repository.note_archives()
        detail = {"archives": [archive.name for archive in deleted], "job": str(job.pk)}
        audit.record("archives.deleted", user=job.user, target=self._repository.name, detail=detail)

    def _listed(self) -> dict[str, str]:
        """Names by borg's ids."""
        return {archive.archive_id: archive.name for archive in listed(self._runner, self._repository)}


def listed(runner: BorgRunner[Any], repository: Repository) -> tuple[ArchiveInfo, ...]:
    """What is there. Asked to the end also when the job is being cancelled: what is gone must be known."""
    command = commands.list_archives(runner.here(repository))
    runner.log.info(f"$ {command}")
    follower = Follower(runner.log, worst=Level.INFO)
    with Local().start(command, lambda: None) as process:
        stdout = b"".join(follower.stdout_of(process))
    if not follower.ran.is_ok:
        raise failure_of("list", follower.ran.code, follower.ran.messages)
    try:
        return parse_archives(stdout).archives
    except Unreadable as error:
        raise Failure(f"The list of {repository.name} cannot be read: {error}.") from error


class DeleteArchive(ArchiveRunner):
    """One archive that a person wants to be gone."""

    type = "archive_delete"
    label = _("Deletion")
    permission = Permission.BACKUP_DELETE
    icon = "trash"

    @classmethod
    def holds(cls, job: Job) -> str | None:
        return f"repository:{job.repository_id}"

    @classmethod
    def refuse(cls, subject: Archive) -> None:
        refuse_frozen(subject.repository)
        refuse_wanted(subject)
        refuse_used(subject, but_by=("index", cls.type))

    def run(self) -> dict[str, Any]:
        archive = Archive.objects.with_scope().select_related("repository__pool").get(pk=self.subject.pk)
        still(refuse_damaged, archive.repository)
        compare(self, archive.repository)
        archive.refresh_from_db()
        try:
            refuse_wanted(archive)
        except Refused as refusal:
            raise Failure(str(refusal)) from refusal
        deleted = Deletion(self, archive.repository, [archive]).run()
        self.log.info(f"{archive.name} is deleted.")
        return {"deleted": deleted}


def refuse_used(archive: Archive, *, but_by: Sequence[str]) -> None:
    """Raise Refused while a job that is not of these types is about the archive."""
    others = Job.objects.unfinished().filter(subject=subject_key(archive)).exclude(type__in=but_by)
    if other := others.first():
        raise Refused(gettext("A job is using this archive. Wait for its end, or cancel it."), job=other)


def refuse_wanted(archive: Archive) -> None:
    """Raise Refused for an archive that nobody may delete as it is."""
    if archive.pinned:
        raise Refused(gettext("The archive is pinned. Unpin it first."))
    if Mount.objects.filter(archive=archive).exists():
        raise Refused(gettext("The archive is mounted. Unmount it first."))
    if archive.plan and archive.plan.last_good_archive() == archive:
        raise Refused(gettext("This is the last good archive of its plan: it stays until there is a newer one."))

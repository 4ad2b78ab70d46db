import contextlib
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups import tally
from backups.borg import commands
from backups.borg.errors import BorgFailed, failure_of
from backups.borg.results import CreateResult, Unreadable, parse_create
from backups.models import Archive, Plan, Repository, archive_prefix
from backups.pools import measure
from backups.reconcile import look
from backups.runners.base import PlanRunner, Ran, refuse_damaged, refuse_keyless, still
from backups.runners.compare import CompareRepository
from backups.runners.index import IndexArchive
from backups.runners.prune import prune_after
from backups.sources.base import Prepared, SourceKind, join
from backups.suspicion import Size, suspicion
from jobs.errors import Cause, Failure
from jobs.log import insist
from jobs.models import Job
from jobs.runner import Refused
from servers.runners.base import refuse_unusable
from servers.ssh.command import Command
from servers.ssh.detached import Detached
from servers.ssh.remote import Remote
from servers.ssh.transport import Transport

STAMP, STAMP_LENGTH = "%Y-%m-%dT%H:%M:%S", 19  # at the end of an archive's name; UTC


class NothingToSave(Failure):
    cause = Cause.SOURCE
    advice = "Edit the plan's sources."


class RunBackup(PlanRunner):
    """The way of a backup: prepare the sources, let borg on the server create, record the archive."""

    type = "backup"
    label = _("Backup")
    permission = Permission.BACKUP_CREATE
    icon = "device-floppy"
    max_attempts = 3

    @classmethod
    def holds(cls, job: Job) -> str | None:
        return f"repository:{job.repository_id}"

    @classmethod
    def refuse(cls, subject: Plan) -> None:
        if not subject.enabled:
            raise Refused(gettext("The plan %(name)s is paused.") % {"name": subject.name})
        refuse_unusable(subject.server)
        refuse_damaged(subject.repository)
        refuse_keyless(subject.repository)

    @classmethod
    def ended(cls, job: Job) -> None:
        tally.count(job)
        if job.plan is None or job.status == Job.Status.CANCELLED:
            return
        is_away = job.status == Job.Status.FAILED and job.cause == Cause.NETWORK and job.plan.schedule != ""
        Plan.objects.filter(pk=job.plan.pk).update(**tally.kept_of(job), awaits_server=is_away)
        job.plan.note_last_good()
        prune_after(job)
        if job.status == Job.Status.FAILED and job.made:
            with contextlib.suppress(Refused):  # borg may have finished it all the same
                CompareRepository.enqueue(job.plan.repository, trigger=Job.Trigger.SYSTEM)

    def run(self) -> dict[str, Any]:
        plan = Plan.objects.with_scope().get(pk=self.subject.pk)
        still(refuse_damaged, plan.repository)
        predecessor = plan.last_good_archive()
        # Of a direct backup the server may know more; of others only the repository knows, also if the server is away.
        if not plan.repository.pool.is_remote and (archive := self._finished_before(plan.repository)):
            return self._report(archive, Ran(0), archive.suspicion)
        with self.reached(plan.repository, plan.server) as (machine, access), ExitStack() as cleanup:
            detached = self._detached(plan, machine, cleanup)
            goes_on = detached is not None and detached.is_there
            if detached and not goes_on and (archive := self._finished_before(plan.repository)):
                return self._report(archive, Ran(0), archive.suspicion)
            prepared = self._prepare(plan, machine, cleanup)
            name, taken_at = self._announced() if goes_on else self._announce(plan)
            command = self._command(plan, access, prepared, name)
            self.log.phase("transfer")
            total = predecessor.original_bytes if predecessor else None
            ran = self.follow(detached or machine, command, total=total, sources=prepared.paths)
            self.log.phase("finish")
            result = self._proof(ran, plan, name)
            doubts = suspicion(
                Size(result.files, result.original),
                Size(predecessor.files, predecessor.original_bytes) if predecessor else None,
                missing_sources(prepared.paths, ran),
            )
            archive = insist(lambda: self._record(plan, result, command, doubts, taken_at))
        measure(plan.repository.pool)
        return self._report(archive, ran, doubts)

    def _detached(self, plan: Plan, machine: Remote, cleanup: ExitStack) -> Detached | None:
        """A borg that needs no worker for its data does not end with one: another follows it where we stopped."""
        if not plan.repository.pool.is_remote:
            return None
        detached = cleanup.enter_context(Detached(machine, str(self.job.pk), self.log.checkpoint))
        if detached.is_there:
            self.log.info(
                f"The borg that was started before is still known on {plan.server.name}: it is followed again."
            )
        return detached

    def _finished_before(self, repository: Repository) -> Archive | None:
        """What borg made for an earlier attempt of this job, which did not live to see it."""
        if not self.job.made:
            return None
        look(self, repository)
        return repository.archives.filter(job=self.job).order_by("-id").first()

    def _announce(self, plan: Plan) -> tuple[str, datetime]:
        """Write down what is going to be made, and when: whatever happens, we know it by its name."""
        now = timezone.now()
        while self._is_taken(name := f"{archive_prefix(plan)}-{now:{STAMP}}", plan.repository):
            now += timedelta(seconds=1)
        made = [*self.job.made, name]
        insist(lambda: Job.objects.filter(pk=self.job.pk).update(made=made))
        self.job.made = made
        return name, now

    def _is_taken(self, name: str, repository: Repository) -> bool:
        """Whether the last one was made in this very second."""
        return name in self.job.made or repository.archives.filter(name=name).exists()

    def _announced(self) -> tuple[str, datetime]:
        """What the attempt before this one wrote down."""
        name: str = self.job.made[-1]
        return name, datetime.strptime(name[-STAMP_LENGTH:], STAMP).replace(tzinfo=UTC)

    def _prepare(self, plan: Plan, machine: Transport, cleanup: ExitStack) -> Prepared:
        self.log.phase("prepare")
        prepared = join(
            [
                cleanup.enter_context(
                    SourceKind.registry[source.kind].prepare(machine, source.parameters, self.log.checkpoint)
                )
                for source in plan.sources.all()
            ]
        )
        if not prepared.paths:
            raise NothingToSave(f"The plan {plan.name} has nothing to save: it names no path.")
        return prepared

    def _command(self, plan: Plan, access: commands.Access, prepared: Prepared, name: str) -> Command:
        options = commands.CreateOptions(
            compression=plan.compression, excludes=prepared.excludes, one_file_system=prepared.one_file_system,
            exclude_caches=prepared.exclude_caches, upload_kib_per_second=plan.upload_kib_per_second,
        )  # fmt: skip
        return commands.create(access, name, prepared.paths, options)

    def _proof(self, ran: Ran, plan: Plan, name: str) -> CreateResult:
        """The archive's id, which borg prints when the archive is in the repository. Raises Failure without one."""
        if not (ran.is_ok or ran.has_warnings):
            raise failure_of("create", ran.code, ran.messages)
        try:
            result = parse_create(ran.stdout)
        except Unreadable as error:
            if ran.messages and not ran.is_ok:
                raise failure_of("create", ran.code, ran.messages) from error
            raise BorgFailed(f"borg ended with code {ran.code}, but gave no proof of an archive: {error}.") from error
        if result.name != name or is_forged(result, plan.repository):
            raise BorgFailed(f"borg on {plan.server.name} describes another archive than the one that it was to make.")
        return result

    @transaction.atomic
    def _record(self, plan: Plan, result: CreateResult, command: Command, doubts: str, taken_at: datetime) -> Archive:
        archive, _created = Archive.objects.update_or_create(
            repository=plan.repository,
            borg_id=result.archive_id,
            defaults={
                "server": plan.server, "plan": plan, "job": self.job, "name": result.name, "start": result.start,
                "end": result.end, "taken_at": taken_at, "duration": result.duration, "original_bytes": result.original,
                "compressed_bytes": result.compressed, "deduplicated_bytes": result.deduplicated,
                "files": result.files, "warnings": self.log.warnings, "command_line": str(command),
                "suspicion": doubts,
            },
        )  # fmt: skip
        Repository.objects.filter(pk=plan.repository_id).update(
            original_bytes=result.repository.original,
            compressed_bytes=result.repository.compressed,
            deduplicated_bytes=result.repository.deduplicated,
            measured_at=timezone.now(),
        )
        plan.repository.note_archives()
        IndexArchive.enqueue(archive, trigger=Job.Trigger.SYSTEM)
        return archive

    def _report(self, archive: Archive, ran: Ran, doubts: str) -> dict[str, Any]:
        if doubts:
            self.log.warning(f"Suspicious: {doubts}")
        self.log.info(f"Archive {archive.name} ({archive.borg_id[:12]}): {archive.files:,} files.")
        return {
            "archive": archive.pk, "archive_id": archive.borg_id, "name": archive.name, "files": archive.files,
            "original": archive.original_bytes, "compressed": archive.compressed_bytes,
            "deduplicated": archive.deduplicated_bytes, "duration": archive.duration, "suspicion": doubts,
            "unreadable": ran.unreadable, "unreadable_paths": [[w.path, w.why] for w in ran.file_warnings],
        }  # fmt: skip


def is_forged(result: CreateResult, repository: Repository) -> bool:
    """Whether a server claims an archive of another repository, or one that it made before."""
    known = Archive.objects.filter(repository=repository, borg_id=result.archive_id)
    return result.repository_id != repository.borg_id or known.exclude(name=result.name).exists()


def missing_sources(paths: Sequence[str], ran: Ran) -> list[str]:
    """The source paths of which borg said that they are not there."""
    return [path for path in paths if path.rstrip("/") in ran.missing]

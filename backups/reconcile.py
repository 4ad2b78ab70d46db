"""Borg's list of a repository beside our record of it.

Whoever may write to a repository may write nonsense into it: an archive that we did not ask for, a
date that is not true, a list in which ours are missing (BORG.md, finding 5). So the two are
compared before anything is deleted or compacted, and once a day: what is odd is put aside, and the
repository is frozen until a person has looked.
"""

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit
from backups import catalog, diffs, retention
from backups.borg import commands
from backups.borg.results import ArchiveInfo, CreateResult, Unreadable, parse_archives, parse_info
from backups.models import Archive, Repository
from backups.runners.base import BorgRunner
from backups.runners.index import IndexArchive
from backups.suspicion import Size, suspicion
from jobs.errors import Cause, Failure
from jobs.log import insist
from jobs.models import Job

NAMES_SHOWN = 5
JOBS_LOOKED_AT = 500

UNKNOWN = "phpBorg did not make this archive."
CHANGED = "Its name or its date in the repository is not what it was when it was made."


class RepositoryFrozen(Failure):
    cause = Cause.BORG
    advice = "Nothing is deleted or compacted until somebody has looked at the repository's page and decided."


@dataclass
class Comparison:
    """What was found, by name."""

    adopted: list[Archive] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    stranger: str = ""  # the id of another repository that lies where ours was

    def sentence(self) -> str:
        """What is wrong; "" when all is as it should be."""
        if self.stranger:
            return f"Another repository lies where this one was ({self.stranger[:12]})."
        parts = [
            (self.vanished, "gone from the repository, but not by phpBorg"),
            (self.unknown, "there that phpBorg did not make"),
            (self.changed, "not what it was when phpBorg made it"),
        ]
        return " ".join(
            f"{'An archive is' if len(names) == 1 else f'{len(names)} archives are'} {what}: {_some(names)}."
            for names, what in parts
            if names
        )


def compare(runner: BorgRunner[Any], repository: Repository) -> Comparison:
    """List the repository and put aside what is odd. The caller holds it. Raises RepositoryFrozen."""
    found = look(runner, repository)
    repository.refresh_from_db(fields=["frozen"])
    if repository.frozen:
        raise RepositoryFrozen(f"The repository {repository.name} is frozen. {repository.frozen}")
    return found


def look(runner: BorgRunner[Any], repository: Repository) -> Comparison:
    """The same without an opinion: for whoever only wants to know what is there."""
    access = runner.here(repository)
    runner.make_way(repository)
    try:
        listed = parse_archives(runner.ask(commands.list_archives(access), "list").stdout)
    except Unreadable as error:
        raise Failure(f"The list of {repository.name} cannot be read: {error}.") from error
    found = Comparison()
    if listed.repository_id != repository.borg_id:
        found.stranger = listed.repository_id
    else:
        announced, there = _announced(repository), {item.archive_id for item in listed.archives}
        ours = {archive.borg_id: archive for archive in repository.archives.all()}
        renamings = _renamings(repository, ours)
        for item in listed.archives:
            archive = ours.pop(item.archive_id, None)
            if archive is not None:
                _recognise(archive, item, found)
            elif (found_as := renamings.get(item.name)) and is_renamed(found_as[0], item.name, item, there):
                was, renaming = found_as
                del ours[was.borg_id]
                insist(lambda: follow_renamed(was, item, renaming))  # noqa: B023  # called at once
                found.renamed.append(item.name)
            elif job := announced.get(item.name):
                described = _describe(runner, access, item)
                found.adopted.append(insist(lambda: _adopt(repository, job, described)))  # noqa: B023  # called at once
            else:
                _quarantine(repository, item)
                found.unknown.append(item.name)
        _strike_off(repository, [ours.pop(borg_id) for borg_id in retention.announced(repository) & set(ours)])
        for archive in ours.values():
            if archive.vanished_at is None:
                Archive.objects.filter(pk=archive.pk).update(vanished_at=timezone.now())
                found.vanished.append(archive.name)
    _store(runner, repository, found)
    return found


def accept(repository: Repository) -> list[str]:
    """A person has looked: go on without what vanished. Returns the names of what we strike off our record."""
    with transaction.atomic():
        gone = repository.archives.exclude(vanished_at=None)
        names = list(gone.values_list("name", flat=True))
        gone.delete()
        repository.note_archives()
        Repository.objects.filter(pk=repository.pk).update(frozen="")
    return names


def _announced(repository: Repository) -> dict[str, Job]:
    """Which job set out to make an archive of that name, and does not know that it has."""
    jobs = Job.objects.filter(repository=repository, type="backup").exclude(status=Job.Status.COMPLETED)
    recent = jobs.exclude(made=[]).select_related("plan").order_by("-created_at")[:JOBS_LOOKED_AT]
    return {name: job for job in reversed(recent) for name in job.made}


def _renamings(repository: Repository, ours: dict[str, Archive]) -> dict[str, tuple[Archive, Job]]:
    """Which archive a job set out to give a name, and has not said what came of it."""
    jobs = Job.objects.filter(repository=repository, type="rename").exclude(status=Job.Status.COMPLETED)
    recent = list(jobs.exclude(made=[]).order_by("-created_at")[:JOBS_LOOKED_AT])
    by_subject = {f"archive:{archive.pk}": archive for archive in ours.values()} if recent else {}
    return {job.made[-1]: (by_subject[job.subject], job) for job in reversed(recent) if job.subject in by_subject}


def is_renamed(archive: Archive, name: str, item: ArchiveInfo, there: set[str]) -> bool:
    """Whether `item` is our archive under its new name: a renaming changes borg's id, and keeps the date."""
    return item.name == name and item.start == archive.start and archive.borg_id not in there


def follow_renamed(archive: Archive, item: ArchiveInfo, job: Job) -> None:
    """Our record says what borg says now; nobody else's change of the row is lost."""
    before, old_borg_id = archive.name, archive.borg_id
    with transaction.atomic():
        rows = Archive.objects.filter(pk=archive.pk, borg_id=old_borg_id)
        is_ours = rows.update(name=item.name, borg_id=item.archive_id)
        Job.objects.filter(pk=job.pk).update(made=[])
        if is_ours:
            detail = {"before": before, "after": item.name, "job": str(job.pk)}
            audit.record("archive.renamed", user=job.user, target=archive.repository.name, detail=detail)
    archive.name, archive.borg_id = item.name, item.archive_id
    catalog.renamed(archive, old_borg_id)
    diffs.renamed(archive, old_borg_id)


def _strike_off(repository: Repository, archives: list[Archive]) -> None:
    """What a job of ours deleted, and did not live to strike off our record."""
    catalog.drop(*archives)
    for archive in archives:
        diffs.drop(archive)
        archive.delete()
    if archives:
        Repository.objects.filter(pk=repository.pk).update(deleted_at=timezone.now())


def _recognise(archive: Archive, item: ArchiveInfo, found: Comparison) -> None:
    if archive.vanished_at is not None:
        Archive.objects.filter(pk=archive.pk).update(vanished_at=None)
    if not archive.quarantine and (archive.name, archive.start) != (item.name, item.start):
        Archive.objects.filter(pk=archive.pk).update(quarantine=CHANGED)
        found.changed.append(archive.name)


def _describe(runner: BorgRunner[Any], access: commands.Access, item: ArchiveInfo) -> CreateResult:
    try:
        return parse_info(runner.ask(commands.info(access, item.name), "info").stdout)
    except Unreadable as error:
        raise Failure(f"The archive {item.name} cannot be read: {error}.") from error


@transaction.atomic
def _adopt(repository: Repository, job: Job, result: CreateResult) -> Archive:
    """Record an archive that borg finished although its job did not live to see it."""
    before = job.plan.last_good_archive() if job.plan else None
    doubts = suspicion(
        Size(result.files, result.original), Size(before.files, before.original_bytes) if before else None, ()
    )
    archive: Archive = Archive.objects.create(
        repository=repository, server=repository.server, plan=job.plan, job=job, name=result.name,
        borg_id=result.archive_id, start=result.start, end=result.end, taken_at=job.started_at or job.created_at,
        duration=result.duration, original_bytes=result.original, compressed_bytes=result.compressed,
        deduplicated_bytes=result.deduplicated, files=result.files, suspicion=doubts,
        comment="Found in the repository: borg finished it, but its job did not live to see it.",
    )  # fmt: skip
    IndexArchive.enqueue(archive, trigger=Job.Trigger.SYSTEM)
    if job.plan:
        job.plan.note_last_good()
    return archive


def _quarantine(repository: Repository, item: ArchiveInfo) -> None:
    Archive.objects.create(
        repository=repository, server=repository.server, name=item.name, borg_id=item.archive_id, start=item.start,
        end=item.start, duration=0, original_bytes=0, compressed_bytes=0, deduplicated_bytes=0, files=0,
        quarantine=UNKNOWN,
    )  # fmt: skip


def _store(runner: BorgRunner[Any], repository: Repository, found: Comparison) -> None:
    for archive in found.adopted:
        runner.log.info(f"Found {archive.name}, which borg had finished: it is recorded now.")
    for name in found.renamed:
        runner.log.info(f"{name} is what an archive is called now that a job was renaming: our record follows.")
    changes: dict[str, Any] = {"compared_at": timezone.now()}
    if sentence := found.sentence():
        runner.log.error(sentence)
        changes["frozen"] = sentence
    repository.note_archives()
    Repository.objects.filter(pk=repository.pk).update(**changes)


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (" ..." if len(names) > NAMES_SHOWN else "")

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from secrets import randbelow
from typing import Any, Self

from django import forms
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups import catalog, proofs, scratch
from backups.borg import commands
from backups.borg.errors import ArchiveMissing, BorgFailed, RepositoryUnreadable, failure_of
from backups.borg.results import Entry, Unreadable, parse_contents, parse_files
from backups.catalog import Catalog, Item, NotIndexed, as_argument, readable
from backups.models import MOST_PROOF_FILES, Archive, Plan, Repository, RestoreTest
from backups.mounts import this_machine
from backups.runners.base import NEVER_MATCHED, Follower, PlanRunner, refuse_unready, refuse_without_borg, still
from backups.runners.check import CheckRepository
from backups.runners.compact import CompactRepository
from backups.runners.index import read_listing
from jobs.config import config
from jobs.errors import Cause, Failure
from jobs.log import Level, insist
from jobs.models import Job
from jobs.runner import Refused
from servers.ssh.command import Command
from servers.ssh.local import Local
from servers.ssh.transport import run

NEWEST, RANDOM = "newest", "random"
WORDS_BYTES = 500_000  # of paths on one command line: a system takes two million for it, its environment included
MISMATCHES_KEPT = 100
TURN_AGAIN_AFTER = timedelta(hours=12)  # when a scheduled one could not test anything


class NotProven(Failure):
    cause = Cause.DISK
    advice = (
        "What this archive holds cannot be had back as it was. A check of the repository is started; look at what it "
        "says, and restore what you need from another archive while you can."
    )


class CannotTest(Failure):
    cause = Cause.DISK
    advice = "Nothing is said about the archive. Make room below SCRATCH_DIR on the worker's machine, or test a sample."


class Disturbed(Failure):
    cause = Cause.BORG
    may_pass = True
    advice = "Nothing is said about the archive: the repository was changed while it was read."


class ProofForm(forms.Form):
    archive = forms.ChoiceField(
        label=_("Archive"), choices=[(NEWEST, _("the newest good one")), (RANDOM, _("a good one by chance"))],
        initial=NEWEST, required=False,
    )  # fmt: skip
    files = forms.IntegerField(  # type: ignore[assignment]  # Django takes it off the class
        label=_("Files"), min_value=0, max_value=MOST_PROOF_FILES, required=False,
        help_text=_("How many, chosen by chance. 0: all of them. Empty: as the plan says."),
    )  # fmt: skip

    def clean_archive(self) -> str:
        return self.cleaned_data["archive"] or NEWEST


@dataclass(frozen=True)
class Wanted:
    """A regular file of the archive, as the catalog knows it."""

    path: bytes
    content: bytes  # where borg has its bytes: of a hard link to an earlier entry, there
    size: int | None  # None: a hard link, and nobody knows to what, because borg cannot spell that name


@dataclass
class Found:
    """What came of it."""

    everything: bool
    started_at: datetime = field(default_factory=timezone.now)
    in_archive: int = 0  # files
    chosen: int = 0
    files: int = 0  # that were looked at
    size: int = 0  # of those, in bytes
    seconds: float = 0.0  # of the extraction
    mismatches: list[list[str]] = field(default_factory=list)
    mismatch_count: int = 0
    unknown: int = 0  # files that came back, of which nobody knows what should be in them
    digest: str = ""
    failure: str = ""  # borg's own, or of the archive as a whole

    def miss(self, path: bytes, why: str) -> None:
        self.mismatch_count += 1
        if len(self.mismatches) < MISMATCHES_KEPT:
            self.mismatches.append([readable(path), why])

    @property
    def sentence(self) -> str:
        """Why it does not hold; "": it does."""
        if self.failure or not self.mismatch_count:
            return self.failure
        path, why = self.mismatches[0]
        more = f" and {self.mismatch_count - 1:,} more" if self.mismatch_count > 1 else ""
        return f"{self.mismatch_count:,} of {self.files:,} files did not come back as they were: {path} ({why}){more}."


class ProveRestore(PlanRunner):
    """Restore files of a plan's archive on the worker's machine, compare every byte, and keep the evidence.

    It holds nothing and takes no lock, so that no backup waits for it.
    """

    type = "proof"
    label = _("Restore test")
    permission = Permission.BACKUP_CREATE
    form = ProofForm
    icon = "shield-check"
    priority = Job.Priority.LOW
    max_attempts = 2
    idle_limit_seconds = 4 * 60 * 60  # borg reads a large file for its hash without a word

    @classmethod
    def refuse(cls, subject: Plan) -> None:
        refuse_unready(subject.repository)
        if subject.last_good_archive() is None:
            raise Refused(gettext("The plan %(name)s has no good archive yet.") % {"name": subject.name})

    @classmethod
    def ended(cls, job: Job) -> None:
        """One that could not test anything is tried again before its next turn."""
        if job.plan is None or job.trigger != Job.Trigger.SCHEDULE or (job.result or {}).get("proof"):
            return
        soon = timezone.now() + TURN_AGAIN_AFTER
        Plan.objects.filter(pk=job.plan.pk, proof_due_at__gt=soon).update(proof_due_at=soon)

    def run(self) -> dict[str, Any]:
        plan = Plan.objects.with_scope().get(pk=self.subject.pk)
        still(refuse_unready, plan.repository)
        if swept := scratch.sweep():
            self.log.warning(f"{swept} restore tests were ended before they could tidy up; their files are removed.")
        archive = self._choose(plan)
        self.log.phase("prepare")
        found = Found(everything=not self._number(plan))
        try:
            if not catalog.has(archive):
                read_listing(self, archive)
            with Catalog(archive) as listing:
                self._test(plan, archive, listing, found)
        except NotIndexed:
            raise Disturbed(f"The listing of {archive.name} went while it was used.") from None
        except BorgFailed as error:
            found.failure = self._judge(archive, error, found.started_at)
        evidence = self._evidence(plan, archive, found)
        return self._report(insist(lambda: self._record(plan, archive, found, evidence)))

    def _number(self, plan: Plan) -> int:
        """How many files a sample has; 0: everything."""
        number: int | None = self.job.payload.get("files")
        return plan.proof_files if number is None else number

    # --- What is tested -------------------------------------------------------------------------

    def _choose(self, plan: Plan) -> Archive:
        archives = plan.archives.good().select_related("repository__pool", "server").order_by("-taken_at", "-id")
        number = archives.count()
        if not number:
            raise Disturbed(f"The plan {plan.name} has no good archive any more.")
        by_chance = self.job.payload.get("archive") == RANDOM
        archive: Archive = archives[randbelow(number) if by_chance else 0]
        return archive

    def _sample(self, listing: Catalog, number: int, found: Found) -> list[Wanted]:
        wanted = []
        for item in listing.sample(number):
            trail = listing.trail(item)
            path = b"/".join(part.name for part in trail)
            # Borg would put these elsewhere, or nowhere: it is not asked to.
            if {b"..", b"."} & {part.name for part in trail} or not all(part.is_folder for part in trail[:-1]):
                found.files += 1
                found.miss(path, "its path leads out of the folder that it is restored into")
            else:
                wanted.append(wanted_of(listing, item, path))
        if not wanted and not found.mismatch_count:
            raise CannotTest("There is no file in the archive that could be compared.")
        return wanted

    def _test(self, plan: Plan, archive: Archive, listing: Catalog, found: Found) -> None:
        """Raises BorgFailed, of which `_judge` knows whether it says something about the archive."""
        found.in_archive = listing.regular_files()
        wanted = [] if found.everything else self._sample(listing, self._number(plan), found)
        found.chosen = found.in_archive if found.everything else found.files + len(wanted)
        size = listing.size if found.everything else sum(each.size or 0 for each in wanted)
        if short := scratch.is_short_of(found.chosen, size):
            needed, free = (f"{amount / 1e9:,.1f} GB" for amount in short)
            raise CannotTest(
                f"{needed} are needed for it below {settings.SCRATCH_DIR} on {this_machine()}, and {free} are free."
            )
        with scratch.folder_for(self.job) as folder:
            into, lines = folder / "files", folder / "lines"
            into.mkdir()
            try:
                if found.everything:
                    self._prove_all(archive, listing, found, into=into, to=lines)
                else:
                    self._prove_some(archive, wanted, found, into=into, to=lines)
            except Unreadable as error:
                found.failure = f"What borg lists of {archive.name} cannot be read: {error}."
            found.digest = self._digest(lines)

    def _judge(self, archive: Archive, error: BorgFailed, since: datetime) -> str:
        """Borg's failure as one of the archive. Raises it, if it says nothing about that."""
        if not (type(error) is BorgFailed or isinstance(error, RepositoryUnreadable | ArchiveMissing)):
            raise error  # a lock, a wrong passphrase, a full disk, a kill ...
        same = Archive.objects.filter(pk=archive.pk, name=archive.name, borg_id=archive.borg_id)
        compactions = Job.objects.filter(type=CompactRepository.type, repository=archive.repository_id)
        compacted = compactions.filter(completed_at__gte=since).exists() or compactions.running().exists()
        if not same.exists() or compacted:
            raise Disturbed(f"{archive.name} was deleted, or its repository compacted, while it was tested.") from error
        return str(error)

    # --- Testing --------------------------------------------------------------------------------

    def _prove_some(self, archive: Archive, wanted: list[Wanted], found: Found, *, into: Path, to: Path) -> None:
        self.log.phase("transfer")
        for some in batches(each.path for each in wanted):
            self._extract(archive, some, into, found)
        self.log.phase("proof")
        known: dict[bytes, Entry] = {}
        for some in batches({path for each in wanted for path in (each.path, each.content)}):
            known |= {entry.path: entry for entry in self._contents(archive, some)}
        with Comparison(self, into, to, found) as comparison:
            for each in wanted:
                entry, content = known.get(each.path), known.get(each.content)
                if entry is None or content is None:
                    found.files += 1
                    found.miss(each.path, "borg does not list it")
                else:
                    comparison.look(each, entry.healthy and content.healthy, content.sha256)

    def _prove_all(self, archive: Archive, listing: Catalog, found: Found, *, into: Path, to: Path) -> None:
        if not self._is_harmless(archive, listing, found):
            return
        self.log.phase("transfer")
        self._extract(archive, [], into, found)
        self.log.phase("proof")
        with Comparison(self, into, to, found) as comparison, closing(self._contents(archive, [])) as entries:
            for entry in entries:
                if entry.mode[:1] not in ("-", "h"):
                    continue
                item = listing.file_at(entry.path)
                if item is None:
                    found.files += 1
                    found.miss(entry.path, "the archive's listing has no such file")
                    continue
                each = wanted_of(listing, item, entry.path)
                # Of a hard link borg has no hash; what it leads to was looked at before, and is read again.
                expected = entry.sha256 if each.content == each.path else comparison.hash_of(each.content)
                comparison.look(each, entry.healthy, expected)
        if found.files != found.in_archive:
            found.failure = f"The archive's listing has {found.in_archive:,} files, and borg lists {found.files:,}."

    def _is_harmless(self, archive: Archive, listing: Catalog, found: Found) -> bool:
        """Whether all of it may be extracted at once: nothing in it leads borg out of the folder.

        Newer borgs look at that themselves, older ones follow a link that the archive holds.
        """
        entries, odd = 0, 0
        with closing(self._listed(archive)) as listed:
            for entry in listed:
                path = entry.path.strip(b"/")
                entries += path not in {b"", b"."}
                link = entry.link if entry.mode.startswith("h") else b""
                odd += entry.path.startswith(b"/") or b".." in path.split(b"/") or b".." in link.split(b"/")
                odd += link.startswith(b"/")
        if odd or listing.below_no_folder():
            found.failure = (
                "The archive has paths that lead out of the folder into which it is restored. Nothing was extracted: "
                "restore single files of it, and look who wrote it."
            )
            return False
        if entries != listing.entries():
            raise CannotTest(
                f"{archive.name} has some paths several times, so it is not extracted as a whole.",
                advice="Nothing is said about the archive. Test a sample of it.",
            )
        return True

    def _extract(self, archive: Archive, paths: list[str], into: Path, found: Found) -> None:
        command = commands.extract_content(self.here(archive.repository), archive.name, paths, directory=str(into))
        follower, began = Follower(self.log, worst=Level.INFO, untrue=NEVER_MATCHED), time.monotonic()
        self._announce(command, len(paths))
        with Local().start(command, self.log.checkpoint) as process:
            for _piece in follower.stdout_of(process):
                pass
        found.seconds += time.monotonic() - began
        refuse_without_borg(Local(), command, follower.ran)
        # Borg's warnings are not what counts: 1.2 has one for each path, and each file is looked at.
        if not (follower.ran.is_ok or follower.ran.has_warnings):
            raise failure_of("extract", follower.ran.code, follower.ran.messages)
        if os.geteuid() != 0:
            scratch.open_up(into, self.log.checkpoint)

    def _contents(self, archive: Archive, paths: list[str]) -> Generator[Entry]:
        command = commands.list_contents(self.here(archive.repository), archive.name, paths, only_files=True)
        return self._entries(command, parse_contents, len(paths))

    def _listed(self, archive: Archive) -> Generator[Entry]:
        return self._entries(commands.list_files(self.here(archive.repository), archive.name), parse_files, 0)

    def _entries(
        self, command: Command, parse: Callable[[Iterator[bytes]], Iterator[Entry]], paths: int
    ) -> Generator[Entry]:
        """What borg lists, if it then ends well."""
        follower = Follower(self.log)
        self._announce(command, paths)
        with Local().start(command, self.log.checkpoint) as process:
            yield from parse(follower.stdout_of(process))
        refuse_without_borg(Local(), command, follower.ran)
        if not follower.ran.is_ok:
            raise failure_of("list", follower.ran.code, follower.ran.messages)

    def _announce(self, command: Command, paths: int) -> None:
        """The log has the command, but not with hundreds of paths."""
        words = command.argv[: len(command.argv) - paths]
        self.log.info(f"$ {Command(words)}{f' ({paths} paths)' if paths else ''}")

    # --- What is kept ---------------------------------------------------------------------------

    def _digest(self, lines: Path) -> str:
        """The SHA-256 of all "sha256  path", sorted; by `sort`, which needs no memory for a million of them."""
        if not lines.exists():
            return ""
        command = Command(("sort", "-z", "-o", str(lines), "-T", str(lines.parent), str(lines)), env={"LC_ALL": "C"})
        if run(Local(), command, self.log.checkpoint).code != 0:
            return ""
        digest = sha256()
        with lines.open("rb") as file:
            while piece := file.read(scratch.READ_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def _evidence(self, plan: Plan, archive: Archive, found: Found) -> dict[str, Any]:
        borg = run(Local(), commands.version(settings.BORG_PATH), self.log.checkpoint)
        repository = plan.repository
        return {
            "format": proofs.FORMAT, "site": config.SITE_URL, "job": str(self.job.pk), "worker": this_machine(),
            "server": plan.server.name, "plan": plan.name,
            "repository": {"name": repository.name, "borg_id": repository.borg_id},
            "archive": {
                "name": archive.name, "borg_id": archive.borg_id, "taken_at": archive.taken_at.isoformat(),
                "files": found.in_archive,
            },
            "borg_version": borg.stdout.decode("utf-8", "replace").strip()[:100],
            "chosen": "everything" if found.everything else "sample", "files_chosen": found.chosen,
            "files": found.files, "bytes": found.size, "seconds": round(found.seconds, 3),
            "bytes_per_second": round(found.size / found.seconds) if found.seconds else None,
            "started_at": found.started_at.isoformat(), "ended_at": timezone.now().isoformat(),
            "method": proofs.METHOD, "not_compared": proofs.NOT_COMPARED,
            "digest": found.digest,
            "digest_of": "SHA-256 of the lines “sha256  path”, a NUL after each, sorted by their bytes",
            "files_not_compared": found.unknown, "mismatches": found.mismatches, "mismatch_count": found.mismatch_count,
            "held": not found.sentence, "failure": found.sentence,
        }  # fmt: skip

    @transaction.atomic
    def _record(self, plan: Plan, archive: Archive, found: Found, evidence: dict[str, Any]) -> RestoreTest:
        """The evidence, and what the plan keeps of it: the one place that writes either."""
        now, rows = timezone.now(), Plan.objects.filter(pk=plan.pk)
        if found.sentence:
            rows.update(proof_failed=found.sentence)
        else:
            days = rows.values_list("proof_days", flat=True).first()
            overdue_at = now + timedelta(days=2 * days) if days else None
            rows.update(proved_at=now, proof_overdue_at=overdue_at)
            if found.everything or self._is_answered(plan):
                rows.update(proof_failed="")
        there = Archive.objects.filter(pk=archive.pk).exists()
        test: RestoreTest = RestoreTest.objects.create(
            plan=rows.first(), server=plan.server, archive=archive if there else None, job=self.job, name=archive.name,
            at=now, held=not found.sentence, failure=found.sentence, everything=found.everything, files=found.files,
            bytes=found.size, seconds=found.seconds, **proofs.signed(evidence),
        )  # fmt: skip
        return test

    def _is_answered(self, plan: Plan) -> bool:
        """Whether a sample that holds may end what one before it found: other files are no answer, a check is."""
        failed = plan.restore_tests.filter(held=False).order_by("-at", "-id").first()
        checked_at = Repository.objects.values_list("checked_at", flat=True).get(pk=plan.repository_id)
        return failed is None or bool(checked_at and checked_at > failed.at)

    def _report(self, test: RestoreTest) -> dict[str, Any]:
        result = {
            "proof": test.pk, "archive": test.archive_id, "held": test.held, "files": test.files, "bytes": test.bytes,
            "seconds": test.seconds,
        }  # fmt: skip
        if test.held:
            self.log.info(f"{test.files:,} files of {test.name} came back as they were.")
            return result
        with suppress(Refused):  # one runs already
            CheckRepository.enqueue(self.subject.repository, trigger=Job.Trigger.SYSTEM)
        raise NotProven(test.failure, result=result)


class Comparison:
    """What lies in the folder beside what the archive should have; a context manager."""

    def __init__(self, runner: ProveRestore, top: Path, lines: Path, found: Found) -> None:
        self._runner, self._found = runner, found
        self._top = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self._lines = lines.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        os.close(self._top)

    def look(self, wanted: Wanted, healthy: bool, expected: str) -> None:
        found = self._found
        found.files += 1
        try:
            size, content = self._read(wanted.path)
        except scratch.NotThere:
            found.miss(wanted.path, "it did not come back")
            return
        found.size += size
        self._lines.write(content.encode() + b"  " + wanted.path + b"\0")
        self._runner.log.progress(files=found.files, original=found.size)
        if not healthy:
            found.miss(wanted.path, "parts of it are gone, and zeros in their place")
        elif wanted.size is None:
            found.unknown += 1
        elif size != wanted.size:
            found.miss(wanted.path, f"it has {size:,} bytes instead of {wanted.size:,}")
        elif content != expected:
            found.miss(wanted.path, "its content is another one")

    def hash_of(self, path: bytes) -> str:
        """Of a file that was extracted; "" if it was not."""
        try:
            return self._read(path)[1]
        except scratch.NotThere:
            return ""

    def _read(self, path: bytes) -> tuple[int, str]:
        """Size and SHA-256. Raises NotThere."""
        size, digest = 0, sha256()
        with os.fdopen(scratch.open_file(self._top, path), "rb", buffering=0) as file:
            while piece := file.read(scratch.READ_BYTES):
                self._runner.log.checkpoint()
                size += len(piece)
                digest.update(piece)
        return size, digest.hexdigest()


def wanted_of(listing: Catalog, item: Item, path: bytes) -> Wanted:
    content = listing.content_of(item)
    return Wanted(path, listing.path(content), None if content.is_hard_link else content.size)


def batches(paths: Iterable[bytes]) -> Iterator[list[str]]:
    """Words for borg, as many at once as a command line takes."""
    some: list[str] = []
    length = 0
    for path in paths:
        if some and length + len(path) > WORDS_BYTES:
            yield some
            some, length = [], 0
        some.append(as_argument(path))
        length += len(path) + 20
    if some:
        yield some

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import audit, encryption
from accounts.access import Permission
from accounts.models import User
from backups.borg import commands
from backups.borg.commands import Access
from backups.borg.errors import PassphraseWrong, failure_of
from backups.borg.events import Event, Question
from backups.borg.results import RepositoryInfo, Totals, Unreadable, parse_archives, parse_key, parse_totals
from backups.importing import Described, look_at, parse_descriptions
from backups.models import Archive, Repository, StoragePool
from backups.runners.base import RESULT_LIMIT, Follower, Ran, RepositoryRunner, refuse_without_borg
from backups.runners.index import IndexArchive, IndexRepository
from backups.runners.keys import give_key
from backups.runners.pool import CheckPool, PoolUnusable
from jobs.errors import Cause, Failure, Superseded
from jobs.log import Level, insist
from jobs.models import Job
from jobs.runner import Refused, subject_key
from servers.models import Server
from servers.ssh.command import Command
from servers.ssh.local import Local
from servers.ssh.memory import MemoryFile
from servers.ssh.transport import TooMuchOutput

NEWEST_INDEXED = 3
LONGEST_NAME = 200  # characters; as Archive.name
ROWS_AT_ONCE = 500
COMMENT = "Imported"

# Somebody said that this repository is theirs and lies here: only now may borg meet it for the first time, or anew.
INTRODUCED = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
OPEN_TO_READERS = {
    "none": "The repository is not encrypted: whoever can read its folder can read all that is saved in it.",
    "authenticated": "The repository is authenticated, but not encrypted: whoever can read its folder can read it.",
}


class KeyMissing(Failure):
    cause = Cause.PASSPHRASE
    advice = (
        "Import it again with the key file's text: it is in ~/.config/borg/keys on the machine that made it, "
        "and `borg key export` prints it there."
    )


class KnownAlready(Failure):
    cause = Cause.BORG
    advice = "A repository is known once. If this is a copy of it, put the copy in the place of the other one."


class Introduction(Follower):
    """Borg asks whether it may read what it meets for the first time; INTRODUCED has the answer."""

    def _hear(self, event: Event) -> None:
        if isinstance(event, Question):
            self._log.info(event.text)
        else:
            super()._hear(event)


class ImportRepository(RepositoryRunner):
    """Get to know a repository that exists, with all of its archives. Nothing in it is changed."""

    type = "import"
    label = _("Import of a repository")
    permission = Permission.BACKUP_MANAGE
    icon = "database-search"
    # Borg measures all archives without a word: the first time it reads the list of files of every one of them.
    idle_limit_seconds = 12 * 60 * 60

    _key_file = ""  # where borg finds the key that was given, while it is asked

    @classmethod
    def begin(
        cls, *, server: Server, pool: StoragePool, name: str, passphrase: str, key: str = "", user: User | None = None,
        trigger: Job.Trigger = Job.Trigger.USER,
    ) -> Job:  # fmt: skip
        """Take note of the repository, its secrets encrypted, and start. `pool` may be a new one. Raises Refused."""
        with transaction.atomic():
            if pool.pk is None:
                pool.save()
                audit.record("pool.added", user=user, target=pool.name, detail={"path": pool.path})
                CheckPool.enqueue(pool, user=user, trigger=trigger)
            StoragePool.objects.select_for_update().get(pk=pool.pk)  # two at once for one folder: the second is refused
            repository, made = Repository.objects.get_or_create(pool=pool, name=name, defaults={"server": server})
            if not made:
                refuse_in_use(repository)
                _refuse_other_server(repository, server)
            Repository.objects.filter(pk=repository.pk).update(
                state=Repository.State.CREATING, server=server, borg_id="", kit_stored_at=None,
                passphrase_encrypted=encryption.encrypt(passphrase),
                key_encrypted=encryption.encrypt(key) if key else "",
            )  # fmt: skip
            repository.refresh_from_db()
            return cls.enqueue(repository, user=user, trigger=trigger)

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        """Only `begin` starts it: of an import that failed the secrets are gone, so it cannot be run as it was."""
        if subject.state == Repository.State.FAILED:
            raise Refused(
                gettext("Import %(name)s again with its passphrase: it was not kept.") % {"name": subject.name}
            )
        refuse_in_use(subject)

    @classmethod
    def ended(cls, job: Job) -> None:
        if job.status == Job.Status.COMPLETED and job.repository:
            give_key(job.repository)
        elif job.repository:
            undone = Repository.objects.filter(pk=job.repository.pk, state=Repository.State.CREATING)
            undone.update(state=Repository.State.FAILED, passphrase_encrypted="", key_encrypted="", borg_id="")

    def run(self) -> dict[str, Any]:
        repository = self.subject
        self.log.phase("look")
        if not repository.pool.is_remote:
            self._look_here(repository)
        with ExitStack() as stack:
            if repository.key_encrypted:
                self._key_file = stack.enter_context(MemoryFile(encryption.decrypt(repository.key_encrypted))).path
            access = self.here(repository)
            listed = self._list(access)
            self._claim(listed.repository_id)
            if warning := _warning(listed.encryption):
                self.log.warning(warning)
            self.log.phase("key")
            key = self._key(access, listed.encryption)
            self.log.phase("archives")
            totals, archives = self._archives(access, listed)
        insist(lambda: self._record(listed, key, totals, archives))
        self.log.info(f"{repository.name} is known now, with {len(archives):,} archives.")
        return {"borg_id": listed.repository_id, "encryption": listed.encryption, "archives": len(archives)}

    def _look_here(self, repository: Repository) -> None:
        """What can be seen without borg says in better words what is wrong. Raises Failure."""
        if not Path(repository.pool.path).is_dir():
            raise PoolUnusable(f"The folder {repository.pool.path} does not exist on the worker's machine.")
        path = Path(repository.path)
        self._claim(look_at(path))
        if not os.access(path, os.W_OK):
            self.log.warning(f"We may only read {path} on the worker's machine: backups to it will fail.")

    # --- What is asked of borg ----------------------------------------------------------------

    def _pieces(self, command: Command, name: str) -> Iterator[bytes]:
        """What a borg of our own prints, that must succeed. Raises Failure at its end."""
        key = {"BORG_KEY_FILE": self._key_file} if self._key_file else {}
        command = replace(command, env={**command.env, **INTRODUCED, **key})
        self.log.info(f"$ {command}")
        follower = Introduction(self.log, worst=Level.INFO)
        machine = Local()
        with machine.start(command, self.log.checkpoint) as process:
            yield from follower.stdout_of(process)
        refuse_without_borg(machine, command, follower.ran)
        if not follower.ran.is_ok:
            raise _failure_of(name, follower.ran)

    def _told(self, command: Command, name: str) -> bytes:
        """The same at once, for an answer that fits into memory."""
        stdout = b""
        for piece in self._pieces(command, name):
            stdout += piece
            if len(stdout) > RESULT_LIMIT:
                raise TooMuchOutput(f"borg {name} printed more than {RESULT_LIMIT // 1024**2} MB.")
        return stdout

    def _list(self, access: Access) -> RepositoryInfo:
        try:
            return parse_archives(self._told(commands.list_archives(access), "list"))
        except Unreadable as error:
            raise Failure(f"The list of {self.subject.name} cannot be read: {error}.") from error

    def _key(self, access: Access, mode: str) -> str:
        """As `key export` prints it; `_told` logs the command, never the answer."""
        if mode == "none":
            return ""
        try:
            return parse_key(self._told(commands.key_export(access), "key export"))
        except Unreadable as error:
            raise Failure(f"The key of {self.subject.name} cannot be read: {error}.") from error

    def _archives(self, access: Access, listed: RepositoryInfo) -> tuple[Totals, list[Described]]:
        about = self._told(commands.info(access), "info")
        wanted = {item.archive_id for item in listed.archives}
        found: dict[str, Described] = {}
        try:
            totals = parse_totals(about)
            for described in self._descriptions(access, about) if wanted else ():
                if described.result.archive_id in wanted:  # borg tells of checkpoints too, and of what is new
                    found[described.result.archive_id] = described
        except Unreadable as error:
            raise Failure(f"What borg says of {self.subject.name} cannot be read: {error}.") from error
        for described in found.values():
            _refuse_long_name(described.result.name)
        return totals, list(found.values())

    def _descriptions(self, access: Access, about: bytes) -> Iterator[Described]:
        every = access.command("info", "--log-json", "--bypass-lock", "--json", "--glob-archives=*", access.location)
        return parse_descriptions(self._pieces(every, "info"), about)

    def _row(self, described: Described) -> Archive:
        repository, told = self.subject, described.result
        return Archive(
            repository=repository, server=repository.server, job=self.job, name=told.name, borg_id=told.archive_id,
            start=told.start, taken_at=told.start, end=told.end, duration=told.duration, original_bytes=told.original,
            compressed_bytes=told.compressed, deduplicated_bytes=told.deduplicated, files=told.files,
            command_line=described.command_line, comment=COMMENT,
        )  # fmt: skip

    # --- What is stored -----------------------------------------------------------------------

    def _claim(self, borg_id: str) -> None:
        """Say first whose id this is, then look: of two that import the same one, at least one sees the other."""
        Repository.objects.filter(pk=self.subject.pk).update(borg_id=borg_id)
        if other := Repository.objects.filter(borg_id=borg_id).exclude(pk=self.subject.pk).first():
            raise KnownAlready(
                f"This repository is known already: it is {other.name} in the storage pool {other.pool}."
            )

    @transaction.atomic
    def _record(self, listed: RepositoryInfo, key: str, totals: Totals, archives: list[Described]) -> None:
        now = timezone.now()
        mine = Repository.objects.filter(pk=self.subject.pk, state=Repository.State.CREATING)
        if not mine.update(
            state=Repository.State.READY, borg_id=listed.repository_id, compared_at=now, measured_at=now,
            key_encrypted=encryption.encrypt(key) if key else "", encryption=listed.encryption,
            original_bytes=totals.original,
            compressed_bytes=totals.compressed, deduplicated_bytes=totals.deduplicated,
        ):  # fmt: skip
            raise Superseded
        Archive.objects.bulk_create([self._row(described) for described in archives], batch_size=ROWS_AT_ONCE)
        self.subject.note_archives()
        newest = Archive.objects.filter(repository=self.subject).order_by("-start", "-id")[:NEWEST_INDEXED]
        for archive in newest.select_related("plan", "server", "repository__pool"):
            IndexArchive.enqueue(archive, trigger=Job.Trigger.SYSTEM)
        self.subject.refresh_from_db(fields=["state"])
        IndexRepository.enqueue(self.subject, trigger=Job.Trigger.SYSTEM)  # and then the others
        audit.record(
            "repository.imported", user=self.job.user, target=self.subject.name,
            detail={"path": self.subject.path, "borg_id": listed.repository_id, "archives": len(archives),
                    "encryption": listed.encryption, "job": str(self.job.pk)},
        )  # fmt: skip


def refuse_in_use(repository: Repository) -> None:
    """Raise Refused unless the repository is one that could not be made or imported."""
    name = {"name": repository.name}
    if repository.state == Repository.State.READY:
        raise Refused(gettext("The repository %(name)s is known already.") % name)
    if other := Job.objects.unfinished().filter(subject=subject_key(repository)).first():
        raise Refused(gettext("The repository %(name)s is still being made.") % name, job=other)


def _refuse_other_server(repository: Repository, server: Server) -> None:
    plan = repository.plans.exclude(server=server).first()
    if plan:
        sentence = gettext("The plan %(plan)s of another server saves into %(name)s.")
        raise Refused(sentence % {"plan": plan.name, "name": repository.name})


def _refuse_long_name(name: str) -> None:
    if len(name) > LONGEST_NAME:
        sentence = f"The name of the archive {name[:40]}... is longer than {LONGEST_NAME} characters."
        raise Failure(sentence, advice="Rename it (borg rename), and import the repository again.")


def _warning(mode: str) -> str:
    return OPEN_TO_READERS.get(mode.removesuffix("-blake2"), "")


def _failure_of(command: str, ran: Ran) -> Failure:
    said = {message.msgid for message in ran.messages}
    if "KeyfileNotFoundError" in said:
        return KeyMissing("The repository does not hold its key, and no key file was given.")
    if said & {"KeyfileMismatchError", "KeyfileInvalidError"}:
        return KeyMissing("The key file is not this repository's.")
    failure = failure_of(command, ran.code, ran.messages)
    if isinstance(failure, PassphraseWrong):
        return PassphraseWrong(str(failure), advice="Import it again with the right one. Nothing of this one was kept.")
    return failure

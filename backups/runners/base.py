"""What the runners share: following a borg, and getting at a repository."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import encryption
from backups import locks, pools
from backups.borg import commands
from backups.borg.commands import Access
from backups.borg.errors import WARNING_CODES, failure_of
from backups.borg.events import Event, Message, Percent, Progress, Question, Raw, Step, parse_line, unescaped
from backups.models import Archive, Plan, Repository, StoragePool
from jobs.errors import Cause, Failure
from jobs.log import JobLog, Level
from jobs.models import Job
from jobs.runner import JobRunner, Refused
from servers.models import Server
from servers.ssh.command import NOT_EXECUTABLE, NOT_FOUND, Command
from servers.ssh.local import Local
from servers.ssh.memory import MemoryFile
from servers.ssh.openssh import Identity, rsh
from servers.ssh.relay import Relay
from servers.ssh.remote import Remote
from servers.ssh.transport import NoProgram, NoSudo, Process, TooMuchOutput, Transport

Subject = TypeVar("Subject", bound=models.Model)

RESULT_LIMIT = 16 * 1024 * 1024  # bytes of standard output that are kept in memory
MESSAGES_KEPT = 1_000
PATHS_KEPT = 100
# As in “/x: open: [Errno 13] Permission denied: 'x'” or “/x: file changed while we backed it up”.
FILE_WARNING = re.compile(
    r"(?P<path>/.*?): (?:\w+: )?(?P<why>\[Errno (?P<errno>\d+)\] .*|file changed while .*)", re.DOTALL
)
NO_SUCH_FILE = 2
# Of each `pf:` pattern borg 1.2 says that, whatever it found.
NEVER_MATCHED = re.compile(r"Include pattern '(?P<path>.*)' never matched\.", re.DOTALL)


@dataclass(frozen=True)
class FileWarning:
    """A file that borg could not save as it is."""

    path: str
    why: str


@dataclass
class Ran:
    """A borg that has ended."""

    code: int | None
    stdout: bytes = b""
    messages: list[Message] = field(default_factory=list)
    file_warnings: list[FileWarning] = field(default_factory=list)
    unreadable: int = 0  # how many file warnings there were in all
    missing: set[str] = field(default_factory=set)  # of the source paths, without a slash at their ends
    noise: str = ""  # the last line that was not borg's

    @property
    def is_ok(self) -> bool:
        return self.code == 0

    @property
    def has_warnings(self) -> bool:
        return self.code in WARNING_CODES


class Follower:
    """Reads a borg to its end: its words into the job's log, its progress into the job's row.

    What an attempt before this one wrote of a borg that runs detached is only remembered.
    """

    def __init__(
        self, log: JobLog, *, total: int | None = None, worst: Level = Level.ERROR, sources: Iterable[str] = (),
        untrue: re.Pattern[str] | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        self._sources = {path.rstrip("/") for path in sources}
        self._worst = worst  # the log shows nothing of this borg as worse than that
        self._untrue = untrue  # what it is known to say wrongly: nobody is told
        self._total = total  # bytes that `create` will read, about; None: nobody knows
        self._rate = Rate()
        self._heard = False
        self._known = False
        self.ran = Ran(None)

    def stdout_of(self, process: Process) -> Iterator[bytes]:
        """Yield standard output as it comes, while standard error goes where it belongs."""
        for output in process:
            if isinstance(output, bytes):
                yield output
            else:
                self._known = process.position is not None and self._log.has_read(process.position)
                for line in unescaped(output):
                    self._hear(parse_line(line))
                if process.position is not None:
                    self._log.read_to(process.position)
        self.ran.code = process.exit_code()

    def _hear(self, event: Event) -> None:
        if not self._heard and isinstance(event, Progress | Percent | Step | Message):
            self._heard = True
            self._log.progress(first_word=timezone.now().isoformat())
        match event:
            case Message():
                self._message(event)
            case Raw():
                self.ran.noise = event.text
                if not self._known:
                    self._log.debug(event.text)
            case _ if self._known:
                pass
            case Progress():
                self._progress(event)
            case Percent():
                self._percent(event)
            case Step():
                self._log.progress(step=event.text)
            case Question():
                self._log.warning(f"borg asked, and got no answer: {event.text}")

    def _progress(self, seen: Progress) -> None:
        if self._total and seen.original > self._total:
            self._total = None  # more than there was the last time: nobody knows how much more
        self._log.progress(
            files=seen.files, original=seen.original, compressed=seen.compressed, deduplicated=seen.deduplicated,
            path=seen.path, rate=self._rate.of(seen.original), total=self._total,
            percent=min(99, seen.original * 100 // self._total) if self._total else None,
        )  # fmt: skip

    def _percent(self, seen: Percent) -> None:
        if not seen.total:
            return
        percent = min(100, seen.current * 100 // seen.total)
        if seen.operation == "extract":  # in bytes
            rate = self._rate.of(seen.current)
            self._log.progress(
                original=seen.current, total=seen.total, path=seen.path, rate=rate, percent=percent, exact=True
            )
        else:
            self._log.progress(percent=percent, exact=True)

    def _message(self, message: Message) -> None:
        if self._untrue and self._untrue.fullmatch(message.text):
            return
        level = min(_level(message.level), self._worst)
        if self._known:
            self._log.recall(level)
        else:
            self._log.write(level, message.text)
        if len(self.ran.messages) < MESSAGES_KEPT or message.level >= Level.ERROR:
            self.ran.messages = [*self.ran.messages[-MESSAGES_KEPT:], message]
        if message.level == Level.WARNING and (found := FILE_WARNING.fullmatch(message.text)):
            self.ran.unreadable += 1
            if found["errno"] == str(NO_SUCH_FILE) and (path := found["path"].rstrip("/")) in self._sources:
                self.ran.missing.add(path)
            if len(self.ran.file_warnings) < PATHS_KEPT:
                self.ran.file_warnings.append(FileWarning(found["path"], found["why"][:300]))


class Rate:
    """Bytes per second over the last quarter of a minute or so."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def of(self, done: int) -> int | None:
        now = timezone.now().timestamp()
        self._marks = [*(mark for mark in self._marks if now - mark[0] < 15), (now, done)]
        since, before = self._marks[0]
        return int((done - before) / (now - since)) if now - since >= 1 else None


class BorgRunner(JobRunner[Subject]):
    """A job that runs borg. The passphrase is decrypted here, and goes from here to borg's standard input."""

    # How many seconds of silence a borg may have: it reads single large files without a word.
    idle_limit_seconds: ClassVar[int] = 60 * 60

    def here(self, repository: Repository) -> Access:
        """The repository as our own borg sees it, which may do everything: where it lies, or over SSH."""
        pool = repository.pool
        return Access(
            repository.location, repository.passphrase(), borg=settings.BORG_PATH,
            base_dir=str(settings.BORG_BASE_DIR), host_id=locks.host_id(), key_file=self._key_of(repository),
            rsh=self._identity_of(pool).rsh if pool.is_remote else "", remote_borg=pool.borg_command,
        )  # fmt: skip

    def _identity_of(self, pool: StoragePool) -> Identity:
        """Our key for the pool's account; in memory, as long as this runner is."""
        if pool.pk not in self._identities:
            self._identities[pool.pk] = pool.identity()
        return self._identities[pool.pk]

    @cached_property
    def _identities(self) -> dict[int, Identity]:
        return {}

    def _key_of(self, repository: Repository) -> str:
        """The path of its key, for a repository that does not hold it; it is in memory, as long as this runner is."""
        if not repository.encryption.startswith("keyfile"):
            return ""
        if repository.pk not in self._keys:
            self._keys[repository.pk] = MemoryFile(encryption.decrypt(repository.key_encrypted))
        return self._keys[repository.pk].path

    @cached_property
    def _keys(self) -> dict[int, MemoryFile]:
        return {}

    def make_way(self, repository: Repository) -> None:
        """Before borg writes: room for its lock on a full disk, and no lock of the dead.

        A lock is broken when its holder is proven dead, and told of otherwise. The caller holds the
        repository in the database, so no other job of ours is at work in it.
        """
        if not repository.pool.is_remote and pools.give_up_reserve(repository.pool.path):
            self.log.warning("The storage pool's disk is full: the reserve was given up, so that borg can tidy up.")
        for holder in self.holders(repository):
            self.log.warning(f"The repository is locked by process {holder.pid} of {holder.host}. {holder.proof}")
            if holder.verdict == locks.Verdict.DEAD:
                self.ask(commands.break_lock(self.here(repository)), "break-lock")
                self.log.warning("The lock was broken.")
                return

    def holders(self, repository: Repository) -> list[locks.Holder]:
        """Who has locked the repository, and whether that borg lives."""
        if not repository.pool.is_remote:
            return locks.holders(Path(repository.path))
        with repository.pool.connect() as account:
            return locks.holders_at(account, repository.path, self.log.checkpoint)

    @contextmanager
    def reached(self, repository: Repository, server: Server) -> Iterator[tuple[Remote, Access]]:
        """Log in to `server`, whose borg has a way to the repository: through us, or by itself. Raises Failure."""
        self.log.phase("connect")
        self.make_way(repository)
        way = self._by_itself if repository.pool.is_remote else self._through_us
        with server.connect() as remote, way(repository, remote) as (location, rsh):
            self.log.info(f"Connected to {server.name} ({remote.login}).")
            yield remote, self.there(repository, location, rsh)

    def there(self, repository: Repository, location: str, rsh: str) -> Access:
        """The repository as the borg on its server sees it."""
        return Access(
            location, repository.passphrase(), borg=repository.server.borg_path or "borg", rsh=rsh, as_root=True,
            # The server may know an imported one from elsewhere, until our first backup has told it where it is.
            introduce=not repository.archives.exclude(plan=None).exists(),
        )  # fmt: skip

    @contextmanager
    def _through_us(self, repository: Repository, remote: Remote) -> Iterator[tuple[str, str]]:
        """The relay: on this session, to a borg serve of ours."""
        our_end = commands.serve(
            settings.BORG_PATH, repository.path, base_dir=str(settings.BORG_BASE_DIR), host_id=locks.host_id()
        )
        with Relay(remote, our_end, self.log.checkpoint) as relay:
            try:
                yield f"ssh://phpborg{repository.path}", relay.rsh
            finally:
                for complaint in relay.complaints:
                    self.log.debug(f"borg serve: {complaint}")

    @contextmanager
    def _by_itself(self, repository: Repository, _remote: Remote) -> Iterator[tuple[str, str]]:
        """Direct access: over SSH, with the server's own key for this repository."""
        key = repository.server_key_path
        yield repository.location, rsh(key, f"{key}.known_hosts")

    def follow(
        self, machine: Transport, command: Command, *, total: int | None = None, worst: Level = Level.ERROR,
        sources: Iterable[str] = (),
    ) -> Ran:  # fmt: skip
        """Run `command` to its end and return what it said; `sources` are looked out for. Raises TooMuchOutput."""
        self.log.info(f"$ {command}")
        follower = Follower(self.log, total=total, worst=worst, sources=sources)
        with machine.start(command, self.log.checkpoint) as process:
            for piece in follower.stdout_of(process):
                if len(follower.ran.stdout) + len(piece) > RESULT_LIMIT:
                    raise TooMuchOutput(
                        f"borg printed more than {RESULT_LIMIT // 1024**2} MB where a few kB are usual."
                    )
                follower.ran.stdout += piece
        refuse_without_borg(machine, command, follower.ran)
        return follower.ran

    def ask(self, command: Command, name: str) -> Ran:
        """Run a borg of our own that must succeed; what it warns of then is only advice. Raises Failure."""
        ran = self.follow(Local(), command, worst=Level.INFO)
        if not ran.is_ok:
            raise failure_of(name, ran.code, ran.messages)
        return ran


class RepositoryRunner(BorgRunner[Repository]):
    """A job about one repository, which nobody else may have meanwhile."""

    model = Repository

    @classmethod
    def holds(cls, job: Job) -> str | None:
        return f"repository:{job.repository_id}"

    @classmethod
    def scope(cls, subject: Repository) -> dict[str, Any]:
        return {"server": subject.server, "repository": subject, "place": subject.pool.place}


class PlanRunner(BorgRunner[Plan]):
    """A job about one plan: its server and its repository."""

    model = Plan

    @classmethod
    def scope(cls, subject: Plan) -> dict[str, Any]:
        return {
            "plan": subject, "server": subject.server, "repository": subject.repository,
            "place": subject.repository.pool.place,
        }  # fmt: skip


class ArchiveRunner(BorgRunner[Archive]):
    """A job about one archive: whose it is."""

    model = Archive

    @classmethod
    def scope(cls, subject: Archive) -> dict[str, Any]:
        return {
            "plan": subject.plan, "server": subject.server, "repository": subject.repository,
            "place": subject.repository.pool.place,
        }  # fmt: skip


def refuse_without_borg(machine: Transport, command: Command, ran: Ran) -> None:
    """Raise NoProgram or NoSudo when it was not borg that ended the command, but the shell or sudo."""
    if ran.messages or ran.is_ok:
        return
    if ran.noise.startswith("sudo:"):
        raise NoSudo(f"sudo on {machine.name} does not let us run borg: {ran.noise.removeprefix('sudo:').strip()}.")
    if ran.code in (NOT_EXECUTABLE, NOT_FOUND):
        raise NoProgram(
            f"{command.argv[0]} was not found on {machine.name}, or cannot be run.",
            advice="Test the connection to the server: it finds out where borg is now.",
        )


def refuse_unready(repository: Repository) -> None:
    """For the `refuse` of every job that reads a repository. Raises Refused."""
    name = {"name": repository.name}
    if repository.state == Repository.State.CREATING:
        raise Refused(_("The repository %(name)s is still being made.") % name)
    if repository.state == Repository.State.FAILED:
        raise Refused(_("The repository %(name)s could not be made. Look at its page.") % name)


def refuse_keyless(repository: Repository) -> None:
    """For the `refuse` of every job in which the server's own borg reaches the repository. Raises Refused."""
    if repository.pool.is_remote and not repository.server_key:
        sentence = _("The server has no key for the repository %(name)s yet. Look at its page.")
        raise Refused(sentence % {"name": repository.name})


def refuse_damaged(repository: Repository) -> None:
    """For the `refuse` of every job that writes to a repository. Raises Refused."""
    refuse_unready(repository)
    if repository.damage:
        sentence = _("The repository %(name)s is damaged: nothing is written to it. Look at its page.")
        raise Refused(sentence % {"name": repository.name})


def refuse_frozen(repository: Repository) -> None:
    """For the `refuse` of every job that deletes from a repository, for good or not. Raises Refused."""
    refuse_damaged(repository)
    if repository.frozen:
        sentence = _("The repository %(name)s is frozen: look at its page, and decide there.")
        raise Refused(sentence % {"name": repository.name})


class Unfit(Failure):
    cause = Cause.DISK
    advice = "Look at the repository's page."


def still(refuse: Callable[[Repository], None], repository: Repository) -> None:
    """At the start of `run`: what stood in nobody's way when the job was started may do so by now. Raises Failure.

    A job may have waited for the very check that found the damage.
    """
    try:
        refuse(repository)
    except Refused as refusal:
        raise Unfit(str(refusal)) from refusal


def _level(level: int) -> Level:
    return Level(min(max(level // 10 * 10, Level.DEBUG), Level.ERROR))

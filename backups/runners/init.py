import contextlib
import secrets
import shutil
from pathlib import Path
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import encryption
from accounts.access import Permission
from backups.borg import commands
from backups.borg.commands import Access
from backups.borg.errors import BorgFailed, RepositoryExists
from backups.borg.results import Unreadable, parse_archives, parse_key
from backups.models import Repository
from backups.runners.base import RepositoryRunner
from backups.runners.keys import give_key
from backups.runners.pool import PoolUnusable
from jobs.errors import Failure
from jobs.models import Job
from jobs.runner import Refused
from servers.ssh.command import Command


class InitRepository(RepositoryRunner):
    """Make the repository with a passphrase that nobody has seen, and put its key aside."""

    type = "init"
    label = _("Repository creation")
    permission = Permission.BACKUP_MANAGE
    icon = "database-plus"
    priority = Job.Priority.HIGH
    idle_limit_seconds = 300

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        if subject.state == Repository.State.READY:
            raise Refused(gettext("The repository %(name)s exists already.") % {"name": subject.name})

    @classmethod
    def ended(cls, job: Job) -> None:
        if job.status == Job.Status.COMPLETED and job.repository:
            give_key(job.repository)
        elif job.repository:
            # However it ended, also if its worker disappeared: nobody is making it any more.
            undone = Repository.objects.filter(pk=job.repository.pk, state=Repository.State.CREATING)
            undone.update(state=Repository.State.FAILED)

    def run(self) -> dict[str, Any]:
        repository = self.subject
        if repository.pool.is_remote:
            self._make_there(repository)
        else:
            self._make_here(repository, Path(repository.path))
        return {"borg_id": repository.borg_id}

    def _make_here(self, repository: Repository, path: Path) -> None:
        refuse_taken(path)
        self._new_passphrase(repository)
        try:
            self._make(repository)
        except BaseException:
            self._store(state=Repository.State.FAILED, passphrase_encrypted="")
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path)  # empty, or not there, before we came
            raise

    def _make_there(self, repository: Repository) -> None:
        """At an SSH account nothing is tidied up: what failed is kept, and may be what the next try goes on with."""
        if not repository.passphrase_encrypted:
            self._new_passphrase(repository)
        self._store(state=Repository.State.CREATING)
        try:
            self._make(repository)
        except BaseException:
            self._store(state=Repository.State.FAILED)
            raise

    def _new_passphrase(self, repository: Repository) -> None:
        # Stored before borg sees it: whatever happens to us, no repository has a passphrase that nobody knows.
        self._store(state=Repository.State.CREATING, passphrase_encrypted=encryption.encrypt(secrets.token_urlsafe(32)))
        repository.refresh_from_db()

    def _make(self, repository: Repository) -> None:
        access = self.here(repository)
        self.log.phase("init")
        taken = self._init(access)
        self.log.phase("key")
        try:
            found = parse_archives(self._listed(access, taken))
            if taken and found.archives:
                raise taken
            key = parse_key(self._quietly(commands.key_export(access)))
        except Unreadable as error:
            raise Failure(f"The new repository does not answer as it should: {error}.") from error
        repository.borg_id = found.repository_id
        self._store(state=Repository.State.READY, borg_id=found.repository_id, key_encrypted=encryption.encrypt(key))

    def _init(self, access: Access) -> RepositoryExists | None:
        """At an account there may be one that a try of ours made before its connection broke: then it is no error."""
        try:
            self.ask(commands.init(access), "init")
        except RepositoryExists as error:
            if not self.subject.pool.is_remote:
                raise
            self.log.info("It is ours if our passphrase opens it, and nothing is in it.")
            return error
        return None

    def _listed(self, access: Access, taken: RepositoryExists | None) -> bytes:
        try:
            return self.ask(commands.list_archives(access), "list").stdout
        except BorgFailed as error:
            raise taken or error from error

    def _quietly(self, command: Command) -> bytes:
        """The key is borg's own answer on standard output; `ask` logs the command, never the answer."""
        return self.ask(command, "key export").stdout

    def _store(self, **changes: Any) -> None:
        Repository.objects.filter(pk=self.subject.pk).update(**changes)


def refuse_taken(path: Path) -> None:
    """Raise PoolUnusable unless a repository can be made at `path`."""
    try:
        if not path.parent.is_dir():
            raise PoolUnusable(f"The storage pool's folder {path.parent} does not exist on the worker's machine.")
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except PermissionError as error:
        raise PoolUnusable(f"We may not look into {path.parent} on the worker's machine.") from error
    if taken:
        raise PoolUnusable(f"{path} exists already on the worker's machine, and is not empty.")

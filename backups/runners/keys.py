"""The key with which a server's own borg reaches its repository at an SSH account, and may do nothing but add."""

import contextlib
import re
from typing import Any

from django import forms
from django.db import transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import audit
from accounts.access import Permission
from accounts.models import User
from backups.borg import commands
from backups.models import Repository, StoragePool
from backups.runners.base import RepositoryRunner, refuse_unready
from backups.runners.pool import CheckPool
from jobs.errors import Cause, Failure
from jobs.models import Job
from jobs.runner import Refused
from servers.runners.base import refuse_unusable
from servers.ssh import authorized, files
from servers.ssh.command import Command
from servers.ssh.openssh import known_hosts_line, rsh
from servers.ssh.remote import HostKey, Remote
from servers.ssh.transport import ConnectionLost, NoProgram, Unreachable, run

AUTHORIZED_KEYS = ".ssh/authorized_keys"
# What a server says is its key becomes a line in the account's authorized_keys: it must be a key, and nothing else.
PUBLIC_KEY = re.compile(r"(ssh-ed25519 AAAAC3NzaC1lZDI1NTE5[A-Za-z0-9+/]{48})(?: .*)?")
KEY_PATH = re.compile(r"/[^\0\n\"]{1,280}")
MARK = "phpborg-key "

# $1 the repository's number, $2 a comment, $3 the account's line for known_hosts, $4 "new" for another key than before.
MAKE = r"""
umask 077
d="$HOME/.phpborg/keys"; k="$d/repository-$1"
mkdir -p "$d" || exit 1
if [ "$4" = new ] || ! [ -s "$k.pub" ]; then
  rm -f "$k" "$k.pub"
  ssh-keygen -q -t ed25519 -N "" -C "$2" -f "$k" </dev/null || exit 1
fi
printf '%s' "$3" >"$k.known_hosts" || exit 1
echo; echo "$0$k"; cat "$k.pub"
"""
UNMAKE = 'k="$HOME/.phpborg/keys/repository-$1"; rm -f "$k" "$k.pub" "$k.known_hosts"'
ANYTHING = "phpborg-may-run-anything"


class KeyUnusable(Failure):
    cause = Cause.AUTHENTICATION
    advice = "Look at the storage pool's page, and at ~/.ssh/authorized_keys of its account; then give the key again."


class KeyForm(forms.Form):
    renew = forms.BooleanField(
        label=_("Make a new key"),
        required=False,
        help_text=_("The server's present one is worth nothing afterwards."),
    )


class GiveKey(RepositoryRunner):
    """Let the server make itself a key, let the account take it for this one repository, and prove that both work."""

    type = "give_key"
    label = _("Server's key")
    permission = Permission.BACKUP_MANAGE
    form = KeyForm
    icon = "key"
    priority = Job.Priority.HIGH
    idle_limit_seconds = 300

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        refuse_without_account(subject)
        refuse_unready(subject)
        refuse_unusable(subject.server)

    def run(self) -> dict[str, Any]:
        repository = self.subject
        self.log.phase("give")
        with repository.server.connect() as remote:
            path, key = self._make(remote)
            line = authorized.forced(key, str(commands.serve_only(self._borg, repository.path)))
            if repository.pool.keys_by_hand:
                self.log.info(f"This line must be entered where the account is managed: {line}")
            else:
                self._install(line, key)
            self.log.phase("proof")
            self._prove(remote, path, line)
        _store(self, "server_key.given", key=key, path=path)
        self.log.info(f"{repository.server.name} reaches the repository by itself, and can only add to it.")
        return {"line": line}

    @property
    def _borg(self) -> str:
        return self.subject.pool.borg_command or "borg"

    @property
    def _comment(self) -> str:
        return f"phpborg-repository-{self.subject.pk}"

    def _make(self, remote: Remote) -> tuple[str, str]:
        """Where the private key is on the server, and the public one."""
        pool = self.subject.pool
        pinned = known_hosts_line(pool.address, pool.port, HostKey.parse(pool.host_key))
        age = "new" if self.job.payload.get("renew") else ""
        words = (MARK, str(self.subject.pk), self._comment, pinned, age)
        done = run(remote, Command(("sh", "-c", MAKE, *words)), self.log.checkpoint)
        complaint = " ".join(done.stderr)[-200:]
        if done.code != 0:
            raise NoProgram(
                f"{remote.name} could not make itself a key: {complaint or 'no answer'}",
                advice="It needs ssh and ssh-keygen (on Debian: apt install openssh-client).",
            )
        path, _, key = done.text.rpartition(MARK)[2].partition("\n")
        found = PUBLIC_KEY.fullmatch(key)
        if not found or not KEY_PATH.fullmatch(path):
            raise KeyUnusable(f"What {remote.name} says is its key is none.")
        return path, f"{found[1]} {self._comment}"

    def _install(self, line: str, key: str) -> None:
        """Into the account's authorized_keys, in the place of the one that it had for this repository."""
        with self.subject.pool.connect() as account, files.session(account) as sftp:
            text = files.read(sftp, AUTHORIZED_KEYS).decode("utf-8", "surrogateescape")
            others = authorized.without_comment(text, self._comment)
            if authorized.without_key(others, key) != others:
                # A server that claims the key of another one, or ours, would put it under its own restriction.
                raise KeyUnusable("The account has this key for somebody else already: nothing was changed.")
            files.replace(sftp, AUTHORIZED_KEYS, authorized.with_line(others, line).encode("utf-8", "surrogateescape"))
        self.log.info(f"The account {self.subject.pool.where} lets it in: {line}")

    def _prove(self, remote: Remote, path: str, line: str) -> None:
        """The server's borg gets in with it, and nothing else does. Raises KeyUnusable."""
        repository, pool = self.subject, self.subject.pool
        ssh = rsh(path, f"{path}.known_hosts")
        words = f'exec {ssh} -p {pool.port} "$0" echo {ANYTHING} </dev/null'
        asked = run(remote, Command(("sh", "-c", words, f"{pool.username}@{pool.address}")), self.log.checkpoint)
        if ANYTHING in asked.text:
            sentence = "The account lets the server's key run anything, not only borg for this repository."
            raise KeyUnusable(sentence, advice=f"Let the line for it be: {line}", result={"line": line})
        access = self.there(repository, repository.location, ssh)
        ran = self.follow(remote, commands.list_archives(access))
        if not ran.is_ok:
            said = " ".join(asked.stderr)[-200:].strip() or ran.noise
            advice = (
                f"Enter this line where the account is managed, then try again: {line}" if pool.keys_by_hand else ""
            )
            raise KeyUnusable(
                f"The borg of {remote.name} does not get into the repository with its key: {said or 'no answer'}.",
                advice=advice if pool.keys_by_hand else "", result={"line": line},
            )  # fmt: skip


class TakeKey(RepositoryRunner):
    """Take the server's key away: first at the account, where it counts, then on the server."""

    type = "take_key"
    label = _("Removal of the server's key")
    permission = Permission.BACKUP_MANAGE
    icon = "key-off"
    priority = Job.Priority.HIGH
    idle_limit_seconds = 300

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        refuse_without_account(subject)
        if not subject.server_key:
            raise Refused(gettext("The server has no key for %(name)s.") % {"name": subject.name})

    def run(self) -> dict[str, Any]:
        repository, pool = self.subject, self.subject.pool
        if pool.keys_by_hand:
            self.log.warning(f"Remove this key by hand, where the account is managed: {repository.server_key}")
        else:
            with pool.connect() as account, files.session(account) as sftp:
                text = files.read(sftp, AUTHORIZED_KEYS).decode("utf-8", "surrogateescape")
                kept = authorized.without_key(text, repository.server_key)
                files.replace(sftp, AUTHORIZED_KEYS, kept.encode("utf-8", "surrogateescape"))
            self.log.info(f"The account {pool.where} does not let it in any more.")
        _store(self, "server_key.taken", key="", path="")
        try:
            with repository.server.connect() as remote:
                run(remote, Command(("sh", "-c", UNMAKE, "phpborg", str(repository.pk))), self.log.checkpoint)
        except (Unreachable, ConnectionLost) as error:
            self.log.warning(f"On {repository.server.name} the file stays, and is worth nothing any more: {error}")
        return {}


@transaction.atomic
def _store(runner: RepositoryRunner, action: str, *, key: str, path: str) -> None:
    repository = runner.subject
    detail = {"key": key or repository.server_key, "pool": repository.pool.name, "job": str(runner.job.pk)}
    Repository.objects.filter(pk=repository.pk).update(server_key=key, server_key_path=path)
    audit.record(action, user=runner.job.user, target=repository.name, detail=detail)


def give_key(repository: Repository) -> None:
    """As soon as there is a repository for it; who cannot have it now is told on the repository's page."""
    if repository.pool.is_remote:
        with contextlib.suppress(Refused):
            GiveKey.enqueue(repository, trigger=Job.Trigger.SYSTEM)


def host_key_confirmed(pool: StoragePool, *, user: User | None, trigger: Job.Trigger) -> None:
    """Somebody trusts the key that the account's machine shows now: look again, and let the servers know it too."""
    knowing = pool.repositories.exclude(server_key="").filter(state=Repository.State.READY)
    with contextlib.suppress(Refused):
        CheckPool.enqueue(pool, user=user, trigger=trigger)
    GiveKey.enqueue_all(list(knowing.select_related("pool", "server")), user=user, trigger=trigger)


def refuse_without_account(repository: Repository) -> None:
    """Raise Refused for a repository that a server's borg does not reach by itself."""
    if not repository.pool.is_remote:
        sentence = gettext("The server reaches %(name)s through phpBorg: it needs no key.")
        raise Refused(sentence % {"name": repository.name})

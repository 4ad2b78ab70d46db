import contextlib
from typing import Any, ClassVar

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import audit, encryption
from accounts.access import Permission
from jobs.errors import Cause, Failure
from jobs.models import Job
from servers.keys import new_key_pair
from servers.models import Server
from servers.runners.base import ServerRunner, key_of_server, refuse_unusable
from servers.runners.let_in import last_line
from servers.ssh.command import Command
from servers.ssh.remote import Remote
from servers.ssh.transport import LoginRefused, run

# As the SSH user, with what sed does to each line that is no comment, and a key's base64 text that must be in one.
# The file is replaced as a whole: whoever logs in meanwhile, or pulls the plug, finds the old one or the new one.
EDIT = r"""
umask 077
keys=$(readlink -f "$HOME/.ssh/authorized_keys") && [ -f "$keys" ] || { echo; echo missing; exit; }
grep -v '^[[:space:]]*#' "$keys" | grep -qF -- "$2" || { echo; echo missing; exit; }
new=$(mktemp "$keys.phpborg.XXXXXX") || exit
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM
cp -p "$keys" "$new" && sed -e '/^[[:space:]]*#/b' -e "$1" "$keys" > "$new" && mv -f "$new" "$keys" && echo && echo done
"""


class KeyNotRenewed(Failure):
    cause: ClassVar = Cause.AUTHENTICATION


class RenewKey(ServerRunner):
    """Gives a server another key pair: put beside the old one and tried, and only then is the old one taken away.

    The new line is a copy of the old one: what somebody has written before the key (`from=`, `restrict`) holds for it,
    too. Whatever goes wrong, the database has a key that lets us in: the new one is there once it has proven itself.
    """

    type = "renew_key"
    label = _("Key renewal")
    permission = Permission.SERVER_MANAGE
    icon = "key"
    idle_limit_seconds = 120

    @classmethod
    def holds(cls, job: Job) -> str | None:
        return key_of_server(job)

    @classmethod
    def refuse(cls, subject: Server) -> None:
        refuse_unusable(subject)

    def run(self) -> dict[str, Any]:
        server = self.subject
        if server.leftover_public_key:
            self._take_away_leftover()
        private, public = new_key_pair(f"phpborg@{server}")
        with server.connect() as remote:
            self._leave(public)  # until it is the one that is used: whoever comes after us takes it away
            try:
                self._edit(remote, beside(server.public_key, public), server.public_key)
            except KeyNotRenewed:
                self._leave("")  # the file is as it was
                raise
        self.log.info("A new key stands beside the old one.")
        self._try(private)
        old_private, old_public = server.private_key(), server.public_key
        self._switch(private, public)
        self._take_away_leftover()
        self._prove_gone(old_private, old_public)
        return {"public_key": public}

    def _leave(self, public: str) -> None:
        Server.objects.filter(pk=self.subject.pk).update(leftover_public_key=public)
        self.subject.leftover_public_key = public

    def _take_away_leftover(self) -> None:
        server = self.subject
        key = server.leftover_public_key
        with server.connect() as remote:
            if not self._edit(remote, without(key), key, may_be_gone=True):
                self.log.warning(
                    f"A key that is not used any more was not in ~/.ssh/authorized_keys there. {elsewhere(key)}"
                )
        self._leave("")

    def _try(self, private: str) -> None:
        """Log in with the new key; if that fails, it is taken away again and nothing has changed."""
        try:
            with self.subject.connect(private_key=private):
                self.log.info("It lets us in.")
        except Failure as error:
            with contextlib.suppress(Failure):
                self._take_away_leftover()
            raise KeyNotRenewed(
                f"{self.subject.name} did not take the new key, so the old one stays: {error}", advice=error.own_advice
            ) from error

    @transaction.atomic
    def _switch(self, private: str, public: str) -> None:
        server = self.subject
        detail = {"key": public, "before": server.public_key, "job": str(self.job.pk)}
        Server.objects.filter(pk=server.pk).update(
            private_key_encrypted=encryption.encrypt(private), public_key=public,
            leftover_public_key=server.public_key, key_renewed_at=timezone.now(),
        )  # fmt: skip
        audit.record("server.key_renewed", user=self.job.user, target=server.name, detail=detail)
        server.refresh_from_db()
        self.log.info("From now on it is the one that is used.")

    def _prove_gone(self, private: str, public: str) -> None:
        server = self.subject
        try:
            with server.connect(private_key=private):
                self._leave(public)
        except LoginRefused:
            self.log.info("The old key lets nobody in any more.")
            return
        raise KeyNotRenewed(
            f"The new key is used, but the old one still opens {server.name}: it is written elsewhere there, too.",
            advice=elsewhere(public),
        )

    def _edit(self, remote: Remote, script: str, key: str, *, may_be_gone: bool = False) -> bool:
        """Whether `key` was there. Raises KeyNotRenewed when it is not and should be, or the file cannot be written."""
        words = ("sh", "-c", EDIT, "phpborg", script, base64_of(key))
        done = run(remote, Command(words, env={"LC_ALL": "C"}), self.log.checkpoint)
        outcome, name = last_line(done), self.subject.name
        if done.code == 0 and (outcome == "done" or (outcome == "missing" and may_be_gone)):
            return outcome == "done"
        if outcome == "missing":
            raise KeyNotRenewed(
                f"Our key is not in ~/.ssh/authorized_keys of {self.subject.username} on {name}, but somewhere else.",
                advice="Put it there with the command that the server's page shows, and take it away where it is.",
            )
        complaint = " ".join(line.strip() for line in done.stderr if line.strip())[-300:].rstrip(".") or "no answer"
        raise KeyNotRenewed(
            f"~/.ssh/authorized_keys could not be changed on {name}: {complaint}.",
            advice="See whether the disk is full there, and who may write to ~/.ssh.",
        )


def elsewhere(public_key: str) -> str:
    return f"If it stands elsewhere, take it away: grep -rlF {base64_of(public_key)} /root/.ssh /home/*/.ssh /etc/ssh"


def base64_of(public_key: str) -> str:
    """What says which key it is; in sed it means nothing but itself."""
    return public_key.split()[1]


def beside(old: str, new: str) -> str:
    """For sed: each line with `old`, and once more with `new` in its place."""
    old, new = base64_of(old), base64_of(new)
    return rf"\|{old}|{{p;s|{old}|{new}|;}}"


def without(key: str) -> str:
    """For sed: no line with `key`."""
    return rf"\|{base64_of(key)}|d"

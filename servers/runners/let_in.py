import contextlib
import re
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from jobs import handover
from jobs.errors import Cause, Failure
from jobs.models import Job
from jobs.runner import Refused
from servers import facts
from servers.models import Server
from servers.runners.base import StepByStep, key_of_server, refuse_unusable
from servers.runners.test import TestConnection
from servers.ssh.command import Command
from servers.ssh.remote import Remote
from servers.ssh.transport import Completed, run

# As the SSH user, with our key's base64 text and the whole line; says what became of it.
ADD_KEY = """
umask 077
keys=$HOME/.ssh/authorized_keys
if [ -f "$keys" ] && grep -v '^[[:space:]]*#' "$keys" | grep -qF -- "$1"; then echo; echo there; exit; fi
mkdir -p "$HOME/.ssh" || exit
if [ -s "$keys" ] && [ -n "$(tail -c 1 "$keys")" ]; then echo >> "$keys" || exit; fi
printf '%s\\n' "$2" >> "$keys" && chmod 600 "$keys" && echo && echo added
"""
# As root, with the line. sudo looks at no file with a dot in its name, so a half-written one counts for nothing.
ADD_RULE = """
exec < /dev/null
PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 077
rules=/etc/sudoers.d/phpborg
new=$(mktemp /etc/sudoers.d/.phpborg.XXXXXX) || exit
trap 'rm -f "$new"' EXIT
{ grep -svxF -- "$1" "$rules"; printf '%s\\n' "$1"; } > "$new"
chown 0:0 "$new" && chmod 0440 "$new" && visudo -cf "$new" > /dev/null && mv -f "$new" "$rules" && echo && echo added
"""
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+-]+")  # which sudoers takes for nothing but a path
BY_HAND = "Put it there by hand, as the server's page shows."


class KeyNotPut(Failure):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = "Put our public key there by hand: the server's page shows the command."


class LetIn(StepByStep):
    """Lets us in with a password that somebody entered for this once: our key, and the line for sudo.

    The password comes by `jobs.handover` and is nowhere else: neither retries nor programs have it.
    """

    type = "server_let_in"
    label = _("Key installation")
    permission = Permission.SERVER_MANAGE
    icon = "key"
    has_own_page = True
    priority = Job.Priority.HIGH
    idle_limit_seconds = 120
    steps: ClassVar = {"password": _("Login with the password"), "key": _("Our public key"), "rule": _("Line for sudo")}

    @classmethod
    def holds(cls, job: Job) -> str | None:
        return key_of_server(job)

    @classmethod
    def refuse(cls, subject: Server) -> None:
        refuse_unusable(subject)

    @classmethod
    def ended(cls, job: Job) -> None:
        if job.status == Job.Status.COMPLETED and job.server:
            with contextlib.suppress(Refused):  # it is being tested already
                TestConnection.enqueue(job.server, user=job.user, trigger=Job.Trigger.SYSTEM)

    def run(self) -> dict[str, Any]:
        try:
            return self._let_in()
        except Failure as error:
            self._answer("failed", str(error))
            raise

    def _let_in(self) -> dict[str, Any]:
        self._begin("password")
        server = self.subject
        self._password = handover.take(self.job)
        with server.connect(password=self._password) as remote:
            self._answer("ok", f"Logged in as {server.username}.")
            self._begin("key")
            key = self._put_key(remote)
            self._begin("rule")
            return {"key": key, "rule": self._put_rule(remote)}

    def _put_key(self, remote: Remote) -> str:
        """Returns "added", or "there" if it was. Raises KeyNotPut."""
        server = self.subject
        words = ("sh", "-c", ADD_KEY, "phpborg", server.public_key.split()[1], server.key_line)
        done = run(remote, Command(words, env={"LC_ALL": "C"}), self.log.checkpoint)
        outcome = last_line(done)
        if done.code != 0 or outcome not in ("added", "there"):
            raise KeyNotPut(f"Our key could not be put on {server.name}: {self._complaint(done)}.")
        sentences = {
            "added": f"It is now in the authorized_keys of {server.username}.",
            "there": f"It was in the authorized_keys of {server.username} already.",
        }
        self._answer("ok", sentences[outcome])
        return outcome

    def _put_rule(self, remote: Remote) -> str:
        """Returns "added", or "" where none is needed, or none could be put there: the key stays all the same."""
        server = self.subject
        if not server.needs_sudo:
            self._answer("ok", "None is needed.")
            return ""
        server.borg_path = facts.find_borg(remote, self.log.checkpoint) or server.borg_path
        if server.borg_path and not PLAIN_PATH.fullmatch(server.borg_path):
            self._answer("warning", f"The path of borg there, {server.borg_path}, needs a careful look. {BY_HAND}")
            return ""
        Server.objects.filter(pk=server.pk).update(borg_path=server.borg_path)
        # -k: also who has just used sudo is asked, so that nothing but sudo reads the password.
        words = ("sudo", "-k", "-S", "-p", "", "sh", "-c", ADD_RULE, "phpborg", server.sudoers_line)
        command = Command(words, env={"LC_ALL": "C"}, stdin=f"{self._password}\n".encode())
        done = run(remote, command, self.log.checkpoint)
        if done.code != 0 or last_line(done) != "added":
            why = self._complaint(done)
            self._answer("warning", f"{server.username} could not become root with this password: {why}. {BY_HAND}")
            return ""
        self._answer("ok", "It is in /etc/sudoers.d/phpborg.")
        return "added"

    def _complaint(self, done: Completed) -> str:
        """The end of what the server said, without the password, should it have said that."""
        text = "\n".join([done.text, *done.stderr])
        for secret in (self._password, self._password.strip()):
            text = text.replace(secret, "***") if secret else text
        said = [line.strip() for line in text.splitlines() if line.strip()]
        return " ".join(said[-3:])[-300:].rstrip(".") or "no answer"


def last_line(done: Completed) -> str:
    """What our script said, whatever a .bashrc there printed before it."""
    return (done.text.splitlines() or [""])[-1]

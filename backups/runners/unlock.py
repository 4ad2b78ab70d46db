from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups import locks
from backups.borg import commands
from backups.models import Repository
from backups.runners.base import RepositoryRunner, refuse_unready
from jobs.errors import Cause, Failure
from jobs.models import Job


class StillAlive(Failure):
    cause = Cause.LOCK
    advice = "Wait until it has ended. Breaking the lock of a living borg can destroy the repository."


class UnlockForm(forms.Form):
    sure = forms.BooleanField(
        label=_("I have made sure that no borg is using this repository, on any machine"),
        help_text=_("Two that write at once destroy it. Of processes on the worker's own machine phpBorg makes sure."),
    )


class BreakLock(RepositoryRunner):
    """Break the lock of a repository for a person who knows that its holder is dead, where we cannot know."""

    type = "unlock"
    label = _("Breaking the lock")
    permission = Permission.BACKUP_MANAGE
    form = UnlockForm
    icon = "lock"
    priority = Job.Priority.HIGH
    idle_limit_seconds = 300

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        refuse_unready(subject)

    def run(self) -> dict[str, Any]:
        repository = self.subject
        holders = self.holders(repository)
        for holder in holders:
            self.log.info(f"Process {holder.pid} of {holder.host}. {holder.proof}")
            if holder.verdict == locks.Verdict.ALIVE:
                raise StillAlive(f"The lock's holder, process {holder.pid}, is alive.")
        self.ask(commands.break_lock(self.here(repository)), "break-lock")
        return {"broken": [f"{holder.pid} of {holder.host}" for holder in holders]}

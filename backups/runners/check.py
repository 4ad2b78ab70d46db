import time
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups.borg import commands
from backups.borg.commands import Depth
from backups.borg.errors import BorgFailed, RepositoryUnreadable, failure_of
from backups.borg.events import Message
from backups.models import Repository
from backups.runners.base import Follower, Ran, RepositoryRunner, refuse_unready, refuse_without_borg
from jobs.config import config
from jobs.errors import Cause, Failure
from jobs.log import Level
from jobs.models import Job
from servers.ssh.command import Command
from servers.ssh.local import Local

STARTS = ("Starting repository check", "Starting archive consistency check")
COMPLETE = (Depth.FULL, Depth.DATA)  # after these, and no others, we say that a repository is well


class Damaged(Failure):
    cause = Cause.DISK
    advice = (
        "Backups, deletions and compaction of this repository have stopped. Nothing is repaired by itself: a repair "
        "may put zeros where data was. Look at the disk first, fetch what you need from a second copy, "
        "and let a check run again."
    )


class TimeIsUp(Exception):
    """Borg has had the time that it may have."""


class CheckForm(forms.Form):
    depth = forms.ChoiceField(
        label=_("How thoroughly"),
        choices=[
            (Depth.FULL, _("The repository and all archives")),
            (Depth.DATA, _("The same, and every chunk decrypted: slow, and the only proof")),
            (Depth.REPOSITORY, _("The repository's files only")),
            (Depth.ARCHIVES, _("The archives only")),
        ],
        initial=Depth.FULL,
        required=False,
    )
    max_minutes = forms.IntegerField(
        label=_("At most (minutes)"), min_value=1, max_value=60 * 24 * 7, required=False,
        help_text=_(
            "Only where it is limited to the repository's files, which goes on next time where it stopped, or reads "
            "every chunk, which begins anew."
        ),
    )  # fmt: skip

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        cleaned["depth"] = str(cleaned.get("depth") or Depth.FULL)
        if cleaned.get("max_minutes") and cleaned["depth"] not in (Depth.REPOSITORY, Depth.DATA):
            self.add_error(
                "max_minutes", _("Only a check of the repository's files alone, or of every chunk, may stop.")
            )
        return cleaned


class CheckRepository(RepositoryRunner):
    """`borg check`, where the repository lies. What it finds stops everything that writes there."""

    type = "check"
    label = _("Check")
    permission = Permission.BACKUP_CREATE
    form = CheckForm
    icon = "shield-check"
    priority = Job.Priority.LOW
    idle_limit_seconds = 4 * 60 * 60

    @classmethod
    def refuse(cls, subject: Repository) -> None:
        refuse_unready(subject)

    def run(self) -> dict[str, Any]:
        repository = self.subject
        depth = Depth(self.job.payload.get("depth") or Depth.FULL)
        seconds = 60 * (self.job.payload.get("max_minutes") or 0)
        self.make_way(repository)
        command = commands.check(self.here(repository), depth, max_seconds=seconds)
        if depth == Depth.DATA and (seconds := seconds or config.CHECK_MAX_SECONDS):
            ran, stopped = self._follow_for(seconds, command)
        else:
            ran, stopped = self.follow(Local(), command), False
        if stopped and not any(message.level >= Level.ERROR for message in ran.messages):
            return self._stopped(seconds)
        if not ran.is_ok:
            raise self._judge(repository, ran)
        now = timezone.now()
        if depth in COMPLETE:
            found = {"damage": "", "checked_at": now, **({"verified_at": now} if depth == Depth.DATA else {})}
            Repository.objects.filter(pk=repository.pk).update(**found)
        self.log.info("No damage was found.")
        return {"depth": str(depth)}

    def _follow_for(self, seconds: int, command: Command) -> tuple[Ran, bool]:
        """Follow borg, which knows no maximum for this, for so long; and whether it was stopped then."""
        deadline = time.monotonic() + seconds

        def tick() -> None:
            self.log.checkpoint()
            if time.monotonic() > deadline:
                raise TimeIsUp

        self.log.info(f"$ {command}")
        follower = Follower(self.log)
        with Local().start(command, tick) as process:
            try:
                for _piece in follower.stdout_of(process):
                    pass
            except TimeIsUp:
                follower.ran.code = 1  # what it would have ended with, had it said anything of damage
                return follower.ran, True
        refuse_without_borg(Local(), command, follower.ran)
        return follower.ran, False

    def _stopped(self, seconds: int) -> dict[str, Any]:
        """Neither verified nor damaged."""
        sentence = f"Stopped after {_duration(seconds)}: what was read so far was sound."
        self.log.warning(
            f"{sentence} Borg begins anew each time: let CHECK_MAX_SECONDS be longer than a whole pass takes."
        )
        return {"depth": str(Depth.DATA), "stopped": True, "found": sentence}

    def _judge(self, repository: Repository, ran: Ran) -> Failure:
        """Any exit but 0 is damage, unless borg never came to look (BORG.md, finding 2)."""
        failure = failure_of("check", ran.code, ran.messages)
        has_looked = type(failure) is BorgFailed and any(message.text.startswith(STARTS) for message in ran.messages)
        if not has_looked and not isinstance(failure, RepositoryUnreadable):
            return failure  # a lock, a wrong passphrase, a kill: whatever it says, it is nothing about the data
        sentence = f"The check found damage: {_first_error(ran)}"
        Repository.objects.filter(pk=repository.pk).update(damage=sentence)
        return Damaged(sentence)


def _first_error(ran: Ran) -> str:
    errors: list[Message] = [message for message in ran.messages if message.level >= Level.WARNING]
    said = errors[0].text.splitlines()[0][:300].strip() if errors and errors[0].text.strip() else ""
    return f"{said.rstrip('.')}." if said else f"borg ended with exit code {ran.code}."


def _duration(seconds: int) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds} s"

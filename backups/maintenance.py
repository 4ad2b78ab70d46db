"""What repositories and servers need from time to time, without anybody asking."""

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import DateTimeField, F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from backups import diffs, growth, mounts, scratch
from backups.borg import commands
from backups.borg.commands import Depth
from backups.models import Mount, Plan, Repository
from backups.runners.check import CheckRepository
from backups.runners.compact import CompactRepository
from backups.runners.compare import CompareRepository
from backups.runners.knock import KnockServer
from backups.runners.proof import ProveRestore
from backups.runners.unmount import UnmountArchive
from backups.schedule import share_of
from jobs import queue
from jobs.config import config
from jobs.models import Job
from jobs.periodic import every, first_of_all
from jobs.runner import JobRunner, Refused, subject_key
from servers.models import Server
from servers.ssh.local import Local
from servers.ssh.transport import NoProgram, run

logger = logging.getLogger(__name__)

AT_ONCE = 20  # of one kind in one round, so that maintenance never keeps the backups waiting
AGAIN_AFTER = timedelta(hours=12)  # when the newest one of the same kind did not bring what was wanted
ANSWERS_WITHIN_SECONDS = 10.0  # of a borg that is asked for its version
FIRST_TURNS = 500  # of restore tests that are given out in one round


@every(seconds=600)
def check_repositories() -> int:
    """Start the checks that are due; returns how many. One of all data is a check as well."""
    whole = Repository.objects.filter(state=Repository.State.READY, damage="")
    # One that was stopped would begin anew at once, for ever, and keep the backups waiting.
    stopped = Job.objects.filter(type=CheckRepository.type, result__stopped=True)
    verify = _due(whole, "verified_at", "verify_days", but_not=stopped)
    started = _start(CheckRepository, verify, depth=Depth.DATA.value)
    check = _due(whole, "checked_at", "check_days", but_not=Job.objects.none())
    return started + _start(CheckRepository, check, depth=Depth.FULL.value)


@every(seconds=600)
def compact_repositories() -> int:
    """Give back the room of what was deleted some days ago, where a check since then found all well."""
    before = timezone.now() - timedelta(days=config.COMPACT_AFTER_DAYS)
    due = Repository.objects.filter(
        state=Repository.State.READY, damage="", frozen="", deleted_at__lt=before, checked_at__gt=F("deleted_at")
    )
    return _start(CompactRepository, due.order_by("deleted_at"))


@every(seconds=900)
def note_storage() -> int:
    return growth.note()


@every(seconds=600)
def compare_repositories() -> int:
    """Look at every repository once a day: what is in it, and how large it is."""
    since = timezone.now() - timedelta(days=1)
    due = Repository.objects.filter(state=Repository.State.READY).filter(_older("compared_at", since))
    return _start(CompareRepository, due.order_by("compared_at"))


@every(seconds=600)
def prove_plans() -> int:
    """Start the restore tests that are due, a few in each round; returns how many."""
    now = timezone.now()
    _give_first_turns(now)
    held = Job.objects.running().exclude(holds=None).exclude(repository=None).values("repository")
    due = Plan.objects.filter(
        proof_due_at__lte=now, proof_days__gt=0, enabled=True, server__enabled=True,
        repository__state=Repository.State.READY, repository__damage="", repository__frozen="",
    ).exclude(repository__in=held)  # fmt: skip
    plans = due.select_related("server", "repository__pool").order_by("proof_due_at", "pk")[:AT_ONCE]
    return sum(_prove(plan, now) for plan in plans)


def _give_first_turns(now: datetime) -> None:
    """Spread over the first period, so that a thousand plans do not have theirs on one day."""
    waiting = Plan.objects.filter(proof_due_at=None, proof_days__gt=0).exclude(last_good_at=None)
    for pk, days in waiting.order_by("pk").values_list("pk", "proof_days")[:FIRST_TURNS]:
        Plan.objects.filter(pk=pk, proof_due_at=None, proof_days=days).update(
            proof_due_at=now + share_of(pk) * timedelta(days=days),
            proof_overdue_at=Coalesce("proof_overdue_at", now + 2 * timedelta(days=days), output_field=DateTimeField()),
        )


def _prove(plan: Plan, now: datetime) -> bool:
    """Take the turn that is due, and start it; what is refused has another one soon."""
    period = timedelta(days=plan.proof_days)
    assert plan.proof_due_at
    following = max(plan.proof_due_at + period, now + period / 2)
    turn = Plan.objects.filter(pk=plan.pk, proof_due_at=plan.proof_due_at, proof_days=plan.proof_days)
    with transaction.atomic():
        if not turn.update(proof_due_at=following):
            return False
        try:
            ProveRestore.enqueue(plan, trigger=Job.Trigger.SCHEDULE)
        except Refused:
            Plan.objects.filter(pk=plan.pk).update(proof_due_at=now + AGAIN_AFTER)
            return False
    return True


@every(seconds=3600)
def sweep_scratch() -> int:
    """What restore tests left on this machine whose workers were killed; returns how many folders are gone."""
    return scratch.sweep()


@every(seconds=300)
def knock() -> int:
    """Look whether servers answer again that were away when a backup was due."""
    waiting = Plan.objects.filter(awaits_server__in=[True], enabled=True).values("server_id")  # IN: for the index
    return _start(KnockServer, Server.objects.filter(pk__in=waiting, enabled=True), patience=timedelta(minutes=4))


@every(seconds=3600)
def sweep_comparisons() -> int:
    """Two archives are compared anew faster than what differs is kept for ever; returns how many are gone."""
    return diffs.sweep()


@every(seconds=60)
def unmount_expired() -> int:
    """Unmount what has had its time, and what a job that has ended left half made; returns how many are started."""
    half_made = Q(mounted_at=None) & (Q(job=None) | Q(job__status__in=Job.FINAL))
    over = Mount.objects.filter(Q(expires_at__lte=timezone.now()) | half_made).select_related("archive", "job")
    return _start(UnmountArchive, over.order_by("expires_at"), patience=timedelta(minutes=10))


@first_of_all
def note_borg() -> None:
    """For the page with the settings: no web process runs a borg, and it may be on another machine."""
    until = time.monotonic() + ANSWERS_WITHIN_SECONDS

    def hurry() -> None:
        if time.monotonic() > until:  # a worker that waits for it takes no job
            raise NoProgram(f"{settings.BORG_PATH} says nothing.")

    try:
        said = run(Local(), commands.version(settings.BORG_PATH), hurry).stdout.decode("utf-8", "replace")
    except NoProgram as error:
        said = str(error)
    queue.note_borg(mounts.this_machine(), said.strip()[:100])


@first_of_all
def clear_scratch() -> None:
    if swept := scratch.sweep():
        logger.warning("%d restore tests were ended before they could tidy up here; their files are removed.", swept)


@first_of_all
def take_down_what_nobody_keeps() -> None:
    """A worker that died, or a machine that was started anew, leaves folders behind that answer nobody."""
    if taken := mounts.sweep():
        logger.warning("%d mounts of archives were left behind here; they are unmounted.", taken)


def _due(repositories: QuerySet[Repository], done: str, days: str, *, but_not: QuerySet[Job]) -> QuerySet[Repository]:
    """Those for which more than their own number of `days` have passed since `done`, and no job of `but_not` was there.

    0 days: never.
    """
    now, due = timezone.now(), Q(pk__in=[])
    for number in repositories.exclude(**{days: 0}).values_list(days, flat=True).distinct().order_by(days):
        since = now - timedelta(days=number)
        tried = but_not.filter(created_at__gt=since).exclude(repository=None).values("repository")
        due |= Q(**{days: number}) & _older(done, since) & ~Q(pk__in=tried)
    return repositories.filter(due).order_by(done)


def _older(done: str, since: datetime) -> Q:
    """A repository for which it was never done is as old as itself."""
    return Q(**{f"{done}__lt": since}) | Q(**{f"{done}__isnull": True, "created_at__lt": since})


def _start(
    runner: type[JobRunner[Any]], subjects: QuerySet[Any], *, patience: timedelta = AGAIN_AFTER, **parameters: Any
) -> int:
    """Enqueue for up to AT_ONCE of `subjects` for which the same was not tried lately; returns how many."""
    if not subjects:  # as nearly always
        return 0
    started = 0
    tried = set(
        Job.objects.filter(type=runner.type, created_at__gt=timezone.now() - patience).values_list("subject", flat=True)
    )
    for subject in subjects:
        if started == AT_ONCE:
            break
        if subject_key(subject) in tried:
            continue
        try:
            runner.enqueue(subject, trigger=Job.Trigger.SCHEDULE, **parameters)
        except Refused:
            continue
        started += 1
    return started

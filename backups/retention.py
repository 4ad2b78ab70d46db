"""What of a plan's archives stays and what goes, why, and how it will look in a year.

The rules are borg's (backups/borg/retention.py). They count the plan's own archives in the
repository that it uses now, by our clock; what is suspicious, quarantined or gone is not counted,
and nothing of it is deleted. Pinned archives count as any other, they only do not go: so pinning
one never changes what happens to the others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups import schedule
from backups.borg.retention import Dated, Reason, Rules, retain
from backups.models import Archive, Mount, Plan, Repository, RetentionPolicy
from jobs.models import Job

FIELDS = ("name", "borg_id", "taken_at", "suspicion", "quarantine", "vanished_at", "pinned", "plan", "repository")
RULES = tuple(rule.name for rule in fields(Rules))
IDLE_TYPES = ("index",)  # jobs about an archive that it may be deleted under
HORIZONS = {1: timedelta(days=30), 3: timedelta(days=91), 12: timedelta(days=365)}  # by months
MOST_RUNS = 9_000  # that are looked ahead: a year, once an hour

LABELS = {
    "within": gettext_lazy("within the floor"),
    "last": gettext_lazy("one of the last"),
    "hourly": gettext_lazy("of its hour"),
    "daily": gettext_lazy("of its day"),
    "weekly": gettext_lazy("of its week"),
    "monthly": gettext_lazy("of its month"),
    "yearly": gettext_lazy("of its year"),
    "oldest": gettext_lazy("the oldest"),
    "pinned": gettext_lazy("pinned"),
    "last good": gettext_lazy("the last good one"),
    "in use": gettext_lazy("it is mounted, or a job is using it"),
    "suspicious": gettext_lazy("suspicious"),
    "quarantined": gettext_lazy("in quarantine"),
    "vanished": gettext_lazy("gone from the repository"),
    "elsewhere": gettext_lazy("in another repository"),
    "no rule": gettext_lazy("everything is kept"),
}


@dataclass(frozen=True)
class Kept:
    """An archive that stays."""

    archive: Archive
    why: str  # of LABELS, but "oldest"
    rule: Reason | None = None  # when one of the rules keeps it

    def __str__(self) -> str:
        """For logs, in borg's words: "daily #3", "pinned"."""
        return str(self.rule or self.why)

    @property
    def label(self) -> str:
        if self.rule is None:
            return str(LABELS[self.why])
        name = str(LABELS["oldest" if self.rule.oldest else self.why])
        return _("%(rule)s, number %(n)s") % {"rule": name, "n": self.rule.number}


@dataclass(frozen=True)
class Decision:
    """Newest first, both."""

    kept: list[Kept]
    going: list[Archive]
    most_deletions: int
    counted: list[Archive]  # those that the rules looked at

    @property
    def too_many(self) -> bool:
        return len(self.going) > self.most_deletions


def rules_of(policy: RetentionPolicy) -> Rules:
    return Rules(**{rule: getattr(policy, rule) for rule in RULES})


def decide(plan: Plan, *, now: datetime | None = None) -> Decision:
    """What stays of the plan's archives, each with its reason, and what would go now."""
    archives = list(plan.archives.only(*FIELDS).order_by("-taken_at", "-id"))
    policy = plan.retention
    if policy is None or rules_of(policy).keep_nothing:
        return Decision([Kept(archive, "no rule") for archive in archives], [], 0, [])
    odd = {archive.pk: why for archive in archives if (why := _uncounted(plan, archive))}
    counted = [archive for archive in archives if archive.pk not in odd]
    dated = [Dated(archive.pk, archive.taken_at) for archive in reversed(counted)]
    ruled = retain(dated, rules_of(policy), now=now or timezone.now(), zone=ZoneInfo(plan.time_zone))
    in_use = _in_use(plan)
    kept, going = [], []
    for archive in archives:
        rule = ruled.get(archive.pk)
        if why := rule.rule if rule else odd.get(archive.pk) or _spared(archive, counted[0], in_use):
            kept.append(Kept(archive, why, rule))
        else:
            going.append(archive)
    return Decision(kept, going, policy.most_deletions, counted)


def _uncounted(plan: Plan, archive: Archive) -> str:
    """Why the rules leave it out; "": they do not."""
    if archive.repository_id != plan.repository_id:
        return "elsewhere"
    if archive.vanished_at is not None:
        return "vanished"
    if archive.quarantine:
        return "quarantined"
    return "suspicious" if archive.suspicion else ""


def _spared(archive: Archive, last_good: Archive, in_use: set[str]) -> str:
    """Why it stays although no rule keeps it; "": it does not."""
    if archive.pinned:
        return "pinned"
    if archive == last_good:
        return "last good"
    return "in use" if f"archive:{archive.pk}" in in_use else ""


def _in_use(plan: Plan) -> set[str]:
    """Archives of the plan's repository that somebody reads now, or will: mounts, and jobs that restore, download ...

    As the subjects of jobs are written.
    """
    mounts = Mount.objects.filter(archive__repository=plan.repository_id).values_list("archive", flat=True)
    jobs = Job.objects.unfinished().filter(repository=plan.repository_id, subject__startswith="archive:")
    subjects = jobs.exclude(type__in=IDLE_TYPES).values_list("subject", flat=True)
    return {*subjects, *(f"archive:{pk}" for pk in mounts)}


def objection(plan: Plan) -> str:
    """Why nothing of the plan may be deleted by rule now, as a sentence; "": it may.

    An empty backup and a prune on top is how backups are lost (BORG.md, finding 1).
    """
    name = {"name": plan.name}
    if plan.retention is None:
        return _("The plan %(name)s has no retention policy: everything is kept.") % name
    if rules_of(plan.retention).keep_nothing:
        return _("The retention policy %(name)s keeps nothing, so nothing is deleted.") % {"name": plan.retention.name}
    newest = plan.archives.order_by("-taken_at", "-id").first()
    if newest is None or plan.last_good_archive() is None:
        return _("The plan %(name)s has no good archive yet.") % name
    if newest.suspicion or newest.quarantine or newest.vanished_at:
        return _("The newest archive of the plan %(name)s is suspicious: nothing is deleted until it is clear.") % name
    return ""


# --- What we set out to delete ----------------------------------------------------------------


def announce(job: Job, archives: Iterable[Archive]) -> None:
    """Write down what `job` is about to delete: whatever happens then, we know that it was us."""
    Job.objects.filter(pk=job.pk).update(result={"deleting": [archive.borg_id for archive in archives]})


def announced(repository: Repository) -> set[str]:
    """Borg's ids of archives that a job set out to delete, and did not live to strike off our record."""
    results = Job.objects.filter(repository=repository, result__has_key="deleting").values_list("result", flat=True)
    return {borg_id for result in results for borg_id in result["deleting"]}


def is_going(archive: Archive) -> bool:
    """Whether a job is deleting it right now."""
    jobs = Job.objects.running().filter(repository=archive.repository_id, result__has_key="deleting")
    return any(archive.borg_id in result["deleting"] for result in jobs.values_list("result", flat=True))


# --- How it will look -------------------------------------------------------------------------


@dataclass(frozen=True)
class Outlook:
    """What there would be after some months, if every run made a good archive and nothing else happened."""

    months: int
    until: datetime
    times: list[datetime]  # newest first
    others: int  # that stay whatever the rules say: pinned, suspicious ...

    @property
    def count(self) -> int:
        return len(self.times) + self.others


def foresee(plan: Plan, decision: Decision, runs: Iterable[datetime], *, now: datetime) -> list[Outlook]:
    """What `runs` of the plan would leave, after each of HORIZONS.

    Deleting after each run leaves what deleting once after the last leaves, for the rules' windows only
    move forward (a test holds that). So a year costs one decision, not thousands.
    """
    if plan.retention is None or rules_of(plan.retention).keep_nothing:
        return []
    rules, zone = rules_of(plan.retention), ZoneInfo(plan.time_zone)
    there = [archive.taken_at for archive in reversed(decision.counted)]
    end = now + max(HORIZONS.values())
    coming = list(islice(takewhile(lambda run: run <= end, runs), MOST_RUNS))
    if len(coming) == MOST_RUNS:
        end = coming[-1]
    outlooks = []
    for months, span in HORIZONS.items():
        until = min(now + span, end)
        times = [*there, *(run for run in coming if run <= until)]
        last_run = times[-1] if times else now
        kept = retain([Dated(number, time) for number, time in enumerate(times)], rules, now=last_run, zone=zone)
        left = [time for number, time in enumerate(times) if number in kept]
        outlooks.append(Outlook(months, until, left[::-1], _others(decision, set(kept), len(there))))
    return outlooks


def _others(decision: Decision, kept: set[int], there: int) -> int:
    """How many of today's archives stay although no rule will keep them."""
    ruled = {archive.pk for number, archive in enumerate(reversed(decision.counted)) if number in kept}
    always = ("pinned", "suspicious", "quarantined", "elsewhere")
    odd = [one for one in decision.kept if one.why in always or one.archive.pinned]
    return sum(one.archive.pk not in ruled for one in odd)


def runs_of(plan: Plan, after: datetime) -> Iterator[datetime]:
    """When the plan will run; one without a schedule is taken to run once a day."""
    try:
        planned = schedule.of(plan)
    except schedule.InvalidSchedule:  # its own page says so
        planned = None
    return planned.runs(after) if planned else _daily(after)


def _daily(after: datetime) -> Iterator[datetime]:
    while True:
        after += timedelta(days=1)
        yield after


def as_data(decision: Decision) -> dict[str, Any]:
    """For the API and for `--json`."""
    return {
        "kept": [
            {"archive": one.archive.pk, "name": one.archive.name, "taken_at": one.archive.taken_at, "why": str(one)}
            for one in decision.kept
        ],
        "going": [
            {"archive": archive.pk, "name": archive.name, "taken_at": archive.taken_at} for archive in decision.going
        ],
        "most_deletions": decision.most_deletions,
        "too_many": decision.too_many,
    }

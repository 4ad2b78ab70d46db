"""How well servers are protected, in the five states that every page knows."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.lists import with_names
from backups import schedule
from backups.models import Plan
from jobs.models import Job
from servers.models import Server


class State(StrEnum):
    PROTECTED = "protected"
    ATTENTION = "attention"
    AT_RISK = "at-risk"
    RUNNING = "running"
    UNKNOWN = "unknown"


LABELS = {
    State.PROTECTED: gettext_lazy("protected"),
    State.ATTENTION: gettext_lazy("attention"),
    State.AT_RISK: gettext_lazy("at risk"),
    State.RUNNING: gettext_lazy("running"),
    State.UNKNOWN: gettext_lazy("unknown"),
}
WORST_FIRST = [State.AT_RISK, State.ATTENTION, State.RUNNING, State.UNKNOWN, State.PROTECTED]


@dataclass(frozen=True)
class Health:
    state: State
    reason: str = ""  # a sentence; "" when there is nothing to say
    last_good_at: datetime | None = None
    plan: Plan | None = None  # the one that the reason is about
    proved_at: datetime | None = None  # the last restore test that held; of several plans the one that is longest ago

    @property
    def label(self) -> str:
        return str(LABELS[self.state])

    @property
    def needs_somebody(self) -> bool:
        return self.state in (State.ATTENTION, State.AT_RISK)


# What is read of what a plan belongs to, beside its server: fetch it along.
READS = {
    "repository": ["name", "damage", "frozen", "checked_at"],
    "last_job": ["status", "error", "result", "warnings", "started_at", "completed_at"],
}


def of_plan(plan: Plan) -> Health:
    """Reads `plan.last_job`, `plan.server` and `plan.repository`: fetch them along."""
    state, reason = _judge(plan, plan.last_job)
    return Health(state, reason, plan.last_good_at, plan, plan.proved_at)


def _judge(plan: Plan, last: Job | None) -> tuple[State, str]:
    if not (plan.enabled and plan.server.enabled):
        return State.UNKNOWN, _("The server is switched off.") if plan.enabled else _("The plan is paused.")
    suspicion = str(((last and last.result) or {}).get("suspicion", ""))
    if danger := _danger(plan, last, suspicion):
        return State.AT_RISK, danger
    if last is None:
        return State.UNKNOWN, _("It has not run yet.")
    if suspicion:
        return State.ATTENTION, suspicion
    if plan.repository.frozen:
        return State.ATTENTION, _("Its repository is frozen: %(why)s") % {"why": plan.repository.frozen}
    if last.warnings:
        return State.ATTENTION, _("The last backup has warnings: some files could not be saved.")
    # None until a plan has its first turn, from then on two periods: a new site has all that time for its first one.
    if plan.proof_overdue_at and plan.proof_overdue_at < timezone.now():
        return State.ATTENTION, _("No restore test has held for too long: nobody knows whether files come back.")
    return State.PROTECTED, ""


def _danger(plan: Plan, last: Job | None, suspicion: str) -> str:
    """Why nothing would be there if it were needed now, or soon; "" when that is not so."""
    if plan.repository.damage:
        return plan.repository.damage
    if last and last.status == Job.Status.FAILED:
        return last.error or _("The backup failed.")
    if plan.proof_failed:
        return _("A restore test did not hold: %(why)s") % {"why": plan.proof_failed}
    if owed := schedule.overdue_since(plan, timezone.now()):
        sentence = _("No good backup since the run that was due %(span)s ago.") % {"span": timesince(owed, depth=1)}
        return f"{sentence} {suspicion}".strip()
    return _("There is no good archive yet.") if last and not suspicion and plan.last_good_at is None else ""


def of_servers(servers: Iterable[Server]) -> dict[int, Health]:
    """The health of each server by its id, in one more query however many there are."""
    servers = list(servers)
    plans = plans_of(servers)
    return {server.pk: of_server(server, plans[server.pk]) for server in servers}


def plans_of(servers: Iterable[Server]) -> dict[int, list[Plan]]:
    """The plans of each server by its id, with what `of_plan` reads; a prefetch makes a queryset for each server."""
    by_id = {server.pk: server for server in servers}
    found: dict[int, list[Plan]] = {pk: [] for pk in by_id}
    for plan in with_names(Plan.objects.filter(server__in=by_id).order_by("name"), **READS):
        plan.server = by_id[plan.server_id]
        found[plan.server_id].append(plan)
    return found


def of_server(server: Server, plans: Iterable[Plan] | None = None) -> Health:
    """The worst of its plans, which are fetched unless they are given."""
    if not server.enabled:
        return Health(State.UNKNOWN, _("The server is switched off."))
    if server.host_key_changed:
        return Health(State.AT_RISK, _("Its host key has changed: nothing runs until somebody has looked at it."))
    if not server.host_key:
        return Health(State.UNKNOWN, _("Its host key is not confirmed yet."))
    each = [of_plan(plan) for plan in (server.plans.all() if plans is None else plans)]
    if not each:
        return Health(State.UNKNOWN, _("No plan saves anything of it yet."))
    worst = min(each, key=lambda health: WORST_FIRST.index(health.state))
    newest = max((health.last_good_at for health in each if health.last_good_at), default=None)
    return Health(worst.state, worst.reason, newest, worst.plan, _oldest(health.proved_at for health in each))


@dataclass(frozen=True)
class Mark:
    """When something last went well that a server's safety rests on; of several plans the one that is longest ago."""

    label: str
    at: datetime | None  # None: never, or of one of them never
    is_owed: bool  # somebody should look


def marks_of(plans: Iterable[Plan]) -> list[Mark]:
    """Backup, check, retention, restore test: of a server's plans, of which it reads what `of_plan` does."""
    plans, now = [plan for plan in plans if plan.enabled], timezone.now()
    tidied = [plan.tidied_at for plan in plans if plan.retention_id and plan.tidied_at]
    return [
        Mark(_("Backup"), _oldest(plan.last_good_at for plan in plans), any(
            schedule.overdue_since(plan, now) for plan in plans
        )),
        Mark(_("Check"), _oldest(plan.repository.checked_at for plan in plans), any(
            plan.repository.damage for plan in plans
        )),
        Mark(_("Retention"), min(tidied, default=None), is_owed=False),  # it runs only where something is to go
        Mark(_("Restore test"), _oldest(plan.proved_at for plan in plans), any(
            plan.proof_failed or (plan.proof_overdue_at and plan.proof_overdue_at < now) for plan in plans
        )),
    ]  # fmt: skip


def _oldest(times: Iterable[datetime | None]) -> datetime | None:
    known = list(times)
    return min((at for at in known if at), default=None) if None not in known else None

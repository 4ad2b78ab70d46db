from contextlib import suppress
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups.models import Plan
from backups.reconcile import compare
from backups.retention import Decision, decide, objection
from backups.runners.base import PlanRunner, refuse_damaged, refuse_frozen, still
from backups.runners.delete import Deletion
from jobs.errors import Cause, Failure
from jobs.models import Job
from jobs.runner import Refused


class PruneForm(forms.Form):
    at_most = forms.IntegerField(
        label=_("Delete at most"),
        min_value=1,
        max_value=100_000,
        required=False,
        help_text=_("Archives, this time. If more would go, none goes. Empty: as the retention policy says."),
    )


class NotNow(Failure):
    cause = Cause.SOURCE
    advice = "Look at the plan's archives. Retention runs again after the next good backup."


class TooMany(Failure):
    cause = Cause.SOURCE
    advice = (
        "Look at the plan's retention page. If what it says is what you want, apply retention from there with a "
        "larger number, or change the retention policy."
    )


class PruneArchives(PlanRunner):
    """Retention of one plan: delete, by name, what its rules do not keep."""

    type = "prune"
    label = _("Retention")
    permission = Permission.BACKUP_DELETE
    form = PruneForm
    icon = "filter"
    priority = Job.Priority.LOW

    @classmethod
    def holds(cls, job: Job) -> str | None:
        return f"repository:{job.repository_id}"

    @classmethod
    def refuse(cls, subject: Plan) -> None:
        refuse_frozen(subject.repository)
        if sentence := objection(subject):
            raise Refused(sentence)

    @classmethod
    def ended(cls, job: Job) -> None:
        if job.plan and job.status == Job.Status.COMPLETED:
            Plan.objects.filter(pk=job.plan.pk).update(tidied_at=job.completed_at)

    def run(self) -> dict[str, Any]:
        plan = Plan.objects.with_scope().get(pk=self.subject.pk)
        still(refuse_damaged, plan.repository)
        compare(self, plan.repository)
        if sentence := objection(plan):
            raise NotNow(sentence)
        decision = decide(plan)  # anew: nobody else writes to the repository while we hold it
        self._tell(decision)
        at_most = self.job.payload.get("at_most") or decision.most_deletions
        if len(decision.going) > at_most:
            raise TooMany(
                f"{len(decision.going):,} archives would go, more than the {at_most:,} that may go at once: none went."
            )
        deleted = Deletion(self, plan.repository, decision.going).run() if decision.going else []
        return {"deleted": deleted, "kept": len(decision.kept)}

    def _tell(self, decision: Decision) -> None:
        for kept in decision.kept:
            self.log.info(f"stays  {kept.archive.name}  {kept}")
        for archive in decision.going:
            self.log.info(f"goes   {archive.name}")
        self.log.info(f"{len(decision.kept):,} stay, {len(decision.going):,} go.")


def prune_after(backup: Job) -> None:
    """Start retention after a backup that made a good archive, if something would go."""
    made_good = backup.status == Job.Status.COMPLETED and backup.result and not backup.result.get("suspicion")
    if backup.plan and made_good and decide(backup.plan).going:
        with suppress(Refused):  # the next backup asks again
            PruneArchives.enqueue(backup.plan, trigger=Job.Trigger.SYSTEM)

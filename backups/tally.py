"""What is kept of backups as they end: counts by the hour in which they were asked for, and how each plan's last went.

Whoever counts over all of them (backups/stats.py) reads this, and no table of jobs.
"""

from datetime import UTC, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, TruncHour

from backups.models import Archive, BackupHour, Plan, Repository
from jobs.models import Job

SUSPICIOUS = Q(status=Job.Status.COMPLETED, result__has_key="suspicion") & ~Q(result__suspicion="")


def count(job: Job) -> None:
    """Count a backup that has ended, once, in the transaction that ends it."""
    began_at = job.created_at.replace(minute=0, second=0, microsecond=0)
    hour = BackupHour.objects.filter(began_at=began_at)
    more = {job.status: F(job.status) + 1}
    if is_suspicious(job):
        more["suspicious"] = F("suspicious") + 1
    if not hour.update(**more):
        # Whoever else makes the row at the same moment: nobody fails, and nobody's count is lost.
        can_name = connection.features.supports_update_conflicts_with_target
        BackupHour.objects.bulk_create(
            [BackupHour(began_at=began_at)], update_conflicts=True, update_fields=["began_at"],
            unique_fields=["began_at"] if can_name else None,
        )  # fmt: skip
        hour.update(**more)


def is_suspicious(job: Job) -> bool:
    return job.status == Job.Status.COMPLETED and bool((job.result or {}).get("suspicion"))


def kept_of(job: Job) -> dict[str, Any]:
    """The columns of a plan that say how its last job went."""
    is_failed = job.status == Job.Status.FAILED
    outcome = (
        Plan.Outcome.FAILED if is_failed
        else Plan.Outcome.SUSPICIOUS if is_suspicious(job)
        else Plan.Outcome.WARNINGS if job.warnings
        else Plan.Outcome.GOOD
    )  # fmt: skip
    return {"last_job": job, "last_outcome": outcome, "last_took": timedelta(seconds=job.seconds or 0)}


@transaction.atomic
def rebuild() -> int:
    """All of it anew, from the jobs that are still known; returns how many hours there are. The rest is forgotten."""
    plans = list(Plan.objects.exclude(last_job=None).select_related("last_job"))
    for plan in plans:
        for name, value in kept_of(plan.last_job).items():
            setattr(plan, name, value)
    Plan.objects.bulk_update(plans, ["last_outcome", "last_took"], batch_size=500)
    kept = Archive.objects.filter(repository=OuterRef("pk")).order_by().values("repository").annotate(n=Count("pk"))
    Repository.objects.update(archive_count=Coalesce(Subquery(kept.values("n")), 0))
    BackupHour.objects.all().delete()
    ended = Job.objects.filter(type="backup", status__in=Job.FINAL)
    hours = ended.annotate(began_at=TruncHour("created_at", tzinfo=UTC)).values("began_at").order_by("began_at")
    counted = hours.annotate(
        suspicious=Count("pk", filter=SUSPICIOUS),
        **{status: Count("pk", filter=Q(status=status)) for status in sorted(Job.FINAL)},
    )
    return len(BackupHour.objects.bulk_create((BackupHour(**hour) for hour in counted), batch_size=500))

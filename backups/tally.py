"""Backups counted by the hour in which they were asked for, as they end (BackupHour)."""

from datetime import UTC

from django.db import connection, transaction
from django.db.models import Count, F, Q
from django.db.models.functions import TruncHour

from backups.models import BackupHour
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


@transaction.atomic
def rebuild() -> int:
    """Count anew, from the jobs that are still known; returns how many hours there are. The rest is forgotten."""
    BackupHour.objects.all().delete()
    ended = Job.objects.filter(type="backup", status__in=Job.FINAL)
    hours = ended.annotate(began_at=TruncHour("created_at", tzinfo=UTC)).values("began_at").order_by("began_at")
    counted = hours.annotate(
        suspicious=Count("pk", filter=SUSPICIOUS),
        **{status: Count("pk", filter=Q(status=status)) for status in sorted(Job.FINAL)},
    )
    return len(BackupHour.objects.bulk_create((BackupHour(**hour) for hour in counted), batch_size=500))

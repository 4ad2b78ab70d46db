"""How the backups of each hour ended, and each plan's last one, from the jobs that are there."""

from datetime import UTC, timedelta

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.functions import TruncHour

ENDED = ("completed", "failed", "cancelled")


def count(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    hour = apps.get_model("backups", "BackupHour")
    ended = apps.get_model("jobs", "Job").objects.filter(type="backup", status__in=ENDED)
    odd = models.Q(status="completed", result__has_key="suspicion") & ~models.Q(result__suspicion="")
    counted = (
        ended.order_by()
        .annotate(began_at=TruncHour("created_at", tzinfo=UTC))
        .values("began_at")
        .annotate(
            suspicious=models.Count("pk", filter=odd),
            **{status: models.Count("pk", filter=models.Q(status=status)) for status in ENDED},
        )
    )
    hour.objects.bulk_create([hour(**row) for row in counted], batch_size=500)


def look_at_last(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    plans = list(apps.get_model("backups", "Plan").objects.exclude(last_job=None).select_related("last_job"))
    for plan in plans:
        job = plan.last_job
        suspicious = job.status == "completed" and (job.result or {}).get("suspicion")
        outcome = "suspicious" if suspicious else "warnings" if job.warnings else "good"
        plan.last_outcome = "failed" if job.status == "failed" else outcome
        plan.last_took = job.completed_at - job.started_at if job.completed_at and job.started_at else timedelta(0)
    apps.get_model("backups", "Plan").objects.bulk_update(plans, ["last_outcome", "last_took"], batch_size=500)


class Migration(migrations.Migration):
    dependencies = [("backups", "0005_ssh_pools"), ("jobs", "0003_journal")]
    operations = [
        migrations.CreateModel(
            name="BackupHour",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("began_at", models.DateTimeField(unique=True)),
                ("completed", models.PositiveIntegerField(default=0)),
                ("suspicious", models.PositiveIntegerField(default=0)),
                ("failed", models.PositiveIntegerField(default=0)),
                ("cancelled", models.PositiveIntegerField(default=0)),
            ],
            options={"ordering": ["began_at"], "default_permissions": ()},
        ),
        migrations.AddField(
            model_name="plan",
            name="last_outcome",
            field=models.CharField(blank=True, default="", editable=False, max_length=10),
        ),
        migrations.AddField(
            model_name="plan",
            name="last_took",
            field=models.DurationField(default=timedelta(0), editable=False),
        ),
        migrations.RunPython(look_at_last, migrations.RunPython.noop),
        migrations.RunPython(count, migrations.RunPython.noop),
    ]

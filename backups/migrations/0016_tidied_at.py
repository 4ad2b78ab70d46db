"""When retention last ran well is kept with each plan; kits are counted where sizes are summed up."""

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import OuterRef, Subquery

SIZES = ["original_bytes", "compressed_bytes", "deduplicated_bytes", "archive_count"]


def find(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    jobs = apps.get_model("jobs", "Job").objects.filter(plan=OuterRef("pk"), type="prune", status="completed")
    newest = Subquery(jobs.order_by("-created_at", "-id").values("completed_at")[:1])
    apps.get_model("backups", "Plan").objects.update(tidied_at=newest)


class Migration(migrations.Migration):
    dependencies = [("backups", "0015_plan_rank"), ("jobs", "0005_newest_first")]
    operations = [
        migrations.AddField("plan", "tidied_at", models.DateTimeField(editable=False, null=True)),
        migrations.RunPython(find, migrations.RunPython.noop),
        migrations.RemoveIndex("repository", name="repository_sums"),
        migrations.AddIndex(
            "repository", models.Index(fields=[*SIZES, "state", "kit_stored_at"], name="repository_sums")
        ),
    ]

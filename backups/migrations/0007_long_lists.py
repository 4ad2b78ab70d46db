"""Lists of hundreds of thousands of archives: each filter has an index in the list's order; their number is kept."""

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce, Lower

FILTERS = {"server": "server", "plan": "plan", "repository": "repository", "pinned": "pinned", "is_suspicious": "suspicious"}

SUMS = ["is_damaged", "is_frozen", "original_bytes", "compressed_bytes", "deduplicated_bytes", "archive_count"]


def is_told(name: str) -> models.GeneratedField:
    """Whether that text is not empty."""
    return models.GeneratedField(
        db_persist=True,
        expression=models.Case(models.When(**{name: ""}, then=False), default=True),
        output_field=models.BooleanField(),
    )


def count(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    archives = apps.get_model("backups", "Archive").objects.filter(repository=OuterRef("pk")).order_by()
    kept = archives.values("repository").annotate(n=Count("pk")).values("n")
    apps.get_model("backups", "Repository").objects.update(archive_count=Coalesce(Subquery(kept), 0))


class Migration(migrations.Migration):
    dependencies = [("backups", "0006_stats"), ("jobs", "0005_newest_first"), ("servers", "0002_out_of_order")]
    operations = [
        migrations.AddField("archive", "is_suspicious", is_told("suspicion")),
        migrations.AddField(
            "archive",
            "name_lower",
            models.GeneratedField(
                db_persist=True, expression=Lower("name"), output_field=models.CharField(max_length=200)
            ),
        ),
        *(
            migrations.AddIndex(
                "archive", models.Index(fields=[field, "-start", "-id"], name=f"archive_newest_by_{name}")
            )
            for field, name in FILTERS.items()
        ),
        migrations.AddIndex("archive", models.Index(fields=["name_lower", "start"], name="archive_by_name")),
        # Only now: MariaDB wants one for each foreign key.
        migrations.RemoveIndex("archive", "archive_by_server"),
        migrations.RemoveIndex("archive", "archive_by_plan"),
        migrations.RemoveIndex("archive", "archive_by_repository"),
        migrations.AddField("repository", "archive_count", models.PositiveIntegerField(default=0, editable=False)),
        migrations.AddField("repository", "is_damaged", is_told("damage")),
        migrations.AddField("repository", "is_frozen", is_told("frozen")),
        migrations.AddIndex("repository", models.Index(fields=SUMS, name="repository_sums")),
        migrations.RunPython(count, migrations.RunPython.noop),
        migrations.AddIndex("repository", models.Index(fields=["name", "id"], name="repository_by_name")),
        migrations.AddIndex(
            "repository", models.Index(fields=["-deduplicated_bytes", "id"], name="repository_largest")
        ),
    ]

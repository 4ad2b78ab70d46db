"""Archives that are mounted on a worker's machine."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backups", "0007_long_lists"), ("jobs", "0005_newest_first")]
    operations = [
        migrations.CreateModel(
            name="Mount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("place", models.CharField(max_length=40)),
                ("machine", models.CharField(max_length=200, verbose_name="machine")),
                ("path", models.CharField(max_length=500, verbose_name="path")),
                ("mounted_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(verbose_name="expires")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "archive",
                    models.OneToOneField(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="mount",
                        to="backups.archive",
                    ),
                ),
                (
                    "job",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="jobs.job"
                    ),
                ),
            ],
            options={
                "verbose_name": "mount", "verbose_name_plural": "mounts", "ordering": ["-id"],
                "default_permissions": (),
            },
        ),
    ]  # fmt: skip

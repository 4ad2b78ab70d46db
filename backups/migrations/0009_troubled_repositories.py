"""The few repositories in trouble have indexes of their own, and what is summed up of all has one without them."""

from django.db import migrations, models

SUMS = ["original_bytes", "compressed_bytes", "deduplicated_bytes", "archive_count"]


class Migration(migrations.Migration):
    dependencies = [("backups", "0008_mounts")]
    operations = [
        migrations.RemoveIndex("repository", "repository_sums"),
        migrations.AddIndex("repository", models.Index(fields=SUMS, name="repository_sums")),
        migrations.AddIndex("repository", models.Index(fields=["is_damaged"], name="repository_damaged")),
        migrations.AddIndex("repository", models.Index(fields=["is_frozen"], name="repository_frozen")),
    ]

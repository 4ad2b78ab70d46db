"""An index from which it is summed up what the archives of the last days added."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backups", "0012_storage_days")]
    operations = [
        migrations.AddIndex(
            "archive", models.Index(fields=["start", "server", "deduplicated_bytes"], name="archive_growth")
        ),
    ]

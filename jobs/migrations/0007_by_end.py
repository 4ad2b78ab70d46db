"""An index for what ended last: a long backup may have been asked for before many that are shown."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0006_status_behind")]
    operations = [
        migrations.AddIndex("job", models.Index(fields=["type", "-completed_at", "-id"], name="job_by_end")),
    ]

"""Indexes for what ended last (a long backup may have been asked for before many others), and for what cured a failure."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0006_status_behind")]
    operations = [
        migrations.AddIndex("job", models.Index(fields=["type", "-completed_at", "-id"], name="job_by_end")),
        migrations.RemoveIndex("job", name="job_by_subject"),
        migrations.AddIndex(
            "job", models.Index(fields=["type", "subject", "status", "-created_at"], name="job_by_subject")
        ),
    ]

"""MariaDB takes the older one of two indexes that cost it the same: what a queue reads goes behind what lists read."""

from django.db import migrations, models

BY_STATUS = models.Index(fields=["status", "priority", "created_at"], name="job_by_status")


class Migration(migrations.Migration):
    dependencies = [("jobs", "0005_newest_first")]
    operations = [migrations.RemoveIndex("job", "job_by_status"), migrations.AddIndex("job", BY_STATUS)]

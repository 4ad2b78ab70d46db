"""Whether a repository's recovery kit is stored somewhere, as a person says."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backups", "0009_troubled_repositories")]
    operations = [
        migrations.AddField("repository", "kit_stored_at", models.DateTimeField(editable=False, null=True)),
        migrations.AddField(
            "repository", "kit_stored_by", models.CharField(blank=True, default="", editable=False, max_length=150)
        ),
        migrations.AddField(
            "repository", "kit_stored", models.CharField(blank=True, default="", editable=False, max_length=12)
        ),
        migrations.AddIndex(
            "repository", models.Index(fields=["state", "kit_stored_at"], name="repository_by_kit")
        ),
    ]

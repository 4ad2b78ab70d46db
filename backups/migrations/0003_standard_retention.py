"""A retention policy to begin with: what most people want, and nobody regrets."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def make(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("backups", "RetentionPolicy").objects.get_or_create(
        name="Standard",
        defaults={"keep_within": "2d", "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12},
    )


def remove(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("backups", "RetentionPolicy").objects.filter(name="Standard", plans=None).delete()


class Migration(migrations.Migration):
    dependencies = [("backups", "0002_relations")]
    operations = [migrations.RunPython(make, remove)]

"""What each pool held on each day, for how it grows."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backups", "0011_restore_tests")]
    operations = [
        migrations.CreateModel(
            "StorageDay",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False, auto_created=True, verbose_name="ID")),
                ("day", models.DateField()),
                ("original_bytes", models.BigIntegerField(default=0)),
                ("compressed_bytes", models.BigIntegerField(default=0)),
                ("deduplicated_bytes", models.BigIntegerField(default=0)),
                ("used_bytes", models.BigIntegerField(null=True)),
                (
                    "pool",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="days", to="backups.storagepool"
                    ),
                ),
            ],
            options={
                "ordering": ["day", "pool"],
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("pool", "day"), name="storage_day_of_pool")],
                "indexes": [models.Index(fields=["day"], name="storage_day_by_day")],
            },
        )
    ]

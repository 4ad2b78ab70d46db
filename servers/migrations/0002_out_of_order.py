"""Servers that no backup can reach, and whose key has changed, are found by an index."""

from django.db import migrations, models
from django.db.models import Case, F, Q, When


class Migration(migrations.Migration):
    dependencies = [("servers", "0001_initial")]
    operations = [
        migrations.AddField(
            "server",
            "is_out_of_order",
            models.GeneratedField(
                db_persist=True,
                expression=Case(
                    When(enabled=False, then=True),
                    When(host_key="", then=True),
                    When(~Q(host_key_seen="") & ~Q(host_key_seen=F("host_key")), then=True),
                    default=False,
                ),
                output_field=models.BooleanField(),
            ),
        ),
        migrations.AddIndex("server", models.Index(fields=["is_out_of_order"], name="server_out_of_order")),
    ]

"""A server may get another key pair: since when it has it, and which one still has to be taken away there."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("servers", "0002_out_of_order")]
    operations = [
        migrations.AddField("server", "key_renewed_at", models.DateTimeField(editable=False, null=True)),
        migrations.AddField(
            "server",
            "leftover_public_key",
            models.TextField(blank=True, default="", editable=False),
            preserve_default=False,
        ),
    ]

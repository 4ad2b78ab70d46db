"""Who searches for a part of a name or an address has an index looked through, not every row with its keys."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("servers", "0003_key_renewal")]
    operations = [migrations.AddIndex("server", models.Index(fields=["name", "address"], name="server_search"))]

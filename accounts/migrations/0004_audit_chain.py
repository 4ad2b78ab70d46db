"""The audit trail is chained (accounts/chain.py). What was there before is chained as it was found."""

from typing import Any

import django.db.models.deletion
import django.utils.timezone
from django.apps.registry import Apps
from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from accounts import encryption
from accounts.chain import digest_of, seal_of

ROWS_AT_ONCE = 2_000


def chain(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    model, head = apps.get_model("accounts", "AuditEntry"), apps.get_model("accounts", "AuditHead")(pk=1)
    table, key, connection, last = model._meta.db_table, encryption.chaining_keys()[0], schema_editor.connection, 0
    quote = connection.ops.quote_name
    store = f"UPDATE {quote(table)} SET {quote('number')} = %s, {quote('digest')} = %s WHERE {quote('id')} = %s"
    while batch := list(model.objects.filter(pk__gt=last).order_by("pk")[:ROWS_AT_ONCE]):
        written = []
        for row in batch:
            row.number = head.number = head.number + 1
            head.digest = digest_of(row, head.digest, key)
            written.append((row.number, head.digest, row.pk))
        with connection.cursor() as cursor:
            cursor.executemany(store, written)
        last = batch[-1].pk
    head.seal = seal_of(head, key)
    head.save()


def forget_who_is_gone(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """On the way back: the constraint would not have them."""
    user: Any = apps.get_model("accounts", "User")
    entries = apps.get_model("accounts", "AuditEntry").objects
    entries.exclude(user_id__in=user.objects.values("pk")).exclude(user_id=None).update(user_id=None)


NEWEST = [
    migrations.AddIndex("auditentry", models.Index(fields=[*fields, "-at", "-id"], name=name))
    for name, fields in {
        "audit_newest": [], "audit_newest_by_action": ["action"], "audit_newest_by_username": ["username"],
        "audit_newest_by_address": ["address"],
    }.items()
]  # fmt: skip


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_api_tokens")]
    operations = [
        migrations.CreateModel(
            "AuditHead",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.BigIntegerField(default=0)),
                ("digest", models.CharField(blank=True, max_length=64)),
                ("seal", models.CharField(blank=True, max_length=64)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.AddField("auditentry", "number", models.BigIntegerField(null=True)),
        migrations.AddField(
            "auditentry", "digest", models.CharField(default="", max_length=64), preserve_default=False
        ),
        migrations.AlterField("auditentry", "at", models.DateTimeField(default=django.utils.timezone.now)),
        migrations.AlterField(
            "auditentry",
            "user",
            models.ForeignKey(
                db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunPython(chain, forget_who_is_gone),
        migrations.AlterField("auditentry", "number", models.BigIntegerField(unique=True)),
        *NEWEST,
    ]

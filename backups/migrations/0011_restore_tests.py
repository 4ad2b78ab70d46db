"""Restore tests: how often each plan has one, what the last ones found, and the evidence."""

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


def kept(to: str) -> models.ForeignKey:
    return models.ForeignKey(
        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="restore_tests", to=to
    )


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0010_recovery_kit"), ("jobs", "0005_newest_first"), ("servers", "0002_out_of_order"),
    ]
    operations = [
        migrations.AddField(
            "plan",
            "proof_days",
            models.PositiveSmallIntegerField(
                default=30,
                help_text="Files are restored from the newest archive on the worker, and compared. 0: never by itself.",
                validators=[django.core.validators.MaxValueValidator(3650)],
                verbose_name="test a restore every (days)",
            ),
        ),
        migrations.AddField(
            "plan",
            "proof_files",
            models.PositiveSmallIntegerField(
                default=200,
                help_text="Chosen by chance. 0: all, for which the worker needs as much free space as they take.",
                validators=[django.core.validators.MaxValueValidator(2000)],
                verbose_name="files of a restore test",
            ),
        ),
        migrations.AddField("plan", "proved_at", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("plan", "proof_failed", models.TextField(blank=True, default="", editable=False)),
        migrations.AddField("plan", "proof_due_at", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("plan", "proof_overdue_at", models.DateTimeField(editable=False, null=True)),
        migrations.AddIndex("plan", models.Index(fields=["proof_due_at"], name="plan_by_proof_due")),
        migrations.CreateModel(
            name="RestoreTest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200, verbose_name="archive")),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="at")),
                ("held", models.BooleanField(verbose_name="held")),
                ("failure", models.TextField(blank=True, default="")),
                ("everything", models.BooleanField(default=False)),
                ("files", models.BigIntegerField(verbose_name="files")),
                ("bytes", models.BigIntegerField(verbose_name="bytes")),
                ("seconds", models.FloatField(verbose_name="seconds")),
                ("evidence", models.TextField()),
                ("signature", models.CharField(max_length=128)),
                ("public_key", models.CharField(max_length=64)),
                ("archive", kept("backups.archive")),
                ("job", kept("jobs.job")),
                ("plan", kept("backups.plan")),
                ("server", kept("servers.server")),
            ],
            options={
                "verbose_name": "restore test", "verbose_name_plural": "restore tests", "ordering": ["-at", "-id"],
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["-at", "-id"], name="restore_test_newest"),
                    models.Index(fields=["plan", "-at", "-id"], name="restore_test_newest_by_plan"),
                    models.Index(fields=["server", "-at", "-id"], name="restore_test_newest_by_server"),
                ],
            },
        ),
    ]  # fmt: skip

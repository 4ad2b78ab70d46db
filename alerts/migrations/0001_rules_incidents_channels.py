import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import accounts.models
import alerts.models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ("backups", "0013_archive_growth"),
        ("jobs", "0006_status_behind"),
        ("servers", "0002_out_of_order"),
    ]

    operations = [
        migrations.CreateModel(
            name="Channel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=60, unique=True, verbose_name="name")),
                ("kind", models.CharField(editable=False, max_length=20, verbose_name="kind")),
                ("enabled", models.BooleanField(default=True, verbose_name="enabled")),
                ("language", models.CharField(choices=[("en", "English"), ("fr", "Français")], default="en", max_length=2, verbose_name="language")),
                ("target_encrypted", models.TextField(blank=True, default="", editable=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name": "channel",
                "verbose_name_plural": "channels",
                "ordering": ["name"],
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="MailTemplate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("language", models.CharField(choices=[("en", "English"), ("fr", "Français")], max_length=2, unique=True, verbose_name="language")),
                ("subject", models.CharField(max_length=500, verbose_name="subject")),
                ("text", models.TextField(max_length=20000, verbose_name="text")),
                ("html", models.TextField(max_length=50000, verbose_name="HTML")),
            ],
            options={
                "verbose_name": "mail template",
                "verbose_name_plural": "mail templates",
                "ordering": ["language"],
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Rule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=60, unique=True, verbose_name="name")),
                ("event", models.CharField(editable=False, max_length=40, verbose_name="event")),
                ("parameters", models.JSONField(blank=True, default=dict)),
                ("enabled", models.BooleanField(default=True, verbose_name="enabled")),
                ("severity", models.CharField(choices=[("info", "information"), ("warning", "warning"), ("critical", "critical")], default="warning", max_length=10, verbose_name="severity")),
                ("scope", models.CharField(choices=[("all", "everything"), ("tags", "servers with these tags"), ("servers", "these servers"), ("plans", "these plans")], default="all", max_length=10, verbose_name="of")),
                ("quiet", models.TextField(blank=True, help_text="Nothing is sent in these windows; it follows when they end, if it is still so. One per line, as “22:00-07:00”.", validators=[alerts.models.validate_windows], verbose_name="quiet hours")),
                ("time_zone", models.CharField(default="UTC", help_text="In which the quiet hours are meant.", max_length=64, validators=[accounts.models.validate_time_zone], verbose_name="time zone")),
                ("gather_minutes", models.PositiveSmallIntegerField(default=5, help_text="What happens within this time is one message. 0: as soon as it is seen.", validators=[django.core.validators.MaxValueValidator(1440)], verbose_name="gather for (minutes)")),
                ("repeat_hours", models.PositiveSmallIntegerField(default=0, help_text="As long as it is so. 0: once is enough.", validators=[django.core.validators.MaxValueValidator(8760)], verbose_name="repeat after (hours)")),
                ("tell_recovery", models.BooleanField(default=True, verbose_name="say when it is over")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("channels", models.ManyToManyField(blank=True, related_name="rules", to="alerts.channel", verbose_name="channels")),
                ("plans", models.ManyToManyField(blank=True, related_name="+", to="backups.plan", verbose_name="plans")),
                ("servers", models.ManyToManyField(blank=True, related_name="+", to="servers.server", verbose_name="servers")),
                ("tags", models.ManyToManyField(blank=True, related_name="+", to="servers.tag", verbose_name="tags")),
            ],
            options={
                "verbose_name": "alert rule",
                "verbose_name_plural": "alert rules",
                "ordering": ["name"],
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Ping",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("started", models.UUIDField(editable=False, null=True)),
                ("ended", models.UUIDField(editable=False, null=True)),
                ("channel", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="pings", to="alerts.channel")),
                ("plan", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="pings", to="backups.plan")),
            ],
            options={
                "ordering": ["channel", "plan"],
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("channel", "plan"), name="ping_of_plan")],
            },
        ),
        migrations.CreateModel(
            name="Incident",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("subject", models.CharField(max_length=60)),
                ("name", models.CharField(max_length=200)),
                ("event", models.CharField(max_length=40)),
                ("severity", models.CharField(choices=[("info", "information"), ("warning", "warning"), ("critical", "critical")], max_length=10)),
                ("facts", models.JSONField(default=dict)),
                ("opened_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("closed_at", models.DateTimeField(null=True)),
                ("open_key", models.CharField(max_length=90, null=True, unique=True)),
                ("told_at", models.DateTimeField(null=True)),
                ("told_count", models.PositiveIntegerField(default=0)),
                ("recovery_due", models.BooleanField(default=False)),
                ("plan", models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="incidents", to="backups.plan")),
                ("rule", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="incidents", to="alerts.rule")),
                ("server", models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="incidents", to="servers.server")),
            ],
            options={
                "verbose_name": "alert",
                "verbose_name_plural": "alerts",
                "ordering": ["-opened_at", "-id"],
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["-opened_at", "-id"], name="incident_newest"),
                    models.Index(fields=["closed_at", "-opened_at", "-id"], name="incident_newest_by_end"),
                    models.Index(fields=["rule", "closed_at"], name="incident_by_rule"),
                    models.Index(fields=["rule", "recovery_due"], name="incident_by_recovery"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=[("problem", "alert"), ("repeat", "reminder"), ("recovery", "recovery"), ("test", "test"), ("ping", "ping")], max_length=10)),
                ("status", models.CharField(choices=[("waiting", "waiting"), ("sent", "sent"), ("failed", "failed")], default="waiting", max_length=10)),
                ("message", models.JSONField(default=dict)),
                ("count", models.PositiveIntegerField(default=0)),
                ("error", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("sent_at", models.DateTimeField(null=True)),
                ("channel", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="alerts.channel")),
                ("job", models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="jobs.job")),
                ("rule", models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="deliveries", to="alerts.rule")),
            ],
            options={
                "verbose_name": "delivery",
                "verbose_name_plural": "deliveries",
                "ordering": ["-created_at", "-id"],
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["-created_at", "-id"], name="delivery_newest"),
                    models.Index(fields=["channel", "-created_at", "-id"], name="delivery_newest_by_channel"),
                ],
            },
        ),
    ]

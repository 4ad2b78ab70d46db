"""Lists by cursor read a page from an index: of all jobs, of one server's, of one status ..., and of one server's lines."""

import django.db.models.deletion
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import OuterRef, Subquery


def name_servers(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    job, line = apps.get_model("jobs", "Job"), apps.get_model("jobs", "LogLine")
    line.objects.update(server_id=Subquery(job.objects.filter(pk=OuterRef("job_id")).values("server_id")))


NEWEST = [
    migrations.AddIndex("job", models.Index(fields=[name, "-created_at", "-id"], name=f"job_newest_by_{name}"))
    for name in ("status", "type", "server", "plan", "repository")
]


class Migration(migrations.Migration):
    dependencies = [("jobs", "0004_events"), ("servers", "0001_initial")]
    operations = [
        *NEWEST,  # before the others go, because MariaDB wants one for each foreign key
        migrations.RemoveIndex("job", "job_by_type"),
        migrations.RemoveIndex("job", "job_by_server"),
        migrations.RemoveIndex("job", "job_by_plan"),
        migrations.AddIndex("logline", models.Index(fields=["job", "-id"], name="log_line_by_job")),
        migrations.AlterField(
            "logline",
            "job",
            models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="lines", to="jobs.job"
            ),
        ),
        migrations.AddField(
            "logline",
            "server",
            models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="servers.server"
            ),
        ),
        migrations.RunPython(name_servers, migrations.RunPython.noop),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.CreateModel(
            name="FirstRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token_sha256", models.CharField(blank=True, max_length=64)),
                ("passed", models.JSONField(default=list)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={"default_permissions": ()},
        ),
    ]

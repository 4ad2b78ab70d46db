"""What may be amiss with a plan is found by indexes, instead of by a look at ten thousand plans."""

from django.db import migrations, models
from django.db.models import F, Q, When

IN_DOUBT = models.Case(
    When(enabled=False, then=True),
    When(last_job=None, then=True),
    When(last_good_at=None, then=True),
    When(~Q(last_outcome="good"), then=True),
    When(due_at__gt=F("last_good_at"), then=True),
    When(~Q(proof_failed=""), then=True),
    default=False,
)


class Migration(migrations.Migration):
    dependencies = [("backups", "0013_archive_growth")]
    operations = [
        migrations.AddField(
            "plan",
            "is_in_doubt",
            models.GeneratedField(expression=IN_DOUBT, output_field=models.BooleanField(), db_persist=True),
        ),
        migrations.AddIndex("plan", models.Index(fields=["proof_overdue_at"], name="plan_by_proof_overdue")),
        migrations.AddIndex("plan", models.Index(fields=["is_in_doubt"], name="plan_in_doubt")),
    ]

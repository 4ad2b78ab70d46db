"""How a plan ranks without the clock is kept with it: then only what the clock or its repository change is read."""

from django.db import migrations, models
from django.db.models import F, Q, When

AT_RISK, ATTENTION, UNKNOWN, PROTECTED, BY_THE_CLOCK = 0, 1, 3, 4, 5
ALONE = models.Case(
    When(enabled=False, then=UNKNOWN),
    When(last_job__isnull=False, last_outcome="failed", then=AT_RISK),
    When(~Q(proof_failed=""), then=AT_RISK),
    When(due_at__isnull=False, last_good_at=None, then=BY_THE_CLOCK),
    When(due_at__gt=F("last_good_at"), then=BY_THE_CLOCK),
    When(last_job=None, then=UNKNOWN),
    When(last_outcome="suspicious", then=ATTENTION),
    When(last_good_at=None, then=AT_RISK),
    When(last_outcome="warnings", then=ATTENTION),
    default=PROTECTED,
)


class Migration(migrations.Migration):
    dependencies = [("backups", "0014_plans_in_doubt")]
    operations = [
        migrations.AddField(
            "plan",
            "rank_alone",
            models.GeneratedField(expression=ALONE, output_field=models.PositiveSmallIntegerField(), db_persist=True),
        ),
        migrations.AddIndex("plan", models.Index(fields=["rank_alone", "server"], name="plan_by_rank")),
        migrations.RemoveIndex("plan", name="plan_in_doubt"),
        migrations.RemoveField("plan", "is_in_doubt"),
    ]

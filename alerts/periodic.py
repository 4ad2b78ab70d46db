"""What the scheduler does about alerts, and what a worker looks for when there is no scheduler."""

from datetime import timedelta

from django.utils import timezone

from alerts import engine, pinging, report
from alerts.models import Delivery, Incident
from jobs.periodic import every, meanwhile

KEPT = timedelta(days=365)


@every(seconds=20)
def look() -> None:
    engine.look()


@every(seconds=20)
def ping() -> None:
    pinging.look()


@every(seconds=60)
def tell_reports() -> None:
    report.look()


@every(seconds=20)
def send_alone() -> None:
    engine.send_alone()


@meanwhile
def look_for_the_scheduler() -> None:
    engine.look(as_worker=True)


@every(seconds=3600)
def forget() -> None:
    """What is over, and what was sent, for a year."""
    before = timezone.now() - KEPT
    Delivery.objects.filter(created_at__lt=before).delete()
    Incident.objects.closed().filter(closed_at__lt=before, recovery_due=False).delete()

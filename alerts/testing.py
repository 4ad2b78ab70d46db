"""A test of a channel: a message like any other, sent now."""

from django.db import transaction

from accounts.models import User
from alerts.models import Channel, Delivery
from alerts.runners.send import SendAlert
from jobs.models import Job


@transaction.atomic
def send_test(channel: Channel, *, user: User, trigger: Job.Trigger) -> Job:
    """Raises Refused."""
    delivery = Delivery.objects.create(channel=channel, kind=Delivery.Kind.TEST, message={"severity": "info"})
    job = SendAlert.enqueue(delivery, user=user, trigger=trigger)
    Delivery.objects.filter(pk=delivery.pk).update(job=job)
    return job

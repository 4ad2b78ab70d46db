"""The job that sends one message; a try that failed may be followed by others, for hours."""

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy

from accounts.access import Permission
from accounts.encryption import WrongKey
from alerts.channels.base import ChannelKind
from alerts.messages import in_words
from alerts.models import Delivery
from jobs.errors import Failure
from jobs.models import Job
from jobs.runner import JobRunner


class SendAlert(JobRunner[Delivery]):
    type = "alert"
    label = gettext_lazy("Alert")
    model = Delivery
    permission = Permission.CONFIG_MANAGE
    icon = "bell"
    priority = Job.Priority.HIGH
    max_attempts = 8
    idle_limit_seconds = 5 * 60

    @classmethod
    def audited(cls, subject: Delivery, job: Job) -> dict[str, Any]:
        return {"channel": subject.channel.name, "kind": subject.kind}

    def run(self) -> dict[str, Any]:
        delivery = self.subject
        channel = delivery.channel
        told = {"channel": channel.name, "kind": delivery.kind, "count": delivery.count}
        if delivery.sent_at:  # somebody has run the job again
            self.log.info("It was sent before.")
            return told
        kind = ChannelKind.registry.get(channel.kind)
        if kind is None:
            raise Failure(f"This phpBorg knows no channels of the kind “{channel.kind}”.")
        self.log.info(f"Sending to the channel “{channel.name}”.")
        try:
            target = channel.target()
        except WrongKey as error:
            raise Failure(f"Where the channel leads cannot be read. {error}") from error
        kind(channel, target).deliver(delivery, in_words(delivery, channel))
        now = timezone.now()
        Delivery.objects.filter(pk=delivery.pk).update(status=Delivery.Status.SENT, sent_at=now, error="")
        self.log.info("It was taken.")
        return told

    @classmethod
    def ended(cls, job: Job) -> None:
        if job.status != Job.Status.COMPLETED:
            waiting = Delivery.objects.filter(pk=job.subject.partition(":")[2], sent_at=None)
            waiting.update(status=Delivery.Status.FAILED, error=job.error or job.get_status_display())

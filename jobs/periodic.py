"""Work that comes round again: any app's `periodic.py` registers its own with `@every`."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from jobs import live, queue
from jobs.errors import Cause
from jobs.models import Job
from jobs.runner import end

logger = logging.getLogger(__name__)

LOST_AFTER = timedelta(seconds=90)


@dataclass(frozen=True)
class Periodic:
    seconds: float
    run: Callable[[], object]

    @property
    def name(self) -> str:
        return f"{self.run.__module__}.{self.run.__name__}"


registry: list[Periodic] = []


def every(*, seconds: float) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Run the decorated function about every `seconds`; it must be harmless to run twice at once."""

    def register(run: Callable[[], object]) -> Callable[[], object]:
        registry.append(Periodic(seconds, run))
        return run

    return register


@every(seconds=20)
def ring_forgotten() -> None:
    if rung := queue.ring_forgotten():
        logger.info("Rang again for %d waiting jobs.", rung)


@every(seconds=20)
def reap() -> int:
    """Fail running jobs whose worker has not been heard of; returns how many."""
    silent_since = timezone.now() - LOST_AFTER
    reaped = 0
    for job in Job.objects.running().filter(heartbeat_at__lt=silent_since)[:500]:
        hold = job.holds
        if end(
            job,
            status=Job.Status.FAILED,
            error=f"The worker disappeared ({job.worker}): nothing was heard of it for {LOST_AFTER.seconds} seconds.",
            cause=Cause.INTERNAL,
            advice="If the machine was not restarted, look into the worker's log. Then run the job again.",
        ):
            reaped += 1
            logger.error("Job %s (%s) lost its worker %s.", job.pk, job.type, job.worker)
            live.announce(job, job.status)
            if hold:
                queue.ring_next(hold)
    return reaped

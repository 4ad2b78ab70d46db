import logging
import signal
import threading
import time
from typing import Any

from django.core.management.base import BaseCommand
from django.db import close_old_connections
from redis import RedisError

from jobs import queue
from jobs.periodic import Periodic, registry

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Run periodic work until SIGTERM. Several schedulers may run at once."

    def handle(self, *args: Any, **options: Any) -> None:
        end = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: end.set())
        due = dict.fromkeys(registry, 0.0)
        while not end.is_set():
            beat()
            for work in [work for work, at in due.items() if at <= time.monotonic()]:
                due[work] = time.monotonic() + work.seconds
                run(work)
            end.wait(1.0)


def beat() -> None:
    try:
        queue.scheduler_beats()
    except RedisError as error:
        logger.warning("The scheduler cannot say that it lives, Redis is away: %s", error)


def run(work: Periodic) -> bool:
    """Run one piece; what goes wrong in it must not stop the others. False when something did."""
    close_old_connections()
    try:
        work.run()
    except Exception:
        logger.exception("Periodic work %s failed; it will be tried again.", work.name)
        return False
    return True

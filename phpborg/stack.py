"""Everything that one machine needs, as child processes: Redis, web, workers, scheduler.

`manage.py serve` keeps it up; `manage.py demo` and the end-to-end tests use the same.
"""

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Self

from django.conf import settings

from phpborg.embedded import Child, NotStarted, RedisServer, answers, manage, wait_until

logger = logging.getLogger(__name__)

START_SECONDS = 30
RESTART_SECONDS = 2.0
WARM_STOP_SECONDS = 24 * 3600  # a worker ends its job first; a second Ctrl-C does not wait


class Stack:
    """Starts everything, restarts what dies, and stops it in an order in which nothing is lost."""

    def __init__(self, *, workers: int, log_dir: Path | None = None) -> None:
        self._log_dir = log_dir
        self.redis = (
            RedisServer(settings.EMBEDDED_REDIS_SOCKET, log=self._log("redis")) if settings.REDIS_IS_EMBEDDED else None
        )
        self.web = Child("web", web_command(), log=self._log("web"))
        self.workers = [manage(f"worker {n}", "worker", log=self._log(f"worker-{n}")) for n in range(1, workers + 1)]
        self.scheduler = manage("scheduler", "scheduler", log=self._log("scheduler"))

    def _log(self, name: str) -> Path | None:
        return self._log_dir / f"{name}.log" if self._log_dir else None

    @property
    def children(self) -> list[Child]:
        return [*([self.redis] if self.redis else []), self.web, *self.workers, self.scheduler]

    def start(self) -> Self:
        """Raises NotStarted."""
        if answers(settings.PORT):
            raise NotStarted(f"Something listens on port {settings.PORT} already. Set PHPBORG_PORT to another.")
        try:
            for child in self.children:
                child.start()
            wait_until(self._is_up, seconds=START_SECONDS, what="The web process")
        except BaseException:
            self.stop(patient=False)
            raise
        return self

    def _is_up(self) -> bool:
        if not self.web.is_alive:
            raise NotStarted(f"The web process did not start. {self.web.tail()}".strip())
        return answers(settings.PORT)

    def watch(self, end: threading.Event) -> None:
        """Start again what has died, until `end` is set."""
        while not end.wait(0.5):
            for child in self.children:
                if not child.is_alive and not end.is_set():
                    logger.error("The %s process has died; it is started again.", child.name)
                    child.start()
                    end.wait(RESTART_SECONDS)

    def stop(self, *, patient: bool = True) -> None:
        """Workers end their jobs first if `patient`; Redis goes last, because the others still speak to it."""
        self.scheduler.stop()
        for worker in self.workers:
            worker.terminate()
        deadline = time.monotonic() + (WARM_STOP_SECONDS if patient else 5)
        for worker in self.workers:
            worker.stop(seconds=max(0.1, deadline - time.monotonic()))
        self.web.stop()
        if self.redis:
            self.redis.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop(patient=False)


def web_command() -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", "phpborg.asgi:application", "--host", settings.HOST,
        "--port", str(settings.PORT), "--app-dir", str(settings.BASE_DIR), "--no-access-log",
        "--log-level", "warning", "--timeout-graceful-shutdown", "3", "--lifespan", "off",
        "--forwarded-allow-ips", settings.TRUSTED_PROXIES,
        *(["--workers", os.environ["WEB_PROCESSES"]] if "WEB_PROCESSES" in os.environ else []),
    ]  # fmt: skip

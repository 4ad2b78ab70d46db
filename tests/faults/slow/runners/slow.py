"""A job that goes on until a test lets it end, and says so in its log all the time."""

import time
from pathlib import Path
from typing import Any

from accounts.access import Permission
from jobs.errors import Failure
from jobs.models import Job
from jobs.runner import JobRunner
from servers.models import Server


class Shaken(Failure):
    """What may pass."""

    may_pass = True


class Slow(JobRunner[Server]):
    """Its attempt `n` ends when the file `end-n` is in its folder, and fails when `fail-n` is."""

    type = "slow"
    label = "Slow"
    model = Server
    permission = Permission.BACKUP_CREATE

    @classmethod
    def holds(cls, job: Job) -> str | None:
        hold: str | None = job.payload.get("hold")
        return hold

    def run(self) -> dict[str, Any]:
        folder, attempt = Path(self.job.payload["folder"]), self.job.attempts
        self.log.info(f"Attempt {attempt} has begun.")
        while not (folder / f"end-{attempt}").exists():
            if (folder / f"fail-{attempt}").exists():
                raise Shaken("Something shook.")
            self.log.checkpoint()
            self.log.debug("Still here.")
            time.sleep(0.05)
        return {"attempt": attempt}

"""A job that takes as long as it is told, and holds what it is told."""

import time
from typing import Any

from accounts.access import Permission
from jobs.models import Job
from jobs.runner import JobRunner
from servers.models import Server


class Nap(JobRunner[Server]):
    type = "nap"
    label = "Nap"
    model = Server
    permission = Permission.BACKUP_CREATE
    several_at_once = True

    @classmethod
    def holds(cls, job: Job) -> str | None:
        hold: str | None = job.payload.get("hold")
        return hold

    def run(self) -> dict[str, Any]:
        time.sleep(self.job.payload["seconds"])
        return {}

from typing import Any

from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups.models import StoragePool
from backups.pools import measure
from jobs.errors import Cause, Failure
from jobs.models import Job
from jobs.runner import JobRunner


class PoolUnusable(Failure):
    cause = Cause.DISK
    advice = "Look at the storage pool's page: its folder must exist, and be ours to write."


class CheckPool(JobRunner[StoragePool]):
    """Look whether the pool's folder exists, is ours to write, and how much room it has; at an account, log in."""

    type = "pool_check"
    label = _("Storage pool check")
    model = StoragePool
    permission = Permission.BACKUP_MANAGE
    icon = "database-search"
    priority = Job.Priority.HIGH
    idle_limit_seconds = 120

    @classmethod
    def scope(cls, subject: StoragePool) -> dict[str, Any]:
        return {"place": subject.place}

    def run(self) -> dict[str, Any]:
        if problem := measure(self.subject, self.log.checkpoint):
            raise PoolUnusable(problem)
        pool = StoragePool.objects.get(pk=self.subject.pk)
        room = (
            f"with {pool.free_bytes:,} of {pool.total_bytes:,} bytes free"
            if pool.total_bytes
            else "how full it is it does not tell"
        )
        self.log.info(f"{pool.where} is ours to write, {room}.")
        return {"free_bytes": pool.free_bytes, "total_bytes": pool.total_bytes}

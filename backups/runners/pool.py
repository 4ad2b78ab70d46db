from typing import Any

from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups.models import StoragePool
from backups.pools import measure
from backups.runners.init import PoolUnusable
from jobs.models import Job
from jobs.runner import JobRunner


class CheckPool(JobRunner[StoragePool]):
    """Look whether the pool's folder exists, is ours to write, and how much room it has."""

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

    @classmethod
    def refuse(cls, subject: StoragePool) -> None:
        cls.refuse_second(subject)

    def run(self) -> dict[str, Any]:
        if problem := measure(self.subject):
            raise PoolUnusable(problem)
        pool = StoragePool.objects.get(pk=self.subject.pk)
        self.log.info(f"{pool.path} is ours to write, with {pool.free_bytes:,} of {pool.total_bytes:,} bytes free.")
        return {"free_bytes": pool.free_bytes, "total_bytes": pool.total_bytes}

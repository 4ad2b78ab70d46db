from typing import Any

from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from backups.models import Plan
from backups.runners.create import RunBackup
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from servers.runners.base import ServerRunner, refuse_unusable
from servers.ssh.transport import Unreachable


class KnockServer(ServerRunner):
    """Look whether a server that was away answers again; then the backups that it missed run."""

    type = "knock"
    label = _("Look whether it answers")
    permission = Permission.BACKUP_CREATE
    icon = "plug-connected"
    priority = Job.Priority.LOW
    idle_limit_seconds = 120

    @classmethod
    def refuse(cls, subject: Server) -> None:
        refuse_unusable(subject)

    def run(self) -> dict[str, Any]:
        try:
            with self.subject.connect():
                self.log.info(f"{self.subject.name} answers.")
        except Unreachable as error:
            self.log.info(f"Not yet: {error}")
            return {"answers": False}
        missed = self.subject.plans.filter(awaits_server=True, enabled=True)
        return {"answers": True, "started": [str(job.pk) for job in map(self._catch_up, missed) if job]}

    def _catch_up(self, plan: Plan) -> Job | None:
        try:
            return RunBackup.enqueue(plan, trigger=Job.Trigger.SCHEDULE)
        except Refused as refusal:
            self.log.warning(f"The plan {plan.name} does not run: {refusal}")
            return None

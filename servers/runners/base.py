from typing import Any, ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext as _

from jobs.models import Job
from jobs.runner import JobRunner, Refused
from servers.models import Server


class ServerRunner(JobRunner[Server]):
    """A job whose subject is a server."""

    model = Server

    @classmethod
    def scope(cls, subject: Server) -> dict[str, Any]:
        return {"server": subject}


class StepByStep(ServerRunner):
    """One that ticks off a list of steps on the page; each says in a sentence what it found."""

    steps: ClassVar[dict[str, str | Promise]]

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._steps = [{"name": name, "state": "waiting", "text": ""} for name in self.steps]

    @classmethod
    def shown(cls, job: Job | None) -> list[dict[str, Any]]:
        """The steps of `job` with their labels, or as they are before there is one."""
        known = {step["name"]: step for step in (job.progress.get("steps", []) if job else [])}
        return [
            {"label": label, "state": "waiting", "text": "", **known.get(name, {})} for name, label in cls.steps.items()
        ]

    def _begin(self, name: str) -> None:
        self.log.checkpoint()
        self._step = next(step for step in self._steps if step["name"] == name)
        self._step["state"] = "running"
        self._publish()

    def _answer(self, state: str, text: str) -> None:
        self._step |= {"state": state, "text": text}
        self._publish()
        if state == "warning":
            self.log.warning(text)
        elif state != "failed":  # a failure is written to the log with the job's outcome
            self.log.info(text)

    def _publish(self) -> None:
        self.log.progress(steps=[dict(step) for step in self._steps])


def refuse_unusable(server: Server) -> None:
    """For the `refuse` of every job that logs in there. Raises Refused."""
    name = {"server": server.name}
    if not server.enabled:
        raise Refused(_("%(server)s is switched off. Switch it on first.") % name)
    if not server.host_key:
        raise Refused(
            _("Nobody has confirmed the host key of %(server)s yet. Test the connection, then confirm it.") % name
        )
    if server.host_key_changed:
        raise Refused(_("The host key of %(server)s has changed. An administrator must look at it first.") % name)


def key_of_server(job: Job) -> str:
    """What jobs hold that write a key of ours to a server."""
    return f"server-key:{job.server_id}"

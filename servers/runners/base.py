from typing import Any

from jobs.runner import JobRunner, Refused
from servers.models import Server


class ServerRunner(JobRunner[Server]):
    """A job whose subject is a server."""

    model = Server

    @classmethod
    def scope(cls, subject: Server) -> dict[str, Any]:
        return {"server": subject}


def refuse_unusable(server: Server) -> None:
    """For the `refuse` of every job that logs in there. Raises Refused."""
    if not server.enabled:
        raise Refused(f"{server.name} is switched off. Switch it on first.")
    if not server.host_key:
        raise Refused(f"Nobody has confirmed the host key of {server.name} yet. Test the connection, then confirm it.")
    if server.host_key_changed:
        raise Refused(f"The host key of {server.name} has changed. An administrator must look at it first.")

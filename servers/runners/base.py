from typing import Any

from django.utils.translation import gettext as _

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
    name = {"server": server.name}
    if not server.enabled:
        raise Refused(_("%(server)s is switched off. Switch it on first.") % name)
    if not server.host_key:
        raise Refused(
            _("Nobody has confirmed the host key of %(server)s yet. Test the connection, then confirm it.") % name
        )
    if server.host_key_changed:
        raise Refused(_("The host key of %(server)s has changed. An administrator must look at it first.") % name)

"""How the commands find what was typed: a server by its name, a plan as `server/plan`, a repository as `pool/name`."""

from backups.models import Archive, Plan, Repository
from jobs.commandline import one_of
from servers.models import Server


def server_named(text: str) -> Server:
    """Raises CommandError."""
    found: Server = one_of(Server, text, lambda name: Server.objects.filter(name=name))
    return found


def plan_named(text: str) -> Plan:
    """By `server/plan`, or by its name alone where there is only one. Raises CommandError."""
    found: Plan = one_of(Plan, text, lambda name: Plan.objects.filter(**_parts(name, "server")))
    return found


def repository_named(text: str) -> Repository:
    """By `pool/name`, or by its name alone where there is only one. Raises CommandError."""
    found: Repository = one_of(Repository, text, lambda name: Repository.objects.filter(**_parts(name, "pool")))
    return found


def archive_named(text: str) -> Archive:
    """Raises CommandError."""
    archives = Archive.objects.with_scope().filter(vanished_at=None)
    found: Archive = one_of(Archive, text, lambda name: archives.filter(name=name))
    return found


def _parts(text: str, above: str) -> dict[str, str]:
    whole, slash, name = text.partition("/")
    return {f"{above}__name": whole, "name": name} if slash else {"name": text}

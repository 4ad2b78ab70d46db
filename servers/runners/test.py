from typing import Any, ClassVar

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from jobs.errors import Failure
from jobs.models import Job
from servers import facts
from servers.borg_versions import describe_support
from servers.models import Server
from servers.runners.base import StepByStep
from servers.ssh.remote import Remote, see_host_key
from servers.ssh.transport import HostKeyChanged, NoProgram


class TestConnection(StepByStep):
    """Step by step from the network to borg, and what else is there.

    Before somebody has confirmed the host key it goes no further than to see that key: nothing
    is sent to a machine that nobody vouched for.
    """

    type = "server_test"
    label = _("Connection test")
    permission = Permission.SERVER_MANAGE
    icon = "plug-connected"
    priority = Job.Priority.HIGH
    idle_limit_seconds = 120
    steps: ClassVar = {
        "reach": _("Reachable"),
        "host_key": _("Host key"),
        "login": _("Login"),
        "root": _("Root or sudo"),
        "borg": _("Borg"),
        "space": _("Free space"),
        "found": _("What is there"),
    }

    def run(self) -> dict[str, Any]:
        self._inventory: dict[str, Any] = {}
        found: dict[str, Any] = {"tested_at": timezone.now(), "test_ok": False}
        try:
            found |= self._test()
        except Failure as error:
            self._answer("failed", str(error))
            raise
        finally:
            Server.objects.filter(pk=self.subject.pk).update(**found)
        return {"ok": found["test_ok"], "steps": self._steps, "found": self._inventory}

    def _test(self) -> dict[str, Any]:
        server = self.subject
        self._begin("reach")
        seen = see_host_key(server.address, server.port)
        self._answer("ok", f"{server.address} answers on port {server.port}.")

        self._begin("host_key")
        server.remember_host_key(seen)
        if not server.host_key:
            self._answer("asks", f"It shows {seen.type} {seen.fingerprint}. Compare and confirm it, then test again.")
            return {}
        if server.host_key_changed:
            raise HostKeyChanged(f"It shows another key than the confirmed one: {seen.type} {seen.fingerprint}.")
        self._answer("ok", f"{seen.type} {seen.fingerprint}, as confirmed.")

        self._begin("login")
        with server.connect() as remote:
            self._answer("ok", f"Logged in as {server.username} with our key.")
            return self._look_around(remote)

    def _look_around(self, remote: Remote) -> dict[str, Any]:
        server, tick = self.subject, self.log.checkpoint
        found: dict[str, Any] = {"system": facts.system(remote, tick), "seen_at": timezone.now()}
        borg_path = facts.find_borg(remote, tick)

        self._begin("root")
        version = facts.borg_version(remote, borg_path, tick) if borg_path else ""
        self._answer("ok" if borg_path or not server.needs_sudo else "warning", self._root_sentence(remote, borg_path))

        self._begin("borg")
        if not version:
            raise NoProgram(
                f"borg was not found on {server.name}.",
                advice="Install it there (on Debian: apt install borgbackup), then test again.",
            )
        state, sentence = describe_support(version)
        found |= {"borg_path": borg_path, "borg_version": version}
        if state == "failed":
            Server.objects.filter(pk=server.pk).update(**found)
            raise NoProgram(f"{sentence} ({borg_path})", advice="Install borg 1.2.6 or newer of the 1.x series there.")
        self._answer(state, f"{sentence} ({borg_path})")

        self._begin("space")
        room = facts.space(remote, "/", tick)
        self._answer("ok" if room else "warning", space_sentence(room))

        self._begin("found")
        self._inventory = facts.inventory(remote, tick)
        self._answer("ok", found_sentence(self._inventory))
        return {**found, "test_ok": True}

    def _root_sentence(self, remote: Remote, borg_path: str) -> str:
        server = self.subject
        if facts.is_root(remote, self.log.checkpoint):
            return "We are root there."
        if not server.needs_sudo:
            return f"We are {server.username}: borg reads what this user may read."
        if not borg_path:
            return "Whether sudo lets us run borg cannot be told before borg is installed."
        return "sudo lets us run borg as root without a password."


def space_sentence(room: facts.Space | None) -> str:
    if room is None:
        return "How much space is free there cannot be told."
    return f"{room.free / 1e9:.1f} GB of {room.total / 1e9:.1f} GB are free on {room.path}; borg's cache needs some."


def found_sentence(inventory: dict[str, Any]) -> str:
    databases = ", ".join(inventory["databases"]) or "no database"
    engines = ", ".join(engine["name"] for engine in inventory["containers"]) or "no containers"
    count = len(inventory["disks"])
    return f"{count} file system{'' if count == 1 else 's'}, {databases}, {engines}."


def found_on(server: Server) -> dict[str, Any]:
    """What the newest good test found there: `facts.inventory`; {} when there is none."""
    tests = Job.objects.filter(type=TestConnection.type, server=server, status=Job.Status.COMPLETED)
    newest = tests.order_by("-created_at").first()
    return ((newest and newest.result) or {}).get("found") or {}

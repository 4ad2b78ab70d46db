"""What stands in the audit trail, in words: what was done, and what is another one since."""

import json
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import AuditEntry
from jobs.runner import JobRunner

ACTIONS: dict[str, str | Promise] = {
    "login": gettext_lazy("Logged in"),
    "login.api": gettext_lazy("Logged in over the API"),
    "login.failed": gettext_lazy("Wrong name or password"),
    "logout": gettext_lazy("Logged out"),
    "logout.api": gettext_lazy("Logged out over the API"),
    "token.refused": gettext_lazy("Refresh token refused"),
    "token.reused": gettext_lazy("Refresh token used twice"),
    "api_login.deleted": gettext_lazy("Login over the API ended"),
    "api_token.made": gettext_lazy("API token made"),
    "api_token.revoked": gettext_lazy("API token revoked"),
    "api_token.deleted": gettext_lazy("API token deleted"),
    "password.changed": gettext_lazy("Own password changed"),
    "profile.changed": gettext_lazy("Own profile changed"),
    "user.added": gettext_lazy("User added"),
    "user.changed": gettext_lazy("User changed"),
    "user.password_set": gettext_lazy("User's password set"),
    "user.switched_off": gettext_lazy("User switched off"),
    "user.deleted": gettext_lazy("User deleted"),
    "role.added": gettext_lazy("Role added"),
    "role.changed": gettext_lazy("Role changed"),
    "role.deleted": gettext_lazy("Role deleted"),
    "login.ended": gettext_lazy("Session or login ended"),
    "password.forgotten": gettext_lazy("Link for a new password asked for"),
    "password.reset": gettext_lazy("New password by a mailed link"),
    "logins.ended": gettext_lazy("All sessions and logins ended"),
    "factor.set_up": gettext_lazy("Second factor set up"),
    "factor.codes_made": gettext_lazy("New recovery codes made"),
    "factor.removed": gettext_lazy("Own second factor removed"),
    "factor.reset": gettext_lazy("Second factor taken away"),
    "settings.changed": gettext_lazy("Settings changed"),
    "setup.refused": gettext_lazy("Wrong token for the first run"),
    "setup.account": gettext_lazy("First account made"),
    "setup.finished": gettext_lazy("First run finished"),
    "server.added": gettext_lazy("Server added"),
    "server.changed": gettext_lazy("Server changed"),
    "server.let_in": gettext_lazy("Let in with a password"),
    "server.key_renewed": gettext_lazy("Server's key renewed"),
    "server.deleted": gettext_lazy("Server deleted"),
    "host_key.confirmed": gettext_lazy("Host key confirmed"),
    "tag.changed": gettext_lazy("Tag changed"),
    "pool.added": gettext_lazy("Storage pool added"),
    "pool.changed": gettext_lazy("Storage pool changed"),
    "pool.deleted": gettext_lazy("Storage pool deleted"),
    "repository.added": gettext_lazy("Repository added"),
    "repository.imported": gettext_lazy("Repository imported"),
    "repository.changed": gettext_lazy("Repository changed"),
    "repository.accepted": gettext_lazy("Repository freed as it is"),
    "repository.forgotten": gettext_lazy("Repository struck off"),
    "server_key.given": gettext_lazy("Server's key let in"),
    "server_key.taken": gettext_lazy("Server's key taken away"),
    "kit.taken_out": gettext_lazy("Recovery kit taken out"),
    "kit.stored": gettext_lazy("Recovery kit noted as stored"),
    "source.added": gettext_lazy("Source added"),
    "source.changed": gettext_lazy("Source changed"),
    "source.deleted": gettext_lazy("Source deleted"),
    "plan.added": gettext_lazy("Plan added"),
    "plan.changed": gettext_lazy("Plan changed"),
    "plan.deleted": gettext_lazy("Plan deleted"),
    "retention.added": gettext_lazy("Retention policy added"),
    "retention.changed": gettext_lazy("Retention policy changed"),
    "archive.commented": gettext_lazy("Archive commented on"),
    "archive.pinned": gettext_lazy("Archive pinned"),
    "archive.unpinned": gettext_lazy("Archive unpinned"),
    "archive.renamed": gettext_lazy("Archive renamed"),
    "archive.trusted": gettext_lazy("Suspicious archive accepted"),
    "archives.deleted": gettext_lazy("Archives deleted"),
    "alert_rule.added": gettext_lazy("Alert rule added"),
    "alert_rule.changed": gettext_lazy("Alert rule changed"),
    "alert_rule.deleted": gettext_lazy("Alert rule deleted"),
    "alert_channel.added": gettext_lazy("Channel added"),
    "alert_channel.changed": gettext_lazy("Channel changed"),
    "alert_channel.deleted": gettext_lazy("Channel deleted"),
    "alert_template.changed": gettext_lazy("Mail template changed"),
    "alert_template.reset": gettext_lazy("Mail template put back"),
    "audit.broken": gettext_lazy("Audit trail was not as it had been left"),
}
# Of jobs, behind the name of their type.
ACTS: dict[str, str | Promise] = {
    "started": gettext_lazy("%(job)s: started"),
    "cancelled": gettext_lazy("%(job)s: cancelled"),
    "hurried": gettext_lazy("%(job)s: next attempt at once"),
}


@dataclass(frozen=True)
class Line:
    """Of an entry's details: what a field was and is; or with `is_change` False, what there is to say of `name`."""

    name: str
    after: str
    before: str = ""
    is_change: bool = False


def label_of(action: str) -> str:
    job_type, _dot, act = action.rpartition(".")
    if action not in ACTIONS and act in ACTS and job_type in JobRunner.registry:
        return str(ACTS[act]) % {"job": JobRunner.registry[job_type].label}
    return str(ACTIONS.get(action, action))


def choices() -> list[tuple[str, str]]:
    """What can be asked for, as a select has it."""
    known = [*ACTIONS, *(f"{job_type}.{act}" for job_type in JobRunner.registry for act in ACTS)]
    return sorted(((action, label_of(action)) for action in known), key=lambda choice: choice[1])


def lines_of(entry: AuditEntry) -> list[Line]:
    told = dict(entry.detail)
    before, after = told.get("before"), told.get("after")
    if isinstance(before, dict) and isinstance(after, dict):
        changed = {name: (before.get(name), after.get(name)) for name in {**before, **after}}
    else:
        changed = {"": (before, after)} if {"before", "after"} <= told.keys() else {}
    if changed:
        del told["before"], told["after"]
    return [
        *(Line(name, in_words(is_now), in_words(was), is_change=True) for name, (was, is_now) in changed.items()),
        *(Line(name, in_words(value)) for name, value in told.items()),
    ]


def in_words(value: Any) -> str:
    match value:
        case None | "" | []:
            return "–"
        case bool():
            return _("yes") if value else _("no")
        case list() if not any(isinstance(each, list | dict) for each in value):
            return ", ".join(map(str, value))
        case list() | dict():
            return json.dumps(value, ensure_ascii=False)
    return str(value)

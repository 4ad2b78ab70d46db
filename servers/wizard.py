"""From an address to the first backup: the stations of a new server, for the pages on that way."""

from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from jobs.models import Job
from servers.models import Server

KNOCKS_FOR = timedelta(minutes=15)  # after a person has tested last: a page that is left open is no reason to go on
PASTED = {"login", "root"}  # steps of a connection test for which somebody puts something on the server

STATIONS = (
    _("Address"), _("Host key"), _("Way in"), _("Test"), _("What to save"), _("First backup"),
)  # fmt: skip


def stations(server: Server | None, test: Job | None = None) -> list[dict[str, Any]]:
    """Each with its label and "done", "current" or "ahead"; the first that is not done is the current one.

    `test` is the newest connection test.
    """
    done = [False] * len(STATIONS)
    if server:
        steps = {step["name"]: step["state"] for step in (test.progress.get("steps", []) if test else [])}
        plans = list(server.plans.all())
        let_in = bool(server.test_ok) or steps.get("login") == "ok"
        done = [
            True, bool(server.host_key) and not server.host_key_changed, let_in, bool(server.test_ok), bool(plans),
            any(plan.last_good_at for plan in plans),
        ]  # fmt: skip
    current = done.index(False) if False in done else len(done)
    return [
        {"label": label, "state": "current" if number == current else "done" if number < current else "ahead"}
        for number, label in enumerate(STATIONS)
    ]


def waits_for_key(server: Server, test: Job | None) -> bool:
    """Whether we were only refused, and somebody is just putting our key there: the open page then knocks by itself."""
    if not test or test.status != Job.Status.FAILED or server.host_key_changed:
        return False
    if PASTED.isdisjoint(step["name"] for step in test.progress.get("steps", []) if step["state"] == "failed"):
        return False
    since = timezone.now() - KNOCKS_FOR
    return Job.objects.filter(type=test.type, server=server, trigger=Job.Trigger.USER, created_at__gte=since).exists()

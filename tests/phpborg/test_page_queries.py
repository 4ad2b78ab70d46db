"""Pages ask the database as often for fifty servers as for five, and at most MOST times."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from backups.models import Archive
from phpborg.fleet import Fleet, Size
from tests.conftest import make_user

MOST = 15
PAGES = [
    "/", "/servers", "/servers?state=at-risk", "/servers?search=web", "/servers/{server}",
    "/servers/{server}?tab=plans", "/servers/{server}?tab=archives", "/servers/{server}?tab=jobs",
    "/servers/{server}?tab=access", "/plans", "/plans?search=web", "/plans/{plan}", "/plans/{plan}/retention",
    "/plans/{plan}/restore-tests", "/repositories", "/repositories/{repository}", "/pools/{pool}", "/archives",
    "/archives?search=web", "/archives/{archive}", "/archives/{archive}/diff", "/archives/{archive}/restore",
    "/jobs", "/jobs?status=failed", "/jobs/{job}", "/jobs/strip", "/logs", "/logs?level=warning", "/statistics",
    "/users", "/users?search=a&role=ROLE_ADMIN&is_active=true", "/users/{user}", "/users/add", "/roles", "/roles/add",
    "/audit", "/audit?action=login&since=2026-01-01",
    "/search?q=web", "/files", "/retention-policies",
    "/alerts", "/alerts?state=all", "/alerts/rules", "/alerts/channels", "/alerts/deliveries",
    "/alerts/rules/add/backup_failed", "/alerts/channels/add/mail", "/alerts/templates/en",
    "/profile", "/profile/factor", "/servers/{server}/plans/add",
    "/plans/{plan}/edit", "/repositories/add", "/settings", "/settings/mail-test",
]  # fmt: skip


def queries(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as caught:
        answer = client.get(path)
    assert answer.status_code == 200, path
    return len(caught)


def counted(client: Client, servers: int, jobs: int) -> dict[str, int]:
    with transaction.atomic():
        Fleet(Size(servers=servers, jobs=jobs, archives=jobs // 5, log_lines=jobs)).make()
        for number in range(servers):
            make_user(f"user-{number}", "ROLE_VIEWER")
            Group.objects.create(name=f"role {number}")
        archive = Archive.objects.exclude(plan=None).order_by("-start")[0]
        names: dict[str, Any] = {
            "server": archive.server_id, "plan": archive.plan_id, "repository": archive.repository_id,
            "pool": archive.repository.pool_id, "archive": archive.pk, "job": archive.job_id,
            "user": User.objects.earliest("pk").pk,
        }  # fmt: skip
        found = {path: queries(client, path.format(**names)) for path in PAGES}
        transaction.set_rollback(True)
    return found


@pytest.mark.django_db
def test_pages_take_few_queries_however_many_servers_there_are(as_admin: Client) -> None:
    few, many = counted(as_admin, 5, 300), counted(as_admin, 60, 1500)
    assert {path: number for path, number in many.items() if number > MOST} == {}
    # Less, where of little there is nothing to ask for.
    assert {path: (few[path], many[path]) for path in PAGES if many[path] > few[path] + 2} == {}

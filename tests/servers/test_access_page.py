"""How to let us in, and the steps of the connection test as they tick."""

import pytest
from django.test import Client
from django.utils import timezone

from jobs.models import Job
from servers.models import Server
from servers.ssh.remote import HostKey
from servers.wizard import KNOCKS_FOR
from tests.servers.conftest import FINGERPRINT, OTHER_HOST_KEY

pytestmark = pytest.mark.django_db
STEPS = [
    {"name": "reach", "state": "ok", "text": "192.0.2.9 answers on port 22."},
    {"name": "host_key", "state": "failed", "text": "<b>no</b>"},
    {"name": "login", "state": "running", "text": ""},
]


def steps(client: Client, server: Server) -> str:
    answer = client.get(f"/servers/{server.pk}/access/steps")
    assert answer.status_code == 200
    return answer.getvalue().decode()


def a_test(server: Server, **changes: object) -> Job:
    values = {"status": Job.Status.COMPLETED, "progress": {"steps": STEPS}, "result": {"ok": True}, **changes}
    return Job.objects.create(type="server_test", server=server, **values)


def test_before_a_test_every_step_waits(as_admin: Client, server: Server) -> None:
    html = steps(as_admin, server)
    assert html.count('<span class="waiting">') == 7
    for label in ("Reachable", "Host key", "Login", "Root or sudo", "Borg", "Free space", "What is there"):
        assert f">{label}</b>" in html


def test_each_step_shows_its_state_and_its_sentence_escaped(as_admin: Client, server: Server) -> None:
    a_test(server)
    html = steps(as_admin, server)
    assert "192.0.2.9 answers on port 22." in html
    assert "&lt;b&gt;no&lt;/b&gt;" in html
    assert html.count("#circle-x") == 1
    assert html.count("#loader-2") == 1
    assert html.count('<span class="waiting">') == 4


def test_only_the_newest_test_is_shown(as_admin: Client, server: Server) -> None:
    a_test(server)
    a_test(server, progress={}, status=Job.Status.PENDING)
    html = steps(as_admin, server)
    assert "192.0.2.9 answers" not in html
    assert "The test waits for a free worker." in html


def test_a_test_of_another_server_is_not_shown(as_admin: Client, server: Server, new_server: Server) -> None:
    a_test(new_server)
    assert "192.0.2.9 answers" not in steps(as_admin, server)


def test_a_failed_test_says_why_and_what_to_do(as_admin: Client, server: Server) -> None:
    a_test(server, status=Job.Status.FAILED, result=None, error="No way <in>.", advice="Open the door.")
    html = steps(as_admin, server)
    assert "No way &lt;in&gt;." in html
    assert "Open the door." in html


def test_when_all_is_well_it_leads_on_to_the_first_plan(as_admin: Client, server: Server) -> None:
    a_test(server)
    html = steps(as_admin, server)
    assert "Everything is ready." in html
    assert f"/servers/{server.pk}/plans/add" in html


FOUND = {
    "databases": ["MariaDB"], "folders": ["/etc"],
    "containers": [{"name": "docker", "running": 1}, {"name": "podman", "running": None}],
    "disks": [{"path": "/<b>", "type": "ext4", "free": 8_000_000, "total": 9_000_000}],
}  # fmt: skip


def test_a_good_test_tells_what_was_found_escaped(as_admin: Client, server: Server) -> None:
    Server.objects.filter(pk=server.pk).update(system="Debian 12", borg_version="1.2.4")
    a_test(server, result={"ok": True, "found": FOUND})
    html = steps(as_admin, server)
    for words in ("Debian 12", "1.2.4", "/usr/bin/borg", "MariaDB", "docker: 1 container runs", "8.0 MB of 9.0 MB"):
        assert words in html
    assert "podman: it does not tell us how many run" in html
    assert "files that are copied while a database writes them are not a good backup" in html
    assert "/&lt;b&gt;" in html


def test_a_test_of_before_there_was_such_a_list_tells_the_rest(as_admin: Client, server: Server) -> None:
    a_test(server)
    html = steps(as_admin, server)
    assert "/usr/bin/borg" in html
    assert "Databases" not in html


def test_a_test_that_found_nothing_says_so(as_admin: Client, server: Server) -> None:
    a_test(server, result={"ok": True, "found": {"databases": [], "containers": [], "disks": [], "folders": []}})
    html = steps(as_admin, server)
    assert "none is running" in html
    assert "neither docker nor podman" in html


def test_a_new_key_can_be_confirmed_with_its_fingerprint(as_admin: Client, new_server: Server) -> None:
    html = steps(as_admin, new_server)
    assert f'name="fingerprint" value="{FINGERPRINT}"' in html
    assert "Is this your server?" in html


def test_a_changed_key_is_shown_loudly_beside_the_confirmed_one(as_admin: Client, server: Server) -> None:
    server.remember_host_key(HostKey.parse(OTHER_HOST_KEY))
    html = steps(as_admin, server)
    assert "alert-danger" in html
    assert "The server shows another host key than the one that was confirmed." in html
    assert f"Confirmed: {FINGERPRINT}" in html
    assert HostKey.parse(OTHER_HOST_KEY).fingerprint in html


def test_a_confirmed_key_needs_no_button(as_admin: Client, server: Server) -> None:
    assert 'name="fingerprint"' not in steps(as_admin, server)


def test_the_steps_are_a_piece_of_the_page(as_admin: Client, server: Server) -> None:
    page = as_admin.get(f"/servers/{server.pk}/access").getvalue().decode()
    assert f'hx-get="/servers/{server.pk}/access/steps"' in page
    assert "<html" not in steps(as_admin, server)
    assert '<ol class="test-steps">' in page


@pytest.mark.parametrize("path", ["access", "access/steps"])
def test_only_who_manages_servers_sees_it(
    as_operator: Client, as_viewer: Client, as_admin: Client, server: Server, path: str
) -> None:
    assert as_operator.get(f"/servers/{server.pk}/{path}").status_code == 403
    assert as_viewer.get(f"/servers/{server.pk}/{path}").status_code == 403
    assert as_admin.post(f"/servers/{server.pk}/{path}").status_code == 405
    assert as_admin.get(f"/servers/999/{path}").status_code == 404


REFUSED = {
    "status": Job.Status.FAILED,
    "progress": {"steps": [{"name": "login", "state": "failed", "text": "It refuses our key."}]},
}
UNREACHABLE = {"steps": [{"name": "reach", "state": "failed", "text": "Nobody answers."}]}


def knock(client: Client, server: Server) -> int:
    """How many tests wait afterwards."""
    assert client.post(f"/servers/{server.pk}/access/knock").status_code == 204
    return Job.objects.filter(server=server, status=Job.Status.PENDING, trigger=Job.Trigger.SYSTEM).count()


def test_while_somebody_puts_the_key_there_the_page_knocks_by_itself(as_admin: Client, server: Server) -> None:
    a_test(server, **REFUSED)
    assert f'hx-post="/servers/{server.pk}/access/knock" hx-trigger="every' in steps(as_admin, server)
    assert knock(as_admin, server) == 1
    assert knock(as_admin, server) == 1, "one that waits is enough"
    assert "access/knock" not in steps(as_admin, server)


@pytest.mark.parametrize("changes", [{}, {"progress": UNREACHABLE, "status": Job.Status.FAILED}])
def test_it_knocks_for_nothing_else(as_admin: Client, server: Server, changes: dict[str, object]) -> None:
    """Neither when all is well nor when nobody answers."""
    a_test(server, **changes)
    assert "access/knock" not in steps(as_admin, server)
    assert knock(as_admin, server) == 0


def test_it_does_not_knock_for_ever(as_admin: Client, server: Server) -> None:
    """Red when its own tests count as somebody who is there."""
    before = a_test(server, **REFUSED)
    a_test(server, **REFUSED, trigger=Job.Trigger.SYSTEM)
    Job.objects.filter(pk=before.pk).update(created_at=timezone.now() - KNOCKS_FOR)
    assert "access/knock" not in steps(as_admin, server)
    assert knock(as_admin, server) == 0

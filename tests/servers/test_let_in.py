"""The way in by a password: who may, what is done with it, and that it is nowhere afterwards."""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from redis import RedisError

from accounts.models import AuditEntry, User
from backups.models import Plan
from jobs import handover, queue
from jobs.models import Job
from jobs.runner import Refused, retry_of
from servers.models import Server
from servers.runners.let_in import ADD_KEY, LetIn
from servers.ssh.command import Command
from servers.ssh.remote import Login
from servers.ssh.transport import PasswordRefused
from tests.conftest import run_now
from tests.fakes import Answer, FakeMachine
from tests.servers.conftest import OTHER_HOST_KEY

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]

PASSWORD = "Tr0ub4dor & 3é"


def enter(client: Client, server: Server, password: str = PASSWORD) -> Any:
    return client.post(f"/servers/{server.pk}/let-in", {"password": password})


def page(client: Client, server: Server, part: str = "access") -> str:
    return client.get(f"/servers/{server.pk}/{part}").getvalue().decode()


# --- The page ---------------------------------------------------------------------------------


def test_before_the_host_key_is_confirmed_nobody_is_asked(as_admin: Client, new_server: Server) -> None:
    """Red without the condition in the template."""
    html = page(as_admin, new_server)
    assert "Confirm the host key first" in html
    assert 'name="password"' not in html


def test_afterwards_a_field_asks_that_no_browser_fills_in(as_admin: Client, server: Server) -> None:
    html = page(as_admin, server)
    assert 'type="password"' in html
    assert 'name="password" autocomplete="off"' in html
    assert f'action="/servers/{server.pk}/let-in"' in html
    assert "run borg as root" not in html


def test_who_is_not_root_is_told_what_sudo_is_for(as_admin: Client, server: Server) -> None:
    Server.objects.filter(pk=server.pk).update(username="backup")
    assert "whoever may run borg as root is root" in page(as_admin, server)


def test_the_one_command_stays_the_first_way(as_admin: Client, server: Server) -> None:
    html = page(as_admin, server)
    assert html.index("One command") < html.index("authorized_keys") < html.index("A password, once")


# --- Handing it over --------------------------------------------------------------------------


def test_the_job_has_it_and_its_row_has_not(as_admin: Client, admin: User, server: Server) -> None:
    answer = enter(as_admin, server)
    job = Job.objects.get()
    assert answer["Location"] == f"/servers/{server.pk}/access"
    assert (job.type, job.server, job.user, job.payload) == ("server_let_in", server, admin, {})
    assert job.max_attempts == 1
    assert handover.take(job) == PASSWORD


def test_the_page_of_every_job_does_not_start_it(as_admin: Client, server: Server) -> None:
    """It could not ask for the password. Red without `has_own_page`."""
    address = f"/jobs/start/server_let_in/{server.pk}"
    assert as_admin.get(address).status_code == as_admin.post(address).status_code == 404
    assert not Job.objects.filter(type="server_let_in").exists()


def test_it_is_audited_without_it(as_admin: Client, admin: User, server: Server) -> None:
    enter(as_admin, server)
    entry = AuditEntry.objects.get(action="server.let_in")
    assert (entry.user, entry.target) == (admin, "web-1")
    assert PASSWORD not in str(entry.detail)


def test_no_cache_keeps_the_answer(as_admin: Client, server: Server) -> None:
    assert "no-store" in enter(as_admin, server, "")["Cache-Control"]
    assert "no-store" in enter(as_admin, server)["Cache-Control"]


@pytest.mark.parametrize("changes", [{"host_key": ""}, {"host_key_seen": OTHER_HOST_KEY}, {"enabled": False}])
def test_a_machine_that_nobody_vouched_for_gets_none(as_admin: Client, server: Server, changes: dict[str, Any]) -> None:
    """Red without `refuse`."""
    Server.objects.filter(pk=server.pk).update(**changes)
    html = as_admin.post(f"/servers/{server.pk}/let-in", {"password": PASSWORD}, follow=True).getvalue().decode()
    assert "alert-danger" in html
    assert PASSWORD not in html
    assert not Job.objects.exists()
    assert not AuditEntry.objects.filter(action="server.let_in").exists()
    assert queue.connection().keys("phpborg:handover:*") == []


@pytest.mark.parametrize("password", ["", "x" * 513, "two\nlines-that-nobody-types", "nul\0nul-that-nobody-types"])
def test_what_nobody_types_is_refused_and_not_shown_again(as_admin: Client, server: Server, password: str) -> None:
    answer = enter(as_admin, server, password)
    html = answer.getvalue().decode()
    assert answer.status_code == 400
    assert "is-invalid" in html
    assert "x" * 513 not in html and "nobody-types" not in html
    assert not Job.objects.exists()


def test_while_one_is_on_its_way_another_is_refused(as_admin: Client, server: Server) -> None:
    enter(as_admin, server)
    html = as_admin.post(f"/servers/{server.pk}/let-in", {"password": "another"}, follow=True).getvalue().decode()
    assert "Key installation is already waiting here." in html
    assert handover.take(Job.objects.get()) == PASSWORD


def test_without_redis_there_is_no_job_that_would_wait_for_it(
    as_admin: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without the transaction around job and handover."""

    def away(*_: Any) -> None:
        raise handover.NotGiven from RedisError("away")

    monkeypatch.setattr("servers.views.handover.give", away)
    html = as_admin.post(f"/servers/{server.pk}/let-in", {"password": PASSWORD}, follow=True).getvalue().decode()
    assert "Redis is away" in html
    assert not Job.objects.exists()
    assert not AuditEntry.objects.filter(action="server.let_in").exists()


def test_only_who_manages_servers_enters_one(as_operator: Client, as_viewer: Client, server: Server) -> None:
    for client in (as_operator, as_viewer):
        assert enter(client, server).status_code == 403
    assert not Job.objects.exists()


def test_it_takes_a_post_to_a_server_that_exists(as_admin: Client, server: Server, client: Client) -> None:
    assert as_admin.get(f"/servers/{server.pk}/let-in").status_code == 405
    assert as_admin.post("/servers/999/let-in", {"password": PASSWORD}).status_code == 404
    assert "/login" in enter(client, server)["Location"]


# --- What the job does with it ----------------------------------------------------------------


class Door(FakeMachine):
    """A machine that lets in whoever has PASSWORD, and remembers what it was shown."""

    shown: str | None = None


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door(sh=keys_and_borg, sudo=Answer(b"\nadded\n"))
    door.login = Login("192.0.2.7", 22, "backup", "")

    def connect(_: Server, *, password: str = "") -> Door:
        door.shown = password
        if password != PASSWORD:
            raise PasswordRefused("192.0.2.7 refused the password for the user backup.")
        return door

    monkeypatch.setattr(Server, "connect", connect)
    return door


def keys_and_borg(command: Command) -> Answer:
    return Answer(b"\n/usr/local/bin/borg\n" if "command -v borg" in command.argv[-1] else b"motd\n\nadded\n")


def let_in(server: Server, password: str | None = PASSWORD, user: User | None = None) -> Job:
    job = LetIn.enqueue(server, user=user)
    if password is not None:
        handover.give(job, password)
    return run_now(job)


def steps_of(job: Job) -> dict[str, tuple[str, str]]:
    return {step["name"]: (step["state"], step["text"]) for step in job.progress["steps"]}


def not_root(server: Server) -> None:
    Server.objects.filter(pk=server.pk).update(username="backup", borg_path="")
    server.refresh_from_db()


def test_with_it_the_key_is_put_there_and_the_connection_tested(server: Server, door: Door, admin: User) -> None:
    job = let_in(server, user=admin)
    assert (job.status, job.result, job.warnings) == ("completed", {"key": "added", "rule": ""}, 0)
    assert [state for state, _ in steps_of(job).values()] == ["ok", "ok", "ok"]
    [asked] = door.commands
    assert asked.argv[-1] == f"restrict {server.public_key}"
    test = Job.objects.get(type="server_test")
    assert (test.server, test.user, test.trigger, test.status) == (server, admin, "system", "pending")


def test_with_sudo_the_line_is_put_there_too_for_the_borg_that_is_there(server: Server, door: Door) -> None:
    not_root(server)
    job = let_in(server)
    assert (job.status, job.result) == ("completed", {"key": "added", "rule": "added"})
    sudo = door.commands[-1]
    assert sudo.argv[:2] == ("sudo", "-k")
    assert sudo.argv[-1] == "backup ALL=(root) NOPASSWD:SETENV: /usr/local/bin/borg"
    server.refresh_from_db()
    assert server.borg_path == "/usr/local/bin/borg"


def test_sudo_reads_the_password_and_nobody_else_sees_it(server: Server, door: Door) -> None:
    """Red with it anywhere but in standard input, where nothing shows it."""
    not_root(server)
    let_in(server)
    assert [command.stdin for command in door.commands if command.stdin] == [f"{PASSWORD}\n".encode()]
    assert not [command for command in door.commands if PASSWORD in f"{command.argv} {command.env} {command!r}"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(code=1, stderr=["We trust you have received the usual lecture", "backup is not in the sudoers file."]),
        Answer(code=1, stderr=[">>> /etc/sudoers.d/.phpborg.x: syntax error near line 1 <<<"]),
        Answer(code=127, stderr=["sh: sudo: not found"]), Answer(b"\n", code=0),
    ],
)  # fmt: skip
def test_who_may_not_sudo_keeps_the_key_and_is_told_what_to_do(server: Server, door: Door, answer: Answer) -> None:
    not_root(server)
    door.answers["sudo"] = answer
    job = let_in(server)
    assert (job.status, job.result, job.warnings) == ("completed", {"key": "added", "rule": ""}, 1)
    state, sentence = steps_of(job)["rule"]
    assert state == "warning"
    assert sentence.startswith("backup could not become root with this password: ")
    assert (answer.stderr or ["no answer"])[-1].rstrip(".") in sentence
    assert sentence.endswith("Put it there by hand, as the server's page shows.")
    assert Job.objects.filter(type="server_test").exists()


def test_a_path_that_sudoers_could_take_for_more_is_left_to_a_person(server: Server, door: Door) -> None:
    """Red without PLAIN_PATH: the comma begins another command."""
    not_root(server)
    door.answers["sh"] = lambda command: Answer(
        b"\n/tmp/x, ALL\n" if "command -v borg" in command.argv[-1] else b"\nadded\n"
    )
    job = let_in(server)
    assert "needs a careful look" in steps_of(job)["rule"][1]
    assert "sudo" not in [command.argv[0] for command in door.commands]


def test_a_wrong_one_is_told_with_advice_and_ends_it(as_admin: Client, server: Server, door: Door) -> None:
    job = let_in(server, "wrong")
    assert (job.status, job.cause) == ("failed", "authentication")
    assert job.error == "192.0.2.7 refused the password for the user backup."
    assert door.commands == []
    assert not Job.objects.filter(type="server_test").exists()
    html = page(as_admin, server, "access/steps")
    assert "refused the password" in html
    assert "Enter it again." in html


def test_a_server_that_takes_no_key_says_why(server: Server, door: Door) -> None:
    door.answers["sh"] = Answer(code=1, stderr=["sh: /root/.ssh/authorized_keys: Read-only file system"])
    job = let_in(server)
    assert job.error.startswith("Our key could not be put on web-1: ")
    assert "Read-only file system" in job.error
    assert "by hand" in job.advice


@pytest.mark.parametrize("again", [False, True])
def test_without_it_nothing_is_tried(server: Server, door: Door, *, again: bool) -> None:
    """Expired, taken, or a job that somebody started over: red when the job would log in with nothing."""
    job = let_in(server, None)
    if again:
        job = run_now(retry_of(job, user=None, trigger=Job.Trigger.USER))
    assert job.error == "What was entered for this job is not there any more."
    assert "Enter it again." in job.advice
    assert door.shown is None


def test_a_server_is_not_let_in_twice_at_once(server: Server) -> None:
    LetIn.enqueue(server)
    with pytest.raises(Refused):
        LetIn.enqueue(server)


# --- Nowhere afterwards -----------------------------------------------------------------------


def everything_in_the_database() -> str:
    with connection.cursor() as cursor:
        rows = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            rows += cursor.fetchall()
    return "\n".join(map(str, rows))


def everything_in_redis() -> bytes:
    redis: Any = queue.connection()
    return b"\n".join(bytes(key) + (redis.dump(key) or b"") for key in redis.scan_iter())


@pytest.mark.parametrize("echoes", ["nothing", "key", "sudo"])
def test_the_password_is_nowhere(
    as_admin: Client, server: Server, door: Door, echoes: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the server says it back. Red without the replacing in `_complaint`, or with it in the payload."""
    not_root(server)
    if echoes == "key":
        door.answers["sh"] = Answer(f"{PASSWORD} it was\n".encode(), stderr=[PASSWORD], code=1)
    if echoes == "sudo":
        door.answers["sudo"] = Answer(stderr=[f"sudo: is it {PASSWORD}?", f"x{PASSWORD}x"], code=1)
    enter(as_admin, server)
    waiting = everything_in_redis()
    assert b"phpborg:handover:" in waiting
    job = Job.objects.get()
    before = everything_in_the_database() + page(as_admin, server)
    assert server.public_key in before

    run_now(job)

    assert b"phpborg:handover:" not in everything_in_redis()
    assert job.lines.exists()
    the_job = as_admin.get(f"/jobs/{job.pk}").getvalue().decode()
    pages = [page(as_admin, server), page(as_admin, server, "access/steps"), the_job]
    texts = [before, everything_in_the_database(), *pages, caplog.text, str(waiting), str(everything_in_redis())]
    assert [text for text in texts if "Tr0ub4dor" in text] == []


# --- Our key in authorized_keys, by a real shell ----------------------------------------------


def add_key(server: Server, home: Path) -> tuple[str, list[str]]:
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        ["sh", "-c", ADD_KEY, "phpborg", server.public_key.split()[1], server.key_line], check=True, text=True,
        env={"HOME": str(home), "PATH": os.environ["PATH"]}, capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip(), (home / ".ssh/authorized_keys").read_text().splitlines()


def test_the_key_is_added_once(server: Server, tmp_path: Path) -> None:
    line = f"restrict {server.public_key}"
    assert add_key(server, tmp_path / "home") == ("added", [line])
    assert add_key(server, tmp_path / "home") == ("there", [line])
    assert stat.S_IMODE((tmp_path / "home/.ssh").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "home/.ssh/authorized_keys").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "before", ["ssh-ed25519 AAAA somebody@else\n", "ssh-ed25519 AAAA somebody@else", "# {key}\n", "  #{key}"]
)
def test_what_stands_there_stays_and_a_comment_lets_nobody_in(server: Server, tmp_path: Path, before: str) -> None:
    before = before.replace("{key}", server.public_key)
    (tmp_path / "home/.ssh").mkdir(parents=True)
    (tmp_path / "home/.ssh/authorized_keys").write_text(before)
    said, lines = add_key(server, tmp_path / "home")
    assert (said, lines) == ("added", [before.rstrip("\n"), f"restrict {server.public_key}"])


def test_a_key_that_somebody_pasted_is_left_as_it_is(server: Server, tmp_path: Path) -> None:
    (tmp_path / "home/.ssh").mkdir(parents=True)
    (tmp_path / "home/.ssh/authorized_keys").write_text(f'from="192.0.2.1" {server.public_key}\n')
    assert add_key(server, tmp_path / "home")[0] == "there"


# --- What the page shows of it ----------------------------------------------------------------


def shows_key_installation(client: Client, server: Server) -> bool:
    return "Key installation" in page(client, server, "access/steps")


def row(server: Server, **values: Any) -> Job:
    return Job.objects.create(server=server, **values)


@pytest.mark.parametrize(
    ("jobs", "shown"),
    [
        ([], False),
        ([{"type": "server_let_in", "status": "pending"}], True),
        ([{"type": "server_let_in", "status": "failed"}, {"type": "server_test", "status": "failed"}], True),
        ([{"type": "server_let_in"}, {"type": "server_test", "result": {"ok": False}}], True),
        ([{"type": "server_let_in", "status": "failed"}, {"type": "server_test", "result": {"ok": True}}], False),
        ([{"type": "server_test", "result": {"ok": True}}, {"type": "server_let_in", "status": "failed"}], True),
    ],
)
def test_it_is_shown_until_a_test_after_it_is_good(
    as_admin: Client, server: Server, jobs: list[dict[str, Any]], shown: bool
) -> None:
    for values in jobs:
        row(server, **{"status": "completed", **values})
    assert shows_key_installation(as_admin, server) is shown


def test_the_failure_of_before_is_not_shown_beside_it(as_admin: Client, server: Server) -> None:
    """Red without it: two alerts, one of which is what somebody has just done something about."""
    row(server, type="server_test", status="failed", error="It refused our key.")
    assert "It refused our key." in page(as_admin, server)
    row(server, type="server_let_in", status="failed", error="It refused the password.")
    html = page(as_admin, server)
    assert "It refused the password." in html
    assert "It refused our key." not in html
    row(server, type="server_test", status="failed", error="It refuses everything.")
    assert "It refuses everything." in page(as_admin, server)


def test_while_it_waits_the_page_says_how_long(as_admin: Client, server: Server) -> None:
    enter(as_admin, server)
    assert "The password is kept for two minutes." in page(as_admin, server, "access/steps")


def states(client: Client, server: Server) -> list[str]:
    answer = client.get(f"/servers/{server.pk}/access/steps")
    return [station["state"] for station in answer.context["stations"]]


def test_the_stations_follow_what_is_done(as_admin: Client, new_server: Server) -> None:
    assert states(as_admin, new_server) == ["done", "current", *["ahead"] * 4]
    new_server.confirm_host_key(new_server.fingerprint_seen)
    assert states(as_admin, new_server) == [*["done"] * 2, "current", *["ahead"] * 3]
    steps = [{"name": "login", "state": "ok", "text": ""}]
    row(new_server, type="server_test", status="failed", progress={"steps": steps})
    assert states(as_admin, new_server) == [*["done"] * 3, "current", *["ahead"] * 2]
    Server.objects.filter(pk=new_server.pk).update(test_ok=True)
    assert states(as_admin, new_server) == [*["done"] * 4, "current", "ahead"]


def test_the_form_is_the_first_station(as_admin: Client) -> None:
    html = as_admin.get("/servers/add").getvalue().decode()
    assert '<ol id="wizard"' in html
    assert "hx-swap-oob" not in html
    assert html.count('aria-current="step"') == 1


def test_what_is_fetched_takes_the_place_of_the_stations_on_the_page(as_admin: Client, server: Server) -> None:
    assert page(as_admin, server).count('<ol id="wizard"') == 1
    assert 'hx-swap-oob="true"' in page(as_admin, server, "access/steps")
    assert "hx-swap-oob" not in page(as_admin, server)


def test_the_last_station_is_a_backup_and_then_there_is_nothing_to_see(as_admin: Client, plan: Plan) -> None:
    server = plan.server
    Server.objects.filter(pk=server.pk).update(test_ok=True)
    row(server, type="server_test", status="completed", result={"ok": True})
    assert states(as_admin, server) == [*["done"] * 5, "current"]
    html = page(as_admin, server)
    assert f'action="/plans/{plan.pk}/run"' in html
    assert "Run the first backup" in html
    Plan.objects.filter(pk=plan.pk).update(last_good_at=timezone.now())
    html = page(as_admin, server)
    assert "Run the first backup" not in html
    assert re.search(r'<ol id="wizard"[^>]* hidden>', html)

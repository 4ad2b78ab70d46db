"""/setup and `manage.py setup`: from nobody to the first server, with a token, once, and resumed where one stopped."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts import encryption
from accounts.models import AuditEntry, User
from backups.models import StoragePool
from jobs.config import config
from jobs.models import Job
from phpborg.models import FirstRun
from phpborg.setup_views import AccountForm, first_account
from tests.conftest import make_user, page_of, run_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("one_thread")]

PASSWORD = "a long and odd password"
ACCOUNT = {"username": "ada", "email": "ada@example.org", "password1": PASSWORD, "password2": PASSWORD}


@pytest.fixture
def token() -> str:
    return FirstRun.begin()


@pytest.fixture
def begun(client: Client, token: str) -> Client:
    """A browser in which the first account has just been made."""
    client.post("/setup", {"token": token})
    assert client.post("/setup", ACCOUNT).status_code == 302
    return client


def post(client: Client, step: str, **more: Any) -> Any:
    return client.post("/setup", {"step": step, **more})


def text_of(client: Client) -> str:
    answer = client.get("/setup")
    assert answer.status_code == 200
    return answer.content.decode()


# --- The way in -------------------------------------------------------------------------------------


def test_while_nobody_has_an_account_every_page_leads_there(client: Client, token: str) -> None:
    """Red without the look in the login view."""
    for path in ("/", "/servers", "/settings", "/jobs", "/profile"):
        assert client.get(path, follow=True).redirect_chain[-1] == ("/setup", 302)
    assert client.get("/healthz").status_code == 200
    assert client.get("/api/servers").status_code == 401


def test_without_a_token_the_page_says_how_to_get_one(client: Client) -> None:
    assert "manage.py setup" in text_of(client)
    assert client.post("/setup", {"token": ""}).status_code == 200
    assert not User.objects.exists()


def test_nobody_makes_an_account_without_the_token(client: Client, token: str) -> None:
    """Red when the account's form is taken without the session that has shown the token."""
    assert "Your account" not in text_of(client)
    client.post("/setup", ACCOUNT)
    assert client.post("/setup", {"token": "0" * 32, **ACCOUNT}).status_code == 400
    assert not User.objects.exists()
    answer = client.post("/setup", {"token": f" {token}\n"})
    assert (answer.status_code, answer["Location"]) == (302, "/setup")
    assert "Your account" in text_of(client)


def test_the_token_in_the_address_opens_nothing(client: Client, token: str) -> None:
    """It would be in every log on the way."""
    client.get(f"/setup?token={token}")
    assert "Your account" not in text_of(client)


def test_a_new_token_ends_the_one_before_and_who_has_shown_it(client: Client, token: str) -> None:
    client.post("/setup", {"token": token})
    newer = FirstRun.begin()
    assert client.post("/setup", ACCOUNT).status_code == 400
    assert not User.objects.exists()
    assert client.post("/setup", {"token": token}).status_code == 400
    assert client.post("/setup", {"token": newer}).status_code == 302


def test_guesses_are_slowed_down_even_for_the_right_one(client: Client, token: str) -> None:
    """Red without `refuse_guesses`."""
    for number in range(10):
        assert "not the token" in client.post("/setup", {"token": str(number)}).content.decode()
    answer = client.post("/setup", {"token": token})
    assert answer.status_code == 400
    assert "Too many wrong tokens. Try again in 15 minutes." in answer.content.decode()
    elsewhere = Client(REMOTE_ADDR="192.0.2.77")
    assert elsewhere.post("/setup", {"token": token}).status_code == 302  # nobody is locked out by a stranger
    assert AuditEntry.objects.filter(action="setup.refused").count() == 10


def test_the_token_is_stored_and_logged_nowhere(
    client: Client, token: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    client.post("/setup", {"token": token})
    client.post("/setup", {**ACCOUNT, "password2": "x"})
    client.post("/setup", ACCOUNT)
    seen = [
        list(FirstRun.objects.values()), list(AuditEntry.objects.values()), dict(client.session.items()),
        caplog.text, capfd.readouterr(), text_of(client),
    ]  # fmt: skip
    assert [part for part in seen if token in repr(part) or PASSWORD in repr(part)] == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"password1": "short", "password2": "short"}, "This password is too short."),
        ({"password1": "ada@example.org", "password2": "ada@example.org"}, "too similar to the"),
        ({"password2": "another"}, "match"),
        ({"username": ""}, "This field is required."),
    ],
)
def test_the_account_is_held_to_the_same_rules_as_any(
    client: Client, token: str, change: dict[str, str], sentence: str
) -> None:
    client.post("/setup", {"token": token})
    answer = client.post("/setup", {**ACCOUNT, **change})
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert not User.objects.exists()


def test_the_first_account_is_an_administrator_s_and_signed_in(begun: Client) -> None:
    ada = User.objects.get()
    assert (ada.username, ada.roles, ada.check_password(PASSWORD)) == ("ada", ["ROLE_ADMIN"], True)
    assert begun.get("/").status_code == 200
    assert AuditEntry.objects.get(action="setup.account").username == "ada"


def test_two_who_have_the_token_make_one_account(client: Client, token: str) -> None:
    other = Client()
    for browser in (client, other):
        browser.post("/setup", {"token": token})
    assert client.post("/setup", ACCOUNT).status_code == 302
    answer = other.post("/setup", {**ACCOUNT, "username": "eve"})
    assert answer.status_code == 302
    assert "/login" in answer["Location"]
    assert User.objects.get().username == "ada"


def test_a_key_that_does_not_fit_is_a_sentence_before_anything_is_made(
    client: Client, token: str, settings: Any
) -> None:
    """Red when the account is made all the same: what it saves could never be read again."""
    encryption.verify()
    client.post("/setup", {"token": token})
    for key, sentence in (
        (Fernet.generate_key().decode(), "The encryption key does not fit the database"),
        ("", "ENCRYPTION_KEYS must be one or more Fernet keys"),
    ):
        settings.ENCRYPTION_KEYS = [key]
        answer = client.post("/setup", ACCOUNT)
        assert answer.status_code == 503
        assert sentence in answer.content.decode()
    assert not User.objects.exists()


def test_of_two_who_have_come_as_far_the_second_makes_none(token: str) -> None:
    """Both were let through before either made it. Red without the UPDATE that is counted."""
    run = FirstRun.under_way()
    assert run
    forms = [AccountForm({**ACCOUNT, "username": name}) for name in ("ada", "eve")]
    assert all(form.is_valid() for form in forms)
    assert [bool(first_account(form, run)) for form in forms] == [True, False]
    assert User.objects.get().username == "ada"


# --- The steps --------------------------------------------------------------------------------------


def test_from_the_account_to_the_first_server(begun: Client, tmp_path: Path) -> None:
    assert "Site address" in text_of(begun)
    answer = post(begun, "site", site_url="http://testserver", time_zone="Europe/Paris")
    assert answer.status_code == 302
    assert (config.SITE_URL, config.TIME_ZONE) == ("http://testserver", "Europe/Paris")

    post(begun, "pool", name="main", path=str(tmp_path / "missing"))
    assert "Waiting for a free worker." in text_of(begun)
    run_now(Job.objects.latest("created_at"))
    assert f"The folder {tmp_path}/missing does not exist" in text_of(begun)
    post(begun, "pool", name="main", path=str(tmp_path))
    run_now(Job.objects.latest("created_at"))
    assert "It is there and ours to write" in text_of(begun)
    assert StoragePool.objects.get().path == str(tmp_path)
    post(begun, "pool", next="1")

    assert "Mail server" in text_of(begun)
    post(begun, "mail", next="1")
    answer = post(begun, "server", next="1", server="1")
    assert answer["Location"] == "/servers/add"
    assert begun.get("/setup").status_code == 404
    assert AuditEntry.objects.filter(action__in=["setup.finished", "pool.added", "settings.changed"]).count() == 4


def test_the_mail_step_saves_and_tries_it(begun: Client) -> None:
    FirstRun.objects.update(passed=["site", "pool"])
    sent = {
        "smtp_host": "mail.example.org", "smtp_port": "587", "smtp_tls": "starttls", "smtp_user": "borg",
        "smtp_password": "hush-hush", "mail_sender": "borg@example.org", "to": "ada@example.org",
    }  # fmt: skip
    assert post(begun, "mail", **{**sent, "to": "nobody"}).status_code == 400
    assert not config.SMTP_HOST
    assert post(begun, "mail", **sent).status_code == 302
    assert (config.SMTP_HOST, config.SMTP_PASSWORD.open()) == ("mail.example.org", "hush-hush")
    job = Job.objects.get()
    assert (job.type, job.payload) == ("mail_test", {"to": "ada@example.org"})
    assert "hush-hush" not in text_of(begun)


def test_who_stops_goes_on_where_they_were_after_a_login(begun: Client) -> None:
    """Red when the state is in the session."""
    post(begun, "site", site_url="http://testserver", time_zone="UTC")
    begun.logout()
    answer = begun.get("/setup")
    assert (answer.status_code, answer["Location"]) == (302, "/login?next=%2Fsetup")
    begun.force_login(User.objects.get())
    assert "A folder for repositories" in text_of(begun)


def test_a_step_of_another_window_is_not_done_twice(begun: Client) -> None:
    post(begun, "site", site_url="http://testserver", time_zone="UTC")
    assert post(begun, "site", next="1")["Location"] == "/setup"
    assert post(begun, "site", site_url="http://testserver", time_zone="Asia/Tokyo")["Location"] == "/setup"
    assert (FirstRun.objects.get().passed, config.TIME_ZONE) == (["site"], "UTC")


def test_what_is_wrong_stays_on_the_page(begun: Client) -> None:
    answer = post(begun, "site", site_url="https://elsewhere.example.org", time_zone="UTC")
    assert answer.status_code == 400
    assert "phpBorg does not answer to “elsewhere.example.org”" in answer.content.decode()
    assert FirstRun.objects.get().step == "site"


def test_only_an_administrator_goes_on_with_it(begun: Client) -> None:
    """Red when any account does."""
    assert page_of(make_user("vera", "ROLE_VIEWER")).get("/setup").status_code == 403


# --- Afterwards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [True, False], ids=["set up on the web", "never"])
def test_after_setup_it_is_gone_for_everybody(client: Client, admin: User, row: bool) -> None:
    if row:
        FirstRun.objects.create(token_sha256="", passed=list(FirstRun.STEPS), finished_at=timezone.now())
    for browser in (client, page_of(admin)):
        assert browser.get("/setup").status_code == 404
        assert browser.post("/setup", {"token": "x", **ACCOUNT}).status_code == 404
    assert client.get("/login").status_code == 200


def test_a_token_of_a_site_that_has_accounts_opens_nothing(client: Client, token: str, admin: User) -> None:
    """As with `demo`, which makes one. Red when the token alone decides."""
    answer = client.post("/setup", {"token": token})
    assert (answer.status_code, answer["Location"]) == (302, "/login?next=%2Fsetup")


# --- By the command ---------------------------------------------------------------------------------


@pytest.fixture
def from_env(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(**variables: str) -> str:
        for name in ("PASSWORD", "USER", "EMAIL"):
            monkeypatch.delenv(f"PHPBORG_ADMIN_{name}", raising=False)
        monkeypatch.delenv("PHPBORG_POOL_PATH", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        call_command("setup", from_env=True)
        return capsys.readouterr().out

    return run


def test_a_machine_sets_up_by_variables_and_may_do_so_again(from_env: Any, tmp_path: Path, client: Client) -> None:
    variables = {
        "PHPBORG_ADMIN_PASSWORD": PASSWORD, "PHPBORG_ADMIN_USER": "ada", "PHPBORG_ADMIN_EMAIL": "ada@example.org",
        "PHPBORG_POOL_PATH": f"{tmp_path}/",
    }  # fmt: skip
    said = from_env(**variables)
    assert "The administrator ada is made." in said
    assert PASSWORD not in said
    assert User.objects.get().roles == ["ROLE_ADMIN"]
    pool = StoragePool.objects.get()
    assert (pool.name, pool.path, pool.problem, bool(pool.free_bytes)) == ("main", str(tmp_path), "", True)
    assert client.get("/setup").status_code == 404
    User.objects.get().set_password("changed since")
    before = (User.objects.values().get(), StoragePool.objects.values_list("pk", "name").get())
    assert "none is made" in from_env(**{**variables, "PHPBORG_ADMIN_PASSWORD": "another one, long"})
    assert (User.objects.values().get(), StoragePool.objects.values_list("pk", "name").get()) == before


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "PHPBORG_ADMIN_PASSWORD is missing"),
        ({"PHPBORG_ADMIN_PASSWORD": "short"}, "This password is too short"),
        ({"PHPBORG_ADMIN_PASSWORD": PASSWORD, "PHPBORG_ADMIN_EMAIL": "x"}, "email: Enter a valid email address."),
        ({"PHPBORG_ADMIN_PASSWORD": PASSWORD, "PHPBORG_POOL_PATH": "srv"}, "path: Enter a path from the root"),
        ({"PHPBORG_ADMIN_PASSWORD": PASSWORD, "PHPBORG_POOL_PATH": "/not/there"}, "The folder /not/there does not"),
    ],
)
def test_what_is_wrong_with_the_variables_is_said_and_nothing_is_made(
    from_env: Any, variables: dict[str, str], sentence: str
) -> None:
    """Red without the transaction: half of it would be there."""
    with pytest.raises(CommandError, match=sentence):
        from_env(**variables)
    assert (User.objects.exists(), StoragePool.objects.exists(), FirstRun.objects.exists()) == (False, False, False)


def test_without_variables_the_command_prints_a_token(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("setup")
    words = capsys.readouterr().out.split()
    [token] = [word for word in words if len(word) == 32]
    assert "http://localhost:8000/setup" in words
    assert client.post("/setup", {"token": token}).status_code == 302


def test_with_accounts_the_command_makes_no_token(admin: User) -> None:
    with pytest.raises(CommandError, match="the first run is over"):
        call_command("setup")
    assert not FirstRun.objects.exists()

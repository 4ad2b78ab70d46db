"""The page /login, and /logout."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEntry, User
from tests.conftest import PASSWORD

WRONG = "The name or the password is wrong."


def log_in(client: Client, password: str = PASSWORD, *, username: str = "vera", **more: str) -> Any:
    return client.post("/login", {"username": username, "password": password, **more})


def test_the_page_asks_for_a_name_and_a_password(client: Client, viewer: User) -> None:
    html = client.get("/login").content.decode()
    assert 'name="username"' in html
    assert 'name="password"' in html


def test_the_right_password_opens_the_dashboard(client: Client, viewer: User) -> None:
    answer = log_in(client)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/").status_code == 200


def test_a_login_is_audited(client: Client, viewer: User) -> None:
    log_in(client)
    entry = AuditEntry.objects.get(action="login")
    assert (entry.user, entry.username, entry.address) == (viewer, "vera", "127.0.0.1")


def test_a_wrong_password_is_refused(client: Client, viewer: User) -> None:
    answer = log_in(client, "wrong")
    assert WRONG in answer.content.decode()
    assert client.get("/").status_code == 302


def test_an_unknown_name_gets_the_same_sentence(client: Client, viewer: User) -> None:
    assert WRONG in log_in(client, username="nobody").content.decode()


def test_an_inactive_user_gets_the_same_sentence(client: Client, viewer: User) -> None:
    User.objects.filter(pk=viewer.pk).update(is_active=False)
    assert WRONG in log_in(client).content.decode()
    assert client.get("/").status_code == 302


def test_a_wrong_password_is_audited_without_the_password(client: Client, viewer: User) -> None:
    log_in(client, "not-my-password")
    entry = AuditEntry.objects.get(action="login.failed")
    assert (entry.username, entry.user, entry.address) == ("vera", None, "127.0.0.1")
    assert "not-my-password" not in f"{entry.target} {entry.detail}"


def test_the_answer_does_not_repeat_the_password(client: Client, viewer: User) -> None:
    assert "not-my-password" not in log_in(client, "not-my-password").content.decode()


@pytest.mark.parametrize("password", ["", "\0", "x" * 10_000, "pässwörd\U0001f600"])
def test_odd_passwords_are_only_wrong(client: Client, viewer: User, password: str) -> None:
    answer = log_in(client, password)
    assert answer.status_code == 200
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("username", ["", "\0", "x" * 10_000, "<script>alert(1)</script>"])
def test_odd_names_are_only_wrong(client: Client, viewer: User, username: str) -> None:
    answer = log_in(client, username=username)
    assert answer.status_code == 200
    assert "<script>alert" not in answer.content.decode()


def test_next_leads_to_the_page_that_was_asked_for(client: Client, viewer: User) -> None:
    assert log_in(client, next="/jobs?status=failed")["Location"] == "/jobs?status=failed"


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example/", "\\\\evil.example", "http:///evil.example", "javascript:alert(1)"],
)
def test_next_never_leads_to_another_site(client: Client, viewer: User, elsewhere: str) -> None:
    assert log_in(client, next=elsewhere)["Location"] == "/"


def test_whoever_is_signed_in_is_not_asked_again(as_viewer: Client) -> None:
    assert as_viewer.get("/login")["Location"] == "/"
    assert as_viewer.get("/login?next=//evil.example/")["Location"] == "/"


def test_a_session_gets_a_new_key_at_login(client: Client, viewer: User) -> None:
    session = client.session
    session["planted"] = "by somebody else"
    session.save()
    log_in(client)
    assert client.session.session_key != session.session_key


def test_the_form_needs_a_csrf_token(viewer: User) -> None:
    answer = log_in(Client(enforce_csrf_checks=True))
    assert answer.status_code == 403
    assert "This form has expired" in answer.content.decode()


def test_logging_out_ends_the_session(as_viewer: Client) -> None:
    assert as_viewer.post("/logout")["Location"] == "/login"
    assert as_viewer.get("/").status_code == 302


def test_a_link_cannot_log_anybody_out(as_viewer: Client) -> None:
    assert as_viewer.get("/logout").status_code == 405
    assert as_viewer.get("/").status_code == 200


def test_a_user_who_is_switched_off_is_out_at_once(as_viewer: Client, viewer: User) -> None:
    User.objects.filter(pk=viewer.pk).update(is_active=False)
    assert as_viewer.get("/").status_code == 302

"""A forgotten password: the link by mail, from the page where it is asked for to the new password."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import Client
from rest_framework.test import APIClient

from accounts import factor, throttle
from accounts.models import AuditEntry, SecondFactor, User
from jobs.models import Job, LogLine
from jobs.runner import Refused
from jobs.runners.password_link import MailPasswordLink
from phpborg import reset_views
from tests.conftest import PASSWORD, page_of, run_now

NEW = "a longer and better password"
ASKED = "If an account has this address, a link is on its way there."
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(autouse=True)
def mail_server(live: Callable[..., None]) -> None:
    live(SMTP_HOST="mail.example.org")


@pytest.fixture
def vera(viewer: User) -> User:
    User.objects.filter(pk=viewer.pk).update(email="vera@example.org")
    viewer.refresh_from_db()
    return viewer


def ask(email: str = "vera@example.org") -> Any:
    return Client().post("/password/forgotten", {"email": email})


def jobs() -> list[Job]:
    return list(Job.objects.filter(type="password_link").order_by("pk"))


def token_in(message: EmailMessage) -> str:
    found = re.search(r"http://localhost:8000/password/reset#(\S+)", str(message.body))
    assert found, message.body
    return found[1]


def sent(mailoutbox: list[EmailMessage]) -> str:
    """The token of the link that a job has mailed."""
    ask()
    assert run_now(jobs()[-1]).status == "completed"
    return token_in(mailoutbox[-1])


def set_new(token: str, password: str = NEW) -> Any:
    return Client().post("/password/reset", {"token": token, "new_password": password, "again": password})


def test_the_link_sets_a_new_password_once(vera: User, mailoutbox: list[EmailMessage]) -> None:
    """And ends what the old one opened."""
    old, api = page_of(vera), APIClient()
    pair = api.post("/api/auth/login", {"username": "vera", "password": PASSWORD}).json()
    token = sent(mailoutbox)
    assert "Every session and login has ended" in set_new(token).content.decode()
    vera.refresh_from_db()
    assert vera.check_password(NEW)
    assert old.get("/profile").status_code == 302
    assert api.post("/api/auth/refresh", {"refresh_token": pair["refresh_token"]}).status_code == 401
    entry = AuditEntry.objects.get(action="password.reset")
    assert (entry.user, entry.target) == (vera, "vera")
    assert "This link was used" in set_new(token, "yet another password").content.decode()
    vera.refresh_from_db()
    assert vera.check_password(NEW)


def test_of_two_who_send_the_form_at_once_one_sets_it(
    vera: User, mailoutbox: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without the second look at the token, under the lock."""
    token, set_it = sent(mailoutbox), reset_views._set

    def late(*asked: Any) -> bool:
        user = User.objects.get(pk=vera.pk)
        user.set_password("that of the other one")
        user.save()
        return set_it(*asked)

    monkeypatch.setattr(reset_views, "_set", late)
    assert "This link was used" in set_new(token).content.decode()
    assert User.objects.get(pk=vera.pk).check_password("that of the other one")


def test_the_link_stands_in_the_mail_alone(vera: User, mailoutbox: list[EmailMessage]) -> None:
    """Red when the page makes it: whoever sees jobs would have it."""
    token = sent(mailoutbox)
    assert (mailoutbox[-1].to, mailoutbox[-1].subject) == (["vera@example.org"], "phpBorg: set a new password")
    stored = [*Job.objects.values(), *LogLine.objects.values(), *AuditEntry.objects.values()]
    assert token not in str(stored)
    [job] = jobs()
    assert (job.subject, job.payload, job.result) == (f"user:{vera.pk}", {}, {})
    assert "vera@example.org" not in str(stored)


def test_it_is_in_the_language_of_the_account(vera: User, mailoutbox: list[EmailMessage]) -> None:
    User.objects.update(language="fr")
    sent(mailoutbox)
    assert mailoutbox[-1].subject == "phpBorg : choisir un nouveau mot de passe"


def test_the_answer_tells_nobody_who_has_an_account(vera: User, operator: User) -> None:
    User.objects.filter(pk=operator.pk).update(is_active=False, email="otto@example.org")
    answers = [ask(email) for email in ("vera@example.org", "VERA@EXAMPLE.ORG", "otto@example.org", "x@example.org")]
    assert {answer.status_code for answer in answers} == {200}
    assert len({re.sub(r"csrf\S+ value=\S+", "", answer.content.decode()) for answer in answers}) == 1
    assert ASKED in answers[0].content.decode()
    assert [job.subject for job in jobs()] == [f"user:{vera.pk}"]  # the second waits already


def test_strangers_fill_no_mailbox(vera: User) -> None:
    """Red without AN_HOUR; nobody who asks is told so."""
    for _ in range(MailPasswordLink.AN_HOUR + 2):
        assert ASKED in ask().content.decode()
        Job.objects.update(status="completed")
    assert len(jobs()) == MailPasswordLink.AN_HOUR


def test_who_asks_too_often_waits(db: None) -> None:
    for number in range(throttle.PER_ACCOUNT_AND_ADDRESS):
        ask(f"{number}@example.org")
    answer = ask("x@example.org")
    assert (answer.status_code, "You have asked too often" in answer.content.decode()) == (400, True)


def test_a_link_expires(vera: User, mailoutbox: list[EmailMessage], settings: Any) -> None:
    token = sent(mailoutbox)
    settings.PASSWORD_RESET_TIMEOUT = -1
    assert "This link was used" in set_new(token).content.decode()


def test_who_was_switched_off_meanwhile_sets_nothing(vera: User, mailoutbox: list[EmailMessage]) -> None:
    token = sent(mailoutbox)
    User.objects.filter(pk=vera.pk).update(is_active=False)
    assert "This link was used" in set_new(token).content.decode()
    ask()
    assert len(jobs()) == 1


@pytest.mark.parametrize("weak", ["short1!", "12345678901234", "password123"])
def test_a_weak_password_is_refused(vera: User, mailoutbox: list[EmailMessage], weak: str) -> None:
    set_new(sent(mailoutbox), weak)
    assert User.objects.get(pk=vera.pk).check_password(PASSWORD)


def test_it_is_no_way_around_the_second_factor(vera: User, mailoutbox: list[EmailMessage]) -> None:
    """Red when the link signs in."""
    factor.begin(vera)
    SecondFactor.objects.update(confirmed_at="2026-01-01T00:00:00Z")
    client = Client()
    sent_form = {"token": sent(mailoutbox), "new_password": NEW, "again": NEW}
    assert client.post("/password/reset", sent_form).status_code == 200
    assert client.get("/profile").status_code == 302
    assert client.post("/login", {"username": "vera", "password": NEW})["Location"] == "/login/code"


def test_without_a_mail_server_the_page_says_so(vera: User, live: Callable[..., None]) -> None:
    live(SMTP_HOST="")
    assert "This phpBorg sends no mail" in Client().get("/password/forgotten").content.decode()
    ask()
    assert jobs() == []


def test_an_administrator_has_one_sent(as_admin: Client, vera: User, operator: User) -> None:
    as_admin.post(f"/jobs/start/password_link/{vera.pk}")
    assert [job.user.username for job in jobs() if job.user] == ["ada"]
    assert AuditEntry.objects.get(action="password_link.started").target == "vera"
    with pytest.raises(Refused, match="has no e-mail address"):
        MailPasswordLink.enqueue(operator)


@pytest.mark.parametrize(
    "token", ["", "x", ".", "MQ.", "MQ.x-y", "é.é", "MQ" * 90, "LTE.x", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5.x-y"]
)
def test_what_is_no_token_sets_nothing(vera: User, token: str) -> None:
    assert set_new(token).status_code == 400


def test_two_that_differ_are_refused(vera: User, mailoutbox: list[EmailMessage]) -> None:
    sent_form = {"token": sent(mailoutbox), "new_password": NEW, "again": NEW + "!"}
    assert "These two are not the same" in Client().post("/password/reset", sent_form).content.decode()
    assert User.objects.get(pk=vera.pk).check_password(PASSWORD)

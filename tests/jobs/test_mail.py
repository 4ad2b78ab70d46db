"""Mail by the live settings, to real SMTP servers on loopback; the test mail, its job and its place on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from constance.models import Constance
from cryptography.fernet import Fernet
from django.core.mail import EmailMessage
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from jobs import mail, queue
from jobs.models import Job
from jobs.runners.mail_test import SendTestMail
from phpborg.embedded import free_port
from tests.conftest import make_user, run_now
from tests.smtp import PASSWORD, USER, Post, make_certificate, post_office, strange_server

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]

Configure = Callable[..., None]


@pytest.fixture
def configure(live: Callable[..., None], settings: Any) -> Configure:
    """Mail goes to a port of this machine."""
    settings.EMAIL_BACKEND = "jobs.mail.LiveBackend"  # as it is outside of tests

    def change(port: int, **more: Any) -> None:
        values = {"SMTP_HOST": "127.0.0.1", "SMTP_TLS": "none", "MAIL_SENDER": "borg@example.org"}
        live(**{**values, "SMTP_PORT": port, "SMTP_TIMEOUT_SECONDS": 5, **more})

    return change


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


def sent(admin: User, to: str = "ada@example.org") -> Job:
    return run_now(SendTestMail.enqueue(admin, user=admin, to=to))


def failed(admin: User) -> Job:
    job = sent(admin)
    assert job.status == "failed"
    return job


# --- What arrives -----------------------------------------------------------------------------------


def test_a_test_mail_arrives_once(configure: Configure, admin: User) -> None:
    with post_office() as post:
        configure(post.port)
        job = sent(admin)
    assert (job.status, job.result) == ("completed", {"to": "ada@example.org"})
    [message] = post.messages
    assert (message["Subject"], message["From"], post.recipients) == (
        "phpBorg: a test mail", "phpBorg <borg@example.org>", ["ada@example.org"],
    )  # fmt: skip
    assert "http://localhost:8000" in message.get_payload()


def test_it_is_in_the_language_of_who_asked(configure: Configure, admin: User) -> None:
    User.objects.update(language="fr")
    with post_office() as post:
        configure(post.port)
        sent(admin)
    assert post.messages[0]["Subject"] == "phpBorg : e-mail de test"


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_it_goes_encrypted_with_a_login(configure: Configure, admin: User, trusted: Path, tls: str) -> None:
    """Red without `use_tls` or `use_ssl`: the one server demands STARTTLS, the other speaks nothing but TLS."""
    with post_office(tls=tls, login=True, certificate=trusted) as post:
        configure(post.port, SMTP_TLS=tls, SMTP_USER=USER, SMTP_PASSWORD=PASSWORD)
        assert sent(admin).status == "completed"
    assert (post.encrypted, post.logins) == ([True], 1)


# --- What does not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_certificate_that_nobody_vouches_for_ends_it(
    configure: Configure, admin: User, certificate: Path, tls: str
) -> None:
    """Red with a context that verifies nothing."""
    with post_office(tls=tls, login=True, certificate=certificate) as post:
        configure(post.port, SMTP_TLS=tls, SMTP_USER=USER, SMTP_PASSWORD=PASSWORD)
        job = failed(admin)
    assert "is not good: self-signed certificate" in job.error
    assert post.messages == []


def test_a_wrong_password_is_said_and_stands_nowhere(configure: Configure, admin: User) -> None:
    with post_office(login=True) as post:
        configure(post.port, SMTP_USER=USER, SMTP_PASSWORD="not the right one")
        job = failed(admin)
    assert job.error.startswith(f"127.0.0.1:{post.port} refuses the user or the password: 535")
    assert job.cause == "authentication"
    assert "made for programs" in job.advice
    assert not job.is_tried_again
    assert post.messages == []


def test_a_server_that_repeats_the_password_is_not_quoted_with_it(configure: Configure, admin: User) -> None:
    """Red without the look for it in `_said`."""
    with post_office(login=True) as post:
        post.replies["AUTH"] = "535 what is bm90IHRoZSByaWdodCBvbmU= and not the right one"
        configure(post.port, SMTP_USER=USER, SMTP_PASSWORD="not the right one")
        job = failed(admin)
    assert "535 what is *** and ***" in job.error


@pytest.mark.parametrize("greeting", [b"", b"220 here\r\n", b"220-he"], ids=["nothing", "a greeting", "half of one"])
def test_a_server_that_says_nothing_more_is_given_up(configure: Configure, admin: User, greeting: bytes) -> None:
    """Red without a timeout: for ever."""
    with strange_server(greeting) as port:
        configure(port, SMTP_TIMEOUT_SECONDS=1)
        job = failed(admin)
    assert job.error == f"The mail server 127.0.0.1:{port} has said nothing for 1 seconds."


def test_a_server_that_says_a_little_for_ever_is_given_up_too(
    configure: Configure, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without `_cut`: each byte begins the patience anew."""
    monkeypatch.setattr(mail, "PATIENCE_FOR_ALL", 1)
    with strange_server(b"220-", then=b"x") as port:
        configure(port, SMTP_TIMEOUT_SECONDS=1)
        job = failed(admin)
    assert job.error == f"The mail server 127.0.0.1:{port} took longer than 1 seconds in all."


@pytest.mark.parametrize(
    ("command", "reply", "sentence"),
    [
        ("MAIL", "550 not from there", "refuses the sender borg@example.org: 550 not from there"),
        ("RCPT", "550 nobody here", "refuses the recipient ada@example.org: 550 nobody here"),
        ("RCPT", "450 later", "refuses the recipient ada@example.org: 450 later"),
        ("DATA", "554 looks like spam", "takes no mail: 554 looks like spam"),
    ],
)
def test_a_refusal_is_told_in_the_server_s_own_words(
    configure: Configure, admin: User, command: str, reply: str, sentence: str
) -> None:
    with post_office() as post:
        post.replies[command] = reply
        configure(post.port)
        job = failed(admin)
    assert job.error == f"127.0.0.1:{post.port} {sentence}"


def test_nobody_listening_no_name_no_tls_are_told_apart(configure: Configure, admin: User) -> None:
    configure(port := free_port())
    assert failed(admin).error == f"Nothing listens at 127.0.0.1:{port}."
    configure(port, SMTP_HOST="mail.invalid")
    assert failed(admin).error.startswith("There is no mail server mail.invalid: ")
    with post_office() as post:
        configure(post.port, SMTP_TLS="starttls")
        assert failed(admin).error == f"127.0.0.1:{post.port} offers no STARTTLS."
        configure(post.port, SMTP_TLS="tls")
        job = failed(admin)
        assert job.error.startswith(f"No TLS with 127.0.0.1:{post.port}: ")
        assert "port 587" in job.advice
        configure(post.port, SMTP_USER=USER, SMTP_PASSWORD=PASSWORD)
        assert failed(admin).error == f"127.0.0.1:{post.port} takes no login."
    assert post.messages == []


def test_a_server_that_hangs_up_is_said_to(configure: Configure, admin: User) -> None:
    with strange_server(b"421 no\r\n") as port:
        configure(port)
        assert failed(admin).error == f"127.0.0.1:{port} takes no mail: 421 no"


def test_a_password_of_another_key_is_a_sentence(configure: Configure, admin: User, settings: Any) -> None:
    """Red when WrongKey is a mistake of ours."""
    with post_office() as post:
        configure(post.port, SMTP_USER=USER, SMTP_PASSWORD=PASSWORD)
        settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
        assert failed(admin).error.startswith("The password for the mail server cannot be read. The encryption key")


# --- Page, API, secrets -----------------------------------------------------------------------------


def test_the_page_starts_it_and_shows_what_became_of_it(as_admin: Client, admin: User, configure: Configure) -> None:
    with post_office() as post:
        configure(post.port)
        answer = as_admin.post("/settings/mail-test", {"to": "ada@example.org"})
        assert (answer.status_code, answer["Location"]) == (302, "/settings")
        part = as_admin.get("/settings/mail-test").content.decode()
        assert "Waiting for a free worker." in part
        assert "<html" not in part
        run_now(Job.objects.get(type="mail_test"))
    assert "The mail server has taken it." in as_admin.get("/settings").content.decode()
    assert len(post.messages) == 1


def test_the_page_says_what_is_wrong_with_an_address_and_that_there_is_no_server(
    as_admin: Client, configure: Configure
) -> None:
    for to, sentence in (("nobody", "Enter a valid email address."), ("a@example.org", "No mail server is set")):
        answer = as_admin.post("/settings/mail-test", {"to": to})
        assert answer.status_code == 400
        assert sentence in answer.content.decode()
    assert not Job.objects.exists()


def test_the_api_starts_it_in_one_s_own_name_only(
    api_admin: APIClient, api_operator: APIClient, admin: User, operator: User, configure: Configure
) -> None:
    """Red without `visible_to`: there is no `for_user` of people, and nobody mails in another's name."""
    configure(1)
    body = {"type": "mail_test", "subject": admin.pk, "parameters": {"to": "ada@example.org"}}
    assert api_admin.post("/api/jobs", {**body, "subject": operator.pk}).status_code == 404
    assert api_operator.post("/api/jobs", {**body, "subject": operator.pk}).status_code == 403
    assert api_admin.post("/api/jobs", body).status_code == 202
    assert api_admin.post("/api/jobs", body).status_code == 409  # one at a time


def test_the_general_page_for_starting_jobs_knows_it(as_admin: Client, admin: User, configure: Configure) -> None:
    """Red when `visible_to` is not asked there."""
    assert as_admin.get(f"/jobs/start/mail_test/{admin.pk}").status_code == 200
    assert as_admin.get(f"/jobs/start/mail_test/{make_user('otto', 'ROLE_ADMIN').pk}").status_code == 404


def test_the_password_is_in_no_row_no_redis_no_log_and_no_page(
    as_admin: Client, api_admin: APIClient, admin: User, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Red when it is stored as it is, or goes with the job."""
    caplog.set_level("DEBUG")
    with post_office(login=True) as post:
        configure(post.port, SMTP_USER=USER, SMTP_PASSWORD=PASSWORD)
        job = SendTestMail.enqueue(admin, user=admin, to="ada@example.org")
        redis = queue.connection()
        inside = [redis.dump(key) for key in redis.scan_iter()]
        assert run_now(job).status == "completed"
    seen = [
        inside, Constance.objects.values_list("value", flat=True), AuditEntry.objects.values_list("detail", flat=True),
        Job.objects.values(), job.lines.values_list("message", flat=True), caplog.text, post.messages[0].as_string(),
        as_admin.get("/settings").content, as_admin.get(f"/jobs/{job.pk}").content,
        api_admin.get("/api/settings").content, api_admin.get(f"/api/jobs/{job.pk}").content,
    ]  # fmt: skip
    assert [part for part in seen if PASSWORD in repr(list(part) if hasattr(part, "model") else part)] == []


def test_other_mails_say_who_they_are_from_and_fail_with_a_sentence(configure: Configure) -> None:
    """What alerts and passwords will be sent with."""
    with pytest.raises(mail.NotSent, match="No mail server is set"):
        mail.send(EmailMessage("x", "y", to=["a@example.org"]))
    with post_office() as post:
        configure(post.port)
        mail.send(EmailMessage("x", "y", to=["a@example.org", "b@example.org"]))
    assert isinstance(post, Post)
    assert post.recipients == ["a@example.org", "b@example.org"]

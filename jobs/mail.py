"""Mail, by the live settings as they are when it is sent.

Only jobs send: a mail server that says nothing for a minute must hold no page. What went wrong becomes a sentence.
"""

import base64
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.utils import formataddr
from functools import partial
from typing import Any, ClassVar

from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.smtp import EmailBackend

from accounts.encryption import WrongKey
from jobs.config import config
from jobs.errors import Cause, Failure
from jobs.log import printable

SENDER_NAME = "phpBorg"
# Each answer may take as long as the settings say, all of them together so many times that: a server that sends
# a byte now and then is never silent.
PATIENCE_FOR_ALL = 5
REPLY_LENGTH = 300


class NotSent(Failure):
    cause: ClassVar = Cause.NETWORK
    advice: ClassVar = "Look at the mail settings, and send a test mail from there."


class NotSentYet(NotSent):
    may_pass: ClassVar = True


class LoginRefused(NotSent):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = "Enter user and password again; some mail servers want one that is made for programs."


class LiveBackend(EmailBackend):
    """Django's own, whose connection comes from the live settings, and which gives up in the end."""

    def __init__(self, *, fail_silently: bool = False, **kwargs: Any) -> None:
        super().__init__(
            host=config.SMTP_HOST, port=config.SMTP_PORT, username=config.SMTP_USER, password="",
            use_tls=config.SMTP_TLS == "starttls", use_ssl=config.SMTP_TLS == "tls",
            timeout=config.SMTP_TIMEOUT_SECONDS, fail_silently=fail_silently,
        )  # fmt: skip
        self.was_cut = False
        self._smtp: smtplib.SMTP | None = None

    @property
    def connection_class(self) -> Any:
        return partial(WatchedTls if self.use_ssl else Watched, self._note)

    def _note(self, smtp: smtplib.SMTP) -> None:
        self._smtp = smtp

    def open(self) -> bool | None:
        """Raises NotSent, and what smtplib does."""
        if not config.SMTP_HOST:
            raise NotSent("No mail server is set.")
        self.password = config.SMTP_PASSWORD.open()
        try:
            return super().open()
        finally:
            self.password = ""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        end = threading.Timer(PATIENCE_FOR_ALL * config.SMTP_TIMEOUT_SECONDS, self._cut)
        end.daemon = True
        end.start()
        try:
            return super().send_messages(email_messages)
        except (OSError, WrongKey) as error:
            self.connection = self._partial_connection = None
            if self._smtp:
                self._smtp.close()  # Django would say good-bye first, and wait for an answer
            raise sentence_of(error, was_cut=self.was_cut) from error
        finally:
            end.cancel()

    def _cut(self) -> None:
        self.was_cut = True
        with suppress(OSError):
            if self._smtp and self._smtp.sock:
                self._smtp.sock.shutdown(socket.SHUT_RDWR)


class Watched(smtplib.SMTP):
    """Is known before it is connected, so that somebody else can end it."""

    def __init__(self, note: Callable[[smtplib.SMTP], None], *args: Any, **kwargs: Any) -> None:
        note(self)
        super().__init__(*args, **kwargs)


class WatchedTls(Watched, smtplib.SMTP_SSL):
    """The same with TLS from the first byte."""


def send(message: EmailMessage) -> None:
    """Hand it to the mail server; who sends it, if it does not say, is the settings' address. Raises NotSent."""
    if not config.SMTP_HOST:
        raise NotSent("No mail server is set.")
    message.from_email = formataddr((SENDER_NAME, config.MAIL_SENDER))
    message.connection = get_connection()
    message.send()


def sentence_of(error: OSError | WrongKey, *, was_cut: bool = False) -> Failure:
    """What smtplib, TLS or the network say, for people."""
    where, patience = f"{config.SMTP_HOST}:{config.SMTP_PORT}", config.SMTP_TIMEOUT_SECONDS
    if was_cut:
        return NotSentYet(f"The mail server {where} took longer than {PATIENCE_FOR_ALL * patience} seconds in all.")
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):  # smtplib says “closed” of both
        return NotSentYet(f"The mail server {where} has said nothing for {patience} seconds.")
    match error:
        case WrongKey():
            return NotSent(f"The password for the mail server cannot be read. {error}")
        case smtplib.SMTPNotSupportedError():
            return _not_offered(where, str(error))
        case smtplib.SMTPServerDisconnected():
            return NotSentYet(f"{where} ended the connection in the middle.")
        case smtplib.SMTPException():
            return _refused(where, error)
    return _no_connection(where, error)


def _refused(where: str, error: smtplib.SMTPException) -> NotSent:
    code: int
    text: bytes | str
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        [(address, (code, text)), *_others] = error.recipients.items()
        what = f"refuses the recipient {address}"
    else:
        assert isinstance(error, smtplib.SMTPResponseException)
        code, text, what = error.smtp_code, error.smtp_error, "takes no mail"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return LoginRefused(f"{where} refuses the user or the password: {_said(code, text)}")
    if isinstance(error, smtplib.SMTPSenderRefused):
        what = f"refuses the sender {config.MAIL_SENDER}"
    return (NotSentYet if 400 <= code < 500 else NotSent)(f"{where} {what}: {_said(code, text)}")


def _not_offered(where: str, said: str) -> NotSent:
    if "STARTTLS" in said:
        advice = "Try TLS from the first byte (port 465), or no encryption if it is a machine of your own network."
        return NotSent(f"{where} offers no STARTTLS.", advice=advice)
    if "AUTH" in said:
        return LoginRefused(
            f"{where} takes no login.", advice="Leave the user empty, or encrypt: many ask for that first."
        )
    return NotSent(f"{where} cannot do what this mail needs: {said}")


def _no_connection(where: str, error: OSError) -> NotSent:
    match error:
        case ssl.SSLCertVerificationError():
            advice = "It must be made out to the name in the settings, by somebody whom the worker's machine trusts."
            return NotSent(f"The certificate of {where} is not good: {error.verify_message}.", advice=advice)
        case ssl.SSLError():
            advice = "Is it STARTTLS there (port 587), or TLS from the first byte (port 465)?"
            return NotSent(f"No TLS with {where}: {error.reason or 'it speaks something else'}.", advice=advice)
        case socket.gaierror():
            return NotSentYet(f"There is no mail server {config.SMTP_HOST}: {error.strerror}.")
        case ConnectionRefusedError():
            return NotSentYet(f"Nothing listens at {where}.")
    return NotSentYet(f"There is no way to {where}: {error.strerror or error}.")


def _said(code: int, text: bytes | str) -> str:
    """The server's own words, from which the password is taken if it is among them."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    with suppress(WrongKey):
        user, password = config.SMTP_USER, config.SMTP_PASSWORD.open()
        for raw in (f"\0{user}\0{password}", password) if password else ():
            for secret in (raw, base64.b64encode(raw.encode()).decode()):
                words = words.replace(secret, "***")
    return printable(f"{code} {words}".replace("\n", " "))[:REPLY_LENGTH]

"""Mail servers for tests, on loopback: aiosmtpd, and ones that do not behave."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from socket import create_server, socket
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from phpborg.embedded import free_port

USER, PASSWORD = "phpborg", "correct horse battery"


@dataclass
class Post:
    """What a mail server got, and what it answers to."""

    port: int = 0
    replies: dict[str, str] = field(default_factory=dict)  # by MAIL, RCPT, DATA, AUTH; without one all is well
    messages: list[Message] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    logins: int = 0

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:
        if "MAIL" not in self.replies:
            envelope.mail_from = address
        return self.replies.get("MAIL", "250 OK")

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:
        if "RCPT" not in self.replies:
            envelope.rcpt_tos.append(address)
        return self.replies.get("RCPT", "250 OK")

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        if "DATA" not in self.replies:
            self.messages.append(message_from_bytes(envelope.content, policy=default))
            self.recipients += envelope.rcpt_tos
            transport: Any = server.transport
            self.encrypted.append(transport.get_extra_info("sslcontext") is not None)
        return self.replies.get("DATA", "250 OK")

    def authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        if (data.login, data.password) == (USER.encode(), PASSWORD.encode()) and "AUTH" not in self.replies:
            self.logins += 1
            return AuthResult(success=True)
        return AuthResult(success=False, handled=False, message=self.replies.get("AUTH"))


@contextmanager
def post_office(*, tls: str = "none", login: bool = False, certificate: Path | None = None) -> Iterator[Post]:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    post = Post(port=free_port())
    more: dict[str, Any] = {"authenticator": post.authenticate, "auth_require_tls": False} if login else {}
    if tls == "starttls":
        more |= {"tls_context": context, "require_starttls": True}
    controller = Controller(
        post, hostname="127.0.0.1", port=post.port, ssl_context=context if tls == "tls" else None, **more
    )
    controller.start()
    try:
        yield post
    finally:
        controller.stop()


@contextmanager
def strange_server(greeting: bytes, *, then: bytes = b"") -> Iterator[int]:
    """Says `greeting` and nothing more, or then `then` again and again; yields its port."""
    end = threading.Event()

    def serve(listener: socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(greeting)
                while not end.wait(0.05):
                    connection.sendall(then)

    with create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            end.set()
            with suppress(OSError):
                listener.shutdown(2)
            thread.join()


def make_certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "certificate.pem"
    file.write_bytes(text + certificate.public_bytes(pem))
    return file

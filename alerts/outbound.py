"""Connections to addresses that people type in: never to a machine inside, unless WEBHOOK_ALLOWED names its network.

What is judged is the address that a socket is about to be connected to, whoever connects it, and whatever a name, a
redirect or another program's library made of what was typed. So a name that leads elsewhere a moment later changes
nothing. Webhooks are not redirected at all: a signed message is meant for one receiver.
"""

import http.client
import os
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from alerts.channels.base import NotDelivered, NotDeliveredYet

PATIENCE_SECONDS = 10
PATIENCE_FOR_ALL_SECONDS = 30  # somebody who sends a byte now and then is never silent
# In whose last four bytes an IPv4 address stands: compatible, translated, NAT64.
EMBEDDING = tuple(IPv6Network(each) for each in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
NOT_INSIDE = "It leads to a machine inside (WEBHOOK_ALLOWED says which may be reached)."
TOO_SLOW = f"It took longer than {PATIENCE_FOR_ALL_SECONDS} seconds in all."


def may_reach(text: str) -> bool:
    """Whether an address is out in the world, or one that the environment allows."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        # What is written in IPv6 and means an IPv4 machine is judged as that one.
        embedded = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if embedded is None and any(address in network for network in EMBEDDING):
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        address = embedded or address
    if any(address in network for network in settings.WEBHOOK_ALLOWED):
        return True
    return address.is_global and not address.is_multicast


class Watch:
    """Over all connections of one thread, and of those that it hands its context to."""

    def __init__(self) -> None:
        self.was_refused = False
        self.was_cut = False
        self._descriptors: list[int] = []  # duplicates: TLS takes a socket over, and its own one is gone then
        self._lock = threading.Lock()

    def judge(self, sock: socket.socket, address: Any) -> None:
        """Before each connects. Raises PermissionError, as the kernel would: whoever connects can handle that."""
        try:
            is_good = may_reach(address[0])
        except (AttributeError, TypeError, ValueError, IndexError):  # a path, or a name that was not looked up
            is_good = False
        if not is_good:
            self.was_refused = True
            raise PermissionError(NOT_INSIDE)
        with self._lock:
            if self.was_cut:
                raise TimeoutError(TOO_SLOW)
            self._descriptors.append(os.dup(sock.fileno()))

    def cut(self) -> None:
        with self._lock:
            self.was_cut = True
            for descriptor in self._descriptors:
                with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as sock:
                    sock.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        with self._lock:
            while self._descriptors:
                os.close(self._descriptors.pop())


_here: ContextVar[Watch | None] = ContextVar("watch", default=None)


@cache
def _listen() -> None:
    """Python tells of every connection before it is made (PEP 578). Such a hook stays for ever, so there is one."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto") and (watch := _here.get()):
            watch.judge(*args[:2])

    sys.addaudithook(hook)


@contextmanager
def watched() -> Iterator[Watch]:
    """Within, this thread reaches no machine inside, and what takes too long is cut off.

    Of a refusal whoever connected makes an error of their own, or none: what is raised is NotDelivered.
    """
    _listen()
    watch = Watch()
    end = threading.Timer(PATIENCE_FOR_ALL_SECONDS, watch.cut)
    end.daemon = True
    end.start()
    token = _here.set(watch)
    try:
        yield watch
    except Exception as error:
        if watch.was_refused:
            raise NotDelivered(NOT_INSIDE) from error
        if watch.was_cut:
            raise NotDeliveredYet(TOO_SLOW) from error
        raise
    finally:
        _here.reset(token)
        end.cancel()
        watch.end()


def send(url: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, method: str = "POST") -> int:
    """The status of the answer, if it says that all is well. Raises NotDelivered; its sentences do not say where."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    kind = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
    port = parts.port or (443 if is_tls else 80)  # not left to http.client, which would look for it in an IPv6 address
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = kind(parts.hostname or "", port, timeout=PATIENCE_SECONDS)
    try:
        with watched():
            connection.request(method, path, body, {"Host": parts.netloc.rpartition("@")[2], **(headers or {})})
            return judged(connection.getresponse().status)
    except TimeoutError as error:
        raise NotDeliveredYet(f"It has said nothing for {PATIENCE_SECONDS} seconds.") from error
    except ssl.SSLError as error:
        raise NotDelivered(f"No TLS with it: {getattr(error, 'verify_message', '') or error.reason}.") from error
    except (socket.gaierror, UnicodeError) as error:
        raise NotDeliveredYet("Its name is not known.") from error
    except (OSError, http.client.HTTPException) as error:
        raise NotDeliveredYet(f"There is no way to it, or it broke off ({type(error).__name__}).") from error
    finally:
        connection.close()


def judged(status: int) -> int:
    if 200 <= status < 300:
        return status
    if 300 <= status < 400:
        raise NotDelivered(f"It answers with a redirect ({status}), which is not followed. Enter where it leads to.")
    if status >= 500 or status in (408, 425, 429):
        raise NotDeliveredYet(f"It answers {status}.")
    raise NotDelivered(f"It answers {status}.")

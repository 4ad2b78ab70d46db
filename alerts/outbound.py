"""HTTP to addresses that people type in: never to a machine inside, unless WEBHOOK_ALLOWED names its network.

The name is looked up once, every address of it is judged, and the connection goes to one that was: a name that leads
elsewhere a moment later changes nothing. Nobody is redirected: what an answer names would have to be judged again,
and a signed message is meant for one receiver.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from django.conf import settings

from alerts.channels.base import NotDelivered, NotDeliveredYet

PATIENCE_SECONDS = 10
PATIENCE_FOR_ALL_SECONDS = 30  # somebody who sends a byte now and then is never silent
NAT64 = IPv6Network("64:ff9b::/96")
NOT_INSIDE = "It leads to a machine inside (WEBHOOK_ALLOWED says which may be reached)."


def may_reach(text: str) -> bool:
    """Whether an address is out in the world, or one that the environment allows."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        # What is written in IPv6 and means an IPv4 machine is judged as that one.
        embedded = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if embedded is None and address in NAT64:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        address = embedded or address
    if any(address in network for network in settings.WEBHOOK_ALLOWED):
        return True
    return address.is_global and not address.is_multicast


def addresses_of(host: str, port: int) -> list[str]:
    """Where the name leads, each judged. Raises NotDelivered."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotDeliveredYet("Its name is not known.") from error
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_rest, sockaddr in found))
    if not all(may_reach(address) for address in addresses):
        raise NotDelivered(NOT_INSIDE)
    return addresses


class Pinned(http.client.HTTPConnection):
    """Connects to an address that was judged, and to nothing else."""

    def __init__(self, host: str, port: int, *, address: str, is_tls: bool) -> None:
        super().__init__(host, port, timeout=PATIENCE_SECONDS)
        self._address = address
        self._context = ssl.create_default_context() if is_tls else None

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), timeout=PATIENCE_SECONDS)
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)

    def cut(self) -> None:
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def send(url: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, method: str = "POST") -> int:
    """The status of the answer, if it says that all is well. Raises NotDelivered; its sentences do not say where."""
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = Pinned(host, port, address=addresses_of(host, port)[0], is_tls=is_tls)
    end = threading.Timer(PATIENCE_FOR_ALL_SECONDS, connection.cut)
    end.daemon = True
    end.start()
    try:
        connection.request(method, path, body, {"Host": parts.netloc.rpartition("@")[2], **(headers or {})})
        status = connection.getresponse().status
    except TimeoutError as error:
        raise NotDeliveredYet(f"It has said nothing for {PATIENCE_SECONDS} seconds.") from error
    except ssl.SSLError as error:
        raise NotDelivered(f"No TLS with it: {getattr(error, 'verify_message', '') or error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        raise NotDeliveredYet(f"There is no way to it, or it broke off ({type(error).__name__}).") from error
    finally:
        end.cancel()
        connection.close()
    return _judged(status)


def _judged(status: int) -> int:
    if 200 <= status < 300:
        return status
    if 300 <= status < 400:
        raise NotDelivered(f"It answers with a redirect ({status}), which is not followed. Enter where it leads to.")
    if status >= 500 or status in (408, 425, 429):
        raise NotDeliveredYet(f"It answers {status}.")
    raise NotDelivered(f"It answers {status}.")

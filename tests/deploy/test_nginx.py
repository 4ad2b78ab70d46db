"""deploy/nginx: the real nginx takes it, and holds no event back."""

import http.server
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from phpborg.embedded import Child, answers, free_port, wait_until
from tests.deploy import DEPLOY

pytestmark = pytest.mark.e2e

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")


@dataclass
class Upstream:
    """In the place of the web process: sends one event, and more only when it is told to."""

    go_on: threading.Event = field(default_factory=threading.Event)
    seen: list[dict[str, str]] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    state = Upstream()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.seen.append(dict(self.headers.items()))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            self.wfile.flush()
            state.go_on.wait(30)
            self.wfile.write(b"data: second\n\n")
            self.close_connection = True

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield state
        state.go_on.set()
        server.shutdown()
        thread.join()


@dataclass
class Proxy:
    configuration: Path
    http: int
    https: int

    @contextmanager
    def get(self, path: str, headers: dict[str, str] | None = None, *, tls: bool = True) -> Iterator[HTTPResponse]:
        context = ssl._create_unverified_context()
        connection = (
            HTTPSConnection("127.0.0.1", self.https, context=context, timeout=10)
            if tls
            else HTTPConnection("127.0.0.1", self.http, timeout=10)
        )
        with closing(connection):
            connection.request("GET", path, headers={"Host": "backup.example.org", **(headers or {})})
            with connection.getresponse() as answer:
                yield answer


@pytest.fixture
def proxy(tmp_path: Path, upstream: Upstream) -> Proxy:
    """Our file on free ports, with a certificate of its own, in an nginx of its own."""
    assert NGINX, "nginx is missing: scripts/install-packages test"
    found = Proxy(tmp_path / "nginx.conf", free_port(), free_port())
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2", "-subj", "/CN=backup.example.org",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True,
    )  # fmt: skip
    text = (DEPLOY / "nginx" / "phpborg.conf").read_text()
    text = re.sub(r".*listen \[::\].*\n", "", text)
    for ours, theirs in {
        "listen 80;": f"listen 127.0.0.1:{found.http};", "listen 443 ": f"listen 127.0.0.1:{found.https} ",
        "127.0.0.1:8000": f"127.0.0.1:{upstream.port}", "/etc/phpborg/tls": str(tmp_path),
    }.items():  # fmt: skip
        assert ours in text
        text = text.replace(ours, theirs)
    (tmp_path / "phpborg.conf").write_text(text)
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    found.configuration.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders} include {tmp_path}/phpborg.conf; }}\n"
    )
    return found


@pytest.fixture
def running(proxy: Proxy, tmp_path: Path) -> Iterator[Proxy]:
    words = [str(NGINX), "-c", str(proxy.configuration), "-e", "stderr"]
    with Child("nginx", words, log=tmp_path / "log") as nginx:
        wait_until(lambda: answers(proxy.https) or not nginx.is_alive, seconds=10, what="nginx")
        assert nginx.is_alive, nginx.tail()
        yield proxy


def test_nginx_takes_it(proxy: Proxy) -> None:
    """Red with any word in it that nginx does not know."""
    words = [str(NGINX), "-t", "-q", "-c", str(proxy.configuration), "-e", "stderr"]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("path", ["/events", "/events?job=1", "/api/sse/jobs", "/api/logs/tail"])
def test_an_event_comes_at_once(running: Proxy, upstream: Upstream, path: str) -> None:
    """Red without the location of the streams: nginx waits for more, and the read times out."""
    with running.get(path) as answer:
        assert answer.readline() == b"data: first\n"
        upstream.go_on.set()
        assert b"data: second" in answer.read()


def test_nobody_says_for_themselves_where_they_come_from(running: Proxy, upstream: Upstream) -> None:
    """Red with $proxy_add_x_forwarded_for: whoever is throttled would name another address with each try."""
    upstream.go_on.set()
    with running.get("/events", {"X-Forwarded-For": "192.0.2.7"}) as answer:
        answer.read()
    (headers,) = upstream.seen
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["Host"] == "backup.example.org"


def test_without_tls_there_is_only_the_way_to_it(running: Proxy) -> None:
    with running.get("/login?next=/jobs", tls=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, "https://backup.example.org/login?next=/jobs")

"""Whoever follows links comes to no dead end: each role walks through all that its own pages offer."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import closing
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pytest
from django.urls import Resolver404, resolve

from tests.e2e.furnished import Furnished

pytestmark = pytest.mark.xdist_group("site")

EACH = 3  # times that a URL is asked for, by its name and what stands behind its ?; two archives have no listing
EACH_OF_ADMIN = 1
ENDLESS = {"events", "api_events"}
HTML = "text/html"


class Links(HTMLParser):
    """What a page lets somebody GET: links, forms that ask, parts that htmx fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        named = [values.get("href") if tag in ("a", "link") else None, values.get("hx-get")]
        if tag in ("img", "script"):
            named.append(values.get("src"))
        if tag == "form" and (values.get("method") or "get").lower() == "get":
            named.append(values.get("action") or "?")
        self.found += [address for address in named if address is not None]


def kind_of(address: str) -> tuple[str, ...]:
    """What counts as the same page: its URL's name, and which questions are asked of it."""
    parts = urlsplit(address)
    try:
        name = resolve(parts.path).view_name
    except Resolver404:
        name = parts.path  # files of the web server, and what leads nowhere
    if name.startswith("admin:"):
        return (name,)  # Django's filters can be asked for in a thousand ways
    asked = sorted(key if key != "tab" else f"{key}={value}" for key, value in parse_qsl(parts.query))
    return (name, *asked)


def walk(client: httpx.Client, start: str) -> dict[str, int]:
    """Every address on the way with the status of its answer."""
    answers: dict[str, int] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    ahead = deque([start])
    while ahead:
        address = ahead.popleft()
        kind = kind_of(address)
        most = EACH_OF_ADMIN if kind[0].startswith("admin:") else EACH
        if address in answers or seen[kind] == most or kind[0] in ENDLESS:
            continue
        seen[kind] += 1
        with client.stream("GET", address) as answer:
            answers[address] = answer.status_code
            if not answer.headers.get("content-type", "").startswith(HTML):
                continue  # a file: that it begins is enough
            links = Links()
            links.feed(answer.read().decode())
        ahead.extend(same_site(str(answer.url), links.found))
    return answers


def same_site(page: str, links: list[str]) -> list[str]:
    """Of what `page` names the addresses of this site, without what stands behind the #."""
    parts = [urlsplit(urljoin(page, link)) for link in links]
    here = urlsplit(page).netloc
    return [
        part._replace(scheme="", netloc="", fragment="").geturl()
        for part in parts
        if part.netloc == here and part.scheme in ("http", "https")
    ]


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_no_link_of_a_role_leads_nowhere(role: str, furnished: Furnished) -> None:
    """Red with a button that is shown to who may not press it."""
    session = {"sessionid": furnished.sessions[role]}
    with closing(
        httpx.Client(base_url=furnished.site.url, cookies=session, timeout=60, follow_redirects=True)
    ) as client:
        answers = walk(client, "/")
    assert {address: status for address, status in answers.items() if status >= 400} == {}
    names = {kind_of(address)[0] for address in answers}
    assert {"server", "plan", "repository", "archive_folder", "job", "statistics", "logs"} <= names
    assert ("server_add" in names) == (role == "admin") and "login" not in names

"""Open pages while things happen: how often they ask, what stays where it was, and what is gone meanwhile."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.e2e.conftest import until
from tests.e2e.furnished import Furnished, ok

pytestmark = pytest.mark.xdist_group("site")

PERSON = "en-light"
# A browser without windows hides no tab: what the page asks is answered by us.
HIDE = """(hidden) => {
    Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
    document.dispatchEvent(new Event('visibilitychange'));
}"""
PARTS = """() => [...document.querySelectorAll('[hx-trigger*=throttle]')].map(
    (one) => [one.getAttribute('hx-get'), one.getAttribute('hx-trigger')])"""
TICK = """() => {
    for (const part of document.querySelectorAll('[hx-trigger*=throttle]')) htmx.trigger(part, 'every', {}, false);
}"""
NUDGE = """() => {
    for (const name of ['job', 'progress', 'stream-open']) htmx.trigger(document.body, name, {data: '{}'});
}"""
STREAM = """() => {
    const stream = document.getElementById('stream')._htmx?.sse;
    return [document.hidden, stream && [stream.status, stream.attempt, stream.lastEventId]];
}"""
COUNT_SWAPS = "document.addEventListener('htmx:after:swap', () => { window.swaps = (window.swaps ?? 0) + 1; });"


class Asked:
    """What a page has fetched after it was there."""

    def __init__(self, page: Page) -> None:
        self.since = time.monotonic()
        self._page = page
        self._paths: list[str] = []
        self._ends: list[str] = []  # how each went, for who reads a red test
        page.on("request", self._note)
        page.on("response", lambda answer: self._ends.append(f"{answer.status} {answer.url}"))
        page.on("requestfailed", lambda request: self._ends.append(f"{request.failure} {request.url}"))
        page.on("console", lambda said: self._ends.append(said.text))

    def _note(self, request: Request) -> None:
        if request.resource_type in ("fetch", "xhr"):
            self._paths.append("/" + request.url.split("/", 3)[3])

    @property
    def count(self) -> Counter[str]:
        return Counter(self._paths)

    def wait_for(self, path: str) -> None:
        """Until it is asked for: a browser tells so only while it is itself asked something."""

        def look() -> bool:
            self._page.wait_for_timeout(20)
            return path in self._paths

        until(look, told=lambda: (self._page.evaluate(STREAM), "\n".join(self._ends[-9:])))
        self._page.wait_for_timeout(50)  # and what comes with it

    def forget(self) -> None:
        self._paths.clear()


@pytest.fixture(scope="module")
def client(furnished: Furnished) -> Iterator[httpx.Client]:
    with closing(furnished.site.client()) as client:
        yield client


@pytest.fixture
def open_page(browser: Browser, furnished: Furnished) -> Iterator[Any]:
    """Opens an address in a tab of its own; anything that is asked is noted from the beginning."""
    contexts = []

    def opened(address: str, script: str = "") -> tuple[Page, Asked]:
        contexts.append(context := furnished.context(browser, PERSON, viewport={"width": 1200, "height": 500}))
        page = context.new_page()
        page.add_init_script(COUNT_SWAPS + script)
        asked = Asked(page)
        page.goto(address)
        return page, asked

    yield opened
    for context in contexts:
        context.close()


def run_jobs(client: httpx.Client, number: int) -> None:
    """That many connection tests, to where nobody answers, to their end."""
    names = [f"live-{uuid4().hex[:8]}" for _ in range(number)]
    asked = [{"name": name, "address": "127.0.0.1", "port": 1} for name in names]
    servers = [ok(client.post("/servers", json=each))["id"] for each in asked]
    jobs = [ok(client.post(f"/servers/{server}/test"))["id"] for server in servers]
    until(lambda: all(client.get(f"/jobs/{job}").json()["completed_at"] for job in jobs), seconds=120)


def throttles(trigger: str) -> list[float]:
    """Seconds, of each thing that makes a part ask."""
    return [
        int(number) / (1000 if unit == "ms" else 1) for number, unit in re.findall(r"throttle:(\d+)(ms|s)\b", trigger)
    ]


def test_twenty_jobs_are_no_storm(open_page: Any, client: httpx.Client, furnished: Furnished) -> None:
    """Red without the throttles: each job has three changes of its status and some progress to tell."""
    pages = [open_page(address) for address in ("/", "/jobs", "/servers", f"/plans/{furnished.plan}")]
    for _, asked in pages:
        asked.wait_for("/jobs/strip")
    run_jobs(client, 20)
    for page, asked in pages:
        page.wait_for_timeout(50)  # what is on its way is counted, too
        seconds = time.monotonic() - asked.since
        count = asked.count
        for path, trigger in page.evaluate(PARTS):
            most = sum(seconds / each + 1 for each in throttles(trigger)) + 1 + seconds / 60
            assert 2 <= count.pop(path) <= most, (path, most)
        assert count == {"/events": 1}, "one stream, and no word about what somebody else has started"


def test_a_page_is_live_even_if_a_script_comes_late(open_page: Any) -> None:
    """Red with deferred scripts: htmx begins without its extension, and no stream is ever asked for."""
    page, asked = open_page("/healthz")
    late: list[Route] = []

    def hold(route: Route) -> None:
        late.append(route)

    page.route("**/hx-sse*", hold)
    with page.expect_request("**/hx-sse*"):
        page.goto("/", wait_until="commit")
    until(lambda: page.evaluate("!!window.htmx"))
    page.evaluate("new Promise((done) => setTimeout(done))")  # as htmx waits where it was deferred
    late[0].continue_()
    asked.wait_for("/jobs/strip")


def test_a_hidden_tab_asks_for_nothing_and_looks_once_when_it_is_seen_again(
    open_page: Any, client: httpx.Client
) -> None:
    """Red without the guard in app.js: timers go on in hidden tabs."""
    page, asked = open_page("/")
    asked.wait_for("/")
    page.evaluate(HIDE, True)
    asked.forget()
    run_jobs(client, 2)
    page.evaluate(TICK)
    page.evaluate(NUDGE)
    page.wait_for_timeout(50)
    assert asked.count == {}
    page.evaluate(HIDE, False)
    asked.wait_for("/")
    assert asked.count == {"/events": 1, "/": 1, "/jobs/strip": 1}


def test_a_tab_that_was_opened_unseen_looks_once_when_it_is_seen(open_page: Any) -> None:
    """Red without the nudge to oneself: the stream never paused, so that it does not open again."""
    page, asked = open_page("/", script="Object.defineProperty(document, 'hidden', {configurable: true, value: true});")
    asked.wait_for("/events")
    page.evaluate(TICK)
    page.wait_for_timeout(50)
    assert asked.count == {"/events": 1}
    page.evaluate(HIDE, False)
    asked.wait_for("/")
    assert asked.count == {"/events": 1, "/": 1, "/jobs/strip": 1}


def test_what_has_the_focus_keeps_it_and_nothing_jumps(open_page: Any, client: httpx.Client) -> None:
    """Red without ids of the rows: the focus stays at its place, and is on another job."""
    page, _ = open_page("/jobs")
    link = page.locator("#jobs tbody tr td.name a").nth(4)
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    link.focus()
    focused = "document.activeElement.getAttribute('href')"
    address, top = page.evaluate(focused), "document.activeElement.getBoundingClientRect().top"
    place = page.evaluate(top)
    assert address and page.evaluate("scrollY") > 0
    swaps = page.evaluate("window.swaps ?? 0")
    first = page.locator("#jobs tbody tr").first.get_attribute("id")
    run_jobs(client, 1)
    expect(page.locator("#jobs tbody tr").first).not_to_have_attribute("id", first or "")
    assert page.evaluate("window.swaps") > swaps
    assert page.evaluate(focused) == address
    assert abs(page.evaluate(top) - place) <= 100, "two rows came above it"


def test_the_list_of_servers_tells_what_becomes_of_them(open_page: Any, client: httpx.Client) -> None:
    """Red when it is as it was when somebody opened it."""
    server = ok(client.post("/servers", json={"name": "aa-live", "address": "127.0.0.1", "port": 1}))
    page, _ = open_page("/servers?search=aa-live")
    row = page.locator(f"#server-{server['id']}")
    expect(row).to_contain_text("Its host key is not confirmed yet.")
    ok(client.patch(f"/servers/{server['id']}", json={"enabled": False}))
    run_jobs(client, 1)
    expect(row).to_contain_text("The server is switched off.", timeout=20_000)


def test_the_page_of_a_server_tells_what_becomes_of_it(open_page: Any, client: httpx.Client) -> None:
    """Red when it is as it was when somebody opened it: the state beside the name, its reason, its jobs."""
    server = ok(client.post("/servers", json={"name": "bb-live", "address": "127.0.0.1", "port": 1}))
    page, _ = open_page(f"/servers/{server['id']}")
    expect(page.locator("#live .failure")).to_contain_text("Its host key is not confirmed yet.")
    expect(page.locator("#live tbody tr")).to_have_count(0)
    ok(client.post(f"/servers/{server['id']}/test"))
    expect(page.locator("#live tbody tr")).to_contain_text("failed", timeout=20_000)
    ok(client.patch(f"/servers/{server['id']}", json={"enabled": False}))
    run_jobs(client, 1)
    expect(page.locator("#live .failure")).to_contain_text("The server is switched off.", timeout=20_000)
    page.get_by_role("link", name="Jobs", exact=True).last.click()
    expect(page.locator("#live tbody tr")).to_have_count(1)


def test_a_chart_that_is_drawn_stays(open_page: Any, furnished: Furnished) -> None:
    """Red when what comes is put over it, too: its table opens again, and the picture is gone."""
    page, _ = open_page(furnished.addresses["server"][1])
    expect(page.locator("#size-over-time canvas")).to_be_visible()
    page.evaluate("document.querySelector('#live .failure').dataset.old = '1'")
    page.evaluate(NUDGE)
    expect(page.locator("[data-old]")).to_have_count(0)
    expect(page.locator("#size-over-time canvas")).to_be_visible()
    expect(page.locator("#sizes")).to_be_hidden()


def test_the_page_of_a_plan_tells_what_becomes_of_it(
    open_page: Any, client: httpx.Client, furnished: Furnished
) -> None:
    """Red without the state beside its name and the sentence below it in what is put in."""
    page, _ = open_page(f"/plans/{furnished.plan}")
    state = page.locator("h1 .state").inner_text()
    ok(client.patch(f"/plans/{furnished.plan}", json={"enabled": False}))
    try:
        run_jobs(client, 1)
        expect(page.locator(".sentence")).to_have_text("The plan is paused.", timeout=20_000)
        expect(page.locator("h1 .state")).to_have_text("unknown")
    finally:
        ok(client.patch(f"/plans/{furnished.plan}", json={"enabled": True}))
    run_jobs(client, 1)
    expect(page.locator("h1 .state")).to_have_text(state, timeout=20_000)


def test_a_log_that_somebody_reads_stays_where_it_is(open_page: Any, furnished: Furnished) -> None:
    """Red when each answer scrolls to the end."""
    page, _ = open_page(furnished.addresses["job"][1])
    box = page.locator(".log-box")
    box.evaluate("(box) => { box.style.maxHeight = '60px'; box.scrollTop = 5; }")
    swaps = page.evaluate("window.swaps ?? 0")
    page.evaluate("delete document.getElementById('log').dataset.complete; htmx.trigger('#job', 'more')")
    until(lambda: page.evaluate("window.swaps ?? 0") > swaps)
    assert box.evaluate("(box) => box.scrollTop") == 5


def test_a_server_that_is_deleted_while_its_page_is_open(
    open_page: Any, client: httpx.Client, furnished: Furnished
) -> None:
    """Red when the page of the error is put whole into the page that is open."""
    server = ok(client.post("/servers", json={"name": "short-lived", "address": "192.0.2.99"}))
    page, _ = open_page(f"/servers/{server['id']}/access")
    until(lambda: client.delete(f"/servers/{server['id']}").status_code == 204, seconds=60)
    page.evaluate("htmx.trigger(document.body, 'job', {data: '{}'})")
    expect(page.locator("main [role=alert]", has_text="This is gone")).to_be_visible()
    assert page.locator("html body main").count() == 1 and page.locator(".error-code").count() == 0
    page.get_by_role("link", name="short-lived").first.click()
    expect(page.get_by_text("There is nothing here, or you may not see it.")).to_be_visible()
    page.get_by_role("link", name="To the dashboard").click()
    expect(page.get_by_role("heading", name="Storage", exact=True)).to_be_visible()

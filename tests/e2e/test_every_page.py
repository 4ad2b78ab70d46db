"""Every page that can be looked at, in Chromium: both widths, light and dark, both languages, hostile names, axe."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page

from tests.e2e.conftest import ROOT, is_complaint
from tests.e2e.furnished import Furnished
from tests.phpborg.test_matrix import PAGES

pytestmark = pytest.mark.xdist_group("site")

# What answers a GET and is no page: tests/phpborg/test_matrix.py and the walk (test_links.py) ask for them.
NO_PAGES = {
    "healthz", "readyz", "events", "jobs_strip", "job_live", "job_toast", "plan_runs", "server_steps",
    "settings_mail_test",  # parts
    "archive_download", "archive_image", "proof_download", "job_log",  # files
}  # fmt: skip
LOOKED_AT = sorted(name for name, (_, methods) in PAGES.items() if "get" in methods and name not in NO_PAGES)
# States of a page that its address alone does not show.
MORE = {
    "server": [f"/servers/{{}}?tab={tab}" for tab in ("plans", "archives", "jobs", "access")],
    "find": ["/files?search=txt"],
    "jobs": ["/jobs?status=failed&type=backup", "/jobs?server=nobody"],
    "archives": ["/archives?search=nothing-has-this-name"],
    "logs": ["/logs?level=warning&paused=1"],
    "audit": ["/audit?username=nobody", "/audit?since=soon"],
    "servers": ["/servers?state=at-risk"],
    "users": ["/users?search=nobody-has-this-name", "/users?is_active=perhaps"],
}
WORDS = 3  # fewer may be a name
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|<[^>]*>|&\w+;")
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}

# What a person reads, also with a screen reader or the mouse held still; not what says that it is of another language.
READ = """() => {
    const foreign = [...document.querySelectorAll(`body [lang]:not([lang="${document.documentElement.lang}"])`)];
    for (const one of foreign) one.hidden = true;
    const read = [document.title, document.body.innerText, ...[...document.querySelectorAll('*')].flatMap(
        (one) => ['aria-label', 'title', 'placeholder', 'alt'].map((name) => one.getAttribute(name)))
    ].filter(Boolean).join('\\n');
    for (const one of foreign) one.hidden = false;
    return read;
}"""
# What lies under the strip of running jobs can be scrolled up: for axe it is in the way of nothing.
CHECK = """async (options) => {
    document.getElementById('strip')?.style.setProperty('position', 'static');
    return (await axe.run(document, options)).violations
    .filter((one) => ['serious', 'critical'].includes(one.impact))
    .flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target.join(' ')}: ${node.failureSummary}`));
}"""


STRAYED = """() => [...document.querySelectorAll(innerWidth < 768 ? '.table .wide' : '.narrow')]
    .filter((one) => one.checkVisibility()).map((one) => one.textContent.trim())"""


@dataclass(frozen=True)
class Look:
    width: int
    theme: str
    language: str


# Both looks of a pair have everything once.
PAIRS = (
    (Look(1440, "light", "en"), Look(390, "dark", "fr")),
    (Look(1440, "dark", "fr"), Look(390, "light", "en")),
)


@dataclass
class Visit:
    """What was found when a page was opened."""

    address: str
    look: Look
    status: int = 0
    complaints: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    overflow: int = 0  # pixels
    strayed: list[str] = field(default_factory=list)  # what the other width is for, and is seen all the same
    text: str = ""
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.address} ({self.look.width}, {self.look.theme}, {self.look.language})"


@pytest.fixture(scope="module")
def visits(browser: Browser, furnished: Furnished) -> list[Visit]:
    """Everything is opened once; the tests below look at what was found."""
    axe = (ROOT / "node_modules/axe-core/axe.min.js").read_text()
    planned: dict[Look, list[str]] = {look: [] for pair in PAIRS for look in pair}
    for number, address in enumerate(address for name in LOOKED_AT for address in addresses_of(name, furnished)):
        for look in PAIRS[number % 2]:
            planned[look].append(address)
    return [visit for look, places in planned.items() for visit in visit_all(browser, furnished, look, places, axe)]


def addresses_of(name: str, furnished: Furnished) -> Iterator[str]:
    yield from furnished.addresses[name]
    for more in MORE.get(name, []):
        yield from {more.format(*furnished.addresses[name][0].split("/")[-1:])}


def visit_all(browser: Browser, furnished: Furnished, look: Look, addresses: list[str], axe: str) -> Iterator[Visit]:
    person = f"{look.language}-{look.theme}"
    size: Any = {"width": look.width, "height": 900}
    signed_in = furnished.context(browser, person, viewport=size)
    nobody = furnished.context(browser, "", viewport=size, color_scheme=look.theme, locale=look.language)
    page, login = Watched(signed_in.new_page()), Watched(nobody.new_page())
    for address in addresses:
        yield (login if address == "/login" else page).visit(Visit(address, look), axe)
    signed_in.close()
    nobody.close()


class Watched:
    """A page whose complaints are written down with the address that it shows."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._found = Visit("", PAIRS[0][0])
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._found.complaints.append(str(error)))
        page.on("dialog", self._dismiss)

    def _hear(self, message: ConsoleMessage) -> None:
        if is_complaint(message):
            self._found.complaints.append(message.text)

    def _dismiss(self, dialog: Dialog) -> None:
        self._found.dialogs.append(dialog.message)
        dialog.dismiss()

    def visit(self, found: Visit, axe: str) -> Visit:
        self._found = found
        answer = self._page.goto(found.address)
        found.status = answer.status if answer else 0
        found.overflow = self._page.evaluate("document.documentElement.scrollWidth - innerWidth")
        found.strayed = self._page.evaluate(STRAYED)
        found.text = self._page.evaluate(READ)
        self._page.evaluate(axe)
        found.violations = self._page.evaluate(CHECK, AXE)
        return found


def test_every_page_opens_in_every_look(visits: list[Visit]) -> None:
    assert {str(visit): visit.status for visit in visits if visit.status != 200} == {}
    assert {visit.look for visit in visits} == {look for pair in PAIRS for look in pair}


def test_no_page_makes_the_console_complain(visits: list[Visit]) -> None:
    """Red with an inline style: the content security policy says so in the console."""
    assert {str(visit): visit.complaints for visit in visits if visit.complaints} == {}


def test_no_page_is_wider_than_its_window(visits: list[Visit]) -> None:
    assert {str(visit): visit.overflow for visit in visits if visit.overflow > 1} == {}


def test_what_a_phone_says_otherwise_is_said_once(visits: list[Visit]) -> None:
    """Red when `.narrow` gives way to another rule: a job's row on a desktop names its server twice."""
    assert {str(visit): visit.strayed for visit in visits if visit.strayed} == {}


def test_names_that_want_to_be_html_stay_names(visits: list[Visit]) -> None:
    """Red with a name marked as safe."""
    assert {str(visit): visit.dialogs for visit in visits if visit.dialogs} == {}
    assert any("<img src=x onerror=alert(1)>" in visit.text for visit in visits)


def test_in_french_nothing_is_left_of_english(visits: list[Visit]) -> None:
    left = {}
    pieces = english()
    for visit in visits:
        if visit.look.language == "fr" and (found := sorted(piece for piece in pieces if piece in flat(visit.text))):
            left[str(visit)] = found
    assert left == {}


def english() -> set[str]:
    """What the catalogue translates, in the pieces between what is filled in; only those with several words."""
    entries = list(catalogue())
    french = " ".join(flat(text) for _, told in entries for text in told)
    pieces = {flat(piece) for asked, told in entries for text in asked - told for piece in PLACEHOLDER.split(text)}
    return {piece for piece in pieces if len(piece.split()) >= WORDS and piece not in french}


def catalogue() -> Iterator[tuple[set[str], set[str]]]:
    """Each entry's English and French texts."""
    for entry in (ROOT / "locale/fr/LC_MESSAGES/django.po").read_text().split("\n\n")[1:]:
        texts: dict[str, set[str]] = {"msgid": set(), "msgstr": set()}
        for kind, lines in re.findall(r'^(msgid|msgstr)\S* ((?:".*"\n?)+)', entry, re.MULTILINE):
            texts[kind].add("".join(ast.literal_eval(line) for line in lines.splitlines()))
        yield texts["msgid"], texts["msgstr"]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_no_page_shuts_somebody_out(visits: list[Visit]) -> None:
    """WCAG 2.2 AA as far as axe can tell. Red with the greys that were there before."""
    assert {str(visit): visit.violations for visit in visits if visit.violations} == {}


def test_every_page_of_the_site_is_looked_at() -> None:
    assert {name for name, (_, methods) in PAGES.items() if "get" in methods} >= NO_PAGES

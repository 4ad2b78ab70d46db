"""Without a mouse: everything is reached in the order in which it stands, shows the focus, and can be left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.furnished import Furnished

pytestmark = pytest.mark.xdist_group("site")

# In the order of the document; of radio buttons one is reached, by the arrows the others.
REACHABLE = """() => {
    const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')];
    const there = all.filter((one) => !one.disabled && one.type !== 'hidden' && one.tabIndex >= 0
        && one.checkVisibility({visibilityProperty: true}) && !(one.type === 'radio' && !one.checked));
    there.forEach((one, position) => { one.dataset.place = position; });
    return there.length;
}"""
FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    return {
        place: one.dataset.place === undefined ? null : Number(one.dataset.place), name: one.outerHTML.slice(0, 120),
        ring: style.outlineStyle !== 'none' || style.boxShadow !== 'none',
        seen: box.bottom > 0 && box.top < innerHeight,
    };
}"""


@pytest.fixture
def page(browser: Browser, furnished: Furnished) -> Iterator[Page]:
    context = furnished.context(browser, "en-light", viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("address", ["/", "/servers", "/servers/add"])
def test_tab_reaches_everything_in_its_order(page: Page, address: str) -> None:
    """Red with a tabindex of one's own, a link that is a span, or a focus that nobody sees."""
    page.route("**/events*", lambda route: route.abort())  # nothing moves while we look
    page.goto(address)
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")  # a long page is still on its way otherwise
    number = page.evaluate(REACHABLE)
    reached = []
    for _ in range(number):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        assert found["ring"] and found["seen"], found
        reached.append(found["place"])
    assert number > 15 and reached == list(range(number))


def test_one_gets_to_the_content_past_the_menu(page: Page) -> None:
    """Red when the link's target takes no focus: the next Tab would be in the menu again."""
    page.goto("/servers")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    expect(page.get_by_role("link", name="To the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_the_menu_of_a_phone_opens_and_closes_by_keys(page: Page) -> None:
    """Red without Escape in app.js."""
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/")
    menu, button = page.get_by_role("navigation", name="Main"), page.get_by_role("button", name="Menu")
    expect(menu).to_be_hidden()
    button.focus()
    page.keyboard.press("Enter")
    expect(menu).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".collapsing")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(button).to_be_focused()


def test_who_wants_no_motion_gets_none(browser: Browser, furnished: Furnished) -> None:
    """Red without the rule in app.css: the arc of the running job turns."""
    context = furnished.context(browser, "en-light", reduced_motion="reduce")
    page = context.new_page()
    page.goto("/")
    expect(page.locator(".spin").first).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
    moved = "[...document.querySelectorAll('*')].map((one) => getComputedStyle(one).transitionDuration)"
    assert {float(text) for each in set(page.evaluate(moved)) for text in each.replace("s", "").split(",")} == {0}
    context.close()

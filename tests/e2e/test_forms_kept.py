"""What somebody has typed survives the end of their session."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import ADMIN_PASSWORD
from tests.e2e.furnished import Furnished

pytestmark = pytest.mark.xdist_group("site")

IS_LOGIN = re.compile(r"/login(\?|$)")


@pytest.fixture
def context(browser: Browser, furnished: Furnished) -> Iterator[BrowserContext]:
    context = furnished.context(browser, "")
    log_in(context.new_page(), "/")
    yield context
    context.close()


def log_in(page: Page, address: str = "") -> None:
    if address:
        page.goto(address)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: not IS_LOGIN.search(url))


def log_out_elsewhere(context: BrowserContext) -> None:
    with context.new_page() as other:
        other.goto("/")
        other.get_by_role("button", name="Log out").click()
        other.wait_for_url(IS_LOGIN)


def test_a_form_that_was_sent_too_late_is_filled_in_again(context: BrowserContext) -> None:
    """Red without the draft: the page after the login is empty."""
    page = context.pages[0]
    page.goto("/servers/add")
    page.get_by_label("Name").fill("typed-for-long")
    page.get_by_label("Address").fill("192.0.2.55")
    page.get_by_label("run borg with sudo").uncheck()
    log_out_elsewhere(context)
    page.get_by_role("button", name="Go on to access").click()
    page.wait_for_url(IS_LOGIN)
    log_in(page)
    page.wait_for_url("**/servers/add")
    expect(page.get_by_text("What you had typed is here again")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("typed-for-long")
    expect(page.get_by_label("Address")).to_have_value("192.0.2.55")
    expect(page.get_by_label("run borg with sudo")).not_to_be_checked()
    page.reload()
    expect(page.get_by_label("Name")).to_have_value("")


def test_a_form_that_a_login_elsewhere_made_stale_is_filled_in_again(context: BrowserContext) -> None:
    """Red without the address in the link: the form is empty."""
    page = context.pages[0]
    page.goto("/servers/add")
    page.get_by_label("Name").fill("typed-for-long")
    log_out_elsewhere(context)
    with context.new_page() as other:
        log_in(other, "/")
    page.get_by_role("button", name="Go on to access").click()
    expect(page.get_by_text("This form has expired")).to_be_visible()
    page.get_by_role("link", name="Open the form again").click()
    expect(page.get_by_text("What you had typed is here again")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("typed-for-long")
    page.reload()
    expect(page.get_by_label("Name")).to_have_value("")


def test_a_page_that_goes_to_the_login_by_itself_keeps_what_is_being_typed(context: BrowserContext) -> None:
    """Red when only what was sent is kept: a live part hears first that the session has ended."""
    page = context.pages[0]
    page.goto("/servers/add")
    page.get_by_label("Name").fill("half a na")
    log_out_elsewhere(context)
    page.evaluate("htmx.trigger(document.body, 'job', {data: '{}'})")
    page.wait_for_url(IS_LOGIN)
    log_in(page)
    page.wait_for_url("**/servers/add")
    expect(page.get_by_label("Name")).to_have_value("half a na")


def test_a_form_whose_address_takes_only_a_post_leads_back_to_its_page(
    context: BrowserContext, furnished: Furnished
) -> None:
    """Red when the login leads to where the form was sent: that page says 405."""
    page, archive = context.pages[0], furnished.addresses["archive"][0]
    page.goto(archive)
    page.locator("textarea[name=comment]").fill("a thought of half an hour")
    log_out_elsewhere(context)
    page.locator("form:has(textarea[name=comment]) button").first.click()
    page.wait_for_url(IS_LOGIN)
    log_in(page)
    page.wait_for_url(f"**{archive}")
    expect(page.locator("textarea[name=comment]")).to_have_value("a thought of half an hour")


def test_a_password_is_never_kept(context: BrowserContext) -> None:
    """Red when the form with it is kept like any other."""
    page = context.pages[0]
    page.goto("/profile/password")
    for field in page.locator("input[type=password]").all():
        field.fill("a secret")
    log_out_elsewhere(context)
    page.locator("main form button").first.click()
    page.wait_for_url(IS_LOGIN)
    assert "a secret" not in page.evaluate("JSON.stringify(sessionStorage)")
    assert "phpborg-draft" not in page.evaluate("JSON.stringify(sessionStorage)")


def test_what_was_saved_does_not_come_back(context: BrowserContext, furnished: Furnished) -> None:
    """Red when a draft is thrown away by nobody."""
    page, archive = context.pages[0], furnished.addresses["archive"][0]
    page.goto(archive)
    page.locator("textarea[name=comment]").fill("saved")
    with page.expect_navigation():
        page.locator("form:has(textarea[name=comment]) button").first.click()
    assert page.evaluate("sessionStorage.length") == 0
    expect(page.get_by_text("What you had typed is here again")).to_have_count(0)
    expect(page.locator("textarea[name=comment]")).to_have_value("saved")

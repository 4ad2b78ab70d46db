"""The wizard with a password, in Chromium: each step as it ticks, and a password that is nowhere afterwards."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from phpborg.embedded import Sshd
from servers.ssh.remote import HostKey
from tests.e2e.conftest import OWN_KEYS, Person, Site
from tests.e2e.test_story_through_the_api import texts_of_processes, texts_of_redis

pytestmark = pytest.mark.xdist_group("site")
WRONG = "wrong-and-seen-nowhere"


def stands_at(page: Page, station: str) -> None:
    expect(page.locator("#wizard [aria-current=step]")).to_have_text(station)


def enter(page: Page, password: str) -> None:
    page.get_by_label("Password of the SSH user").fill(password)
    with page.expect_navigation():
        page.get_by_role("button", name="Put the key there").click()


def test_the_page_knocks_while_somebody_puts_the_key_there(new_page: Callable[..., Page], sshd: Sshd) -> None:
    """Nothing is pressed after the key is there."""
    page = new_page()
    page.goto("/servers/add")
    page.get_by_label("Name").fill("knocked-1")
    page.get_by_label("Address").fill("127.0.0.1")
    page.get_by_label("SSH port").fill(str(sshd.port))
    page.get_by_label("SSH user").fill(getpass.getuser())
    page.get_by_label("run borg with sudo").uncheck()
    page.get_by_role("button", name="Go on to access").click()
    key = page.locator(".command code").first.inner_text()
    page.get_by_role("button", name="The fingerprint is right: confirm").click(timeout=20_000)
    expect(page.get_by_text("Waiting for the server")).to_be_visible(timeout=20_000)
    with sshd.authorized_keys.open("a") as file:
        file.write(next(part for part in key.split("'") if part.startswith("restrict ")) + "\n")
    expect(page.get_by_text("Everything is ready.")).to_be_visible(timeout=40_000)
    expect(page.get_by_text("Waiting for the server")).to_have_count(0)


def test_a_password_lets_us_in_and_is_forgotten(
    new_page: Callable[..., Page], site: Site, person: Person, short_dir: Path
) -> None:
    page = new_page()
    with Sshd(short_dir / "wizard", options=[OWN_KEYS, "UsePAM yes", "KbdInteractiveAuthentication yes"]) as sshd:
        page.goto("/servers/add")
        stands_at(page, "Address")
        page.get_by_label("Name").fill("wizard-1")
        page.get_by_label("Address").fill("127.0.0.1")
        page.get_by_label("SSH port").fill(str(sshd.port))
        page.get_by_label("SSH user").fill(person.name)
        page.get_by_label("run borg with sudo").uncheck()
        page.get_by_role("button", name="Go on to access").click()
        stands_at(page, "Host key")
        page.get_by_text("A password, once").click()
        expect(page.get_by_text("Confirm the host key first")).to_be_visible()

        own = HostKey.parse(sshd.host_key.with_suffix(".pub").read_text()).fingerprint
        expect(page.locator(".alert .fingerprint")).to_have_text(own, timeout=20_000)
        page.get_by_role("button", name="The fingerprint is right: confirm").click()
        stands_at(page, "Way in")

        page.get_by_text("A password, once").click()
        enter(page, WRONG)
        expect(page.locator(".alert")).to_contain_text(
            [f"127.0.0.1 refused the password for the user {person.name}."], timeout=30_000
        )
        enter(page, person.password)  # the field is open: it is what was tried
        page.evaluate("window.neverReloaded = true")
        expect(page.get_by_text("Everything is ready.")).to_be_visible(timeout=30_000)
        stands_at(page, "What to save")
        assert page.evaluate("window.neverReloaded") is True
        assert page.get_by_role("definition").filter(has_text="free").first.inner_text().startswith("/ ")
        assert person.keys.read_text().startswith("restrict ssh-ed25519 ")

        page.get_by_role("link", name="Choose what to save").click()
        assert "/etc" in page.get_by_label("Folders and files").input_value().splitlines()

    places = {
        "processes": list(texts_of_processes()),
        "redis": list(texts_of_redis(site)),
        "log": [site.serve.log.read_bytes() if site.serve.log else b""],
        "database": [path.read_bytes() for path in site.data_dir.glob("phpborg.sqlite3*")],
    }
    assert any(b"wizard-1" in text for text in places["database"])
    for secret in (WRONG, person.password.split()[1]):
        assert [place for place, texts in places.items() for text in texts if secret.encode() in text] == []

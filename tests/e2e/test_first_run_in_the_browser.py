"""From an empty database to the first alert, in Chromium: token, account, pool, test mail, server, backup, alert."""

from __future__ import annotations

import getpass
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from phpborg.embedded import Sshd, wait_until
from tests.e2e.conftest import ROOT, is_complaint, running_site
from tests.e2e.test_every_page import AXE, CHECK
from tests.smtp import PASSWORD as MAIL_PASSWORD
from tests.smtp import USER as MAIL_USER
from tests.smtp import Post, post_office

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("site")]

ACCOUNT_PASSWORD = "a long and odd password"


def looked_at(page: Page) -> None:
    """No wider than the window, and nothing that shuts somebody out."""
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 1, page.url
    page.evaluate((ROOT / "node_modules/axe-core/axe.min.js").read_text())
    assert page.evaluate(CHECK, AXE) == []


def go_on(page: Page, button: str) -> None:
    looked_at(page)
    with page.expect_navigation():
        page.get_by_role("button", name=button).click()


def test_from_nothing_to_the_first_alert(
    browser: Browser, short_dir: Path, pool_dir: Path, sshd: Sshd, tmp_path: Path
) -> None:
    source = tmp_path / "files"
    source.mkdir()
    for number in range(20):
        (source / f"{number}.txt").write_text("what somebody would miss\n" * 100)
    folder = short_dir / "new"
    folder.mkdir()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if is_complaint(message) and "404" not in message.text:
            complaints.append(message.text)

    with running_site(folder, password="") as site, post_office(login=True) as post:
        log = folder / "serve.log"
        said = re.compile(r"^ {4}([0-9a-f]{32})$", re.MULTILINE)
        wait_until(lambda: bool(said.search(log.read_text())), seconds=10, what="The token")
        token = said.findall(log.read_text())[-1]
        page = browser.new_context(
            base_url=site.url,
            locale="en-GB",
            viewport={"width": 390, "height": 844},
            reduced_motion="reduce",  # axe would see colours half changed
        ).new_page()
        page.on("console", hear)
        make_account(page, token)
        expect(page.get_by_label("Site address")).to_have_value(site.url)
        page.get_by_label("Time zone").select_option("Europe/Paris")
        go_on(page, "Save and go on")
        make_pool(page, pool_dir)
        try_mail(page, post)
        go_on(page, "Add your first server")
        expect(page).to_have_url(re.compile("/servers/add$"))
        assert (len(post.messages), post.recipients) == (1, ["ada@example.org"])
        protect_a_server(page, sshd, source)
        back_up(page, "completed")
        assert page.goto("/setup").status == 404  # type: ignore[union-attr]
        look_at_settings(page, post)
        be_told(page, post)
        first_alert(page, post, source)
        written = log.read_text().replace(f"    {token}\n", "")
        secrets = (token, ACCOUNT_PASSWORD, MAIL_PASSWORD)
        assert [secret for secret in secrets if secret in written or secret in page.content()] == []
    assert complaints == []


def make_account(page: Page, token: str) -> None:
    page.goto("/")
    expect(page).to_have_url(re.compile("/setup$"))
    page.get_by_label("Token").fill("0" * 32)
    go_on(page, "Begin")
    expect(page.get_by_text("This is not the token")).to_be_visible()
    page.get_by_label("Token").fill(token)
    go_on(page, "Begin")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Email address").fill("ada@example.org")
    page.get_by_label("Password", exact=True).fill(ACCOUNT_PASSWORD)
    page.get_by_label("Password confirmation").fill(ACCOUNT_PASSWORD)
    go_on(page, "Make the account")


def make_pool(page: Page, folder: Path) -> None:
    page.get_by_label("Path").fill(str(folder / "missing"))
    go_on(page, "Save and look at it")
    expect(page.get_by_role("main").get_by_text("does not exist on the worker's machine").first).to_be_visible(
        timeout=20_000
    )
    page.get_by_label("Path").fill(str(folder))
    go_on(page, "Save and look at it")
    expect(page.get_by_text("It is there and ours to write")).to_be_visible(timeout=20_000)
    go_on(page, "Go on")


def try_mail(page: Page, post: Post) -> None:
    page.get_by_label("Mail server").fill("127.0.0.1")
    page.get_by_label("Port").fill(str(post.port))
    page.get_by_label("Encryption").select_option("none")
    page.get_by_label("User", exact=True).fill(MAIL_USER)
    page.get_by_label("Password", exact=True).fill("wrong")
    page.get_by_label("Sender").fill("borg@example.org")
    expect(page.get_by_label("Send a test mail to")).to_have_value("ada@example.org")
    go_on(page, "Save and send a test mail")
    expect(page.get_by_role("main").get_by_text("refuses the user or the password").first).to_be_visible(timeout=20_000)
    page.get_by_label("Password", exact=True).fill(MAIL_PASSWORD)
    go_on(page, "Save and send a test mail")
    expect(page.get_by_role("main").get_by_text("The mail server has taken it.").first).to_be_visible(timeout=20_000)
    go_on(page, "Go on")


def look_at_settings(page: Page, post: Post) -> None:
    """In the other width; the part about the test mail is live there too."""
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto("/settings")
    expect(page.get_by_label("Time zone", exact=True)).to_have_value("Europe/Paris")
    expect(page.get_by_text("borg 1.").first).to_be_visible()
    go_on(page, "Send a test mail")
    wait_until(lambda: len(post.messages) == 2, seconds=20, what="The second mail")


def protect_a_server(page: Page, sshd: Sshd, source: Path) -> None:
    page.get_by_label("Name").fill("first-1")
    page.get_by_label("Address").fill("127.0.0.1")
    page.get_by_label("SSH port").fill(str(sshd.port))
    page.get_by_label("SSH user").fill(getpass.getuser())
    page.get_by_label("run borg with sudo").uncheck()
    page.get_by_role("button", name="Go on to access").click()
    key = page.locator(".command code").first.inner_text()
    page.get_by_role("button", name="The fingerprint is right: confirm").click(timeout=20_000)
    with sshd.authorized_keys.open("a") as file:
        file.write(next(part for part in key.split("'") if part.startswith("restrict ")) + "\n")
    expect(page.get_by_text("Everything is ready.")).to_be_visible(timeout=40_000)
    page.get_by_role("link", name="Choose what to save").first.click()
    page.get_by_label("Folders and files").fill(str(source))
    page.get_by_role("button", name="Save the plan").click()
    expect(page.get_by_text("The plan is saved.")).to_be_visible()
    page.goto("/repositories")
    page.get_by_role("link", name="first-1").first.click()
    expect(page.get_by_role("heading", name="first-1")).to_contain_text("ready", timeout=30_000)


def back_up(page: Page, words: str) -> None:
    page.goto("/plans")
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#job h1 .state")).to_have_text(words, timeout=60_000)


def be_told(page: Page, post: Post) -> None:
    page.goto("/alerts")
    expect(page.get_by_text("Without a rule nobody is told")).to_be_visible()
    page.goto("/alerts/channels")
    page.get_by_role("link", name="Mail", exact=True).click()
    page.get_by_label("Name").fill("on call")
    page.get_by_label("Mail addresses").fill("oncall@example.org")
    go_on(page, "Save the channel")
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator("#job h1 .state")).to_have_text("completed", timeout=30_000)
    assert mails(post) == ["phpBorg: a test of the channel “on call”"]
    page.goto("/alerts/rules")
    page.get_by_role("link", name="An archive is suspicious").click()
    page.get_by_label("Name").fill("suspicious")
    page.get_by_label("on call").check()
    page.get_by_label("gather for (minutes)").fill("0")
    go_on(page, "Save the rule")


def mails(post: Post) -> list[str]:
    """The subjects of those about alerts, without how bad it is."""
    told = [message["Subject"] for message in post.messages if message["To"] == "oncall@example.org"]
    return [subject.partition("] ")[2] for subject in told]


def first_alert(page: Page, post: Post, source: Path) -> None:
    """Somebody's files are gone from the server: it is told once, and once that they are there again."""
    kept = source.rename(source.with_name("away"))
    source.mkdir()
    back_up(page, "with warnings")
    wait_until(lambda: len(mails(post)) == 2, seconds=60, what="The alert")
    page.goto("/alerts")
    expect(page.get_by_text("One thing needs somebody.")).to_be_visible()
    looked_at(page)
    source.rmdir()
    kept.rename(source)
    back_up(page, "completed")
    wait_until(lambda: len(mails(post)) == 3, seconds=60, what="The word that it is over")
    assert mails(post)[1:] == ["suspicious: first-1/files", "Over: suspicious: first-1/files"]
    page.goto("/alerts")
    expect(page.get_by_text("By the rules that there are, nothing is wrong.")).to_be_visible()

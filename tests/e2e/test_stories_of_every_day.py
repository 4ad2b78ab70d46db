"""What people do with what they have, in Chromium, against everything real; each story begins where they would."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import ADMIN_PASSWORD, log_in, until
from tests.e2e.furnished import Furnished, back_up, ok

pytestmark = pytest.mark.xdist_group("site")

JOB = 60_000  # milliseconds that a job may take
STATE = "#job h1 .state"


@dataclass(frozen=True)
class Mine:
    """A plan of these stories, with two archives between which files came, went, and changed."""

    server: str  # addresses of their pages
    plan: str
    repository: str
    source: Path
    older: str
    newer: str


@pytest.fixture(scope="module")
def client(furnished: Furnished) -> Iterator[httpx.Client]:
    with closing(furnished.site.client()) as client:
        yield client


@pytest.fixture(scope="module")
def mine(furnished: Furnished, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Mine:
    source = tmp_path_factory.mktemp("stories") / "data"
    source.mkdir()
    (source / "changes.txt").write_text("before\n")
    (source / "goes.txt").write_text("only in the first\n")
    known = ok(client.get(f"/plans/{furnished.plan}"))
    pool = ok(client.get(f"/repositories/{known['repository']}"))["pool"]
    asked = {"name": "stories", "server": known["server"], "pool": pool}
    repository = ok(client.post("/repositories", json=asked))
    until(lambda: ok(client.get(f"/repositories/{repository['id']}"))["state"] == "ready", seconds=60)
    asked = {"name": "stories", "server": known["server"], "kind": "files", "parameters": {"paths": [str(source)]}}
    saved = ok(client.post("/sources", json=asked))
    asked = {
        "name": "stories", "server": known["server"], "repository": repository["id"], "sources": [saved["id"]],
        "upload_kib_per_second": 400,
    }  # fmt: skip
    plan = ok(client.post("/plans", json=asked))
    older, _ = back_up(client, plan, source / "changes.txt")
    (source / "goes.txt").unlink()
    (source / "comes.txt").write_text("only in the second\n")
    newer, _ = back_up(client, plan, source / "changes.txt")
    return Mine(
        f"/servers/{plan['server']}",
        f"/plans/{plan['id']}",
        f"/repositories/{repository['id']}",
        source,
        f"/archives/{older}",
        f"/archives/{newer}",
    )


@pytest.fixture
def page(browser: Browser, furnished: Furnished) -> Iterator[Page]:
    context = browser.new_context(
        base_url=furnished.site.url, viewport={"width": 1440, "height": 900}, locale="en-GB", accept_downloads=True
    )
    page = context.new_page()
    log_in(page)
    yield page
    context.close()


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def link(page: Page, name: str) -> Any:
    return page.get_by_role("link", name=name, exact=True)


def test_what_changed_between_two_archives(page: Page, mine: Mine) -> None:
    page.goto(mine.newer)
    link(page, "Compare").click()
    button(page, "Compare").click()
    expect(page.locator(".sentence")).to_contain_text("1 added, 1 removed, 1 changed", timeout=JOB)
    for part in mine.source.parts[1:]:
        link(page, part).click()
    expect(page.get_by_role("row", name="comes.txt")).to_contain_text("added")
    expect(page.get_by_role("row", name="goes.txt")).to_contain_text("removed")
    page.get_by_label("Kind of change").select_option("changed")
    button(page, "Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("changes.txt")


def test_a_pinned_archive_stays_whatever_the_policy_says(page: Page, mine: Mine) -> None:
    page.goto(mine.plan)
    link(page, "Edit").click()
    link(page, "See and change retention policies").click()
    link(page, "Add retention policy").first.click()
    page.get_by_label("Name").fill("the last one")
    page.get_by_label("Keep all within").fill("")
    for rule in ("Keep daily", "Keep weekly", "Keep monthly"):
        page.get_by_label(rule).fill("0")
    button(page, "Save the policy").click()
    expect(page.get_by_text("These rules keep nothing.")).to_be_visible()
    page.get_by_label("Keep last").fill("1")
    button(page, "Save the policy").click()

    page.goto(mine.plan)
    link(page, "Edit").click()
    page.get_by_label("Retention", exact=True).select_option("the last one")
    button(page, "Save the plan").click()
    link(page, "the last one").click()
    expect(page.get_by_role("heading", name="Would go now (1)")).to_be_visible()
    expect(page.get_by_role("heading", name="How it will look")).to_be_visible()

    page.goto(mine.older)
    button(page, "Pin").click()
    page.get_by_label("Comment").fill("before the migration")
    button(page, "Save the comment").click()
    expect(page.get_by_text("yes: it stays, whatever the rules say")).to_be_visible()
    expect(page.get_by_label("Comment")).to_have_value("before the migration")
    page.goto(f"{mine.plan}/retention")
    expect(page.get_by_role("heading", name="Would go now (0)")).to_be_visible()
    expect(page.get_by_role("heading", name="Stays (2)")).to_be_visible()
    expect(page.get_by_role("cell", name="pinned")).to_be_visible()


def test_a_plan_rests_and_goes_on(page: Page, mine: Mine) -> None:
    page.goto(mine.plan)
    for wanted in (False, True):
        link(page, "Edit").click()
        page.get_by_label("Enabled").set_checked(wanted)
        button(page, "Save the plan").click()
        if wanted:
            expect(button(page, "Back up now")).to_be_enabled()
        else:
            expect(button(page, "Back up now")).to_be_disabled()


def test_a_job_is_cancelled_and_run_again(page: Page, mine: Mine) -> None:
    """Its two megabytes take five seconds."""
    (mine.source / "noise").write_bytes(os.urandom(2_000_000))
    page.goto(mine.plan)
    button(page, "Back up now").click()
    expect(page.locator("#log")).to_contain_text("borg create", timeout=JOB)
    button(page, "Cancel").click()
    expect(page.locator(STATE)).to_contain_text("cancelled", timeout=JOB)
    button(page, "Run again").click()
    expect(page.locator(STATE)).to_contain_text("completed", timeout=JOB)
    link(page, "Open the archive").click()
    expect(page.locator(".sentence")).to_contain_text("in 3 files")


def as_user(page: Page, mine: Mine, name: str) -> None:
    page.goto(f"{mine.server}/edit")
    page.get_by_label("SSH user").fill(name)
    button(page, "Save").click()
    expect(page.get_by_text("is saved.")).to_be_visible()


def test_a_failure_stays_until_it_is_cured(page: Page, mine: Mine) -> None:
    """Somebody enters another SSH user; the job's page, the dashboard and the plan's page say what came of it."""
    as_user(page, mine, "nobody-of-that-name")
    page.goto(mine.plan)
    button(page, "Back up now").click()
    expect(page.locator(STATE)).to_contain_text("failed", timeout=JOB)
    expect(page.locator("#job [role=alert]").first).to_contain_text("Put our public key into the user's")
    failed = page.url
    link(page, "Dashboard").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("need you")
    page.goto(mine.plan)
    expect(page.get_by_role("heading", level=1)).to_contain_text("at risk")
    as_user(page, mine, getpass.getuser())
    page.goto(failed)
    button(page, "Run again").click()
    expect(page.locator(STATE)).to_contain_text("completed", timeout=JOB)
    page.goto(mine.plan)
    expect(page.get_by_role("heading", level=1)).to_contain_text("protected")


def test_the_recovery_kit_is_taken_out_and_stored(page: Page, mine: Mine) -> None:
    page.goto("/")
    page.get_by_role("link", name="not stored yet").click()
    page.goto(mine.repository)
    link(page, "Take the kit out").click()
    page.get_by_label("Your password").fill("not it")
    button(page, "Take the kit out").click()
    expect(page.locator(".invalid-feedback").first).to_be_visible()
    expect(page.locator("article.kit")).to_have_count(0)
    page.get_by_label("Your password").fill(ADMIN_PASSWORD)
    page.get_by_label("Passphrase for the file", exact=True).fill("five words that nobody has")
    page.get_by_label("Passphrase for the file again").fill("five words that nobody has")
    button(page, "Take the kit out").click()
    expect(page.locator("article.kit")).to_contain_text("BORG_KEY")
    with page.expect_download() as started:
        page.locator("a[download]").click()
    assert started.value.path().stat().st_size > 1000
    button(page, "The kit is stored").click()
    expect(page.get_by_text("stored just now, says admin")).to_be_visible()


def test_a_pool_whose_folder_is_made_later(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    page.goto("/repositories")
    link(page, "Add storage pool").first.click()
    page.get_by_label("Name").fill("later")
    page.get_by_label("Path").fill(str(folder))
    button(page, "Save and look at it").click()
    expect(page.locator("[role=alert] .what")).to_contain_text(str(folder), timeout=JOB)
    folder.mkdir()
    button(page, "Look again").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("ready", timeout=JOB)
    link(page, "Edit").click()
    page.get_by_label("Name").fill("since-today")
    button(page, "Save and look at it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^since-today"))
    shutil.rmtree(folder)
    button(page, "Look again").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cannot be used", timeout=JOB)


def test_a_name_is_found_from_every_page(page: Page, mine: Mine) -> None:
    page.goto(mine.repository)
    field = page.get_by_role("search").get_by_role("searchbox").first
    field.fill("stories")
    field.press("Enter")
    page.get_by_role("main").get_by_role("link", name="stories").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("stories")


def test_an_archive_is_deleted_by_who_types_its_name(page: Page, mine: Mine) -> None:
    """But not the last good one of its plan."""
    page.goto(mine.plan)
    page.locator("td.name a").first.click()
    confirm_deletion(page)
    expect(page.get_by_role("alert").first).to_contain_text("This is the last good archive of its plan")

    page.goto(mine.older)
    if button(page, "Unpin").count():
        button(page, "Unpin").click()
    confirm_deletion(page)
    expect(page.locator(STATE)).to_contain_text("completed", timeout=JOB)
    assert page.goto(mine.older).status == 404  # type: ignore[union-attr]


def confirm_deletion(page: Page) -> None:
    name = page.locator("dl.facts dd.mono").first.inner_text()
    link(page, "Delete").click()
    page.get_by_label("to confirm").fill("another")
    button(page, "Delete archive").click()
    expect(page.get_by_text("Type the archive's name to confirm.")).to_be_visible()
    page.get_by_label("to confirm").fill(name)
    button(page, "Delete archive").click()

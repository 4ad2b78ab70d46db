"""From the login to a restored file, in Chromium, against everything real."""

import getpass
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from phpborg.embedded import Sshd, wait_until
from servers.ssh.remote import HostKey

pytestmark = pytest.mark.xdist_group("site")


def make_source(folder: Path) -> Path:
    """60 MB that do not compress, some text, and a name that is not easy."""
    folder.mkdir()
    for number in range(6):
        (folder / f"noise-{number}.bin").write_bytes(os.urandom(10_000_000))
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "it's <b>bold & café.conf").write_text("answer = 42\n")
    return folder


def test_an_administrator_protects_a_server_and_gets_a_file_back(
    new_page: Callable[..., Page], sshd: Sshd, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "srv data")
    (tmp_path / "pool").mkdir()
    page = new_page()

    add_server(page, sshd, tmp_path)
    add_pool(page, tmp_path / "pool")
    add_plan(page, source)
    run_and_follow(page, new_page())
    restore_a_file(page, source, tmp_path / "restored here")
    download_a_file(page, source)
    look_at_a_file(page, source)
    get_the_version_before_back(page, source, tmp_path / "as it was")


def add_server(page: Page, sshd: Sshd, home: Path) -> None:
    page.goto("/servers")
    page.get_by_role("link", name="Add server").first.click()
    page.get_by_label("Name").fill("web-1")
    page.get_by_label("Address").fill("127.0.0.1")
    page.get_by_label("SSH port").fill(str(sshd.port))
    page.get_by_label("SSH user").fill(getpass.getuser())
    page.get_by_label("run borg with sudo").uncheck()
    page.get_by_role("button", name="Go on to access").click()

    # The command that the page shows, run on the server as its administrator would.
    command = page.locator(".command code").first.inner_text()
    subprocess.run(["sh", "-c", command], check=True, env={"HOME": str(home), "PATH": os.environ["PATH"]})
    sshd.authorized_keys.write_bytes((home / ".ssh/authorized_keys").read_bytes())

    own = HostKey.parse(sshd.host_key.with_suffix(".pub").read_text()).fingerprint
    expect(page.locator(".alert .fingerprint")).to_have_text(own, timeout=20_000)
    page.get_by_role("button", name="The fingerprint is right: confirm").click()
    expect(page.get_by_text("Everything is ready.")).to_be_visible(timeout=30_000)


def add_pool(page: Page, folder: Path) -> None:
    page.goto("/pools/add")
    page.get_by_label("Name").fill("disk-1")
    page.get_by_label("Path").fill(str(folder))
    page.get_by_role("button", name="Save and look at it").click()
    expect(page.get_by_role("heading", name="disk-1")).to_contain_text("ready", timeout=20_000)


def add_plan(page: Page, source: Path) -> None:
    page.goto("/servers")
    page.get_by_role("link", name="web-1").click()
    page.get_by_role("link", name="Choose what to save").first.click()
    page.get_by_label("Folders and files").fill("")
    page.get_by_role("button", name="Save the plan").click()
    expect(page.get_by_text("Enter at least one path.")).to_be_visible()

    page.get_by_label("Folders and files").fill(str(source))
    page.get_by_label("Upload limit").fill("20000")  # KiB/s, so that there is something to watch
    page.get_by_role("button", name="Save the plan").click()
    expect(page.get_by_text("The plan is saved.")).to_be_visible()
    page.get_by_role("link", name="web-1").last.click()
    page.goto("/repositories")
    page.get_by_role("link", name="web-1").first.click()
    expect(page.get_by_role("heading", name="web-1")).to_contain_text("ready", timeout=30_000)


def run_and_follow(page: Page, other: Page) -> None:
    page.goto("/plans")
    page.get_by_role("button", name="Run now").click()
    page.wait_for_url("**/jobs/*")
    page.evaluate("window.neverReloaded = true")
    other.goto(page.url)
    for browser in (page, other):
        expect(browser.locator("#job h1 .state")).to_contain_text("running", timeout=20_000)
        expect(browser.locator(".job-progress .numbers")).to_contain_text("MB", timeout=20_000)
        expect(browser.locator("#log")).to_contain_text("borg create", timeout=20_000)
    for browser in (page, other):
        expect(browser.locator("#job h1 .state")).to_contain_text("completed", timeout=60_000)
        expect(browser.locator("#log")).to_contain_text("7 files", timeout=20_000)
    assert page.evaluate("window.neverReloaded") is True
    numbers = [
        int(line) for line in page.locator("#log li[data-line]").evaluate_all("all => all.map(l => l.dataset.line)")
    ]
    assert numbers == list(range(1, len(numbers) + 1)), "a line of the log is missing, or is there twice"


def restore_a_file(page: Page, source: Path, target: Path) -> None:
    page.get_by_role("link", name="Open the archive").click()
    page.get_by_role("link", name="Browse").click()
    for part in source.parts[1:]:
        page.get_by_role("link", name=part, exact=True).click()
    page.get_by_role("link", name="conf.d", exact=True).click()
    page.get_by_label("it's <b>bold & café.conf").check()
    expect(page.locator("[data-chosen]")).to_have_text("1")
    page.get_by_role("button", name="Restore what is chosen").click()
    page.get_by_label("Into the directory").fill(str(target))
    page.get_by_role("button", name="Restore one entry").click()
    expect(page.locator("#job h1 .state")).to_contain_text("completed", timeout=60_000)

    name = "it's <b>bold & café.conf"
    original = source / "conf.d" / name
    assert (target / original.relative_to("/")).read_bytes() == original.read_bytes()
    assert not (target / source.relative_to("/") / "noise-0.bin").exists()


def download_a_file(page: Page, source: Path) -> None:
    page.goto("/archives")
    page.locator("td.name a").first.click()
    page.get_by_role("link", name="Browse").click()
    for part in source.parts[1:]:
        page.get_by_role("link", name=part, exact=True).click()
    with page.expect_download() as started:
        page.get_by_role("row", name="noise-3.bin").get_by_role("link").last.click()
    path = started.value.path()
    assert started.value.suggested_filename == "noise-3.bin"
    assert Path(path).read_bytes() == (source / "noise-3.bin").read_bytes()


def look_at_a_file(page: Page, source: Path) -> None:
    """On the folder's page, where the story is."""
    page.get_by_role("link", name="conf.d", exact=True).click()
    name = "it's <b>bold & café.conf"
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.locator(".preview-text")).to_have_text((source / "conf.d" / name).read_text())


def get_the_version_before_back(page: Page, source: Path, target: Path) -> None:
    """The worst day: by name, over all archives, the version before the last; four clicks."""
    file = source / "conf.d" / "it's <b>bold & café.conf"
    before = file.read_bytes()
    file.write_text("answer = 43, by mistake\n")
    page.goto("/plans")
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#job h1 .state")).to_contain_text("completed", timeout=60_000)
    wait_until(lambda: versions_found(page) == 2, seconds=60, what="The listing of both archives")

    page.goto("/")
    page.get_by_role("link", name="Find a file").click()
    page.get_by_placeholder("Name, part of a path").fill("BOLD & CAFÉ")
    page.get_by_role("button", name="Find").click()
    found = page.locator(".found")
    expect(found.locator(".path")).to_have_text(str(file))
    older = found.locator("tbody tr").nth(1)
    expect(older).to_contain_text(f"{len(before)} B")
    older.get_by_role("link", name="Restore").click()
    page.get_by_label("Into the directory").fill(str(target))
    page.get_by_role("button", name="Restore one entry").click()
    expect(page.locator("#job h1 .state")).to_contain_text("completed", timeout=60_000)
    assert (target / file.relative_to("/")).read_bytes() == before


def versions_found(page: Page) -> int:
    page.goto("/files?search=caf%C3%A9.conf")
    return page.locator(".found tbody tr").count()

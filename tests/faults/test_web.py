"""The web process killed, its readers slow or away, and processes that start with the wrong key; all of them real."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from playwright.sync_api import Page, sync_playwright

from accounts.models import User
from jobs import live, queue
from jobs.models import Job
from phpborg.embedded import wait_until
from tests.conftest import page_of
from tests.faults.conftest import PATIENCE_SECONDS, Start, Web, is_gone, let, pid_of, says, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("web")]

Slow = Callable[..., Job]
T = TypeVar("T")
EVENTS = 20_000
MEMORY_BYTES = 15_000_000


def cookie_of(user: User) -> dict[str, str]:
    return {"sessionid": page_of(user).cookies["sessionid"].value}


# --- Killed -----------------------------------------------------------------------------------------


@contextmanager
def page_at(web: Web, path: str, cookies: dict[str, str]) -> Iterator[Callable[[Callable[[Page], T]], T]]:
    """An open page; calling it does something with the page in the browser's own thread, which has an event loop."""
    with ThreadPoolExecutor(1) as thread:
        playwright = thread.submit(sync_playwright().start).result()
        chromium = thread.submit(
            playwright.chromium.launch, executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        ).result()
        context = thread.submit(chromium.new_context).result()
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        for name, value in cookies.items():
            thread.submit(context.add_cookies, [{"name": name, "value": value, "url": web.url}]).result()
        page = thread.submit(context.new_page).result()
        thread.submit(page.goto, f"{web.url}{path}").result()
        try:
            yield lambda act: thread.submit(act, page).result()
        finally:
            thread.submit(chromium.close).result()
            thread.submit(playwright.stop).result()


def test_a_page_comes_back_by_itself_and_jobs_do_not_notice(web: Web, start: Start, slow: Slow, operator: User) -> None:
    """Red without `stream-open` and the slow poll in the page's triggers: nothing says "look again"."""
    start("worker")
    job = wait_for(slow(), "running")
    with page_at(web, f"/jobs/{job.pk}", cookie_of(operator)) as page:
        shown = job.log_lines + 20
        page(lambda page: page.locator(f'#log [data-line="{shown}"]').wait_for())  # it is live
        page(lambda page: page.evaluate("window.isTheSamePage = true"))
        worker = pid_of(job)

        web.kill()
        seen = job.log_lines
        wait_until(lambda: lines_of(job) > seen + 20, seconds=PATIENCE_SECONDS, what="Its log")
        assert not is_gone(worker)
        let(job, "end-1")
        wait_for(job, "completed")
        assert job.attempts == 1

        web.up()
        page(lambda page: page.locator(f'#log [data-line="{job.log_lines}"]').wait_for())
        page(lambda page: page.locator("#job [data-ended]").wait_for(state="attached"))
        assert page(lambda page: page.evaluate("window.isTheSamePage"))


def lines_of(job: Job) -> int:
    return Job.objects.get(pk=job.pk).log_lines


# --- Readers ----------------------------------------------------------------------------------------


def test_who_comes_back_later_finds_what_it_missed(web: Web, start: Start, slow: Slow, operator: User) -> None:
    """Red when events were all there is: what nobody heard would be lost. They only say "look again"."""
    start("worker")
    job = wait_for(slow(), "running")
    with httpx.Client(base_url=web.url, cookies=cookie_of(operator), timeout=PATIENCE_SECONDS) as client:
        cursor = next_line(client, job)  # nobody listens from here on
        wait_until(lambda: lines_of(job) > cursor + 10, seconds=PATIENCE_SECONDS, what="Its log")
        let(job, "end-1")
        wait_for(job, "completed")
        shown = client.get(f"/jobs/{job.pk}/live", params={"after": cursor}).text
    missed = job.lines.filter(number__gt=cursor).values_list("number", flat=True)
    assert len(missed) > 10
    assert all(f'data-line="{number}"' in shown for number in missed)


def next_line(client: httpx.Client, job: Job) -> int:
    """The number of the newest line, as the job's event stream tells it; hangs up then."""
    with client.stream("GET", "/events", params={"job": str(job.pk)}) as stream:
        for line in stream.iter_lines():
            if found := re.fullmatch(r'data: ?\{"line": (\d+)\}', line):
                return int(found[1])
    raise AssertionError("The stream ended.")


def test_a_reader_that_does_not_read_costs_no_memory(web: Web, operator: User) -> None:
    """What it does not take is dropped, beyond ten events; the page that comes back looks again."""
    cookies = "; ".join(f"{name}={value}" for name, value in cookie_of(operator).items())
    with socket.create_connection(("127.0.0.1", web.port)) as reader:
        reader.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookies}\r\n\r\n".encode())
        assert reader.recv(1).startswith(b"H")
        wait_until(listens, seconds=PATIENCE_SECONDS, what="The stream")
        before = memory_of(web.pid)
        event = {"channel": live.JOBS, "event_type": "job", "data": json.dumps("x" * 2_000), "skip_user_ids": []}
        with queue.connection().pipeline() as pipe:
            for _ in range(EVENTS):
                pipe.publish("events_channel", json.dumps(event))
            pipe.execute()
        with httpx.Client(base_url=web.url, timeout=PATIENCE_SECONDS) as client:
            assert client.get("/healthz").status_code == 200  # it lives, and has heard them all
        grown = memory_of(web.pid) - before
    assert grown < MEMORY_BYTES


def listens() -> bool:
    ((_, count),) = queue.connection().pubsub_numsub("events_channel")
    return bool(count)


def memory_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- The wrong key ----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [True, False])
def test_nothing_starts_with_another_key_than_the_database_s(tmp_path: Path, start: Start, missing: bool) -> None:
    """Red without `encryption.verify`: new secrets would be stored that nobody can read later."""
    env = {"ENCRYPTION_KEYS": Fernet.generate_key().decode()}
    if missing:  # it is made anew, and is another one
        (tmp_path / "data").mkdir()
        env = {"ENCRYPTION_KEYS": "", "PHPBORG_DATA_DIR": str(tmp_path / "data"), "REDIS_URL": settings.REDIS_URL}
    children = [start("worker", **env), Web(tmp_path / "web.log", **env).start()]
    for child in children:
        assert child.process
        assert child.process.wait(PATIENCE_SECONDS) != 0
        assert says(child, "The encryption key does not fit the database")
        assert says(child, "Put back the key file")
        assert not says(child, "Traceback")

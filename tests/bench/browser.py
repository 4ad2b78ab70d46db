"""A job's page in Chromium while its log grows: what it takes of the processor, and what it keeps."""

import shutil
import subprocess
import sys
import time
from typing import Any

LINES_A_SECOND, SECONDS = 100, 60
AN_HOUR = 3600 * LINES_A_SECOND  # lines, written faster
FASTER = 20
PASSWORD = "for the time of a bench"


def browser(bench: Any, rounds: int) -> dict[str, Any]:
    """A hundred lines a second for a minute; then as many as an hour has, twenty times as fast."""
    from django.conf import settings

    from phpborg.embedded import Child, answers, wait_until
    from phpborg.stack import web_command

    del rounds
    job = running_job(bench.server)
    with Child("web", web_command(), log=bench.directory / "web.log"):
        wait_until(lambda: answers(settings.PORT), seconds=30, what="The web process")
        # In a process of its own: Playwright's event loop would forbid this one the database.
        command = [sys.executable, "-m", "tests.bench.browser", f"http://localhost:{settings.PORT}", str(job.pk)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin
            assert child.stdout
            found: list[dict[str, float]] = []

            def ask() -> None:
                assert child.stdin
                assert child.stdout
                child.stdin.write("\n")
                child.stdin.flush()
                busy, heap, wall = map(float, child.stdout.readline().split())
                found.append({"busy": busy, "heap": heap, "wall": wall})

            assert child.stdout.readline().strip() == "ready"
            ask()
            write_lines(job, LINES_A_SECOND * SECONDS, LINES_A_SECOND)
            ask()
            write_lines(job, AN_HOUR, LINES_A_SECOND * FASTER)
            ask()
            child.stdin.close()
    first, minute, hour = found
    return {
        "core_share": round((minute["busy"] - first["busy"]) / (minute["wall"] - first["wall"]), 3),
        "heap_mb": round(minute["heap"] / 1e6, 1),
        "grown_mb": round((hour["heap"] - minute["heap"]) / 1e6, 1),
    }


def running_job(server: Any) -> Any:
    from django.contrib.auth.models import Group
    from django.utils import timezone

    from accounts.models import User
    from jobs.models import Job

    user = User.objects.create_user("viewer", password=PASSWORD)
    user.groups.add(Group.objects.get(name="ROLE_ADMIN"))
    return Job.objects.create(
        type="backup", status="running", server=server, started_at=timezone.now(), heartbeat_at=timezone.now(),
        progress={"phases": [{"name": "transfer", "at": timezone.now().isoformat()}]}, attempts=1,
    )  # fmt: skip


def write_lines(job: Any, count: int, a_second: int) -> None:
    """As a worker does: flushed once a second, with a nudge to whoever looks."""
    from jobs.log import JobLog

    job.refresh_from_db()
    log = JobLog(job, limit=2 * AN_HOUR)
    due = time.monotonic()
    for number in range(count):
        log.info(f"A /srv/data/some/where/file-{number:08}.dat")
        if (number + 1) % a_second == 0:
            log.progress(files=number)
            log.flush()
            due += 1
            time.sleep(max(0, due - time.monotonic()))


def main(url: str, job: str) -> None:
    """Answers each line of the input with: seconds that the page's process took, bytes of its heap, and the time."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--headless", "--no-sandbox", "--disable-background-networking", "--disable-gpu"],
        )
        page = chromium.new_page(base_url=url, locale="en-GB", viewport={"width": 1440, "height": 900})
        page.goto("/login")
        page.get_by_label("Username").fill("viewer")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/")
        page.goto(f"/jobs/{job}")
        session, whole = page.context.new_cdp_session(page), chromium.new_browser_cdp_session()
        session.send("Performance.enable")
        print("ready", flush=True)
        for _line in sys.stdin:  # meanwhile the page goes on by itself
            session.send("HeapProfiler.collectGarbage")
            answer = session.send("Performance.getMetrics")
            metrics = {one["name"]: one["value"] for one in answer["metrics"]}
            processes = whole.send("SystemInfo.getProcessInfo")["processInfo"]
            busy = sum(one["cpuTime"] for one in processes if one["type"] == "renderer")
            print(busy, metrics["JSHeapUsedSize"], time.monotonic(), flush=True)
        chromium.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

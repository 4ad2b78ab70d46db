"""`make bench`: speed and memory, measured side by side in one run. A table for people, a JSON line for machines.

    python -m tests.bench [relay] [prune] [download] [latency] [queue] [tick] [api] [streams] [memory] [catalog]
                          [browser] [--rounds N] [--megabytes N]

- relay: a backup of 1 GB in 5,000 files, first and unchanged second, by a worker through the relay, beside
  plain `borg create` over OpenSSH to the same disk; alternating, each round with caches of its own; the
  ratio of the medians. Ours is the whole job, from its start to its end in the row.
- prune: the same files, 50 of them changed, right after retention deleted an archive, beside plain borg after a prune.
- download: a folder of 2 GB (`--megabytes`) as .tar.zst over HTTP, beside `borg export-tar | zstd` on the same
  repository, alternating; and the peaks of the web process and of the job's.
- latency: from the POST to the first word that borg on the server says; warm worker.
- queue: an empty job from `enqueue` to its end in the row, warm worker; then 200 jobs of a known length over 20
  holds with 8 workers: all end, no hold is held twice, and how much of the time the workers were busy with jobs.
- tick: one round of the periodic work where 1,000 of 10,000 plans are due, then 1,000 rounds where none is; on SQLite
  and on MariaDB.
- catalog: an archive of 1,000,000 files, read into the catalog beside `borg list --json-lines` alone; the next one with
  1 % changed; opening folders; names over a hundred such archives.
- browser: a job's page in Chromium with 100 lines a second, and what an hour of them leaves in its memory.
- memory: the peak of a worker's process while it backs up 200,000 small files.
"""

import argparse
import itertools
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from phpborg.embedded import free_port
from tests.bench.browser import browser
from tests.bench.catalog import catalog

SETTINGS = "tests.bench.settings"
FILES, FILE_BYTES = 5_000, 200_000
SMALL_FILES = 200_000
MEGABYTES = 2_000  # of the folder that is downloaded
LATENCY_ROUNDS = 30
EMPTY_JOBS = 100
NAPS, HOLDS, WORKERS, NAP_SECONDS = 200, 20, 8, 2.0
BUFFER_POOL = "1G"  # of MariaDB: what a site of that size gives it
LISTENERS, SINGLE_EVENTS, BURSTS, BURST_EVENTS = 1_000, 40, 4, 10


class Bench:
    """A site of its own: Redis, one worker, sshd, in a temporary directory on the disk of the project."""

    def __init__(self, directory: Path, *, megabytes: int = MEGABYTES) -> None:
        self.directory = directory
        self.megabytes = megabytes
        self.home = directory / "home"  # of "the server"
        os.environ.update(
            PHPBORG_DATA_DIR=str(directory / "data"), DJANGO_SETTINGS_MODULE=SETTINGS, PHPBORG_PORT=str(free_port())
        )

    def __enter__(self) -> Self:
        import django

        django.setup()
        from django.conf import settings
        from django.core.management import call_command

        from phpborg.embedded import RedisServer, Sshd, manage

        call_command("migrate", verbosity=0)
        self.redis = RedisServer(settings.EMBEDDED_REDIS_SOCKET, log=self.directory / "redis.log").start()
        # A home of its own: borg's cache is in it, and no .bashrc that takes its time.
        self.home.mkdir()
        self.sshd = Sshd(self.directory / "sshd", options=[f"SetEnv HOME={self.home}"]).start()
        self.worker = manage("worker", "worker", log=self.directory / "worker.log").start()
        self.server = self._server()
        return self

    def __exit__(self, *_: object) -> None:
        for child in (self.worker, self.sshd, self.redis):
            child.stop()

    def _server(self) -> Any:
        from servers.models import Server

        server = Server.objects.create(name="bench", address="127.0.0.1", port=self.sshd.port, use_sudo=False)
        key = " ".join(self.sshd.host_key.with_suffix(".pub").read_text().split()[:2])
        Server.objects.filter(pk=server.pk).update(
            host_key=key, host_key_seen=key, borg_path=shutil.which("borg") or "borg"
        )
        self.sshd.authorized_keys.write_text(f"{server.public_key}\n")
        return Server.objects.get(pk=server.pk)

    def plan(self, name: str, source: Path) -> Any:
        """A plan with a repository of its own, ready to run."""
        from backups.models import Plan, Repository, Source, StoragePool
        from backups.runners.init import InitRepository

        folder = self.directory / "pool"
        folder.mkdir(exist_ok=True)
        pool, _ = StoragePool.objects.get_or_create(name="pool", path=str(folder))
        repository = Repository.objects.create(name=name, pool=pool, server=self.server)
        self.wait(InitRepository.enqueue(repository))
        parameters = {"paths": [str(source)]}
        plan = Plan.objects.create(name=name, server=self.server, repository=Repository.objects.get(pk=repository.pk))
        plan.sources.add(Source.objects.create(name=name, server=self.server, parameters=parameters))
        return plan

    def wait(self, job: Any, *, seconds: float = 1800) -> Any:
        from jobs.models import Job

        deadline = time.monotonic() + seconds
        while True:
            job = Job.objects.get(pk=job.pk)
            if job.has_ended:
                break
            assert time.monotonic() < deadline, "The job does not end."
            time.sleep(0.02)
        assert job.status == "completed", job.error
        return job

    def idle(self) -> None:
        """Wait until no job is left: reading a listing must not run beside what is being measured."""
        from jobs.models import Job

        while Job.objects.unfinished().exists():
            time.sleep(0.05)


# --- relay ------------------------------------------------------------------------------------


def make_files(folder: Path, count: int, size: int) -> Path:
    """Half of each file is noise, half of it compresses."""
    for number in range(count):
        below = folder / str(number % 100)
        below.mkdir(parents=True, exist_ok=True)
        half = size // 2
        (below / str(number)).write_bytes(os.urandom(half) + b"text " * (half // 5))
    return folder


def forget_caches(bench: Bench) -> None:
    """Borg's caches on "the server", which both ways share."""
    shutil.rmtree(bench.home / ".cache", ignore_errors=True)


def settle() -> None:
    """Let the disk finish what it was given, so that it does not slow down whoever comes next."""
    os.sync()


def ours(bench: Bench, source: Path, number: int) -> tuple[float, float]:
    from backups.runners.create import RunBackup

    plan = bench.plan(f"relay-{number}", source)
    times = []
    for _ in range(2):
        settle()
        job = bench.wait(RunBackup.enqueue(plan))
        times.append((job.completed_at - job.created_at).total_seconds())
        bench.idle()
    return times[0], times[1]


def plain(bench: Bench, source: Path, number: int) -> tuple[float, float]:
    repository, env = plain_repository(bench, f"repository-{number}")
    return plain_create(repository, env, "first", source), plain_create(repository, env, "second", source)


def plain_repository(bench: Bench, name: str) -> tuple[str, dict[str, str]]:
    """A new repository over OpenSSH, and the environment that borg needs for it."""
    directory = bench.directory / "plain"
    directory.mkdir(exist_ok=True)
    key = directory / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        with bench.sshd.authorized_keys.open("a") as file:
            file.write(key.with_suffix(".pub").read_text())
    user = os.environ.get("USER") or "root"
    repository = f"ssh://{user}@127.0.0.1:{bench.sshd.port}{directory}/{name}"
    options = f"StrictHostKeyChecking=accept-new UserKnownHostsFile={directory}/known_hosts BatchMode=yes".split()
    rsh = shlex.join(["ssh", "-i", str(key), *(f"-o{option}" for option in options)])
    env = {**os.environ, "HOME": str(bench.home), "BORG_PASSPHRASE": "bench", "BORG_RSH": rsh}
    subprocess.run(["borg", "init", "-e", "repokey-blake2", repository], check=True, env=env, capture_output=True)
    return repository, env


def plain_create(repository: str, env: dict[str, str], name: str, source: Path) -> float:
    settle()
    began = time.monotonic()
    command = ["borg", "create", "--json", "--compression=lz4", f"{repository}::{name}", str(source)]
    subprocess.run(command, check=True, env=env, capture_output=True)
    return time.monotonic() - began


def relay(bench: Bench, rounds: int) -> dict[str, Any]:
    source = make_files(bench.directory / "source", FILES, FILE_BYTES)
    results: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
    for number in range(rounds):
        ways: list[tuple[str, Callable[[Bench, Path, int], tuple[float, float]]]] = [("ours", ours), ("plain", plain)]
        for name, way in ways if number % 2 == 0 else reversed(ways):
            forget_caches(bench)
            results[name].append(way(bench, source, number))
            shutil.rmtree(bench.directory / "pool" / f"relay-{number}", ignore_errors=True)
            shutil.rmtree(bench.directory / "plain" / f"repository-{number}", ignore_errors=True)
    found: dict[str, Any] = {"rounds": rounds}
    for position, which in enumerate(("first", "second")):
        a, b = (statistics.median(times[position] for times in results[name]) for name in ("ours", "plain"))
        found[which] = {"ours_s": round(a, 2), "plain_s": round(b, 2), "ratio": round(a / b, 3)}
    return found


# --- after a prune ----------------------------------------------------------------------------


def prune(bench: Bench, rounds: int) -> dict[str, Any]:
    """An incremental backup right after a prune: ours happens on our side, so the server's borg has to catch up."""
    source = make_files(bench.directory / "pruned", FILES, FILE_BYTES)
    ours_s: list[float] = []
    plain_s: list[float] = []
    for number in range(rounds):
        for measure in (
            (ours_after_prune, plain_after_prune) if number % 2 == 0 else (plain_after_prune, ours_after_prune)
        ):
            forget_caches(bench)
            (ours_s if measure is ours_after_prune else plain_s).append(measure(bench, source, number))
            shutil.rmtree(bench.directory / "pool" / f"prune-{number}", ignore_errors=True)
            shutil.rmtree(bench.directory / "plain" / f"prune-{number}", ignore_errors=True)
    a, b = statistics.median(ours_s), statistics.median(plain_s)
    return {"rounds": rounds, "ours_s": round(a, 2), "plain_s": round(b, 2), "ratio": round(a / b, 3)}


def change_some(source: Path) -> None:
    for number in range(0, FILES, 100):
        (source / str(number % 100) / str(number)).write_bytes(os.urandom(FILE_BYTES))


def ours_after_prune(bench: Bench, source: Path, number: int) -> float:
    from backups.models import Plan, RetentionPolicy
    from backups.runners.create import RunBackup
    from backups.runners.prune import PruneArchives

    plan = bench.plan(f"prune-{number}", source)
    for _ in range(2):
        change_some(source)
        bench.wait(RunBackup.enqueue(plan))
        bench.idle()
    policy, _ = RetentionPolicy.objects.get_or_create(
        name="the last", keep_within="", keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0
    )
    Plan.objects.filter(pk=plan.pk).update(retention=policy)
    bench.wait(PruneArchives.enqueue(Plan.objects.get(pk=plan.pk)))
    Plan.objects.filter(pk=plan.pk).update(retention=None)
    change_some(source)
    settle()
    job = bench.wait(RunBackup.enqueue(Plan.objects.get(pk=plan.pk)))
    bench.idle()
    return float((job.completed_at - job.created_at).total_seconds())


def plain_after_prune(bench: Bench, source: Path, number: int) -> float:
    repository, env = plain_repository(bench, f"prune-{number}")
    for name in ("first", "second"):
        change_some(source)
        plain_create(repository, env, name, source)
    subprocess.run(["borg", "prune", "--keep-last=1", repository], check=True, env=env, capture_output=True)
    change_some(source)
    return plain_create(repository, env, "third", source)


# --- download ---------------------------------------------------------------------------------


def download(bench: Bench, rounds: int) -> dict[str, Any]:
    """Half of each file does not compress; the listing is read before."""
    from backups.models import Archive
    from backups.runners.create import RunBackup
    from phpborg.embedded import Child, answers, wait_until
    from phpborg.stack import web_command

    source = make_files(bench.directory / "downloaded", bench.megabytes, 1_000_000)
    plan = bench.plan("download", source)
    archive = Archive.objects.with_scope().get(pk=bench.wait(RunBackup.enqueue(plan)).result["archive"])
    bench.idle()
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    peaks: dict[str, int] = {"worker": 0, "job": 0}
    end = threading.Event()
    with Child("web", web_command(), log=bench.directory / "web.log") as web:
        wait_until(lambda: answers(int(os.environ["PHPBORG_PORT"])), seconds=30, what="The web process")
        threading.Thread(target=watch_memory, args=(bench.worker.pid, peaks, end), daemon=True).start()
        for number in range(rounds):
            ways = [("ours", downloaded), ("plain", exported)]
            for name, way in ways if number % 2 == 0 else reversed(ways):
                settle()
                seconds[name].append(way(archive, source))
                bench.idle()
        end.set()
        web_bytes = peak_of(web.pid)
    a, b = (statistics.median(seconds[name]) for name in ("ours", "plain"))
    return {
        "megabytes": bench.megabytes, "rounds": rounds, "ours_s": round(a, 2), "plain_s": round(b, 2),
        "ratio": round(a / b, 3), "job_mb": round(peaks["share"] / 1e6), "job_resident_mb": round(peaks["job"] / 1e6),
        "web_mb": round(web_bytes / 1e6),
    }  # fmt: skip


def downloaded(archive: Any, source: Path) -> float:
    """Seconds to the last byte, of which nothing is kept."""
    asked = urlencode({"path": str(source), "format": "tar.zst"})
    url = f"http://localhost:{os.environ['PHPBORG_PORT']}/api/archives/{archive.pk}/download?{asked}"
    began = time.monotonic()
    subprocess.run(
        ["curl", "-sSf", "-4", "-o", "/dev/null", "-H", f"Authorization: Bearer {access_token()}", url], check=True
    )
    return time.monotonic() - began


def exported(archive: Any, source: Path) -> float:
    from django.conf import settings

    repository = archive.repository
    env = {
        **os.environ, "BORG_PASSPHRASE": repository.passphrase(), "BORG_BASE_DIR": str(settings.BORG_BASE_DIR),
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }  # fmt: skip
    words = ["borg", "export-tar", f"{repository.path}::{archive.name}", "-", f"pp:{str(source).lstrip('/')}"]
    began = time.monotonic()
    subprocess.run(f"{shlex.join(words)} | zstd -q -c > /dev/null", shell=True, check=True, env=env)
    return time.monotonic() - began


# --- latency ----------------------------------------------------------------------------------


def latency(bench: Bench, rounds: int) -> dict[str, Any]:
    """Through the real web process: POST, then what the server's borg says first."""
    from accounts.models import User
    from jobs.models import Job

    del rounds
    source = bench.directory / "little"
    make_files(source, 20, 1000)
    plan = bench.plan("latency", source)
    client = signed_in_client(User)
    first_word = []
    for _ in range(LATENCY_ROUNDS):
        began = time.time()
        answer = client.post("/api/backups", {"server_id": bench.server.pk, "plan_id": plan.pk}, format="json")
        job = bench.wait(Job.objects.get(pk=answer.json()[0]["id"]))
        first_word.append(datetime.fromisoformat(job.progress["first_word"]).timestamp() - began)
        bench.idle()
    return {"rounds": LATENCY_ROUNDS, "borg_first_word_s": quantiles(first_word)}


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 3),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 3),
    }


def signed_in_client(user_model: Any) -> Any:
    from django.contrib.auth.models import Group
    from rest_framework.test import APIClient

    user, _ = user_model.objects.get_or_create(username="bench")
    user.groups.add(Group.objects.get(name="ROLE_ADMIN"))
    client = APIClient(HTTP_HOST="localhost")
    client.force_authenticate(user)
    return client


# --- queue ------------------------------------------------------------------------------------


def queue(bench: Bench, rounds: int) -> dict[str, Any]:
    from phpborg.embedded import manage
    from tests.bench.nap.runners.nap import Nap

    del rounds
    bench.wait(Nap.enqueue(bench.server, seconds=0))  # warm
    empty = []
    for _ in range(EMPTY_JOBS):
        job = bench.wait(Nap.enqueue(bench.server, seconds=0))
        empty.append((job.completed_at - job.created_at).total_seconds())
    others = [manage("worker", "worker", log=bench.directory / "worker.log").start() for _ in range(WORKERS - 1)]
    try:
        wait_for_workers(WORKERS)
        jobs = [Nap.enqueue(bench.server, seconds=NAP_SECONDS, hold=f"nap:{number % HOLDS}") for number in range(NAPS)]
        done = [bench.wait(job) for job in jobs]
    finally:
        for worker in others:
            worker.stop()
    span = (max(job.completed_at for job in done) - min(job.started_at for job in done)).total_seconds()
    return {
        "empty_jobs": EMPTY_JOBS,
        "enqueue_to_completed_s": quantiles(empty),
        "jobs": len(done),
        "held_twice": held_twice(done),
        "seconds": round(span, 1),
        "idle_ratio": round(1 - sum(job.seconds for job in done) / (WORKERS * span), 3),
    }


def wait_for_workers(count: int) -> None:
    from jobs import queue
    from phpborg.embedded import wait_until

    wait_until(lambda: len(queue.live_workers()) == count, seconds=60, what="The workers")


def held_twice(jobs: list[Any]) -> int:
    """How many jobs began while another one with the same hold ran."""
    ordered = sorted(jobs, key=lambda job: (job.payload["hold"], job.started_at))
    return sum(
        before.payload["hold"] == after.payload["hold"] and after.started_at < before.completed_at
        for before, after in itertools.pairwise(ordered)
    )


# --- tick -------------------------------------------------------------------------------------


def tick(bench: Bench, rounds: int) -> dict[str, Any]:
    from tests.mariadb import mariadb

    del rounds
    found = {"sqlite": tick_on(bench, f"sqlite:///{bench.directory}/tick.sqlite3")}
    with mariadb() as url:
        subprocess.run(["mariadb", "-uroot", f"-S{url.partition('=')[2]}", "-e", "CREATE DATABASE phpborg"], check=True)
        found["mariadb"] = tick_on(bench, url)
    return found


def tick_on(bench: Bench, database_url: str) -> dict[str, Any]:
    """In a process of its own, and in a part of Redis where no worker listens."""
    redis = f"unix://{os.environ['PHPBORG_DATA_DIR']}/redis.sock?db=1"
    env = {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis}
    command = [sys.executable, "-m", "tests.bench.tick"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE).stdout)
    return found


# --- api --------------------------------------------------------------------------------------


def api(bench: Bench, rounds: int) -> dict[str, Any]:
    """On a fleet in each database; of the web process in between there is nothing to see here."""
    from tests.mariadb import mariadb

    del rounds
    found = {"sqlite": api_on(bench, "sqlite", f"sqlite:///{bench.directory}/api.sqlite3")}
    (bench.directory / "api.sqlite3").unlink()
    with mariadb(buffer_pool=BUFFER_POOL) as url:
        subprocess.run(["mariadb", "-uroot", f"-S{url.partition('=')[2]}", "-e", "CREATE DATABASE phpborg"], check=True)
        found["mariadb"] = api_on(bench, "mariadb", url)
    return found


def api_on(bench: Bench, kind: str, database_url: str) -> dict[str, Any]:
    del bench
    env = {**os.environ, "DATABASE_URL": database_url}
    command = [sys.executable, "-m", "tests.bench.api"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE).stdout)
    print(f"\n{kind}: p95 in ms (and queries) of the first, the middle and the last page", file=sys.stderr)
    for name, route in found["routes"].items():
        pairs = zip(route["p95_ms"], route["queries"], strict=True)
        print(f"{name:90} {'  '.join(f'{ms:6} ({queries})' for ms, queries in pairs)}", file=sys.stderr)
    return found


# --- streams ----------------------------------------------------------------------------------


def streams(bench: Bench, rounds: int) -> dict[str, Any]:
    """1,000 programs on the real web process, all of which hear every event; its memory before and with them."""
    from django.conf import settings

    from phpborg.embedded import Child, answers, wait_until
    from phpborg.stack import web_command

    del rounds
    with Child("web", web_command(), log=bench.directory / "web.log") as web:
        wait_until(lambda: answers(settings.PORT), seconds=30, what="The web process")
        listening(1, lambda: publish(1))  # warm
        before = private_kb(web.pid)
        listening(LISTENERS, lambda: None, events=0)  # what is made for the first ones, stays
        grown = private_kb(web.pid)
        with_them = 0

        def tell() -> None:
            nonlocal with_them
            publish_for_a_while()
            with_them = private_kb(web.pid)

        found = listening(LISTENERS, tell, events=SINGLE_EVENTS + BURSTS * BURST_EVENTS)
    return {
        "listeners": LISTENERS,
        **found,
        "kb_each": round((with_them - before) / LISTENERS, 1),
        "left_kb_each": round((grown - before) / LISTENERS, 1),
    }


def listening(clients: int, meanwhile: Callable[[], object], *, events: int = 1) -> dict[str, Any]:
    """Let so many programs listen, in a process of their own, while something happens; what they heard."""
    from django.conf import settings

    command = [sys.executable, "-m", "tests.bench.streams", str(settings.PORT), str(clients), str(events)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(f"{access_token()}\n")
        child.stdin.flush()
        assert child.stdout.readline().strip() == "ready"
        meanwhile()
        found: dict[str, Any] = json.loads(child.stdout.readline())
    return found


def access_token() -> str:
    from django.test import RequestFactory

    from accounts import tokens
    from accounts.models import User

    signed_in_client(User)
    return tokens.log_in(User.objects.get(username="bench"), RequestFactory().get("/")).access


def publish(count: int) -> None:
    from jobs.models import Job, JobEvent

    job, _ = Job.objects.get_or_create(type="bench", status="completed")
    for _ in range(count):
        JobEvent.note(job.pk, "completed")


def publish_for_a_while() -> None:
    """One at a time, then some at once: half a minute."""
    for _ in range(SINGLE_EVENTS):
        publish(1)
        time.sleep(0.5)
    for _ in range(BURSTS):
        publish(BURST_EVENTS)
        time.sleep(2)


def private_kb(pid: int) -> int:
    return share_of(pid) // 1024


# --- memory -----------------------------------------------------------------------------------


def memory(bench: Bench, rounds: int) -> dict[str, Any]:
    """Peak resident memory of the worker and of the processes that it forks for jobs; borg itself is not counted."""
    from backups.runners.create import RunBackup

    del rounds
    source = make_files(bench.directory / "many", SMALL_FILES, 60)
    plan = bench.plan("memory", source)
    peaks: dict[str, int] = {"worker": 0, "job": 0}
    end = threading.Event()
    watcher = threading.Thread(target=watch_memory, args=(bench.worker.pid, peaks, end), daemon=True)
    watcher.start()
    job = bench.wait(RunBackup.enqueue(plan))
    during_backup = dict(peaks)
    bench.idle()  # and while the listing is read
    end.set()
    watcher.join()
    return {
        "files": job.result["files"],
        "seconds": round((job.completed_at - job.started_at).total_seconds(), 1),
        "worker_mb": round(during_backup["worker"] / 1e6),
        "job_mb": round(during_backup["job"] / 1e6),
        "job_mb_with_listing": round(peaks["job"] / 1e6),
    }


def watch_memory(worker: int, peaks: dict[str, int], end: threading.Event) -> None:
    while not end.wait(0.05):
        peaks["worker"] = max(peaks["worker"], peak_of(worker))
        for child in children_of(worker):
            if b"manage.py" in command_of(child):
                peaks["job"] = max(peaks["job"], peak_of(child))
                peaks["share"] = max(peaks.get("share", 0), share_of(child))


def peak_of(pid: int) -> int:
    """Bytes: the high-water mark that the kernel keeps."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def share_of(pid: int) -> int:
    """Bytes that the machine spends on a process now: a page that n processes share counts as 1/n (PSS).

    A job's process is a fork of its worker: what it only inherits costs nothing, though its resident size has it.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# --- Telling ----------------------------------------------------------------------------------

MEASURES = {
    "relay": relay, "prune": prune, "download": download, "latency": latency, "queue": queue, "tick": tick, "api": api,
    "streams": streams, "memory": memory, "catalog": catalog, "browser": browser,
}  # fmt: skip
Bound = tuple[str, tuple[str, ...], float, str]
BOUNDS: list[Bound] = [
    ("relay, first backup", ("relay", "first", "ratio"), 1.15, "x plain borg"),
    ("relay, unchanged second", ("relay", "second", "ratio"), 1.15, "x plain borg"),
    ("relay, incremental after a prune", ("prune", "ratio"), 1.5, "x plain borg"),
    ("download of a folder, tar.zst", ("download", "ratio"), 1.25, "x plain borg and zstd"),
    ("peak memory of its job (PSS)", ("download", "job_mb"), 100, "MB"),
    ("peak memory of the web process", ("download", "web_mb"), 150, "MB"),
    ("POST to borg's first word, p95", ("latency", "borg_first_word_s", "p95"), 1.0, "s"),
    ("empty job, enqueue to end, median", ("queue", "enqueue_to_completed_s", "median"), 0.15, "s"),
    ("repositories held twice", ("queue", "held_twice"), 0, ""),
    ("slots idle, 200 jobs, 8 workers", ("queue", "idle_ratio"), 0.1, "of the time"),
    ("tick, 1,000 of 10,000 due, SQLite", ("tick", "sqlite", "busy_s"), 5, "s"),
    ("tick, 1,000 of 10,000 due, MariaDB", ("tick", "mariadb", "busy_s"), 5, "s"),
    ("idle tick, SQLite, median", ("tick", "sqlite", "idle_median_ms"), 50, "ms"),
    ("idle tick, MariaDB, median", ("tick", "mariadb", "idle_median_ms"), 50, "ms"),
    ("growth over 900 idle ticks, SQLite", ("tick", "sqlite", "growth_kb"), 1000, "kB"),
    ("growth over 900 idle ticks, MariaDB", ("tick", "mariadb", "growth_kb"), 1000, "kB"),
    ("slowest list or statistics, SQLite, p95", ("api", "sqlite", "worst_p95_ms"), 100, "ms"),
    ("slowest list or statistics, MariaDB, p95", ("api", "mariadb", "worst_p95_ms"), 100, "ms"),
    ("most queries of one, SQLite", ("api", "sqlite", "most_queries"), 12, ""),
    ("most queries of one, MariaDB", ("api", "mariadb", "most_queries"), 12, ""),
    ("slowest page, SQLite, p95", ("api", "sqlite", "pages", "worst_p95_ms"), 150, "ms"),
    ("slowest page, MariaDB, p95", ("api", "mariadb", "pages", "worst_p95_ms"), 150, "ms"),
    ("most queries of a page, SQLite", ("api", "sqlite", "pages", "most_queries"), 15, ""),
    ("most queries of a page, MariaDB", ("api", "mariadb", "pages", "most_queries"), 15, ""),
    ("1,000 listeners, publish to arrival, p95", ("streams", "p95_ms"), 500, "ms"),
    ("events that one of them did not hear", ("streams", "lost"), 0, ""),
    ("memory of the web process for each", ("streams", "kb_each"), 60, "kB"),
    ("a job's page, 100 lines a second", ("browser", "core_share"), 0.2, "of a core"),
    ("what an hour of that leaves in it", ("browser", "grown_mb"), 30, "MB"),
    ("job's peak memory, 200,000 files", ("memory", "job_mb"), 150, "MB"),
    ("catalog of 1,000,000 files", ("catalog", "ratio"), 1.3, "x borg list --json-lines"),
    ("job's peak memory meanwhile", ("catalog", "job_mb"), 200, "MB"),
    ("the next archive, 1 % changed, adds", ("catalog", "next_share"), 0.03, "of the first one's bytes"),
    ("opening any folder, p95", ("catalog", "folder_p95_ms"), 200, "ms"),
    ("a name over 100 such archives, median", ("catalog", "slowest_find_s"), 1, "s"),
    ("worker's own peak memory", ("memory", "worker_mb"), 150, "MB"),
]


def table(found: dict[str, Any]) -> str:
    lines = [f"{'':38} {'measured':>10} {'at most':>8}"]
    for label, path, bound, unit in BOUNDS:
        value: Any = found
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            verdict = "ok" if value <= bound else "TOO MUCH"
            lines.append(f"{label:38} {value:>10} {bound:>8} {unit} {verdict}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure phpBorg.")
    parser.add_argument("measures", nargs="*", default=[], help=", ".join(MEASURES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=MEGABYTES, help="of the folder that is downloaded")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="phpborg-bench-", dir="/tmp"))
    found: dict[str, Any] = {}
    try:
        with Bench(directory, megabytes=asked.megabytes) as bench:
            for name in asked.measures or MEASURES:
                print(f"measuring {name} ...", file=sys.stderr, flush=True)
                found[name] = MEASURES[name](bench, asked.rounds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

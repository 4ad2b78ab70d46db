"""`make bench`: speed and memory, measured side by side in one run. A table for people, a JSON line for machines.

    python -m tests.bench [relay] [latency] [memory] [--rounds N]

- relay: a backup of 1 GB in 5,000 files, first and unchanged second, by a worker through the relay, beside
  plain `borg create` over OpenSSH to the same disk; alternating, each round with caches of its own; the
  ratio of the medians. Ours is the whole job, from its start to its end in the row.
- latency: from the POST to the first word that borg on the server says; warm worker.
- memory: the peak of a worker's process while it backs up 200,000 small files.
"""

import argparse
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

SETTINGS = "phpborg.settings"
FILES, FILE_BYTES = 5_000, 200_000
SMALL_FILES = 200_000
LATENCY_ROUNDS = 30


class Bench:
    """A site of its own: Redis, one worker, sshd, in a temporary directory on the disk of the project."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"  # of "the server"
        os.environ.update(PHPBORG_DATA_DIR=str(directory / "data"), DJANGO_SETTINGS_MODULE=SETTINGS)

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
    directory = bench.directory / "plain"
    directory.mkdir(exist_ok=True)
    key = directory / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        with bench.sshd.authorized_keys.open("a") as file:
            file.write(key.with_suffix(".pub").read_text())
    user = os.environ.get("USER") or "root"
    repository = f"ssh://{user}@127.0.0.1:{bench.sshd.port}{directory}/repository-{number}"
    options = f"StrictHostKeyChecking=accept-new UserKnownHostsFile={directory}/known_hosts BatchMode=yes".split()
    rsh = shlex.join(["ssh", "-i", str(key), *(f"-o{option}" for option in options)])
    env = {**os.environ, "HOME": str(bench.home), "BORG_PASSPHRASE": "bench", "BORG_RSH": rsh}
    subprocess.run(["borg", "init", "-e", "repokey-blake2", repository], check=True, env=env, capture_output=True)
    times = []
    for name in ("first", "second"):
        settle()
        began = time.monotonic()
        command = ["borg", "create", "--json", "--compression=lz4", f"{repository}::{name}", str(source)]
        subprocess.run(command, check=True, env=env, capture_output=True)
        times.append(time.monotonic() - began)
    return times[0], times[1]


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

    user = user_model.objects.create_user("bench", password="bench bench bench")
    user.groups.add(Group.objects.get(name="ROLE_ADMIN"))
    client = APIClient(HTTP_HOST="localhost")
    client.force_authenticate(user)
    return client


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


def peak_of(pid: int) -> int:
    """Bytes: the high-water mark that the kernel keeps."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


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

MEASURES = {"relay": relay, "latency": latency, "memory": memory}
Bound = tuple[str, tuple[str, ...], float, str]
BOUNDS: list[Bound] = [
    ("relay, first backup", ("relay", "first", "ratio"), 1.15, "x plain borg"),
    ("relay, unchanged second", ("relay", "second", "ratio"), 1.15, "x plain borg"),
    ("POST to borg's first word, p95", ("latency", "borg_first_word_s", "p95"), 1.0, "s"),
    ("job's peak memory, 200,000 files", ("memory", "job_mb"), 150, "MB"),
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
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="phpborg-bench-", dir="/tmp"))
    found: dict[str, Any] = {}
    try:
        with Bench(directory) as bench:
            for name in asked.measures or MEASURES:
                print(f"measuring {name} ...", file=sys.stderr, flush=True)
                found[name] = MEASURES[name](bench, asked.rounds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

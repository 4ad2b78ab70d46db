"""The catalog with an archive of a million files, beside `borg list --json-lines` alone."""

import json
import os
import random
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

FILES = int(os.environ.get("BENCH_FILES", "1000000"))  # fewer while something is tried out
FILES_OF_A_FOLDER, FOLDERS_ASKED, ARCHIVES, ASKED = 50, 300, 100, 15
WORDS = ("report", "invoice", "image", "data", "cache", "index", "main", "config", "backup", "mail", "note", "photo")
LOOKS_OTHERWISE = """
    INSERT INTO version SELECT path, line, ?1, NULL, look, size + 1, files, modified_at, link
    FROM version WHERE path = ?2 AND until IS NULL AND size > 0
"""
NO_MORE = "UPDATE version SET until = ?1 WHERE path = ?2 AND until IS NULL AND since < ?1 AND size > 0"


def catalog(bench: Any, rounds: int) -> dict[str, Any]:
    """First archive and the next one with 1 % changed; then folders, and names over a hundred such archives."""
    from backups import catalog
    from backups.catalog.store import file_of
    from backups.runners.create import RunBackup
    from backups.runners.index import IndexArchive
    from jobs.models import Job
    from tests.bench.__main__ import watch_memory

    del rounds
    files = make_tree(bench.directory / "million")
    plan = bench.plan("catalog", bench.directory / "million")
    bench.wait(RunBackup.enqueue(plan), seconds=7200)
    bench.idle()
    archive = plan.archives.get()
    alone = min(listed_alone(plan.repository, archive.name) for _ in range(2))
    catalog.drop_all(plan.repository_id)
    peaks, end = {"worker": 0, "job": 0}, threading.Event()
    watcher = threading.Thread(target=watch_memory, args=(bench.worker.pid, peaks, end), daemon=True)
    watcher.start()
    job = bench.wait(IndexArchive.enqueue(archive), seconds=7200)
    end.set()
    watcher.join()
    first = file_of(plan.repository_id).stat().st_size
    took = seconds_of(job)
    chance = random.Random(1)
    for path in chance.sample(files, len(files) // 100):
        path.write_bytes(path.read_bytes() + b"changed")
    bench.wait(RunBackup.enqueue(plan), seconds=7200)
    bench.idle()
    second = Job.objects.filter(type="index", status="completed").order_by("-created_at")[0]
    grown = file_of(plan.repository_id).stat().st_size - first
    for number in range(2, ARCHIVES):
        pretend(plan, number, len(files) // 100)
    return {
        "files": len(files),
        "list_alone_s": round(alone, 1),
        "catalog_s": round(took, 1),
        "ratio": round(took / alone, 2),
        "job_mb": round(peaks["job"] / 1e6),
        "mb": round(first / 1e6, 1),
        "next_s": round(seconds_of(second), 1),
        "next_share": round(grown / first, 4),
        **asked(archive, plan),
    }


def seconds_of(job: Any) -> float:
    return float((job.completed_at - job.started_at).total_seconds())


def make_tree(folder: Path) -> list[Path]:
    """Small files, with names as people give them, in folders of fifty."""
    chance = random.Random(2)
    files = []
    for number in range(FILES):
        below, inside = divmod(number, FILES_OF_A_FOLDER)
        where = folder / f"site{below % 40}" / WORDS[below // 40 % len(WORDS)] / f"{WORDS[below % len(WORDS)]}{below}"
        if not inside:
            where.mkdir(parents=True)
        path = where / f"{chance.choice(WORDS)}-{chance.choice(WORDS)}-{number:07d}.{('txt', 'jpg', 'php')[number % 3]}"
        path.write_bytes(b"%d" % number)
        files.append(path)
    return files


def listed_alone(repository: Any, name: str) -> float:
    from django.conf import settings

    environment = {
        **os.environ, "BORG_PASSPHRASE": repository.passphrase(), "BORG_BASE_DIR": str(settings.BORG_BASE_DIR),
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }  # fmt: skip
    command = [settings.BORG_PATH, "list", "--json-lines", "--bypass-lock", f"{repository.location}::{name}"]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def pretend(plan: Any, number: int, changed: int) -> None:
    """One archive more in which so many files are others, as `catalog.build` would have left it."""
    from backups.catalog.reading import EPOCH, MICROSECOND
    from backups.catalog.store import writing

    archive = plan.archives.order_by("-taken_at")[0]
    archive.pk, archive._state.adding = None, True
    archive.borg_id, archive.name = f"{number:064x}", f"{archive.name}-{number}"[-200:]
    archive.taken_at += timedelta(minutes=1)
    archive.save()
    position = (archive.taken_at - EPOCH) // MICROSECOND
    with writing(plan.repository_id) as connection:
        connection.execute(
            "INSERT INTO archive SELECT ?, line, ?, size, files FROM archive LIMIT 1", (archive.borg_id, position)
        )
        lowest, highest = connection.execute("SELECT min(id), max(id) FROM path").fetchone()
        for path in random.Random(number).sample(range(lowest, highest), changed):
            connection.execute(LOOKS_OTHERWISE, (position, path))
            connection.execute(NO_MORE, (position, path))


def asked(archive: Any, plan: Any) -> dict[str, Any]:
    """Through the API, as a program asks: any folder, and names that are there once, often and not at all."""
    from backups.catalog import Catalog
    from tests.bench.api import p95, seconds, signed_in

    client = signed_in()
    with Catalog(archive) as listing:
        rows = listing._rows("SELECT id FROM path WHERE folder IN (SELECT id FROM path) ORDER BY id", ())
        chance = random.Random(3)
        folders = {listing.item(number).parent for (number,) in chance.sample(rows, FOLDERS_ASKED)}  # type: ignore[union-attr]
        paths = ["/" + os.fsdecode(listing.path(listing.item(folder))) for folder in folders]  # type: ignore[arg-type]
    times = [seconds(client.get, f"/api/archives/{archive.pk}/files", {"path": path}) for path in paths]
    middle = f"{FILES // 2:07d}"
    found = {}
    for name in (middle, "invoice-photo", "*nowhere*.xls", f"/**/{middle}.*"):
        each = [seconds(client.get, "/api/files", {"search": name}) for _ in range(ASKED)]
        found[name] = round(sorted(each)[len(each) // 2], 3)
    assert json.loads(client.get("/api/files", {"search": middle}).content)["results"]
    return {"folder_p95_ms": p95(times), "find_s": found, "slowest_find_s": max(found.values())}

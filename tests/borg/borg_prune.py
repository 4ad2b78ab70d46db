"""Asks a real borg what its `prune --dry-run --list` would keep: run by borg's own Python, in its own process.

Making thousands of archives with `borg create` would take hours, and `prune --dry-run` reads nothing
of them but the manifest. So this writes the manifest with borg's own classes, and calls borg's own command.

    python borg_prune.py <empty folder>

Reads questions, one JSON object a line: {"archives": [[name, time in UTC], ...] (or null: as before),
"now": time in UTC, "zone": name, "rules": ["--keep-daily=7", ...]}. Answers each with a line of JSON:
{"kept": {name: "daily #1", ...}, "code": borg's exit code}.
"""

# Borg's own modules are only in borg's own Python.
# mypy: ignore-errors

import functools
import hashlib
import io
import json
import logging
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

os.environ["BORG_SELFTEST"] = "disabled"  # it takes longer than all the rest

from borg.archiver import Archiver
from borg.cache import Cache
from borg.helpers import Manifest, misc
from borg.repository import Repository

KEPT = re.compile(r"Keeping archive \(rule: (?P<why>[^)]+)\): +(?P<name>\S+) ")


class Clock(datetime):
    """Borg's clock for --keep-within stands where the question says."""

    stands_at = None

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.stands_at


def write_history(path: str, archives: list[list[str]]) -> None:
    with Repository(path, exclusive=True) as repository:
        manifest, key = Manifest.load(repository, (Manifest.Operation.DELETE,))
        for name in list(manifest.archives):
            del manifest.archives[name]
        for name, taken_at in archives:
            manifest.archives[name] = (hashlib.sha256(name.encode()).digest(), taken_at)
        manifest.write()
        repository.commit(compact=False)
        # The cache knows this manifest: otherwise borg would read every archive, and there are none.
        with Cache(repository, key, manifest, sync=False, warn_if_unencrypted=False) as cache:
            cache.begin_txn()
            cache.commit()


def prune(archiver: Any, path: str, rules: list[str]) -> dict[str, Any]:
    words = io.StringIO()
    handler = logging.StreamHandler(words)
    logger = logging.getLogger("borg.output.list")
    args = archiver.get_args(["borg", "prune", "--dry-run", "--list", *rules, path], None)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [handler]
    code = archiver.run(args)
    logger.handlers = []
    kept = {found["name"]: found["why"] for line in words.getvalue().splitlines() if (found := KEPT.match(line))}
    return {"kept": kept, "code": code}


def main() -> None:
    path = os.path.join(sys.argv[1], "repository")
    os.environ["BORG_BASE_DIR"] = sys.argv[1]
    os.environ["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
    archiver = Archiver()
    archiver.build_parser = functools.cache(archiver.build_parser)  # as slow, and always the same
    assert archiver.run(archiver.get_args(["borg", "init", "--encryption=none", path], None)) == 0
    misc.datetime = Clock
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        question = json.loads(line)
        if question["archives"] is not None:
            write_history(path, question["archives"])
        os.environ["TZ"] = question["zone"]
        time.tzset()
        Clock.stands_at = datetime.fromisoformat(question["now"]).replace(tzinfo=UTC)
        answers.write(json.dumps(prune(archiver, path, question["rules"])) + "\n")


if __name__ == "__main__":
    main()

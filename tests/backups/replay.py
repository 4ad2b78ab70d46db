"""What borg says, as it was seen to say it (1.2.4 and 1.4.5), with the numbers that a test wants."""

import json
from collections.abc import Callable
from typing import Any

from backups.borg.results import Entry
from servers.ssh.command import Command
from tests.fakes import Answer

ARCHIVE_ID = "cd" * 32
REPOSITORY_ID = "ab" * 32  # as the fixture `repository`


def archive_name(command: Command) -> str:
    """The name of the archive that a command is about."""
    return next(word for word in command.argv if "::" in word).partition("::")[2]


def description(told: str, /, **changes: Any) -> dict[str, Any]:
    """What `create --json` prints, as data; `changes` are by the words of CreateResult."""
    values: dict[str, Any] = {
        "archive_id": ARCHIVE_ID, "repository_id": REPOSITORY_ID, "files": 100, "original": 1_000_000,
        "compressed": 600_000, "deduplicated": 50_000, "start": "2026-03-01T02:00:00.000000",
        "end": "2026-03-01T02:00:12.500000", "duration": 12.5, "name": told, "repository_original": 9_000_000,
        "repository_compressed": 5_000_000, "repository_deduplicated": 700_000,
    } | changes  # fmt: skip
    return {
        "archive": {
            "command_line": ["borg", "create"], "duration": values["duration"], "end": values["end"],
            "id": values["archive_id"], "limits": {"max_archive_size": 0.01}, "name": values["name"],
            "start": values["start"],
            "stats": {
                "compressed_size": values["compressed"], "deduplicated_size": values["deduplicated"],
                "nfiles": values["files"], "original_size": values["original"],
            },
        },
        "cache": {
            "path": "/root/.cache/borg/ab",
            "stats": {
                "total_chunks": 3, "total_csize": values["repository_compressed"],
                "total_size": values["repository_original"], "total_unique_chunks": 3,
                "unique_csize": values["repository_deduplicated"], "unique_size": 786,
            },
        },
        "encryption": {"mode": "repokey-blake2"},
        "repository": {"id": values["repository_id"], "location": "ssh://phpborg/srv", "last_modified": "..."},
    }  # fmt: skip


def creates(
    *stderr: str, code: int = 0, while_running: Callable[[], object] | None = None, **changes: Any
) -> Callable[[Command], Answer]:
    """A `borg create` that makes the archive that it was told to make."""

    def answer(command: Command) -> Answer:
        data = description(archive_name(command), **changes)
        return Answer(json.dumps(data, indent=4).encode(), list(stderr), code, while_running)

    return answer


def line(kind: str, **values: Any) -> str:
    return json.dumps({"type": kind, "time": 1.5, **values})


def progress(original: int, files: int = 1, path: str = "etc/hosts") -> str:
    return line(
        "archive_progress", original_size=original, compressed_size=original // 2, deduplicated_size=original // 4,
        nfiles=files, path=path,
    )  # fmt: skip


def percent(current: int, total: int, path: str = "etc/hosts") -> str:
    return line(
        "progress_percent", msgid="extract", operation=1, current=current, total=total, info=[path],
        message=f"{100 * current / total if total else 0:5.1f}% Extracting: {path}", finished=False,
    )  # fmt: skip


def warning(message: str, msgid: str = "") -> str:
    return line("log_message", levelname="WARNING", name="borg.archiver", message=message, msgid=msgid)


def error(message: str, msgid: str = "") -> str:
    return line("log_message", levelname="ERROR", name="borg.archiver", message=message, msgid=msgid)


def entry(path: bytes, **changes: Any) -> Entry:
    """A line of a listing; a folder when the path ends in a slash."""
    values: dict[str, Any] = {
        "mode": "drwxr-xr-x" if path.endswith(b"/") else "-rw-r--r--", "user": "root", "group": "root",
        "size": 0 if path.endswith(b"/") else 3, "modified_at": None, "link": b"", "healthy": True,
    } | changes  # fmt: skip
    return Entry(path=path.rstrip(b"/"), **values)

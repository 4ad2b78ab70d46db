"""One line of borg's standard error, as a value."""

import json
import logging
import re
from dataclasses import dataclass
from typing import Any

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 40}
LARGEST = 2**63 - 1
ESCAPES = {"\\": "\\", "n": "\n", "x7f": "\x7f"}  # of what borg's JSON has: it is ASCII
ESCAPE = re.compile(r"\\(\\|n|x7f)")


@dataclass(frozen=True)
class Progress:
    """How far `create` has come: bytes and files so far; borg knows no total."""

    original: int
    compressed: int
    deduplicated: int
    files: int
    path: str


@dataclass(frozen=True)
class Percent:
    """How far an operation with a known end has come, in its own units (bytes for extract)."""

    operation: str
    current: int
    total: int
    path: str


@dataclass(frozen=True)
class Step:
    """What borg does now, in its own words."""

    operation: str
    text: str


@dataclass(frozen=True)
class Message:
    level: int  # as in Python's logging
    text: str
    msgid: str = ""


@dataclass(frozen=True)
class Question:
    """Borg asks something; it never gets an answer from us, so it will refuse."""

    text: str


@dataclass(frozen=True)
class Raw:
    """Not borg's JSON: a usage error, a banner, a shell's noise."""

    text: str


Event = Progress | Percent | Step | Message | Question | Raw | None


def unescaped(line: str) -> list[str]:
    """The lines of a borg to which PYTHONIOENCODING=unicode_escape was said (commands.list_files).

    It escapes its newlines on standard error too, so all its JSON arrives as one line.
    """
    if not line.endswith("}\\n"):
        return [line]
    return ESCAPE.sub(lambda found: ESCAPES[found[1]], line).split("\n")[:-1]


FROM_SSH = "Remote: "  # what borg's ssh says, and why it ends if it does


def parse_line(line: str) -> Event:
    """Read one line; None when it says nothing new. Never raises, whatever the line holds."""
    data = _json_in(line)
    if data is None:
        return _plain(line)
    match data.get("type"):
        case "archive_progress":
            return _progress(data)
        case "progress_percent":
            return _percent(data)
        case "progress_message":
            text = _text(data, "message")
            return Step(_text(data, "msgid"), text) if text else None
        case "log_message":
            return _message(data)
        case "file_status":
            return None
        case str(kind) if kind.startswith("question"):
            return _question(kind, _text(data, "message"))
    return Raw(line)


def _plain(line: str) -> Event:
    if line.startswith(FROM_SSH):
        return Message(logging.INFO, line)
    return Raw(line) if line.strip() else None


def _json_in(line: str) -> dict[str, Any] | None:
    """The JSON object of a line; a prompt without a newline may stand before it."""
    start = line.find('{"')
    if start < 0:
        return None
    try:
        data = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _progress(data: dict[str, Any]) -> Progress | None:
    if data.get("finished"):
        return None
    return Progress(
        _count(data, "original_size"),
        _count(data, "compressed_size"),
        _count(data, "deduplicated_size"),
        _count(data, "nfiles"),
        _text(data, "path"),
    )


def _percent(data: dict[str, Any]) -> Percent | None:
    if data.get("finished"):
        return None
    info = data.get("info")
    path = info[-1] if isinstance(info, list) and info and isinstance(info[-1], str) else ""
    return Percent(_text(data, "msgid"), _count(data, "current"), _count(data, "total"), path)


def _message(data: dict[str, Any]) -> Message | None:
    if _text(data, "name").startswith("borg.output"):
        return None
    return Message(LEVELS.get(_text(data, "levelname"), 20), _text(data, "message").strip(), _text(data, "msgid"))


def _question(kind: str, text: str) -> Question | Message:
    return Question(text) if kind.startswith("question_prompt") else Message(LEVELS["INFO"], text)  # what came of it


def _count(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    return value if type(value) is int and 0 <= value <= LARGEST else 0


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""

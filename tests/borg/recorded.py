"""What real borgs have printed: see tests/borg_json/record.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from backups.borg.events import Event, Message, parse_line, unescaped
from servers.ssh.transport import Lines

FOLDER = Path(__file__).parent.parent / "borg_json"
VERSIONS = ("1.2.4", "1.2.9", "1.4.5")


@dataclass(frozen=True)
class Recorded:
    """One borg that has ended, as a runner sees it."""

    code: int
    stdout: bytes
    lines: list[str]

    @property
    def events(self) -> list[Event]:
        return [parse_line(line) for output in self.lines for line in unescaped(output)]

    @property
    def messages(self) -> list[Message]:
        return [event for event in self.events if isinstance(event, Message)]


def recorded(version: str, case: str) -> Recorded:
    folder = FOLDER / version
    lines = Lines()
    return Recorded(
        json.loads((folder / "codes.json").read_text())[case],
        (folder / f"{case}.stdout").read_bytes(),
        [*lines.feed((folder / f"{case}.stderr").read_bytes()), *lines.end()],
    )


def cases(version: str) -> list[str]:
    return sorted(json.loads((FOLDER / version / "codes.json").read_text()))

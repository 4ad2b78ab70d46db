"""A machine that answers from a script: for runners, without SSH and without borg."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from servers.ssh.command import Command
from servers.ssh.transport import Output, Tick


@dataclass
class Answer:
    """What a command prints, and how it ends."""

    stdout: bytes = b""
    stderr: list[str] = field(default_factory=list)
    code: int | None = 0
    while_running: Callable[[], object] | None = None  # called once, after the first output
    hangs: bool = False  # after what it prints, it runs on until somebody ends it


Script = Answer | Callable[[Command], Answer]
HANGS_SECONDS = 30


class FakeProcess:
    position: int | None = None

    def __init__(self, answer: Answer, tick: Tick) -> None:
        self._answer = answer
        self._tick = tick
        self.ended = False

    def __iter__(self) -> Iterator[Output]:
        self._tick()
        yield from self._answer.stderr[:1]
        if self._answer.while_running:
            self._answer.while_running()
        self._tick()
        yield from self._answer.stderr[1:]
        if self._answer.stdout:
            yield self._answer.stdout
        since = time.monotonic()
        while self._answer.hangs:
            self._tick()
            assert time.monotonic() - since < HANGS_SECONDS, "Nobody ended it."
            time.sleep(0.01)  # as a real one waits for output between two ticks

    def exit_code(self) -> int | None:
        return self._answer.code

    def end(self) -> None:
        self.ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class FakeMachine:
    """Answers each command by the first word of its borg subcommand, or of itself; keeps what was asked."""

    name = "web-1"

    def __init__(self, **answers: Script) -> None:
        self.answers: dict[str, Script] = {**answers}
        self.commands: list[Command] = []
        self.processes: list[FakeProcess] = []

    def start(self, command: Command, tick: Tick) -> FakeProcess:
        self.commands.append(command)
        words = [word for word in command.argv if not word.startswith("-")]
        key = words[1] if words[0].endswith("borg") and len(words) > 1 else words[0]
        answer = self.answers.get(key, Answer())
        process = FakeProcess(answer if isinstance(answer, Answer) else answer(command), tick)
        self.processes.append(process)
        return process

    # A machine that somebody logged in to is a context manager.
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    login: Any = "root@192.0.2.7:22"

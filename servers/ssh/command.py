"""A command as data: what to run, never how."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Command:
    """`argv` with its environment and directory; a secret travels in `stdin`, and nowhere else."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = field(default=b"", repr=False)
    cwd: str | None = None
    as_root: bool = False  # needs root's eyes: a transport that is not root uses sudo

    def __post_init__(self) -> None:
        for word in (*self.argv, *self.env, *self.env.values(), self.cwd or ""):
            if "\0" in word:
                raise ValueError("A NUL character cannot be part of a command.")

    def __str__(self) -> str:
        """The command as somebody would type it, ready to be shown: no secret is in it."""
        words = [*(f"{name}={shlex.quote(value)}" for name, value in self.env.items()), shlex.join(self.argv)]
        return " ".join(words)


def shell_line(command: Command, *, sudo: bool) -> bytes:
    """One line for a POSIX shell that runs `command` and first tells its process id on stderr.

    Every word is quoted; names that are not UTF-8 stay the bytes that they were.
    """
    assignments = [f"{name}={value}" for name, value in command.env.items()]
    how = ["sudo", "-n", *assignments] if sudo and command.as_root else ["env", *assignments]
    script = f'echo "{PID_MARK}$$" >&2; exec "$@"'
    words = [*how, *command.argv]
    if command.cwd is not None:
        script = f'cd -- "$1" || exit {NO_DIRECTORY}; shift; {script}'
        words = [command.cwd, *words]
    return shlex.join(["exec", "sh", "-c", script, "phpborg", *words]).encode("utf-8", "surrogateescape")


PID_MARK = "phpborg-pid "
NO_DIRECTORY = 121  # our exit code for a directory that cannot be entered; borg has no such code
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # a shell's

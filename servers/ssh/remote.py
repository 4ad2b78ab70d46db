"""Commands on a server, over SSH (paramiko)."""

import base64
import contextlib
import hashlib
import io
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import paramiko

from servers.ssh.command import PID_MARK, Command, shell_line
from servers.ssh.transport import (
    CHUNK,
    ConnectionLost,
    HostKeyChanged,
    Lines,
    LoginRefused,
    Output,
    PasswordRefused,
    Tick,
    TooLong,
    Unreachable,
)

CONNECT_SECONDS = 15
KEEPALIVE_SECONDS = 15  # of silence, then we ask whether somebody is there
KEEPALIVES_UNANSWERED = 3  # as OpenSSH's ServerAliveCountMax
DEAD_PEER_MILLISECONDS = 20_000  # unacknowledged data for so long means that nobody is there
WINDOW_BYTES = 16 * 1024 * 1024
PACKET_BYTES = 256 * 1024
PACKET_LIMIT = 4 * PACKET_BYTES  # of what a server may send at once; OpenSSH never exceeds 256 KiB
GRACE_SECONDS = {"INT": 8.0, "TERM": 4.0, "KILL": 4.0}
WRITE_SECONDS = 0.5  # for a command that does not read just now, until we look at what it says
PID_SECONDS = 5.0  # for a command that has just been started to tell its process id
PID_LINE = re.compile(re.escape(PID_MARK) + r"([1-9][0-9]{0,9})")
LINE_BYTES = 120_000  # Linux takes no word beyond 128 KiB, and for sshd's shell the whole line is one
# More than after which a server asks for new keys (OpenSSH: 64 GB). paramiko would ask every 512 MB, and hangs,
# and then loses the connection, when a channel closes at that moment.
REKEY_BYTES = 2**37
GLOBAL_REQUEST = 80  # RFC 4254
BROKEN = (paramiko.SSHException, EOFError, OSError)  # what paramiko raises when a connection breaks

# AEAD first: it spares a MAC in Python's hands and is the fastest; nothing with CBC, MD5 or SHA-1.
CIPHERS = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr",
)  # fmt: skip
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")


@dataclass(frozen=True)
class HostKey:
    """A server's public key, as in known_hosts: its type and its base64 text."""

    type: str
    text: str

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read "type base64". Raises ValueError."""
        words = line.split()
        if len(words) < 2:
            raise ValueError("A host key has a type and a text.")
        return cls(words[0], words[1])

    def __str__(self) -> str:
        return f"{self.type} {self.text}"

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -lf` shows it."""
        digest = hashlib.sha256(base64.b64decode(self.text)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class Login:
    """Where to, as whom, and with which key; or with a password, once, to put the key there."""

    host: str
    port: int
    user: str
    private_key: str = field(repr=False)  # OpenSSH text, Ed25519
    sudo: bool = False
    password: str = field(default="", repr=False)  # instead of the key

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def see_host_key(host: str, port: int) -> HostKey:
    """Shake hands as far as the server's key, and log in nowhere. Raises Unreachable."""
    with contextlib.closing(_transport(_connect(host, port))) as transport:
        try:
            transport.start_client(timeout=CONNECT_SECONDS)
            key = transport.get_remote_server_key()  # says it when start_client ran out of time
        except BROKEN as error:
            raise _no_ssh(host, port, error) from error
        return HostKey(key.get_name(), key.get_base64())


class Remote:
    """An SSH session on a server whose key is `host_key`; a context manager that closes it.

    Raises Unreachable, HostKeyChanged or LoginRefused when it is made.
    """

    def __init__(self, login: Login, host_key: HostKey, *, name: str = "") -> None:
        self.name = name or login.host  # for sentences
        self.login = login
        self._client = paramiko.SSHClient()
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self._client.get_host_keys().add(
            login.host if login.port == 22 else f"[{login.host}]:{login.port}",
            host_key.type,
            paramiko.PKey.from_type_string(host_key.type, base64.b64decode(host_key.text)),
        )
        try:
            self._log_in()
        except BaseException:
            self._client.close()
            raise

    def _log_in(self) -> None:
        login = self.login
        sock = _connect(login.host, login.port)
        try:
            self._client.connect(
                login.host, login.port, login.user, sock=sock, transport_factory=_transport,  # type: ignore[arg-type]  # paramiko calls it with keywords
                **_proof_of(login), allow_agent=False, look_for_keys=False, timeout=CONNECT_SECONDS,
                banner_timeout=CONNECT_SECONDS, auth_timeout=2 * CONNECT_SECONDS,
            )  # fmt: skip
        except paramiko.BadHostKeyException as error:
            seen = HostKey(error.key.get_name(), error.key.get_base64())
            raise HostKeyChanged(
                f"The host key of {login.host} has changed: it now shows {seen.type} {seen.fingerprint}. "
                "Nothing was sent."
            ) from error
        except paramiko.AuthenticationException as error:
            raise _refusal(login, error) from error
        except BROKEN as error:
            raise _no_ssh(login.host, login.port, error) from error
        transport = self._client.get_transport()
        assert transport
        if (
            transport.is_active() and not transport.is_authenticated()
        ):  # paramiko is content with the first of several steps
            raise _refusal(login)
        self._keepalive = Keepalive(transport)
        self.transport = transport

    def start(self, command: Command, tick: Tick) -> "RemoteProcess":
        process = self.open(command, tick)
        process.finish()
        return process

    def open(self, command: Command, tick: Tick) -> "RemoteProcess":
        """The same, with standard input left open for `write`, and for `finish` after that."""
        line = shell_line(command, sudo=self.login.sudo)  # bytes, for names that are not UTF-8
        if len(line) > LINE_BYTES:
            raise TooLong(f"The command for {self.name} is too long: {len(line):,} bytes, of {LINE_BYTES:,}.")
        channel = self.execute(line)
        channel.settimeout(CONNECT_SECONDS)
        with self.losing(), contextlib.suppress(OSError):  # it may have ended already; its exit code will say why
            channel.sendall(command.stdin)
        return RemoteProcess(self, channel, tick)

    def execute(self, line: str | bytes) -> paramiko.Channel:
        """A new channel with a large window, on which a shell runs `line`. Raises ConnectionLost."""
        with self.losing():
            channel = self.transport.open_session(WINDOW_BYTES, PACKET_BYTES, timeout=CONNECT_SECONDS)
            # paramiko itself waits for the server's answer for ever.
            timer = threading.Timer(CONNECT_SECONDS, hang_up, [channel])
            timer.start()
            try:
                channel.exec_command(line)
            finally:
                timer.cancel()
        return channel

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """What paramiko raises on a broken connection becomes ConnectionLost."""
        try:
            yield
        except paramiko.ChannelException as error:
            raise ConnectionLost(f"{self.name} does not open another session: {error.text}.") from error
        except BROKEN as error:
            raise self.lost() from error

    def lost(self) -> ConnectionLost:
        if self._keepalive.is_hopeless:
            return ConnectionLost(f"{self.name} does not answer any more: the SSH connection was given up.")
        return ConnectionLost(f"The SSH connection to {self.name} broke.")

    @property
    def is_alive(self) -> bool:
        return self.transport.is_active()

    def signal(self, number: str, target: str, *, seconds: float = 5.0) -> bool:
        """Send a signal to a process (or to a group: "-123"); False when that was not possible."""
        try:
            channel = self.execute(f"kill -{number} -- {target}")
        except ConnectionLost:
            return False
        return channel.status_event.wait(seconds) and channel.exit_status == 0

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Keepalive:
    """Notices a server that does not answer, although its kernel, or a machine between us, acknowledges what we send.

    paramiko's own keepalive asks for no answer. This one asks after each pause in which nothing was sent, and
    whatever is heard counts as an answer.
    """

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._unanswered = 0
        packetizer = transport.packetizer
        self._read_all = packetizer.read_all
        packetizer.read_all = self._hear  # type: ignore[method-assign]
        packetizer.set_keepalive(KEEPALIVE_SECONDS, self._ask)

    @property
    def is_hopeless(self) -> bool:
        return self._unanswered >= KEEPALIVES_UNANSWERED

    def _hear(self, n: int, check_rekey: bool = False) -> bytes:
        data = self._read_all(n, check_rekey)
        self._unanswered = 0
        return data

    def _ask(self) -> None:
        """Called by the transport's own thread, which ends, and with it the connection, when this raises."""
        if self.is_hopeless:
            raise EOFError
        self._unanswered += 1
        question = paramiko.Message()
        question.add_byte(bytes([GLOBAL_REQUEST]))
        question.add_string("keepalive@openssh.com")
        question.add_boolean(True)  # an answer is wanted
        # `global_request` would wait for the answer, which this thread has to read.
        self._transport._send_user_message(question)  # type: ignore[attr-defined]


class RemoteProcess:
    position: int | None = None

    def __init__(self, remote: Remote, channel: paramiko.Channel, tick: Tick) -> None:
        self._remote = remote
        self._channel = channel
        self._tick = tick
        self._lines = Lines()
        self._unread: list[Output] = []
        self.pid: int | None = None

    def write(self, data: bytes) -> bool:
        """Send `data` as fast as it is taken; False when nobody reads any more: read on for why. Raises ConnectionLost.

        What comes back meanwhile is kept: a command that cannot write would never read on.
        """
        self._channel.settimeout(WRITE_SECONDS)
        view = memoryview(data)
        while view:
            self._tick()
            self._unread += self._read()
            try:
                sent = self._channel.send(view)  # type: ignore[arg-type]  # it only takes slices of it
            except TimeoutError:
                continue
            except BROKEN:  # the channel, or all of the connection
                sent = 0
            if not sent:
                if not self._remote.is_alive:
                    raise self._remote.lost()
                return False
            view = view[sent:]
        return True

    def finish(self) -> None:
        """The end of its standard input."""
        with self._remote.losing():
            self._channel.shutdown_write()

    def arrived(self) -> list[Output]:
        """What it has printed by now, without waiting. Raises ConnectionLost."""
        outputs, self._unread = self._unread + self._read(), []
        return outputs

    def __iter__(self) -> Iterator[Output]:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        yield from self.arrived()
        while True:
            self._tick()
            at_end = self._channel.eof_received or self._channel.closed  # asked before reading, or data is lost
            idle = not (self._channel.recv_ready() or self._channel.recv_stderr_ready())
            yield from self._read()
            if idle and at_end:
                break
            if idle:
                poll.poll(1000)
        yield from self._lines.end()
        self._wait_for_status(self._tick)

    def _read(self) -> list[Output]:
        """What has arrived. Raises ConnectionLost."""
        outputs: list[Output] = []
        with self._remote.losing():
            if self._channel.recv_ready():
                outputs.append(self._channel.recv(CHUNK))
            if self._channel.recv_stderr_ready():
                outputs += self._without_pid(self._lines.feed(self._channel.recv_stderr(CHUNK)))
        return outputs

    def _without_pid(self, lines: list[str]) -> Iterator[str]:
        for line in lines:
            if self.pid is None and (found := PID_LINE.fullmatch(line)):
                self.pid = int(found[1])
            else:
                yield line

    def _wait_for_status(self, tick: Callable[[], None]) -> None:
        while not self._channel.status_event.wait(1.0) and self._remote.is_alive:
            tick()
        if not self._remote.is_alive and self._channel.exit_status == -1:
            raise self._remote.lost()

    def exit_code(self) -> int | None:
        code = self._channel.exit_status
        return code if code >= 0 else None

    def end(self) -> None:
        """INT, for borg's checkpoint; then TERM and KILL for the whole group; then hang up.

        Where we may not signal it (borg under sudo), hanging up is all: the relay closes next, and
        borg ends with its repository connection.
        """
        with contextlib.suppress(ConnectionLost):
            self._drain(PID_SECONDS, lambda: self.pid is not None)
            for number, seconds in GRACE_SECONDS.items():
                if self.pid is None or self._has_ended:
                    break
                if not self._remote.signal(number, str(self.pid) if number == "INT" else f"-{self.pid}"):
                    break
                self._drain(seconds)
        hang_up(self._channel)

    @property
    def _has_ended(self) -> bool:
        return self._channel.status_event.is_set() or not self._remote.is_alive

    def _drain(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Read on, to no end but the command's: who cannot write cannot end. Raises ConnectionLost."""
        deadline = time.monotonic() + seconds
        while not enough() and not self._has_ended and time.monotonic() < deadline:
            if not self._read():
                self._channel.status_event.wait(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def hang_up(channel: paramiko.Channel) -> None:
    """Close `channel`, whatever the state of its connection."""
    with contextlib.suppress(*BROKEN):
        channel.close()


def _connect(host: str, port: int) -> socket.socket:
    try:
        sock = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    except socket.gaierror as error:
        raise Unreachable(f"The name {host} is unknown: {error.strerror}.") from error
    except TimeoutError as error:
        raise Unreachable(f"{host} did not answer on port {port} within {CONNECT_SECONDS} seconds.") from error
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreachable(f"{host} cannot be reached on port {port}: {reason}.") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # paramiko's keepalive sends, but does not miss the answers; the kernel does (BORG.md, finding 8).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
    return sock


def _transport(sock: socket.socket, **options: Any) -> paramiko.Transport:
    transport = paramiko.Transport(sock, **options)
    transport.packetizer.REKEY_BYTES = REKEY_BYTES
    read_all = transport.packetizer.read_all

    def read_no_monster(n: int, check_rekey: bool = False) -> bytes:
        """A server may announce a packet of 4 GB, and paramiko would gather it."""
        if n > PACKET_LIMIT:
            raise paramiko.SSHException(f"it announced a packet of {n:,} bytes")
        return read_all(n, check_rekey)

    transport.packetizer.read_all = read_no_monster  # type: ignore[method-assign]
    security = transport.get_security_options()
    security.ciphers = CIPHERS
    security.digests = MACS
    return transport


def _proof_of(login: Login) -> dict[str, Any]:
    """With what we log in, as paramiko calls it. A password it also gives to servers that ask for it interactively."""
    if login.password:
        return {"password": login.password}
    return {"pkey": paramiko.Ed25519Key.from_private_key(io.StringIO(login.private_key))}


def _refusal(login: Login, error: paramiko.AuthenticationException | None = None) -> LoginRefused:
    """Why nobody was let in; without `error` the first step succeeded, and the server wants more."""
    what = "password" if login.password else "key"
    if error is None:
        return LoginRefused(f"{login.host} took the {what} of the user {login.user}, but asks for more than that.")
    if not login.password:
        return LoginRefused(f"{login.host} refused our key for the user {login.user}.")
    ways = error.allowed_types if isinstance(error, paramiko.BadAuthenticationType) else ["password"]
    if not {"password", "keyboard-interactive"} & set(ways):
        return PasswordRefused(f"{login.host} takes no passwords from the user {login.user}.")
    return PasswordRefused(f"{login.host} refused the password for the user {login.user}.")


def _no_ssh(host: str, port: int, error: Exception) -> Unreachable:
    reason = str(error) or "it hung up"  # EOFError has no words
    return Unreachable(f"{host} answers on port {port}, but not as an SSH server that we can talk to: {reason}.")

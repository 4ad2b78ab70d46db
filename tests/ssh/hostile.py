"""Servers that do not keep to the rules, on loopback: plain sockets, and paramiko's own server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import paramiko

from servers.ssh.remote import BROKEN, HostKey, Login

Talk = Callable[[socket.socket], object]


@contextlib.contextmanager
def listening(talk: Talk) -> Iterator[int]:
    """A port on which each caller gets what `talk` says, in a thread of its own."""
    callers: list[socket.socket] = []

    def answer(caller: socket.socket) -> None:
        with contextlib.suppress(OSError):
            talk(caller)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                callers.append(caller)
                threading.Thread(target=answer, args=(caller,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for caller in callers:
                with contextlib.suppress(OSError):
                    caller.shutdown(socket.SHUT_RDWR)
                caller.close()


class Rogue(paramiko.ServerInterface):
    """Lets everybody in; does with a command what `on_exec` does, in a thread of its own.

    With `reads`, when the command's standard input has ended.
    """

    def __init__(
        self, on_exec: Callable[[paramiko.Channel], object], *, answers: bool | threading.Event, reads: bool
    ) -> None:
        self.on_exec = on_exec
        self.answers = answers
        self.reads = reads

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL  # type: ignore[attr-defined,no-any-return]

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED  # type: ignore[attr-defined,no-any-return]

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if isinstance(self.answers, threading.Event):
            self.answers.wait()
            return False
        if self.answers:
            threading.Thread(target=self._act, args=(channel,), daemon=True).start()
        return self.answers

    def _act(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(*BROKEN):
            while self.reads and channel.recv(65_536):
                pass
            self.on_exec(channel)


@contextlib.contextmanager
def rogue(
    private_key: str,
    on_exec: Callable[[paramiko.Channel], object] = str,
    *,
    answers: bool | threading.Event = True,
    reads: bool = True,
) -> Iterator[tuple[Login, HostKey]]:
    """A server that speaks SSH and is not to be trusted: how to log in to it, and its key."""
    key = paramiko.ECDSAKey.generate()
    transports: list[paramiko.Transport] = []

    def talk(caller: socket.socket) -> None:
        transport = paramiko.Transport(caller)
        transports.append(transport)
        transport.add_server_key(key)
        with contextlib.suppress(*BROKEN):
            transport.start_server(server=Rogue(on_exec, answers=answers, reads=reads))

    with listening(talk) as port:
        try:
            yield Login("127.0.0.1", port, "root", private_key), HostKey(key.get_name(), key.get_base64())
        finally:
            if isinstance(answers, threading.Event):
                answers.set()
            for transport in transports:
                transport.close()

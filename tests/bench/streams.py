"""Many programs that listen to the API's event streams, in a process of their own: a JSON line.

`python -m tests.bench.streams PORT CLIENTS EVENTS` connects, says "ready" when all have been greeted, and ends when
each has heard so many events, or when nothing has come for a while. The token comes on standard input.
"""

import asyncio
import json
import re
import resource
import sys
import time
from datetime import datetime

PATH = "/api/sse/jobs"
AT_ONCE = 50
PATIENCE_SECONDS = 20.0
EVENT = re.compile(rb'id: (\d+)\nevent: \w+\ndata: [^\n]*?"at": "([^"]+)"[^\n]*\n\n')


class Listener(asyncio.Protocol):
    """As lean as can be: what is measured is the other side."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self.greeted = asyncio.get_running_loop().create_future()
        self.heard: dict[int, float] = {}  # by number, the seconds since it was published

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self._rest += data
        if not self.greeted.done() and b": phpBorg" in self._rest:
            self.greeted.set_result(None)
        end = 0
        for found in EVENT.finditer(self._rest):
            self.heard[int(found[1])] = now - datetime.fromisoformat(found[2].decode()).timestamp()
            end = found.end()
        self._rest = self._rest[end:]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(f"The stream ended: {error}: {self._rest[:300]!r}"))


async def listen(port: int, clients: int, events: int, token: str) -> dict[str, float]:
    request = (
        f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
    gate = asyncio.Semaphore(AT_ONCE)

    async def connected() -> Listener:
        async with gate:
            _, listener = await asyncio.get_running_loop().create_connection(
                lambda: Listener(request), "127.0.0.1", port
            )
            await listener.greeted
            return listener

    began = time.perf_counter()
    listeners = await asyncio.gather(*(connected() for _ in range(clients)))
    connect_s = time.perf_counter() - began
    print("ready", flush=True)
    await all_heard(listeners, events)
    delays = sorted(delay for listener in listeners for delay in listener.heard.values())
    return {
        "connect_s": round(connect_s, 1),
        "lost": clients * events - len(delays),
        "median_ms": round(delays[len(delays) // 2] * 1000) if delays else 0,
        "p95_ms": round(delays[int(len(delays) * 0.95)] * 1000) if delays else 0,
        "max_ms": round(delays[-1] * 1000) if delays else 0,
    }


async def all_heard(listeners: list[Listener], events: int) -> None:
    heard, since = 0, time.monotonic()
    while heard < len(listeners) * events and time.monotonic() < since + PATIENCE_SECONDS:
        await asyncio.sleep(0.2)
        if (now := sum(len(listener.heard) for listener in listeners)) != heard:
            heard, since = now, time.monotonic()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, clients, events = map(int, sys.argv[1:])
    print(json.dumps(asyncio.run(listen(port, clients, events, sys.stdin.readline().strip()))))

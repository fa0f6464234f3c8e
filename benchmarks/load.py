"""Asks a server at a fixed rate, whatever its answers do: an open loop, as many independent users are.

    python benchmarks/load.py < plan.json

The plan is one JSON object: `host`, `port`, `rate` in requests a second, `seconds`, `bodies`, asked in turn, and the
`cores` to run on, none for any. A request takes a connection that is idle or opens one. Prints one JSON array: for
each request in the order of their times `[due, sent, done, status]`, in seconds from the start; 0 is the status of one
that was lost. It stands in a process of its own, and imports nothing heavy, so that it takes little from the server it
measures.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, cast

PATIENCE = 90.0  # seconds for what is under way when the last request was sent; a server's own deadline is 60
LOST = 0
IDLE = 2.0  # seconds after which a connection is not asked again: a server may be closing it, after 5 as uvicorn does


class Connection(asyncio.Protocol):
    """One request at a time; `answer` is the status, or LOST."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] | None = None
        self.open = True
        self.idle_since = 0.0
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> "asyncio.Future[int]":
        self.answer, self._held = asyncio.get_running_loop().create_future(), b""
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, ended, body = self._held.partition(b"\r\n\r\n")
        if not ended:
            return
        fields = head.lower()
        length = fields.partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) >= int(length or 0):
            self.open = b"connection: close" not in fields
            self._settle(int(head.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface of a protocol
        self.open = False
        self._settle(LOST)

    def _settle(self, status: int) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(status)


class Load:
    """Keeps the connections that are idle."""

    def __init__(self, host: str, port: int, bodies: Sequence[Any]) -> None:
        self._host, self._port = host, port
        self._requests = [_request(body) for body in bodies]
        self._idle: list[Connection] = []

    async def run(self, rate: float, seconds: float) -> list[list[float]]:
        loop = asyncio.get_running_loop()
        began, tasks = loop.time(), []
        for number in range(int(rate * seconds)):
            due = number / rate
            if (wait := began + due - loop.time()) > 0:
                await asyncio.sleep(wait)
            elif number % 16 == 0:
                await asyncio.sleep(0)  # late, and answers must still be seen
            tasks.append(asyncio.create_task(self._ask(number, due, began)))
        done, late = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in late:
            task.cancel()
        lost = [float("inf")] * len(late)
        return sorted([task.result() for task in done]) + [[end, end, end, LOST] for end in lost]

    async def _ask(self, number: int, due: float, began: float) -> list[float]:
        loop = asyncio.get_running_loop()
        request = self._requests[number % len(self._requests)]
        sent = loop.time() - began
        try:
            connection = await self._connection()
            status = await connection.ask(request)
        except OSError:
            return [due, sent, loop.time() - began, LOST]
        connection.idle_since = loop.time()
        if connection.open:
            self._idle.append(connection)
        return [round(due, 5), round(sent, 5), round(loop.time() - began, 5), status]

    async def _connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        while self._idle:
            held = self._idle.pop()
            if held.open and loop.time() - held.idle_since < IDLE:
                return held
            held.transport.close()
        _, made = await loop.create_connection(Connection, self._host, self._port)
        return made


def _request(body: Any) -> bytes:
    content = json.dumps(body).encode()
    lines = ("POST /v1/attribute HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join((*lines, f"Content-Length: {len(content)}", "", "")).encode() + content


def main() -> None:
    plan = json.load(sys.stdin)
    if plan["cores"]:
        os.sched_setaffinity(0, plan["cores"])
    load = Load(plan["host"], plan["port"], plan["bodies"])
    json.dump(asyncio.run(load.run(plan["rate"], plan["seconds"])), sys.stdout)


if __name__ == "__main__":
    main()

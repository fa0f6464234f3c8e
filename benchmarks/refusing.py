"""A server that answers every request with 429 and does nothing else: what asking costs without anything behind it.

    python benchmarks/refusing.py

Prints its port on stdout and serves until it is killed. It stands beside the server that is measured, as load.py does.
"""

import asyncio
from typing import cast

ANSWER = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"


class Refusal(asyncio.Protocol):
    """Counts bodies by their length, and answers after each."""

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, ended, body = self._held.partition(b"\r\n\r\n")
        if not ended:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) >= length:
            self._held = body[length:]
            self.transport.write(ANSWER)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Refusal, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - this is its result
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

"""Connections: a head is short and soon over, what is answered leaves at once, and what is no HTTP gets a problem."""

import asyncio
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headwater_server.problems import MEDIA_TYPE, problem

HEAD_TIMEOUT = 10.0  # seconds from the first byte, or from the connection, to the last header
HEAD_BYTES = 65_536  # of a request's address and headers
LINGER = 2.0  # seconds that whoever was refused may go on sending
ON_ITS_WAY = 0.5  # seconds that the first request of a connection has to come when the server stops
_TOO_LARGE = f"The address and headers of a request may have {HEAD_BYTES} bytes."


class TimedProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it by llhttp, with limits on the time and the bytes that a request's head may take."""

    _head_due: asyncio.TimerHandle | None = None  # of the head that is being read; each has its own
    _unfinished = 0  # bytes of a head that is not all there
    _refused = False  # what comes is not looked at any more
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this by itself only where the listening socket names its protocol. Without it the body of an
        # answer waits for the client's delayed acknowledgement of the head: 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        head = self._head_due
        super().data_received(data)
        # All of these bytes are of one head: behind another's end, or a body's, it would have begun among them.
        if head is not None and head is self._head_due:
            self._unfinished += len(data)
            if self._unfinished > HEAD_BYTES:
                self._refuse(431, "head_too_large", _TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unfinished = 0
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._forget_head()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._refuse(431, "head_too_large", _TOO_LARGE)
            raise ValueError(_TOO_LARGE)  # the parser is to stop here
        super().on_headers_complete()
        if self._stopping:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """A connection that was just opened is not cut off from the answer to what it has sent."""
        if self.cycle is None and not self._stopping:
            self._stopping = True
            self.loop.call_later(ON_ITS_WAY, self.shutdown)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's sentence, and its name for this
        if not self._refused:
            self._refuse(400, "invalid_http", "This is not a request in HTTP/1.1.")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """The form of all errors here, and the end of the connection.

        It ends some time after its last word: closed with bytes unread it would be reset, and the word lost.
        """
        self._refused = True
        self._forget_head()
        refused = problem(status, code, detail)
        body = refused.model_dump_json().encode()
        head = f"HTTP/1.1 {status} {refused.title}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)

    def _expect_head(self) -> None:
        if self._head_due is None:
            self._head_due = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _forget_head(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

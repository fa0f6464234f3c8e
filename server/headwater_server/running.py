"""uvicorn around the application: it drains on SIGTERM, and stops by itself when the engine has failed."""

import asyncio
import gc
import logging
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from headwater_server.connections import TimedProtocol
from headwater_server.engine import Engine
from headwater_server.settings import Settings

log = logging.getLogger("headwater.server")


class Server(uvicorn.Server):
    """uvicorn's server, tied to the state of the engine."""

    def __init__(self, app: FastAPI, engine: Engine, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,  # logs.configure has decided
                access_log=False,  # guard.RequestContext writes the line, without what the caller sent
                server_header=False,
                proxy_headers=False,
                ws="none",
                http=TimedProtocol,
                timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
            )
        )
        self._engine = engine
        self._ready = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Readiness goes off at once; then uvicorn closes the socket and waits for the answers under way."""
        self._engine.drain()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: end the process when the engine failed, so that whoever runs it starts another."""
        if self._engine.state == "ready" and not self._ready:
            self._ready = True
            gc.collect()
            gc.freeze()  # the model's objects stay: looking through them again and again would halt all for 0.1 s
            log.info("ready")
        if self._engine.state == "failed":
            log.error("stopping: the engine failed")
            await asyncio.sleep(0.2)  # what was just answered with 503 gets out
            return True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("draining")
        await super().shutdown(sockets)

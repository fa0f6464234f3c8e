"""The application: `create_app(engine, settings)` takes everything and reads nothing from outside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from headwater_server import VERSION, openapi, problems, refusals, telemetry
from headwater_server.engine import Engine
from headwater_server.gateway.routes import gateway
from headwater_server.guard import BodyLimit, HostCheck, RequestContext
from headwater_server.keys import KeyCheck
from headwater_server.routes import router
from headwater_server.settings import Settings
from headwater_server.shedding import Shedding

PAGE = Path(__file__).parent / "page"


def create_app(engine: Engine, settings: Settings) -> FastAPI:
    """Serve the engine. Its indexes are opened beside the event loop; until then questions get 503."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        try:
            yield
        finally:
            await asyncio.to_thread(engine.close)

    app = FastAPI(
        title="Headwater",
        version=VERSION,
        description="Which training documents made the model say that? Scores are estimates, and no proof.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load scripts from another origin
        redoc_url=None,
    )
    app.state.engine = engine
    app.include_router(router)
    if settings.upstream is not None:
        app.include_router(gateway(settings))
    _add_page(app)
    problems.install(app)
    refusals.install(app)
    openapi.install(app)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, timeout=settings.request_timeout)
    app.add_middleware(Shedding, engine=engine)
    app.add_middleware(KeyCheck, readers=settings.api_keys, administrators=settings.admin_keys)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(HostCheck, hosts=settings.hosts)
    app.add_middleware(RequestContext, metrics=engine.metrics)
    if settings.opentelemetry:
        telemetry.install(app, engine)
    return app


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")

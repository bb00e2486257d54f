"""The application: routes, the page, and what stands before them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio import create_task_group
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from deploy.service.api import cameras, gallery, problems, system
from deploy.service.api.guard import Guard
from deploy.service.elsewhere import Neighbours
from deploy.service.journal import Journal
from deploy.service.site import Site
from deploy.service.streams import Streams

PAGE = Path(__file__).resolve().parent.parent / "page"
THREADS = 8
"""That requests may keep busy: the cameras need the machine too."""
Task = Callable[[], Coroutine[Any, Any, None]]


def make_app(
    site: Site, journal: Journal, streams: Streams, neighbours: Neighbours | None = None, *,
    hosts: Sequence[str] = (), tasks: Sequence[Task] = (),
) -> FastAPI:  # fmt: skip
    """The ASGI application; `tasks` run on its event loop for as long as it does."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        app.state.photos = anyio.CapacityLimiter(cameras.PHOTOS)
        streams.begin()
        async with create_task_group() as group:
            for task in tasks:
                group.start_soon(task)
            yield
            group.cancel_scope.cancel()

    app = FastAPI(
        title="PAT: people across cameras", version="1", lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        description="Errors are problems as RFC 9457 says. docs/integrators.md tells the rest.",
    )  # fmt: skip
    app.state.site, app.state.journal, app.state.streams = site, journal, streams
    app.state.neighbours = neighbours
    problems.add_to(app)
    for router in (system.router, gallery.router, cameras.router):
        app.include_router(router)
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    app.add_middleware(Guard, site=site, hosts=hosts)
    return app

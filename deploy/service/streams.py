"""Answers without an end: so many at once, and all of them end with the service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from anyio import to_thread
from starlette.exceptions import HTTPException

from deploy.service.journal import Journal, Kept

MOST = 48
"""Streams of images and events at once."""


class Streams:
    """Counts the streams of one event loop, wakes them, and ends them."""

    def __init__(self) -> None:
        self.ending = False
        self._open = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    def begin(self) -> None:
        """Called on the loop."""
        self._loop = asyncio.get_running_loop()

    def counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks, as one of the streams. Raises HTTPException (503) when there are enough."""
        if self._open >= MOST:
            raise HTTPException(503, f"{MOST} streams are open already", {"Retry-After": "10"})

        async def each() -> AsyncIterator[bytes]:
            self._open += 1  # here: a client may be gone before the first chunk is asked for
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                self._open -= 1

        return each()

    def wake(self) -> None:
        """There are new events; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self, journal: Journal, seq: int, every: float) -> AsyncIterator[list[Kept]]:
        """Events after a place in the order as they come, until the service ends; none after so many seconds."""
        while not self.ending:
            news = self._news  # before the look: what comes while it is being handed on wakes as well
            events = await to_thread.run_sync(journal.after, seq)
            yield events
            if events:
                seq = events[-1].seq
                continue
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(news.wait(), every)

    def end(self) -> None:
        """All streams end soon; from any thread."""
        self.ending = True
        self.wake()

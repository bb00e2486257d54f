"""Runs the application on a thread of its own, and cuts off clients that are slow to ask or slow to listen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from deploy.service.settings import AccessSettings
from deploy.service.streams import Streams
from pat.base.errors import UserError

log = logging.getLogger(__name__)

ASK_WITHIN = 5.0
"""Seconds from a connection, or from the last answer, to the end of a request's head."""
LISTEN_WITHIN = 15.0
"""Seconds that a client may take nothing of what waits for it."""
CONNECTIONS = 512
"""At once; when there are more, those go first that have waited longest without asking."""
LARGEST_PORT = 65535
START_WITHIN = 20.0
STOP_WITHIN = 5


class Patient(H11Protocol):
    """HTTP/1.1 with an end to its patience."""

    asking: ClassVar[dict[Patient, None]] = {}
    """Connections whose request has not come yet, the longest waiting first; each server has its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.asking[self] = None
        if len(self.connections) > CONNECTIONS:
            next(iter(self.asking)).cut()
        self._limit(ASK_WITHIN)

    def data_received(self, data: bytes) -> None:
        had = self.cycle
        super().data_received(data)
        if self.cycle is not had:  # the head is complete
            self.asking.pop(self, None)
            self._limit(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.asking[self] = None
            self._limit(ASK_WITHIN)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit(LISTEN_WITHIN)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._limit(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.asking.pop(self, None)
        self._limit(None)
        super().connection_lost(error)

    def cut(self) -> None:
        """End the connection at once, whatever waits to be sent."""
        self.asking.pop(self, None)
        self.transport.abort()

    def _limit(self, seconds: float | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        self._cut = None if seconds is None else self.loop.call_later(seconds, self.cut)


def listen(host: str, port: int) -> socket.socket:
    """A socket on host and port; port 0 takes a free one. Raises UserError when it is taken or no address."""
    if not 0 <= port <= LARGEST_PORT:  # the system would take what is left of it after so many
        raise UserError(f"--port is {port}; ports are 0 to {LARGEST_PORT}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(256)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(
            f"the service cannot listen on {host} port {port} ({error}); give another --host or --port"
        ) from error
    return found


@contextlib.contextmanager
def serving(
    app: FastAPI, channel: socket.socket, access: AccessSettings, streams: Streams, died: Callable[[], None]
) -> Iterator[None]:
    """Serve the application on a thread while the context lasts; `died` is called if it ends before."""
    protocol = type("Served", (Patient,), {"asking": {}})
    config = uvicorn.Config(
        app, http=protocol, ws="none", loop="asyncio", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=STOP_WITHIN, timeout_keep_alive=int(ASK_WITHIN),
        backlog=256,
        h11_max_incomplete_event_size=32_768,
        ssl_certfile=None if access.tls_certificate is None else str(access.tls_certificate),
        ssl_keyfile=None if access.tls_key is None else str(access.tls_key),
    )  # fmt: skip
    server = uvicorn.Server(config)
    ended = threading.Event()

    def run() -> None:
        try:
            server.run(sockets=[channel])
        except BaseException:
            log.exception("the service has ended")
        finally:
            if not ended.is_set():
                died()

    thread = threading.Thread(target=run, name="service", daemon=True)
    thread.start()
    try:
        for _ in range(int(START_WITHIN / 0.02)):
            if server.started or not thread.is_alive():
                break
            ended.wait(0.02)
        if not server.started:
            raise UserError("the service did not start; the log says why")
        yield
    finally:
        ended.set()
        streams.end()
        server.should_exit = True
        thread.join(timeout=STOP_WITHIN + 3)
        channel.close()

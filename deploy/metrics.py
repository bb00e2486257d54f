"""What the process counts and times, for Prometheus and for the line on the terminal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, get_args
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from deploy.status import State
from pat.base.errors import UserError

STAGES = ("detect", "track", "quality", "embed", "gallery", "draw")
CLIENTS = 16
"""Of the metrics at once."""
PATIENCE = 5.0
"""Seconds that one of them may be silent."""
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_CROPS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters, gauges and histograms of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        seconds = partial(Histogram, buckets=_SECONDS, registry=self.registry)
        self.frames = counter("pat_frames", "Frames processed", ["camera"])
        self.dropped = gauge("pat_frames_dropped", "Frames dropped to stay live", ["camera"])
        self.broken = gauge("pat_frames_broken", "Packets or frames not decoded", ["camera"])
        self.reconnects = gauge("pat_reconnects", "Times that a source was reopened", ["camera"])
        self.state = gauge("pat_camera_state", "1 for the state it is in", ["camera", "state"])
        self.age = seconds("pat_frame_age_seconds", "From a frame's arrival to its tracks being told", ["camera"])
        self.stages = seconds("pat_stage_seconds", "Time of a stage for one frame (embed: one batch)", ["stage"])
        self.waits = seconds("pat_batch_wait_seconds", "Time that a batch waited to be embedded")
        self.batches = Histogram(
            "pat_batch_crops", "Crops embedded at once", buckets=_CROPS, registry=self.registry
        )
        self.engine_failures = counter("pat_engine_failures", "Failed calls of the model")
        self.spoiled = counter("pat_crops_spoiled", "Crops whose vector was not finite")
        self.worker_failures = counter("pat_worker_failures", "Unexpected errors", ["camera"])
        self.people = gauge("pat_people", "Tracks in view", ["camera"])
        self.gallery = gauge("pat_gallery_entries", "Entries in the gallery")
        self.gallery_failures = counter("pat_gallery_failures", "Failed gallery calls")
        self.strangers = counter("pat_strangers", "Pairs of people seen at once, so two people")
        self.strangers_alike = counter("pat_strangers_alike", "Those of them whom the threshold takes for one")
        self.events = counter("pat_events", "Events told", ["event"])
        self.events_lost = counter("pat_events_lost", "Events that could not be written")

    def timed(self, stage: str) -> contextlib.AbstractContextManager[object]:
        """Time what happens inside as one pass of `stage`."""
        return self.stages.labels(stage).time()

    def embedded(self, crops: int, seconds: float, waited: float) -> None:
        """One batch was embedded."""
        self.batches.observe(crops)
        self.stages.labels("embed").observe(seconds)
        self.waits.observe(waited)

    def set_state(self, camera: str, state: str) -> None:
        """The camera is in this state and in no other."""
        for each in get_args(State):
            self.state.labels(camera, each).set(each == state)

    def value(self, name: str, **labels: str) -> float:
        """The present value of a sample, 0 when it was never set."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def stage_totals(self) -> dict[str, tuple[float, int]]:
        """Seconds spent and passes of each stage so far."""
        return {
            stage: (
                self.value("pat_stage_seconds_sum", stage=stage),
                int(self.value("pat_stage_seconds_count", stage=stage)),
            )
            for stage in STAGES
        }

    @contextlib.contextmanager
    def served(self, port: int) -> Iterator[None]:
        """Serve the metrics on 127.0.0.1 while the context lasts; port 0 serves none.

        Raises UserError when the port is taken.
        """
        if port == 0:
            yield
            return
        try:
            server, thread = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"metrics cannot be served on 127.0.0.1:{port} ({error}); give another --output.metrics-port, or 0"
            ) from error
        _guard(server)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join(timeout=2)


def _guard(server: WSGIServer) -> None:
    """Cut off clients that ask for nothing, and serve only so many at once: each has a thread of its own."""
    free = threading.BoundedSemaphore(CLIENTS)
    serve, close = server.process_request, server.shutdown_request

    class Impatient(server.RequestHandlerClass):  # type: ignore[name-defined, misc]
        timeout = PATIENCE

    taken: set[int] = set()

    def process_request(request: Any, address: Any) -> None:
        if free.acquire(blocking=False):
            taken.add(id(request))
            serve(request, address)
        else:
            close(request)

    def shutdown_request(request: Any) -> None:
        if id(request) in taken:
            taken.discard(id(request))
            free.release()
        close(request)

    server.RequestHandlerClass = Impatient
    # No traces of clients that went away.
    server.handle_error = lambda request, address: None  # type: ignore
    server.process_request = process_request  # type: ignore
    server.shutdown_request = shutdown_request  # type: ignore

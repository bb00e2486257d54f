"""One thread that owns the model and embeds the crops of all cameras, several cameras in a batch."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from deploy.closing import Closing
from deploy.frames import Boxes, Pixels
from deploy.metrics import Metrics
from deploy.runtime.session import NotFinite, Runtime, Vectors
from pat.base.errors import Failure

log = logging.getLogger(__name__)

SPOILED_BATCHES = 3
"""Batches in a row without one finite vector, from which on it is the model that is broken and not a crop."""


@dataclass(frozen=True)
class Request:
    """Boxes of one frame, and where their vectors go."""

    pixels: Pixels
    boxes: Boxes
    arrived: float = field(default_factory=time.monotonic)
    vectors: Future[Vectors] = field(default_factory=Future)


class Embedder(Closing):
    """Embeds boxes of frames on a thread of its own; a context manager.

    The thread opens the model, runs it and closes it: a CUDA context belongs to one thread. A request waits at
    most `max_wait` seconds for others to share its batch. When the model fails, the requests at hand fail with
    Failure and the model is opened again, at growing intervals, also while nobody asks; until then requests fail
    at once, so that cameras go on tracking. `broken_for` tells for how long it has been so.
    """

    def __init__(
        self,
        open_runtime: Callable[[], Runtime],
        metrics: Metrics,
        *,
        max_batch: int,
        max_wait: float,
        retry: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        self._open_runtime, self._metrics = open_runtime, metrics
        self._max_batch, self.max_wait, self._retry = max_batch, max_wait, retry
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._runtime: Runtime | None = None
        self._broken_since: float | None = None
        self._retry_at = 0.0
        self._pause = retry[0]
        self._spoiled_batches = 0  # in a row
        self._closed = threading.Event()
        self._opened: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)

    def start(self) -> str:
        """Open the model and test it; returns its name. Raises whatever opening it raised."""
        self._thread.start()
        return self._opened.result()

    def submit(self, pixels: Pixels, boxes: Boxes) -> Future[Vectors]:
        """Vectors float32 [n, D] of `boxes` [n, 4], which lie inside the frame, when they are ready.

        A row may be not finite: the model has no answer for that crop.
        """
        request = Request(pixels, boxes)
        if self._closed.is_set():
            request.vectors.set_exception(Failure("the embedder is closed"))
        else:
            self._requests.put(request)
        return request.vectors

    @property
    def broken_for(self) -> float:
        """Seconds since the model failed; 0 while it works."""
        since = self._broken_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Fail what is waiting, close the model, end the thread."""
        self._closed.set()
        self._requests.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            self._runtime = self._open()
            self._opened.set_result(self._runtime.name)
        except BaseException as error:  # it belongs to whoever waits in start()
            self._opened.set_exception(error)
            return
        try:
            while (batch := self._gather()) is not None:
                self._serve(batch)
        finally:
            self._drop_runtime()
            self._fail_waiting()

    def _open(self) -> Runtime:
        runtime = self._open_runtime()
        try:
            runtime.self_test()
        except BaseException:
            runtime.close()
            raise
        return runtime

    def _gather(self) -> list[Request] | None:
        """The next requests, in order of arrival, of all cameras: `max_batch` crops or what came in time.

        None of them when a model that failed is to be opened again, and nobody asks.
        """
        patience = None if self._runtime is not None else max(0.0, self._retry_at - time.monotonic())
        try:
            first = self._requests.get(timeout=patience)
        except queue.Empty:
            return []
        if first is None:
            return None
        batch, crops = [first], len(first.boxes)
        deadline = first.arrived + self.max_wait
        while crops < self._max_batch:
            try:
                following = self._requests.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if following is None:
                self._requests.put(None)  # the end comes after this batch
                break
            batch.append(following)
            crops += len(following.boxes)
        return batch

    def _serve(self, batch: list[Request]) -> None:
        begun = time.monotonic()
        try:
            runtime = self._working_runtime()
            vectors = self._embed(runtime, batch) if batch else None
        except Exception as error:  # whatever a driver or a library raises, the cameras go on
            self._failed(error)
            for each in batch:
                each.vectors.set_exception(Failure(f"the crops could not be embedded: {error}"))
            return
        if self._broken_since is not None:
            log.info("embedding works again after %.1f s", self.broken_for)
        self._broken_since = None
        if vectors is None:  # nobody asked: the model was opened again, and has passed its test
            return
        self._pause = self._retry[0]
        self._metrics.embedded(len(vectors), time.monotonic() - begun, begun - batch[0].arrived)
        begin = 0
        for each in batch:
            each.vectors.set_result(vectors[begin : begin + len(each.boxes)])
            begin += len(each.boxes)

    def _embed(self, runtime: Runtime, batch: list[Request]) -> Vectors:
        """Vectors [n, D]. One crop may overflow a 16-bit model: its row is not finite, and the others are good."""
        try:
            vectors: Vectors = runtime.embed_boxes([each.pixels for each in batch], [each.boxes for each in batch])
        except NotFinite as error:
            vectors = error.vectors
            bad = ~np.isfinite(vectors).all(axis=1)  # [n]
            self._spoiled_batches = self._spoiled_batches + 1 if bad.all() else 0
            if self._spoiled_batches == SPOILED_BATCHES:
                self._spoiled_batches = 0
                raise
            self._metrics.spoiled.inc(int(bad.sum()))
            log.warning("%s", error)
        else:
            self._spoiled_batches = 0
        return vectors

    def _working_runtime(self) -> Runtime:
        if self._runtime is None:
            if time.monotonic() < self._retry_at:
                raise Failure("the model is not available")
            self._runtime = self._open()
        return self._runtime

    def _failed(self, error: Exception) -> None:
        now = time.monotonic()
        if self._runtime is None and now < self._retry_at:
            return  # already told
        self._metrics.engine_failures.inc()
        if self._broken_since is None:
            self._broken_since = now
        self._drop_runtime()
        self._retry_at = now + self._pause
        log.error("embedding failed (%s); the model is opened again in %.1f s", error, self._pause)
        self._pause = min(2 * self._pause, self._retry[1])

    def _drop_runtime(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            try:
                runtime.close()
            except Exception as error:  # a broken driver may not even close
                log.warning("closing the model failed: %s", error)

    def _fail_waiting(self) -> None:
        while True:
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return
            if request is not None:
                request.vectors.set_exception(Failure("the camera process is stopping"))

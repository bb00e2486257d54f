"""The camera process: runs its parts (deploy.assembly) together, and ends them in the right order."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.annotate import Label, View
from deploy.assembly import (
    Find,
    NamedSource,
    chosen_way,
    new_camera,
    new_finder,
    new_policy,
    new_tracker,
    open_embedder,
    open_gallery,
    open_view,
)
from deploy.camera import Camera
from deploy.embedder import Embedder
from deploy.events import Event, EventLog
from deploy.frames import Frame
from deploy.gallery import Gallery
from deploy.metrics import Metrics
from deploy.rates import Rates, Watch
from deploy.recognise import Recogniser
from deploy.settings import ProcessSettings
from deploy.window import Window
from deploy.worker import Worker
from export.manifest import Manifest
from pat.base.errors import Failure, UserError
from pat.base.mapping import check_limits

log = logging.getLogger(__name__)

Look = Callable[[Rates], None]
"""Is shown the rates now and then."""

TICK = 0.1
"""Seconds between two looks at the state of the process."""
EXPIRE_EVERY = 60.0
STOP_WITHIN = 15.0
"""Seconds that a camera's worker gets to finish its tracks."""


@dataclass(frozen=True)
class Parts:
    """What the cameras of a running process share."""

    bundle: Path
    manifest: Manifest
    settings: ProcessSettings
    gallery: Gallery
    embedder: Embedder
    recogniser: Recogniser
    metrics: Metrics
    cameras: Sequence[Camera]


class Companion(Protocol):
    """What runs beside the cameras, in their process, and keeps it alive when they have ended."""

    def tell(self, event: Event) -> None:
        """Hears every event, on the cameras' threads; must not block."""

    def see(self, frame: Frame, labels: Sequence[Label]) -> None:
        """Is shown every frame and who is in it, on the cameras' threads; must not block."""

    def running(self, parts: Parts) -> contextlib.AbstractContextManager[None]:
        """Lasts from before the first frame until after the last event."""

    def look(self, rates: Rates) -> None:
        """Is shown the rates now and then; a process that hangs does not call it."""


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    frames: int
    events: int
    crops: int
    seconds: float
    stages: dict[str, tuple[float, int]]
    """Seconds and passes of each stage."""
    strangers: tuple[int, int]
    """Pairs of people seen at once, and those of them whom the threshold takes for one."""
    failed: Sequence[str]
    """Cameras that never gave an image or were given up."""


def run(
    bundle: Path,
    sources: Sequence[NamedSource],
    settings: ProcessSettings,
    *,
    threshold: float,
    stopping: threading.Event,
    look: Look = lambda rates: None,
    look_every: float = 1.0,
    finder: Callable[[str], Find] | None = None,
    view: Callable[[str], View] | None = None,
    companion: Companion | None = None,
) -> Summary:
    """Run the process until `stopping` is set or, without a companion, every source has ended.

    For the camera of a name, `finder` makes what finds people, in place of the detector of the settings, and
    `view` what is shown who was seen where, in place of the video and window of the settings.
    Raises UserError for settings that cannot work (bundle, gallery, detector, files), Failure when the
    model stays broken for `settings.runtime.give_up_after` seconds.
    """
    check_limits(settings)
    bundle, settings = chosen_way(bundle, settings)
    manifest = Manifest.load(bundle)
    metrics = Metrics()
    output, begun = settings.output, time.monotonic()
    with contextlib.ExitStack() as stack:
        events = stack.enter_context(
            EventLog(
                output.events, metrics, rotate_bytes=int(output.rotate_megabytes * 1e6), keep=output.keep,
                listener=companion.tell if companion else lambda event: None,
            )
        )
        gallery = stack.enter_context(open_gallery(settings, manifest))
        metrics.gallery.set(gallery.count())
        stack.enter_context(metrics.served(output.metrics_port))
        embedder = stack.enter_context(open_embedder(bundle, settings, metrics, cameras=len(sources)))
        chosen = settings.gallery
        recogniser = Recogniser(
            gallery, metrics, threshold=threshold, remember=chosen.remember, margin=chosen.margin
        )
        window = stack.enter_context(Window()) if output.window else None
        numbers = itertools.count(1)
        finder = finder or new_finder(settings)
        watcher = companion.see if companion else None
        view = view or (lambda name: open_view(name, output.video, window, watcher))
        workers = [
            Worker(
                new_camera(source, settings), finder(source.name), lambda: new_tracker(settings),
                lambda: new_policy(settings), embedder, recogniser, events, metrics, view(source.name),
                track_numbers=numbers, decide_after=settings.track.decide_after,
            )
            for source in sources
        ]  # fmt: skip
        log.info("model: %s, %s; self test passed", bundle, embedder.start())
        cameras = [worker.camera for worker in workers]
        watch = Watch(metrics, cameras)

        def show() -> None:
            metrics.gallery.set(gallery.count())
            rates = watch.look()
            look(rates)
            if companion is not None:
                companion.look(rates)

        if companion is not None:
            parts = Parts(bundle, manifest, settings, gallery, embedder, recogniser, metrics, cameras)
            stack.enter_context(companion.running(parts))
        with _running(workers, stopping) as threads:

            def over() -> bool:
                """The sources have ended, and the process with them; or the reader has closed the window."""
                ended = companion is None and not any(thread.is_alive() for thread in threads)
                return ended or (window is not None and window.closed)

            _watch(over, embedder, gallery, settings.runtime.give_up_after, stopping, show, look_every)
        return _summary(cameras, metrics, time.monotonic() - begun)


def _watch(
    over: Callable[[], bool],
    embedder: Embedder,
    gallery: Gallery,
    give_up_after: float,
    stopping: threading.Event,
    show: Callable[[], None],
    show_every: float,
) -> None:
    """Wait for the end, keep the gallery's promise to forget, and show how it goes."""
    next_look = next_expiry = time.monotonic()
    while not stopping.wait(TICK) and not over():
        now = time.monotonic()
        if embedder.broken_for > give_up_after:
            raise Failure(
                f"the model has been broken for {give_up_after:.0f} s; the process ends, to be started afresh"
            )
        if now >= next_expiry:
            next_expiry = now + EXPIRE_EVERY
            try:
                gallery.sweep()
            except (UserError, Failure) as error:
                log.error("old entries could not be deleted: %s", error)
        if now >= next_look:
            next_look = now + show_every
            show()


@contextlib.contextmanager
def _running(workers: Sequence[Worker], stopping: threading.Event) -> Iterator[Sequence[threading.Thread]]:
    """The workers on threads of their own; at the end they finish their tracks, then the cameras stop."""
    threads: list[threading.Thread] = []
    try:
        for worker in workers:
            worker.camera.start()
            thread = threading.Thread(
                target=worker.run, args=(stopping,), name=f"worker {worker.camera.name}", daemon=True
            )
            thread.start()
            threads.append(thread)
        yield threads
    finally:
        stopping.set()
        deadline = time.monotonic() + STOP_WITHIN
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.error("%s did not finish within %.0f s; its tracks are lost", thread.name, STOP_WITHIN)
        for worker in workers:
            worker.camera.stop()


def _summary(cameras: Sequence[Camera], metrics: Metrics, seconds: float) -> Summary:
    (events,) = metrics.events.collect()
    return Summary(
        frames=sum(int(metrics.value("pat_frames_total", camera=camera.name)) for camera in cameras),
        events=sum(int(sample.value) for sample in events.samples if sample.name == "pat_events_total"),
        crops=int(metrics.value("pat_batch_crops_sum")),
        seconds=seconds,
        stages=metrics.stage_totals(),
        strangers=(int(metrics.value("pat_strangers_total")), int(metrics.value("pat_strangers_alike_total"))),
        failed=[camera.name for camera in cameras if camera.state == "failed"],
    )

"""The camera process: puts its parts together, runs them, and ends them in the right order."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy import runtime
from deploy.annotate import Label, Sink, VideoFile, View
from deploy.appearance import EmbeddingPolicy
from deploy.camera import Camera
from deploy.detect import Detector, open_detector
from deploy.detect.motion import GatedDetector, MotionGate
from deploy.embedder import Embedder
from deploy.events import Event, EventLog
from deploy.frames import Detections, Frame
from deploy.gallery import Gallery
from deploy.gallery.fingerprint import fingerprint
from deploy.metrics import Metrics
from deploy.rates import Rates, Watch
from deploy.recognise import Recogniser
from deploy.runtime.choice import read_choice
from deploy.settings import ProcessSettings
from deploy.track import Tracker
from deploy.window import Window
from deploy.worker import Worker
from export.manifest import Manifest
from pat.base.errors import Failure, UserError
from pat.base.mapping import check_limits

log = logging.getLogger(__name__)

Look = Callable[[Rates], None]
"""Is shown the rates now and then."""
Find = Callable[[Frame], Detections]
"""Tells where people are in a camera's frame."""

TICK = 0.1
"""Seconds between two looks at the state of the process."""
EXPIRE_EVERY = 60.0
STOP_WITHIN = 15.0
"""Seconds that a camera's worker gets to finish its tracks."""

_PASSWORD = re.compile(r"://[^/@\s]*:[^$@\s][^@\s]*@")
_NAMED = re.compile(r"([\w.-]{1,64})=(.+)", re.DOTALL)


@dataclass(frozen=True)
class NamedSource:
    """A camera's name, and where its images come from."""

    name: str
    url: str


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


def named_sources(sources: Sequence[str], *, none: bool = False) -> list[NamedSource]:
    """`NAME=URL` or a bare URL (then camera-1, camera-2, ...); `$VARIABLES` in a URL come from the environment.

    Raises UserError when two have one name, or when there is none, unless `none` allows it.
    """
    named = []
    for number, source in enumerate(sources, 1):
        match = _NAMED.fullmatch(source)
        name, url = match.groups() if match else (f"camera-{number}", source)
        if _PASSWORD.search(url):
            log.warning(
                "the password of %s stands on the command line, where every user of this machine can read it "
                "(ps); write $VARIABLE in its place", name,
            )  # fmt: skip
        named.append(NamedSource(name, os.path.expandvars(url)))
    if not named and not none:
        raise UserError("there is no source; give a video file, a folder of images or a camera's URL")
    names = [each.name for each in named]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two sources are called {doubled}; names must differ")
    return named


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    frames: int
    events: int
    crops: int
    seconds: float
    stages: dict[str, tuple[float, int]]
    """Seconds and passes of each stage."""
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
        view = view or (lambda name: open_view(name, output.video, window, companion))
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
            ends = companion is None
            _watch(threads, embedder, gallery, settings, stopping, show, look_every, window, ends)
        return _summary(cameras, metrics, time.monotonic() - begun)


def open_gallery(settings: ProcessSettings, manifest: Manifest) -> Gallery:
    """The gallery of the settings, for the vectors of this bundle's model."""
    hours = settings.gallery.retention_hours
    if not hours > 0:
        raise UserError(f"--gallery.retention-hours is {hours:g}; it must be above 0")
    return Gallery.open(
        settings.gallery.path,
        dimension=manifest.output.size,
        model=fingerprint(manifest),
        retention=None if math.isinf(hours) else hours * 3600,
    )


def chosen_way(bundle: Path, settings: ProcessSettings) -> tuple[Path, ProcessSettings]:
    """The bundle and the settings after `python -m deploy.runtime pick`, where the settings leave it to that."""
    if settings.runtime.backend != "chosen":
        return bundle, settings
    found = read_choice(bundle)
    if found is None:
        log.info("nothing is chosen for %s here: python -m deploy.runtime pick measures what is fastest", bundle)
        own = dataclasses.replace(settings.runtime, backend="onnxruntime")
        return bundle, dataclasses.replace(settings, runtime=own)
    log.info("chosen for %s: %s with %s (%s)", bundle, found.bundle, found.backend, found.why)
    own = dataclasses.replace(settings.runtime, backend=found.backend, **found.options)
    return found.bundle, dataclasses.replace(settings, runtime=own)


def open_embedder(bundle: Path, settings: ProcessSettings, metrics: Metrics, *, cameras: int) -> Embedder:
    """The thread that will own the model, not started yet."""
    bundle, settings = chosen_way(bundle, settings)
    chosen = settings.runtime
    options: dict[str, object] = {"batch_size": chosen.max_batch}
    if chosen.backend == "tensorrt":
        options = {"preprocess": chosen.preprocess}
    elif chosen.preprocess == "gpu":
        raise UserError("--runtime.preprocess gpu needs --runtime.backend tensorrt")
    elif chosen.backend == "openvino":
        options |= {"threads": chosen.threads, "device": chosen.device, "arithmetic": chosen.arithmetic}
    else:
        options |= {"threads": chosen.threads, "providers": chosen.providers}
    backend = chosen.backend
    assert backend != "chosen", "what is not chosen is ONNX Runtime's"
    # With one camera there is nobody to wait for.
    wait = chosen.max_wait if cameras > 1 else 0.0
    return Embedder(
        lambda: runtime.open(bundle, backend, **options), metrics, max_batch=chosen.max_batch, max_wait=wait
    )


def new_detector(settings: ProcessSettings) -> Detector:
    """The detector of the settings."""
    return open_detector(
        settings.detect.detector,
        threshold=settings.detect.threshold,
        providers=settings.runtime.providers,
        threads=settings.runtime.threads,
    )


def new_finder(settings: ProcessSettings) -> Callable[[str], Find]:
    """Makes what finds people for one camera after the other: a detector for each, or one for all where that is
    enough, and a motion gate for each."""
    opened: list[Detector] = []

    def find_for(camera: str) -> Find:
        if not (opened and opened[0].shared):
            opened[:] = [new_detector(settings)]
        return GatedDetector(opened[0], MotionGate(settings.detect.full_look)).find

    return find_for


def new_camera(source: NamedSource, settings: ProcessSettings) -> Camera:
    """A camera for the source, not started yet."""
    chosen = settings.camera
    return Camera(
        source.name,
        source.url,
        live={"auto": None, "yes": True, "no": False}[chosen.live],
        loop=chosen.loop,
        pace=chosen.pace,
        rate=chosen.rate,
        stale_after=chosen.stale_after,
        give_up_after=chosen.give_up_after or None,
    )


def new_tracker(settings: ProcessSettings) -> Tracker:
    """A tracker without tracks."""
    return Tracker(rate=settings.camera.rate or 10.0, lost_seconds=settings.track.lost_seconds)


def new_policy(settings: ProcessSettings) -> EmbeddingPolicy:
    """Which views of a track are embedded."""
    return EmbeddingPolicy(every=settings.track.every, least_quality=settings.track.least_quality)


def open_view(camera: str, video: Path | None, window: Window | None, companion: Companion | None) -> View:
    """Where the images of a camera go."""
    sinks: list[Sink] = []
    if video is not None:
        sinks.append(VideoFile(video / f"{camera}.mp4"))
    if window is not None:
        sinks.append(window)
    return View(sinks, companion.see if companion else None)


def _watch(
    threads: Sequence[threading.Thread],
    embedder: Embedder,
    gallery: Gallery,
    settings: ProcessSettings,
    stopping: threading.Event,
    show: Callable[[], None],
    show_every: float,
    window: Window | None,
    ends: bool,
) -> None:
    """Wait for the end (of the sources too, if the process ends with them), keep the gallery's promise to forget,
    and show how it goes."""
    next_look = next_expiry = time.monotonic()
    while not stopping.wait(TICK) and (not ends or any(thread.is_alive() for thread in threads)):
        now = time.monotonic()
        if embedder.broken_for > settings.runtime.give_up_after:
            raise Failure(
                f"the model has been broken for {settings.runtime.give_up_after:.0f} s; the process ends, to be "
                "started afresh"
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
        if window is not None and window.closed:
            return


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
        failed=[camera.name for camera in cameras if camera.state == "failed"],
    )

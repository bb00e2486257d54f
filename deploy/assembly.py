"""The parts of the camera process, made as its settings say."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import runtime
from deploy.annotate import Sink, VideoFile, View, Watcher
from deploy.appearance import EmbeddingPolicy
from deploy.camera import Camera
from deploy.detect import Detector, open_detector
from deploy.detect.motion import MotionGate
from deploy.embedder import Embedder
from deploy.frames import Detections, Frame
from deploy.gallery import Gallery
from deploy.gallery.fingerprint import fingerprint
from deploy.metrics import Metrics
from deploy.runtime.choice import read_choice
from deploy.settings import ProcessSettings
from deploy.track import Tracker
from deploy.window import Window
from export.manifest import Manifest
from pat.base.errors import UserError

log = logging.getLogger(__name__)

Find = Callable[[Frame], Detections]
"""Tells where people are in a camera's frame."""

_PASSWORD = re.compile(r"://[^/@\s]*:[^$@\s][^@\s]*@")
_NAMED = re.compile(r"([\w.-]{1,64})=(.+)", re.DOTALL)


@dataclass(frozen=True)
class NamedSource:
    """A camera's name, and where its images come from."""

    name: str
    url: str


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


def open_gallery(settings: ProcessSettings, manifest: Manifest) -> Gallery:
    """The gallery of the settings, for the vectors of this bundle's model."""
    hours = settings.gallery.retention_hours
    if not hours > 0:
        raise UserError(f"--gallery.retention-hours is {hours:g}; it must be above 0")
    retention = None if math.isinf(hours) else hours * 3600
    return Gallery.open(
        settings.gallery.path, dimension=manifest.output.size, model=fingerprint(manifest), retention=retention
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
    """The thread that will own the model, not started yet; bundle and settings are those of `chosen_way`."""
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
    chosen, runs = settings.detect, settings.runtime
    return open_detector(
        chosen.detector, threshold=chosen.threshold, providers=runs.providers, threads=runs.threads
    )


def new_finder(settings: ProcessSettings) -> Callable[[str], Find]:
    """Makes what finds people for one camera after the other: with one detector for all, and a gate for each."""
    detector = functools.cache(lambda: new_detector(settings))  # a service without cameras opens none
    return lambda camera: functools.partial(MotionGate(settings.detect.full_look).find, detector())


def new_camera(source: NamedSource, settings: ProcessSettings) -> Camera:
    """A camera for the source, not started yet."""
    chosen = settings.camera
    return Camera(
        source.name, source.url, live={"auto": None, "yes": True, "no": False}[chosen.live], loop=chosen.loop,
        pace=chosen.pace, rate=chosen.rate, stale_after=chosen.stale_after,
        give_up_after=chosen.give_up_after or None,
    )  # fmt: skip


def new_tracker(settings: ProcessSettings) -> Tracker:
    """A tracker without tracks."""
    return Tracker(rate=settings.camera.rate or 10.0, lost_seconds=settings.track.lost_seconds)


def new_policy(settings: ProcessSettings) -> EmbeddingPolicy:
    """Which views of a track are embedded."""
    return EmbeddingPolicy(every=settings.track.every, least_quality=settings.track.least_quality)


def open_view(camera: str, video: Path | None, window: Window | None, watcher: Watcher | None) -> View:
    """Where the images of a camera go."""
    sinks: list[Sink] = []
    if video is not None:
        sinks.append(VideoFile(video / f"{camera}.mp4"))
    if window is not None:
        sinks.append(window)
    return View(sinks, watcher)

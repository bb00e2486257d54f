"""Runs the camera process on a street of which the truth is known."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deploy import assembly, pipeline
from deploy.annotate import Label, View
from deploy.frames import Detections, Frame
from deploy.gallery.threshold import read_threshold
from deploy.settings import ProcessSettings
from pat.base.errors import UserError
from pat.evaluation.street import Box, CameraFrame, Run

TRUTH = "truth.jsonl"
ROUNDING = 0.05
"""Seconds by which cameras that are in step may differ."""
SAID = ("recognised", "new", "revised", "unknown")


@dataclass(frozen=True)
class Street:
    """A folder of `pat synth street`."""

    videos: Sequence[Path]
    truth: dict[CameraFrame, list[Box]]
    seconds: dict[CameraFrame, float]
    """Of each frame with somebody in it."""

    @property
    def people(self) -> int:
        return len({box.who for boxes in self.truth.values() for box in boxes})


def read_street(folder: Path) -> Street:
    """Raises UserError for a folder that holds no street."""
    videos = sorted(folder.glob("*.mp4"))
    truth: dict[CameraFrame, list[Box]] = {}
    seconds: dict[CameraFrame, float] = {}
    try:
        for line in (folder / TRUTH).read_text(encoding="utf-8").splitlines():
            each = json.loads(line)
            left, top, right, bottom = map(float, each["box"])
            box = Box(int(each["person"]), (left, top, right, bottom))
            place = each["camera"], int(each["frame"])
            truth.setdefault(place, []).append(box)
            seconds[place] = float(each["time"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no street of `pat synth street`: {error}") from error
    if not videos or not truth:
        raise UserError(f"{folder} holds no videos, or no people")
    return Street(videos, truth, seconds)


def run_street(
    street: Street,
    bundle: Path,
    settings: ProcessSettings,
    *,
    work: Path,
    see_truth: bool = False,
    look: Callable[[Frame, Sequence[Label]], None] = lambda frame, labels: None,
) -> tuple[Run, pipeline.Summary]:
    """What the process says of the street; its gallery and events are in `work`.

    With `see_truth` the true boxes take the place of the detector; `look` sees every frame with its labels. The
    cameras are kept in step, as if the street were live.
    """
    bundle, settings = assembly.chosen_way(bundle, settings)
    threshold, _ = read_threshold(settings.gallery.threshold, bundle)
    settings = replace(
        settings,
        gallery=replace(settings.gallery, path=str(work / "gallery")),
        output=replace(settings.output, events=str(work / "events.jsonl"), metrics_port=0),
    )
    boxes: dict[CameraFrame, list[Box]] = {}
    step = _Step([video.stem for video in street.videos])
    finder = (lambda camera: _truthful(street.truth)) if see_truth else assembly.new_finder(settings)
    summary = pipeline.run(
        bundle, [assembly.NamedSource(video.stem, str(video)) for video in street.videos], settings,
        threshold=threshold, stopping=threading.Event(), finder=lambda camera: step.kept(finder(camera)),
        view=lambda camera: _Witness(boxes, look, lambda: step.leave(camera)),
    )  # fmt: skip
    said: dict[int, list[tuple[str, str | None]]] = {}
    order: list[int] = []
    for line in (work / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] not in SAID:
            continue
        track = event["track"]
        if event.get("identity") is not None and track not in order:
            order.append(track)
        new = event["event"] == "new" or (event["event"] == "revised" and "stored" in event)
        said.setdefault(track, []).append(("new" if new else event["event"], event.get("identity")))
    seconds, passes = summary.stages["detect"]
    stages = summary.stages | {"detect": (seconds - step.waited, passes)}
    return Run(boxes, said, order), replace(summary, stages=stages)


def _truthful(truth: dict[CameraFrame, list[Box]]) -> Callable[[Frame], Detections]:
    def find(frame: Frame) -> Detections:
        there = truth.get((frame.camera, frame.index), [])
        edges = np.array([box.edges for box in there], dtype=np.float32).reshape(-1, 4)
        return Detections(edges, np.full(len(edges), 0.9, dtype=np.float32))

    return find


class _Step:
    """Lets no camera go on to a frame while another has not come so far in its own video."""

    def __init__(self, cameras: Sequence[str]) -> None:
        self._begun: dict[str, float] = {}
        self._seconds = dict.fromkeys(cameras, 0.0)
        self._moved = threading.Condition()
        self.waited = 0.0
        """Seconds of all cameras together."""

    def kept(self, find: assembly.Find) -> assembly.Find:
        def wait_and_find(frame: Frame) -> Detections:
            now = frame.time - self._begun.setdefault(frame.camera, frame.time)
            self._move(frame.camera, now)
            begun = time.monotonic()
            with self._moved:
                self._moved.wait_for(lambda: min(self._seconds.values()) >= now - ROUNDING)
                self.waited += time.monotonic() - begun
            return find(frame)

        return wait_and_find

    def leave(self, camera: str) -> None:
        """The camera's video has ended."""
        self._move(camera, math.inf)

    def _move(self, camera: str, seconds: float) -> None:
        with self._moved:
            self._seconds[camera] = seconds
            self._moved.notify_all()


class _Witness(View):
    """Remembers where each track was."""

    def __init__(
        self,
        boxes: dict[CameraFrame, list[Box]],
        look: Callable[[Frame, Sequence[Label]], None],
        leave: Callable[[], None],
    ) -> None:
        super().__init__()
        self._boxes, self._look, self._leave = boxes, look, leave

    @property
    def wanted(self) -> bool:
        return True

    def show(self, frame: Frame, labels: Sequence[Label]) -> None:
        self._look(frame, labels)
        self._boxes[frame.camera, frame.index] = [
            Box(label.track, (float(x0), float(y0), float(x1), float(y1)))
            for label in labels
            for x0, y0, x1, y1 in [label.box]
        ]

    def close(self) -> None:
        self._leave()

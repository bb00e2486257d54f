"""Runs the camera process on a street of which the truth is known."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.street.scores import Box, Place, Run
from deploy import pipeline
from deploy.annotate import Label, View
from deploy.frames import Detections, Frame
from deploy.settings import ProcessSettings
from pat.base.errors import UserError

TRUTH = "truth.jsonl"
SAID = ("recognised", "new", "revised", "unknown")


@dataclass(frozen=True)
class Street:
    """A folder of `pat synth street`."""

    videos: Sequence[Path]
    truth: dict[Place, list[Box]]

    @property
    def people(self) -> int:
        return len({box.who for boxes in self.truth.values() for box in boxes})


def read_street(folder: Path) -> Street:
    """Raises UserError for a folder that holds no street."""
    videos = sorted(folder.glob("*.mp4"))
    truth: dict[Place, list[Box]] = {}
    try:
        for line in (folder / TRUTH).read_text(encoding="utf-8").splitlines():
            each = json.loads(line)
            left, top, right, bottom = map(float, each["box"])
            box = Box(int(each["person"]), (left, top, right, bottom))
            truth.setdefault((each["camera"], int(each["frame"])), []).append(box)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no street of `pat synth street`: {error}") from error
    if not videos or not truth:
        raise UserError(f"{folder} holds no videos, or no people")
    return Street(videos, truth)


def run_street(
    street: Street,
    bundle: Path,
    settings: ProcessSettings,
    *,
    threshold: float,
    work: Path,
    see_truth: bool = False,
) -> tuple[Run, pipeline.Summary]:
    """What the process says of the street; its gallery and events are in `work`.

    With `see_truth` the true boxes take the place of the detector.
    """
    settings = replace(
        settings,
        gallery=replace(settings.gallery, path=str(work / "gallery")),
        output=replace(settings.output, events=str(work / "events.jsonl"), metrics_port=0),
    )
    boxes: dict[Place, list[Box]] = {}
    summary = pipeline.run(
        bundle,
        [pipeline.NamedSource(video.stem, str(video)) for video in street.videos],
        settings,
        threshold=threshold,
        stopping=threading.Event(),
        finder=(lambda camera: _truthful(street.truth)) if see_truth else None,
        view=lambda camera: _Witness(boxes),
    )
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
    return Run(boxes, said, order), summary


def _truthful(truth: dict[Place, list[Box]]) -> Callable[[Frame], Detections]:
    def find(frame: Frame) -> Detections:
        there = truth.get((frame.camera, frame.index), [])
        edges = np.array([box.edges for box in there], dtype=np.float32).reshape(-1, 4)
        return Detections(edges, np.full(len(edges), 0.9, dtype=np.float32))

    return find


class _Witness(View):
    """Remembers where each track was."""

    def __init__(self, boxes: dict[Place, list[Box]]) -> None:
        super().__init__()
        self._boxes = boxes

    @property
    def wanted(self) -> bool:
        return True

    def show(self, frame: Frame, labels: Sequence[Label]) -> None:
        self._boxes[frame.camera, frame.index] = [
            Box(label.track, (float(x0), float(y0), float(x1), float(y1)))
            for label in labels
            for x0, y0, x1, y1 in [label.box]
        ]

"""What a recording without labels says of a model: a track is one person, people seen at once are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy import assembly, runtime
from deploy.appearance import qualities
from deploy.frames import Boxes, clipped, ious
from deploy.settings import CameraSettings, DetectSettings, ProcessSettings
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.evaluation.verification import PairScores, counted

VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".ts", ".mpg", ".mpeg", ".mjpeg")
APART = 2.0
"""Seconds between two views of a track that count as a pair: what comes one after the other says nothing."""
APART_ENOUGH = 0.05
"""IoU of two boxes from which on a track may have jumped from one to the other: they say nothing either."""
MEETINGS = 10
"""Pairs of people seen at once, without which nothing is calibrated."""
WAIT = 0.2
WORST = 0.2
"""Equal error rate from which on a model is refused here: pairs within a track are the easiest that there are."""


@dataclass(frozen=True)
class Views:
    """What was embedded of the people in some videos."""

    vectors: NDArray[np.float32]
    """[n, D], unit length."""
    tracks: NDArray[np.int64]
    """[n]; no number stands for two tracks."""
    times: NDArray[np.float64]
    met: frozenset[tuple[int, int]]
    """Tracks (the smaller number first) seen in one image, apart from each other whenever they were."""


def is_recording(name: str) -> bool:
    """Whether this is a video or a stream, and no labelled data set."""
    return "://" in name or name.startswith(("gst:", "/dev/")) or Path(name).suffix.lower() in VIDEOS


def watch(bundle: Path, videos: Sequence[str], detector: str, progress: Progress) -> Views:
    """Follow the people of each video and embed views of them. UserError for a video that cannot be read."""
    settings = ProcessSettings(camera=CameraSettings(give_up_after=30.0), detect=DetectSettings(detector=detector))
    finder = assembly.new_finder(settings)
    seen = _Seen()
    with runtime.open(bundle) as session:
        for source in assembly.named_sources(videos):
            camera = assembly.new_camera(source, settings)
            find, policy = finder(source.name), assembly.new_policy(settings)
            tracker = assembly.new_tracker(settings)
            with camera, progress.bar(source.name, 0) as advance:
                while not camera.ended and camera.state != "failed":
                    if (frame := camera.get(timeout=WAIT)) is None:
                        continue
                    advance(1, f"{len(seen.tracks)} views")
                    people = [each for each in tracker.update(find(frame), frame) if not each.lost]
                    if not people:
                        continue
                    boxes, usable = clipped(np.stack([each.box for each in people]), *frame.pixels.shape[:2])
                    numbers = [seen.number(source.name, each.track) for each in people]
                    seen.meet(numbers, boxes)
                    scores = np.array([each.score for each in people], dtype=np.float32)
                    quality = qualities(frame.pixels, boxes, scores)
                    chosen = [
                        row
                        for row, each in enumerate(people)
                        if usable[row] and policy.wants(each.track, frame.time, float(quality[row]))
                    ]
                    if chosen:
                        vectors = session.embed_boxes([frame.pixels], [boxes[chosen]])
                        seen.take([numbers[row] for row in chosen], frame.time, vectors)
                if camera.state == "failed":
                    raise UserError(f"{source.url} cannot be read: {camera.status().error}")
    return seen.views(session.manifest.output.size)


class _Seen:
    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}
        self._met: set[tuple[int, int]] = set()
        self._close: set[tuple[int, int]] = set()
        self.tracks: list[int] = []
        self._times: list[float] = []
        self._vectors: list[NDArray[np.float32]] = []

    def number(self, camera: str, track: int) -> int:
        return self._numbers.setdefault((camera, track), len(self._numbers))

    def meet(self, numbers: Sequence[int], boxes: Boxes) -> None:
        near = ious(boxes, boxes)
        for row, one in enumerate(numbers):
            for column, other in enumerate(numbers[:row]):
                pair = min(one, other), max(one, other)
                self._met.add(pair)
                if near[row, column] > APART_ENOUGH:
                    self._close.add(pair)

    def take(self, numbers: Sequence[int], time: float, vectors: NDArray[np.float32]) -> None:
        self.tracks += numbers
        self._times += [time] * len(numbers)
        self._vectors += list(vectors)

    def views(self, dimension: int) -> Views:
        return Views(
            np.stack(self._vectors) if self._vectors else np.empty((0, dimension), np.float32),
            np.array(self.tracks, dtype=np.int64),
            np.array(self._times, dtype=np.float64),
            frozenset(self._met - self._close),
        )


def recording_scores(views: Views, cameras: int) -> PairScores:
    """Pairs of one track, and of tracks that were seen at once. UserError when there are too few of either."""
    cosines = np.clip(views.vectors @ views.vectors.T, -1, 1)  # [n, n]
    later = np.arange(len(views.tracks))[:, None] < np.arange(len(views.tracks))
    same = views.tracks[:, None] == views.tracks
    apart = np.abs(views.times[:, None] - views.times) >= APART
    genuine = cosines[later & same & apart]
    met = np.zeros(cosines.shape, dtype=np.bool_)
    meetings = 0
    for one, other in views.met:
        pairs = (views.tracks[:, None] == one) & (views.tracks == other)
        meetings += bool(pairs.any())
        met |= pairs
    if meetings < MEETINGS:
        raise UserError(
            f"{meetings} pairs of people were seen at once in {len(np.unique(views.tracks))} tracks; {MEETINGS} "
            "are the least: record longer, or a busier hour, or give labelled images"
        )
    if not len(genuine):
        raise UserError(
            f"nobody was followed for {APART:g} s; record more images a second, or give labelled images"
        )
    return counted(genuine, cosines[met], people=len(np.unique(views.tracks)), cameras=cameras)

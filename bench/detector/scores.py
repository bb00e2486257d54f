"""How many people a detector finds in labelled frames, and how often it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.detector.data import Labelled
from deploy.frames import Detections, ious

SAME = 0.5
"""IoU from which on a box is that of the person."""
Find = Callable[[NDArray[np.uint8]], Detections]


@dataclass(frozen=True)
class Detected:
    """What a detector found in frames: `scores` f32 [n] of its boxes, the surest first, and which are `right`."""

    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    people: int
    frames: int

    def at(self, threshold: float) -> tuple[float, float]:
        """Share of the people found, and false alarms a frame, from a score on."""
        sure = self.scores >= threshold
        return float((sure & self.right).sum() / self.people), float((sure & ~self.right).sum() / self.frames)

    def average_precision(self) -> float:
        """Area under precision (made to fall) over recall."""
        right = np.cumsum(self.right)
        precision = right / np.arange(1, len(right) + 1)
        falling = np.maximum.accumulate(precision[::-1])[::-1]
        return float((falling * self.right).sum() / self.people)

    def told(self) -> dict[str, object]:
        """For scores.json."""
        at = {f"{threshold:g}": self.at(threshold) for threshold in (0.2, 0.3, 0.4, 0.5, 0.6)}
        precision = self.average_precision()
        return {"people": self.people, "frames": self.frames, "average precision": precision, "at": at}


def look(find: Find, frames: Sequence[Labelled]) -> Detected:
    """Each box is that of the person whom it fits best and no surer box has; boxes on who is mostly hidden count
    neither way."""
    scores: list[float] = []
    right: list[bool] = []
    for frame in frames:
        pixels = np.ascontiguousarray(np.asarray(cv2.imread(str(frame.path)))[..., ::-1])
        found = find(pixels)
        free = np.ones(len(frame.boxes), dtype=bool)
        for box, score in zip(found.boxes, found.scores, strict=True):
            fits = ious(box[None], frame.boxes)[0] * free
            hit = bool(len(fits) and fits.max() >= SAME)
            if hit:
                free[fits.argmax()] = False
            elif len(frame.unclear) and ious(box[None], frame.unclear).max() > 0.3:
                continue
            scores.append(float(score))
            right.append(hit)
    order = np.argsort(-np.array(scores, np.float32), kind="stable")
    people = sum(len(frame.boxes) for frame in frames)
    return Detected(np.array(scores, np.float32)[order], np.array(right, bool)[order], people, len(frames))

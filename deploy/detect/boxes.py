"""From the raw boxes of a detector to one box for each person, inside the frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.frames import Boxes, Detections, areas, clipped, common_areas

MOST_PEOPLE = 300
"""In one frame: what a broken or overwhelmed detector finds beyond costs memory and time, and helps nobody."""
MOST_BOXES = 2000
"""Before overlapping ones are suppressed, which takes time quadratic in their number."""
Scores = NDArray[np.float32]


def finite(boxes: Boxes, scores: Scores) -> NDArray[np.bool_]:
    """Which rows [n] hold no NaN and no infinity."""
    return np.asarray(np.isfinite(boxes).all(axis=1) & np.isfinite(scores))


def suppressed(boxes: Boxes, scores: Scores, overlap: float) -> NDArray[np.intp]:
    """Rows of the boxes that stay when those overlapping a surer one by more than `overlap` (IoU) are left out.

    Scores lie above 0. The surest first.
    """
    if not len(boxes):
        return np.empty(0, dtype=np.intp)
    surest = np.argsort(-scores, kind="stable")[:MOST_BOXES]
    boxes, scores = boxes[surest], scores[surest]
    corner_and_size = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)  # [n, 4]
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), 0.0, overlap)
    return np.asarray(surest[np.asarray(kept, dtype=np.intp).reshape(-1)])


def nested(boxes: Boxes, share: float) -> NDArray[np.bool_]:
    """Which boxes [n], given the surest first, share `share` of the smaller area with a surer one.

    IoU says little of a small box inside a large one, and two such boxes seldom are two people.
    """
    area = areas(boxes)
    inside = common_areas(boxes, boxes) >= share * np.minimum(area[:, None], area[None, :])
    hidden = np.zeros(len(boxes), dtype=np.bool_)
    for row in range(len(boxes)):  # a box that is left out itself hides nobody
        hidden[row] = bool((inside[row, :row] & ~hidden[:row]).any())
    return hidden


def in_frame(boxes: Boxes, scores: Scores, height: int, width: int) -> Detections:
    """Detections clipped to the frame; those that leave less than a pixel are left out. Surest first."""
    inside, usable = clipped(boxes, height, width)
    inside, scores = inside[usable], np.asarray(scores, dtype=np.float32)[usable]
    order = np.argsort(-scores, kind="stable")[:MOST_PEOPLE]
    return Detections(inside[order], scores[order])


def nobody() -> Detections:
    return Detections(np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=np.float32))

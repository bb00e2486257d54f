"""How good a view of a person is, when it is worth embedding, and what one track looks like over all its views."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.frames import Boxes, Pixels, areas, clipped, common_areas, ious

Array = NDArray[np.float32]

TALL = 256.0
"""Pixels of a person from which on more of them add nothing: the height of the model's input."""
SHARP_ROWS = 64
"""Height at which sharpness is measured, so that it does not depend on the person's size."""
SHARP = 300.0
"""Variance of the Laplacian of a crop at that height that counts as half sharp. Measured medians: people in street
video 2200, blurred with a sigma of 1 pixel 550, of 2 pixels 140, of 4 pixels 34; synthetic people 1550, 740, 220,
39."""
SHAPE = (0.25, 0.35, 0.55, 0.85)
"""Width divided by height of a whole upright person: implausible, plausible from .. to, implausible."""
EDGE = 1.5
"""Pixels from the frame's edge within which a box counts as cut off by it."""
ROUNDING = 1e-3
"""Seconds that a frame may come early."""
CUT_OFF = 0.5
"""What a person is worth who goes on outside the frame."""


def qualities(pixels: Pixels, boxes: Boxes, scores: Array) -> Array:
    """How good each view of a frame is, [n] from 0 (useless) to 1.

    The product of six factors: height, sharpness, shape, not being cut off by the frame, not being hidden by
    another of the boxes, and the detector's score. So one bad one spoils the view. Boxes [n, 4] outside the frame,
    without area or not finite are worth 0.
    """
    height, width = pixels.shape[:2]
    inside, usable = clipped(boxes, height, width)
    values = np.zeros(len(inside), dtype=np.float32)
    rows = np.flatnonzero(usable)
    if not len(rows):
        return values
    whole, kept = inside[rows], np.nan_to_num(np.asarray(scores, dtype=np.float32)[rows], nan=0.0)
    sides = whole[:, 2:] - whole[:, :2]  # [m, 2]
    blur = np.array([sharpness(pixels, box) for box in whole], dtype=np.float32)
    values[rows] = (
        np.sqrt(np.minimum(sides[:, 1] / TALL, 1))
        * (blur / (blur + SHARP))
        * _plausible(sides[:, 0] / sides[:, 1])
        * np.where(_cut_off(whole, height, width), CUT_OFF, 1)
        * (1 - covered(whole))
        * np.sqrt(np.clip(kept, 0, 1))
    )
    return values


def sharpness(pixels: Pixels, box: Array) -> float:
    """Variance of the Laplacian of a crop's grey values, at a height of SHARP_ROWS. The box lies in the frame."""
    left, top = (math.floor(edge) for edge in box[:2])
    right, bottom = (math.ceil(edge) for edge in box[2:])
    crop = np.ascontiguousarray(pixels[top:bottom, left:right])
    columns = max(round(SHARP_ROWS * crop.shape[1] / crop.shape[0]), 3)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    smaller = crop.shape[0] > SHARP_ROWS
    grey = cv2.resize(grey, (columns, SHARP_ROWS), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def covered(boxes: Boxes) -> Array:
    """Share of each box [n] that other boxes hide, from 0 to 1.

    The one whose lower edge is lower in the image stands nearer to the camera and hides the others. Where
    several hide the same one their shares are added, up to 1.
    """
    nearer = boxes[None, :, 3] > boxes[:, None, 3]  # [n, n] column j hides row i
    hidden = (common_areas(boxes, boxes) * nearer).sum(axis=1)
    return np.asarray(np.minimum(hidden / areas(boxes), 1), dtype=np.float32)


def touching(boxes: Boxes, least: float) -> NDArray[np.bool_]:
    """Which of the boxes [n, 4] have an IoU of at least `least` with which others, [n, n]."""
    return np.asarray((ious(boxes, boxes) >= least) & ~np.eye(len(boxes), dtype=np.bool_))


def _plausible(shape: Array) -> Array:
    """1 for the shape of a whole person, falling to 0.2 for boxes that are too narrow or too wide."""
    return np.asarray(np.interp(shape, SHAPE, (0.2, 1.0, 1.0, 0.2)), dtype=np.float32)


def _cut_off(boxes: Boxes, height: int, width: int) -> NDArray[np.bool_]:
    limits = np.array([width, height], dtype=np.float32)
    return np.asarray((boxes[:, :2] < EDGE).any(axis=1) | (boxes[:, 2:] > limits - EDGE).any(axis=1))


class Appearance:
    """The mean of a track's unit vectors, weighted by quality."""

    def __init__(self) -> None:
        self.samples = 0
        """Vectors in the mean."""
        self.weight = 0.0
        self.best = 0.0
        """Quality of the best view."""
        self._sum: NDArray[np.float64] | None = None  # [D]

    def add(self, vector: Array, quality: float) -> bool:
        """Take up a vector [D] of any length but 0; whether it was taken: one that is not finite, or of no
        quality, is not. Raises ValueError for another D."""
        vector = np.asarray(vector, dtype=np.float64)
        if self._sum is not None and vector.shape != self._sum.shape:
            raise ValueError(f"vector has the shape {vector.shape}, the track's vectors have {self._sum.shape}")
        length = float(np.linalg.norm(vector))
        if not (math.isfinite(length) and length > 0 and math.isfinite(quality) and quality > 0):
            return False
        unit = np.asarray(vector / length * quality, dtype=np.float64)
        self._sum = unit if self._sum is None else self._sum + unit
        self.weight += quality
        self.best = max(self.best, quality)
        self.samples += 1
        return True

    @property
    def vector(self) -> Array | None:
        """The mean [D] at unit length; None before the first vector, and where they cancel each other out."""
        if self._sum is None:
            return None
        length = float(np.linalg.norm(self._sum))
        if length < 1e-6 * self.weight:
            return None
        return np.asarray(self._sum / length, dtype=np.float32)

    def likeness(self, vector: Array) -> float:
        """Cosine of a vector [D] to the mean; 1 before the first, NaN for one that is not finite."""
        mean, length = self.vector, float(np.linalg.norm(vector))
        return 1.0 if mean is None else float(mean @ vector) / length if length else math.nan

    def agrees(self, threshold: float) -> bool:
        """Whether the views are on average as alike as `threshold`, the least cosine of one person, asks for."""
        return self.samples > 0 and self.agreement**2 >= threshold + (1 - threshold) / self.samples - 1e-6

    @property
    def agreement(self) -> float:
        """Length of the mean of the unit vectors: 1 when all are the same, near 0 when they point anywhere.

        A track that jumped from one person to another has a low one. 0 before the first vector.
        """
        return 0.0 if self._sum is None else min(float(np.linalg.norm(self._sum)) / self.weight, 1.0)


class EmbeddingPolicy:
    """Which views of a track are embedded: the first good one, then one every `every` seconds, sooner when a view
    is better than the best embedded so far by `better_by`.

    Views under `least_quality` never are.
    """

    def __init__(self, every: float = 1.0, better_by: float = 0.2, least_quality: float = 0.2) -> None:
        self._every, self._better_by, self._least = every, better_by, least_quality
        self._embedded: dict[int, tuple[float, float]] = {}  # track -> time of the last view, best quality

    def __len__(self) -> int:
        """Tracks that are remembered."""
        return len(self._embedded)

    def wants(self, track: int, time: float, quality: float, *, at_once: bool = False) -> bool:
        """Whether this view is to be embedded; if so it is noted as embedded. NaN is no quality. `at_once` does
        not wait until `every` seconds have passed."""
        if not quality >= self._least:
            return False
        last, best = self._embedded.get(track, (time - self._every, quality))
        due = at_once or time - last >= self._every - ROUNDING or time < last  # a clock that was set back
        if not due and quality < best + self._better_by:
            return False
        self._embedded[track] = time, max(best, quality)
        return True

    def forget(self, track: int) -> None:
        """The track has ended."""
        self._embedded.pop(track, None)

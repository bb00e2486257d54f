"""OpenCV's people detector (histograms of oriented gradients, Dalal and Triggs 2005): needs no download.

It sees upright people at least 96 pixels tall after the frame was resized to `width`, has false alarms, and misses
who is half hidden. Where a better model is at hand, use an ONNX detector.
"""

from __future__ import annotations

from math import ceil, log
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.detect.boxes import Scores, in_frame, nested, nobody, suppressed
from deploy.frames import Boxes, Detections, Pixels
from pat.base.errors import UserError

WINDOW = (128, 64)
"""Rows and columns of the smallest person with its margin."""
STRIDE = (8, 8)
PADDING = (8, 8)
PYRAMID = 1.1
"""Ratio of one size of window to the next. In ten images of the street video 1.05 found 50 people and 1.1 found
49, in half the time."""
MARGINS = np.array([0.20, 0.09, 0.80, 0.90], dtype=np.float32)
"""The person inside the window, as shares of its sides: it was trained with a margin around everybody."""
LARGEST_ZOOM = 2.0
"""A small frame gains nothing from more."""
OVERLAP = 0.4
NESTED = 0.8
CENTRE, STEEPNESS = 0.5, 2.0
"""The score is a logistic function of the distance to the separating plane, 0.5 at CENTRE: chosen by eye, so that
on the street video false alarms stay mostly under 0.5. From 0.4 on, 49 of 57 people were found in its ten images
with one false alarm; those missed were mostly smaller than the window or half hidden."""


class HogDetector:
    """Frames are resized to `width` columns first: smaller is faster, larger finds people farther away.

    `threshold` is the least score, 0 to 1. Safe to use from several threads, as OpenCV itself uses a descriptor.
    """

    def __init__(self, *, threshold: float | None = None, width: int = 960) -> None:
        if not hasattr(cv2, "HOGDescriptor"):
            raise UserError(f"OpenCV {cv2.__version__} has no HOG detector: pip install 'opencv-python>=4.8,<5'")
        if width < WINDOW[1]:
            raise UserError(f"the HOG detector's width is {width}; it must be at least {WINDOW[1]} pixels")
        threshold = 0.4 if threshold is None else threshold
        self.width = width
        self._least = CENTRE + log(threshold / (1 - threshold)) / STEEPNESS
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(np.asarray(cv2.HOGDescriptor.getDefaultPeopleDetector()))

    def detect(self, pixels: Pixels, regions: Boxes | None = None) -> Detections:
        """People in a frame u8 [H, W, 3] RGB; nobody in one that is smaller than a window after resizing."""
        height, width = pixels.shape[:2]
        zoom = min(self.width / max(width, 1), LARGEST_ZOOM)
        size = round(width * zoom), round(height * zoom)
        if size[1] < WINDOW[0] or size[0] < WINDOW[1] or (regions is not None and not len(regions)):
            return nobody()
        grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        image = np.asarray(
            cv2.resize(grey, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR), dtype=np.uint8
        )
        scale = np.tile(np.array([width / size[0], height / size[1]], dtype=np.float32), 2)
        parts = [(0, 0, *size)] if regions is None else [_part(each, size) for each in regions / scale]
        found = [each for part in parts if (each := self._windows(image, part)) is not None]
        if not found:
            return nobody()
        windows = np.concatenate([some for some, _ in found])
        distances = np.concatenate([some for _, some in found])
        boxes = np.tile(windows[:, :2], 2) + np.tile(windows[:, 2:], 2) * MARGINS
        scores = _score(distances)
        kept = suppressed(boxes, scores, OVERLAP)
        boxes, scores = boxes[kept], scores[kept]
        apart = ~nested(boxes, NESTED)
        return in_frame(boxes[apart] * scale, scores[apart], height, width)

    def _windows(
        self, image: NDArray[np.uint8], part: tuple[int, int, int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]] | None:
        """Windows [n, 4] (left, top, width, height) with somebody in a part of the image, and their distances."""
        left, top, right, bottom = part
        found, distances = self._hog.detectMultiScale(
            np.ascontiguousarray(image[top:bottom, left:right]),
            hitThreshold=self._least, winStride=STRIDE, padding=PADDING, scale=PYRAMID, groupThreshold=0,
        )  # fmt: skip
        if not len(found):
            return None
        return np.asarray(found, dtype=np.float32) + np.array([left, top, 0, 0], np.float32), np.ravel(distances)


def _part(region: NDArray[np.float32], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A region of the image of this size (columns, rows) in whole strides, and no smaller than a window."""
    edges = []
    for axis in (0, 1):
        stride, window, end = STRIDE[axis], WINDOW[1 - axis], size[axis]
        first = max(min(int(region[axis]), end - window), 0) // stride * stride
        edges.append((first, min(max(ceil(region[2 + axis]), first + window), end)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _score(distances: NDArray[np.floating[Any]]) -> Scores:
    return np.asarray(1 / (1 + np.exp(STEEPNESS * (CENTRE - distances))), dtype=np.float32)

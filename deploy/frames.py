"""What flows through the camera process: frames, boxes in them, and which boxes can be cut out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""[H, W, 3] RGB."""
Boxes = NDArray[np.float32]
"""[n, 4] of (x0, y0, x1, y1) in pixels: edges, not centres."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of one camera."""

    camera: str
    index: int
    """Frames that the camera gave before this one, reconnects included."""
    time: float
    """Seconds since the epoch: when a live image arrived; when a recorded one would have."""
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Detections:
    """People found in a frame."""

    boxes: Boxes
    scores: NDArray[np.float32]
    """[n] confidence of each box, the larger the surer."""

    def __len__(self) -> int:
        return len(self.boxes)


def clipped(boxes: Boxes, height: int, width: int) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes limited to the frame, and which of them [n] are finite and keep at least one pixel each way."""
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    finite = np.asarray(np.isfinite(boxes).all(axis=1))
    limits = np.array([width, height, width, height], dtype=np.float32)
    inside = np.clip(np.where(finite[:, None], boxes, 0), 0, limits)
    sides = inside[:, 2:] - inside[:, :2]  # [n, 2]
    return inside, finite & (sides >= 1).all(axis=1)


def common_areas(ours: Boxes, theirs: Boxes) -> NDArray[np.float32]:
    """Area that boxes [n, 4] and [m, 4] share: [n, m]."""
    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])  # [n, m, 2]
    high = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=2))


def areas(boxes: Boxes) -> NDArray[np.float32]:
    """Area of each box [n]."""
    return np.asarray(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))


def ious(ours: Boxes, theirs: Boxes) -> NDArray[np.float32]:
    """Intersection over union of boxes [n, 4] and [m, 4]: [n, m], 0 for those without area."""
    common = common_areas(ours, theirs)
    union = areas(ours)[:, None] + areas(theirs)[None] - common
    return np.asarray(common / np.maximum(union, 1e-6), dtype=np.float32)

"""An image that is painted from back to front, with the part that each pixel shows kept beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.uint8]
Point = tuple[float, float]
Paint = Callable[[Array, Array], tuple[Array, "Labels | int"]]
"""How a shape looks: from the angle [h, w] in radians around it (0 where it faces the viewer) and the
distance [h, w] along it, the colours [h, w, 3] and what is shown there."""


@dataclass(frozen=True)
class Light:
    """Where light comes from: `side` -1 (left) to 1 (right); `ambient` is the brightness of full shade."""

    side: float
    ambient: float


@dataclass
class Canvas:
    """RGB pixels in [0, 1], and the label of what is on top at each pixel (0: background).

    Positions and lengths are in person heights, y pointing down; `scale` is pixels per person height.
    """

    pixels: Array  # [H, W, 3]
    labels: Labels  # [H, W]
    scale: float
    origin: Point  # in pixels
    light: Light

    def sweep(
        self, start: Point, end: Point, widths: Sequence[float], paint: Paint, *, round_ends: bool = True,
        shade: float = 1.0,
    ) -> None:  # fmt: skip
        """Paint a limb-like shape: an axis from `start` to `end` with half widths spaced evenly along it.

        It is lit like a cylinder around the axis, and its edges are smooth. Round ends reach beyond the axis.
        """
        scale, (ox, oy) = self.scale, self.origin
        ax, ay = ox + scale * start[0], oy + scale * start[1]
        bx, by = ox + scale * end[0], oy + scale * end[1]
        length = max(float(np.hypot(bx - ax, by - ay)), 1e-3)
        dx, dy = ((bx - ax) / length, (by - ay) / length) if length > 1e-3 else (0.0, 1.0)

        margin = scale * max(widths) + 1
        height, width = self.labels.shape
        left, right = max(int(min(ax, bx) - margin), 0), min(int(max(ax, bx) + margin) + 2, width)
        top, bottom = max(int(min(ay, by) - margin), 0), min(int(max(ay, by) + margin) + 2, height)
        if left >= right or top >= bottom:
            return
        x = np.arange(left, right, dtype=np.float32)[None, :] + (0.5 - ax)
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + (0.5 - ay)
        along = x * dx + y * dy  # [h, w], pixels
        across = x * dy - y * dx
        half = _interpolated(along / length, np.asarray(widths, np.float32) * scale)
        beyond = np.maximum(np.maximum(-along, along - length), 0)
        if round_ends:
            coverage = np.clip(half - np.hypot(across, beyond) + 0.5, 0, 1)
        else:
            coverage = np.clip(half - np.abs(across) + 0.5, 0, 1) * np.clip(1 - beyond, 0, 1)

        sine = np.clip(across / np.maximum(half, 0.5), -0.999, 0.999)
        colour, label = paint(np.arcsin(sine), along / scale)
        towards = np.clip(sine * self.light.side + np.sqrt(1 - sine * sine) * 0.85, 0, 1)
        lit = shade * (self.light.ambient + (1 - self.light.ambient) * towards)
        box = self.pixels[top:bottom, left:right]
        box += coverage[..., None] * (colour * lit[..., None] - box)
        np.copyto(self.labels[top:bottom, left:right], np.asarray(label, np.uint8), where=coverage > 0.5)


def _interpolated(position: Array, values: Array) -> Array:
    """Linear interpolation between evenly spaced `values` over [0, 1], constant outside."""
    if len(values) == 1:
        return np.broadcast_to(values, position.shape)
    steps = np.clip(position, 0, 1) * (len(values) - 1)
    lower = np.minimum(steps.astype(np.int32), len(values) - 2)
    result: Array = values[lower] + (steps - lower) * (values[lower + 1] - values[lower])
    return result

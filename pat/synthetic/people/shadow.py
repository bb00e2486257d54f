"""Where the lamp's light is kept off: the z-buffer seen from the lamp."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pat.synthetic.people.figure import Figure
from pat.synthetic.people.raster import raster
from pat.synthetic.people.view import Light

SIZE = 224  # texels a side: about 1 cm for one person
FAR = 100.0


@dataclass(frozen=True)
class Shadow:
    close: NDArray[np.float32]  # [SIZE, SIZE] nearness to the lamp, 0 where free
    frame: NDArray[np.float64]  # [3, 4]: world point -> (column, row, nearness)


def shadow_map(figures: Sequence[Figure], light: Light) -> Shadow:
    direction = np.asarray(light.direction, np.float64)
    side = np.cross([0.0, 0.0, 1.0], direction) if abs(direction[2]) < 0.99 else np.array([1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(direction, side), direction])
    points = np.concatenate([figure.vertices for figure in figures]).astype(np.float64) @ axes.T
    low, high = (np.array([bound(column) for column in points.T]) for bound in (np.min, np.max))
    scale = (SIZE - 4) / max(high[0] - low[0], high[1] - low[1])
    rows = np.array([scale, scale, 1.0])
    frame = np.concatenate(
        [axes * rows[:, None], np.array([2 - low[0] * scale, 2 - low[1] * scale, FAR])[:, None]], 1
    )
    starts = np.cumsum([0, *(len(figure.vertices) for figure in figures)], dtype=np.int32)
    faces = np.concatenate([figure.faces + start for figure, start in zip(figures, starts, strict=False)])
    _, close = raster(points * rows + frame[:, 3], faces, SIZE, SIZE)
    return Shadow(close, frame)


@njit(cache=True, error_model="numpy")
def softened(close):
    """Share of the 5 x 5 texels about each one of a map f32 [S, S] that are taken."""
    size = close.shape[0]
    down, out = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for row in range(2, size - 2):
        for k in range(-2, 3):
            for col in range(size):
                down[row, col] += np.float32(1.0) if close[row + k, col] > 0 else np.float32(0.0)
    for row in range(2, size - 2):
        for k in range(-2, 3):
            for col in range(2, size - 2):
                out[row, col] += down[row, col + k] / np.float32(25)
    return out


@njit(cache=True, error_model="numpy")
def shadow_on_ground(plane, soft, frame, out):
    """Fill `out` f32 [h, w] with the share of the lamp that is kept from z = 0, which lies behind every figure."""
    size = soft.shape[0]
    for row in range(out.shape[0]):
        for col in range(out.shape[1]):
            x = plane[0, 0] * (col + 0.5) + plane[0, 1] * (row + 0.5) + plane[0, 2]
            y = plane[1, 0] * (col + 0.5) + plane[1, 1] * (row + 0.5) + plane[1, 2]
            w = plane[2, 0] * (col + 0.5) + plane[2, 1] * (row + 0.5) + plane[2, 2]
            if w > 1e-9:
                x, y = x / w, y / w
                u = frame[0, 0] * x + frame[0, 1] * y + frame[0, 3]
                v = frame[1, 0] * x + frame[1, 1] * y + frame[1, 3]
                if 0 <= u < size and 0 <= v < size:
                    out[row, col] = soft[int(v), int(u)]

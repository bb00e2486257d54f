"""Where solids are: their corners, what they can cover of an image, what can keep the sun off a place. Compiled.

All of it errs on the side of too much: whoever looks at nothing else misses nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

CELLS = 256
"""A side of the plane across the sun's rays, in which solids are looked up by where their shadows fall."""


@njit(cache=True, error_model="numpy")
def corners(planes):
    """Corners f64 [K, 3] of the solid n·p <= d of planes f64 [C, 4], and which planes meet in each, as bits."""
    count = len(planes)
    points, bits, found = np.empty((count**3 // 6, 3)), np.empty(count**3 // 6, np.int64), 0
    for i in range(count):
        for j in range(i):
            for k in range(j):
                a, b, c = planes[i], planes[j], planes[k]
                ux, uy, uz = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
                vx, vy, vz = c[1] * a[2] - c[2] * a[1], c[2] * a[0] - c[0] * a[2], c[0] * a[1] - c[1] * a[0]
                wx, wy, wz = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
                volume = a[0] * ux + a[1] * uy + a[2] * uz
                if abs(volume) < 1e-9:
                    continue
                x = (a[3] * ux + b[3] * vx + c[3] * wx) / volume
                y = (a[3] * uy + b[3] * vy + c[3] * wy) / volume
                z = (a[3] * uz + b[3] * vz + c[3] * wz) / volume
                outside, meet = False, 0
                for p in range(count):
                    far = planes[p, 0] * x + planes[p, 1] * y + planes[p, 2] * z - planes[p, 3]
                    outside |= far > 1e-6
                    meet |= (1 << p) if far > -1e-6 else 0
                if not outside:
                    points[found, 0], points[found, 1], points[found, 2], bits[found] = x, y, z, meet
                    found += 1
    return points[:found], bits[:found]


@njit(cache=True, error_model="numpy")
def spans(planes, matrix, nearest, height, width):
    """Columns i64 [H, 2], first and after the last, that a solid can cover in each row of an image.

    `matrix` f64 [3, 4]: world -> (u·w, v·w, w), its third row of unit length; nothing is seen that is nearer than
    `nearest` metres.
    """
    count = len(planes)
    cut = np.empty((count + 1, 4))
    for k in range(4):
        for p in range(count):
            cut[p, k] = planes[p, k]
        cut[count, k] = -matrix[2, k] if k < 3 else matrix[2, 3] - nearest
    points, bits = corners(cut)
    columns = np.zeros((height, 2), np.int64)
    for row in range(height):
        columns[row, 0] = width
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3]
        points[i, 0] = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3]) / w
        points[i, 1] = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3]) / w
    for i in range(len(points)):
        for j in range(i):
            both = bits[i] & bits[j]
            if both & (both - 1) == 0:
                continue  # an edge lies in two planes
            x, y, down = points[i, 0], points[i, 1], points[j, 1] - points[i, 1]
            slope = (points[j, 0] - x) / (down if abs(down) > 1e-9 else 1e-9)
            top, bottom = min(y, y + down), max(y, y + down)
            for row in range(max(0, int(top) - 1), min(height, int(bottom) + 2)):
                at = x + slope * (min(max(row + 0.5, top), bottom) - y)
                columns[row, 0] = min(columns[row, 0], max(0, int(at) - 1))
                columns[row, 1] = max(columns[row, 1], min(width, int(at) + 2))
    return columns


class Shadows(NamedTuple):
    """Solids by where their shadows fall, in cells of a plane across the rays of the sun.

    `frame` f64 [2, 4]: world point -> row and column of its cell, to be rounded down. The solids of a cell are
    solids[first[k]:first[k + 1]] with k = row * CELLS + column; cell CELLS² is empty: what is outside.
    """

    frame: NDArray[np.float64]
    first: NDArray[np.int64]
    solids: NDArray[np.int64]


def shadows(things: NDArray[np.void], direction: NDArray[np.float64], ignored: NDArray[np.bool_]) -> Shadows:
    """The shadows of all solids but those `ignored` [N] in the light from a `direction` f64 [3]."""
    side = np.cross(direction, [0.0, 0.0, 1.0] if abs(direction[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(direction, side)])
    boxes = _boxes(things, axes)
    low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
    scale = CELLS / (high - low)
    cells = np.clip((boxes - low) * scale, 0, CELLS - 1).astype(np.int64)
    cells[ignored, 1] = -1
    frame = np.concatenate([axes * scale[:, None], (-low * scale)[:, None]], axis=1)
    return Shadows(frame, *_by_cell(cells))


@njit(cache=True, error_model="numpy")
def _boxes(things, axes):
    """Least and greatest f64 [N, 2, 2] of each solid along two axes f64 [2, 3], and a little more."""
    out = np.empty((len(things), 2, 2))
    for i in range(len(things)):
        points, _ = corners(things[i].planes[: things[i].count])
        for k in range(2):
            low, high = np.inf, -np.inf
            for p in range(len(points)):
                along = points[p, 0] * axes[k, 0] + points[p, 1] * axes[k, 1] + points[p, 2] * axes[k, 2]
                low, high = min(low, along), max(high, along)
            out[i, 0, k], out[i, 1, k] = low - 1e-3, high + 1e-3
    return out


@njit(cache=True, error_model="numpy")
def _by_cell(boxes):
    """Starts and indices of the boxes i64 [N, 2, 2] (first and last row and column) in each cell."""
    first = np.zeros(CELLS * CELLS + 2, np.int64)
    for i in range(len(boxes)):
        for row in range(boxes[i, 0, 0], boxes[i, 1, 0] + 1):
            for column in range(boxes[i, 0, 1], boxes[i, 1, 1] + 1):
                first[row * CELLS + column + 1] += 1
    for cell in range(len(first) - 1):
        first[cell + 1] += first[cell]
    free, found = first.copy(), np.empty(first[-1], np.int64)
    for i in range(len(boxes)):
        for row in range(boxes[i, 0, 0], boxes[i, 1, 0] + 1):
            for column in range(boxes[i, 0, 1], boxes[i, 1, 1] + 1):
                cell = row * CELLS + column
                found[free[cell]] = i
                free[cell] += 1
    return first, found

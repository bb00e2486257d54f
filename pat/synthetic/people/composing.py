"""People put into a plate: cut, shadowed, and hidden by what is nearer. Compiled; linear light."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

CONTACT = 0.3
"""Share of the light that a foot takes from the ground it touches."""
BODY = 0.1
"""And that the person above it takes."""


@njit(cache=True, error_model="numpy")
def background(plate, depths, white, box, inverse, eye, shadow, share, feet, colour, depth):
    """Fill `colour` f32 [h, w, 3] and `depth` f32 [h, w] with a plate in `box`, in the shadow of people.

    `inverse` f64 [3, 3]: pixel of the crop -> ray; `share`: of the light on sunlit ground that is the sun's;
    `feet` f32 [K, 2]: where people touch the ground.
    """
    rows, columns = depths.shape
    height, width = depth.shape
    across, down = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    scale = white / 65025.0
    for row in range(height):
        y = min(max(box[1] + (row + 0.5) * down - 0.5, 0.0), rows - 1.001)
        i = int(y)
        b = y - i
        for column in range(width):
            x = min(max(box[0] + (column + 0.5) * across - 0.5, 0.0), columns - 1.001)
            j = int(x)
            a = x - j
            sun = 0.0
            for c in range(4):
                p, q = float(plate[i, j, c]), float(plate[i, j + 1, c])
                r, s = float(plate[i + 1, j, c]), float(plate[i + 1, j + 1, c])
                if c < 3:
                    p, q, r, s = p * p, q * q, r * r, s * s
                value = (p * (1 - a) + q * a) * (1 - b) + (r * (1 - a) + s * a) * b
                if c < 3:
                    colour[row, column, c] = value * scale
                else:
                    sun = value / 255.0
            far = depths[int(y + 0.5), int(x + 0.5)] * 0.01
            depth[row, column] = far
            u, v = column + 0.5, row + 0.5
            dz = inverse[2, 0] * u + inverse[2, 1] * v + inverse[2, 2]
            if dz > -1e-6:
                continue
            t = -eye[2] / dz
            if abs(far - t) > 0.03 * t + 0.05:
                continue  # not the ground
            gx = eye[0] + t * (inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2])
            gy = eye[1] + t * (inverse[1, 0] * u + inverse[1, 1] * v + inverse[1, 2])
            open_sky = 1.0
            for k in range(len(feet)):
                r2 = (gx - feet[k, 0]) ** 2 + (gy - feet[k, 1]) ** 2
                if r2 < 0.6:  # two bumps; cheaper than the exponentials they look like
                    open_sky *= 1.0 - CONTACT / (1.0 + r2 / 0.02) ** 2 - BODY / (1.0 + r2 / 0.2) ** 2
            open_sky = max(open_sky, 0.25)
            dark = (1.0 - sun * share * shadow[row, column]) * (open_sky + (1 - open_sky) * 0.5 * sun * share)
            for c in range(3):
                colour[row, column, c] *= dark


@njit(cache=True)
def over(colour, depth, layer, alpha, near, other_alpha, other_near, is_target, seen):
    """Lay figures over `colour` where neither the plate nor, for the person of the crop, other people are nearer.

    `seen` u8 [h, w] becomes 1 where the person of the crop shows, 0 where they are hidden, 2 elsewhere.
    """
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            a = alpha[row, column]
            if a <= 0:
                continue
            hidden = depth[row, column] < near[row, column] - 0.12
            if is_target:
                behind = other_alpha[row, column] > 0.5 and other_near[row, column] < near[row, column]
                if a > 0.5:
                    seen[row, column] = 0 if hidden or behind else 1
                if behind:
                    continue
            if hidden:
                continue
            for c in range(3):
                colour[row, column, c] = colour[row, column, c] * (1 - a) + layer[row, column, c]


@njit(cache=True)
def extents(parts, count):
    """Pixels of each part i64 [count, 5], and their left, top, right and bottom; 0 pixels where there are none."""
    out = np.zeros((count, 5), np.int64)
    for row in range(parts.shape[0]):
        for column in range(parts.shape[1]):
            each = out[parts[row, column]]
            if each[0] == 0:
                each[1], each[2] = column, row
            each[0] += 1
            each[1] = min(each[1], column)
            each[3] = max(each[3], column + 1)
            each[4] = row + 1
    return out


def touching(vertices: NDArray) -> NDArray[np.float32]:
    """Points where a figure f32 [V, 3] touches the ground, f32 [4, 2]: the ends of what is low along each axis."""
    low = vertices[vertices[:, 2] < 0.05, :2]
    return np.array([low[low[:, axis].argsort()[at]] for axis in (0, 1) for at in (0, -1)], np.float32)

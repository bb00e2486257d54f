"""What a renderer needs to know of a camera and of the light, and nothing more."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """How a camera sees world points in one crop. World: metres, z up, ground at z = 0, right-handed.

    `matrix` f64 [3, 4] maps (x, y, z, 1) to (u·w, v·w, w): u to the right and v down in pixels of the crop,
    w the depth in metres along the optical axis. `eye` f64 [3] is the camera's place in the world.
    """

    matrix: NDArray[np.float64]
    eye: NDArray[np.float64]
    height: int
    width: int
    samples: int = 2  # a side: 2 means 2 x 2 samples a pixel

    def project(self, points: NDArray) -> NDArray[np.float64]:
        """Pixel columns, pixel rows and depths f64 [N, 3] of world points [N, 3]."""
        p = np.asarray(points, np.float64) @ self.matrix[:, :3].T + self.matrix[:, 3]
        return np.stack([p[:, 0] / p[:, 2], p[:, 1] / p[:, 2], p[:, 2]], axis=1)


@dataclass(frozen=True)
class Light:
    """One lamp and the light that comes from everywhere else. Linear RGB, f32 [3] each."""

    direction: NDArray[np.float64]  # f64 [3], a unit vector towards the sun or lamp
    sun: NDArray[np.float32]  # its irradiance on a surface that faces it
    sky: NDArray[np.float32]  # from above
    ground: NDArray[np.float32]  # bounced from below


def look_at(eye: NDArray, target: NDArray, *, focal: float, height: int, width: int) -> View:
    """A view from `eye` towards `target` without roll; `focal` in pixels.

    Raises ValueError when the line of sight is vertical or has no length.
    """
    eye = np.asarray(eye, np.float64)
    forward = np.asarray(target, np.float64) - eye
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if not np.linalg.norm(right) > 1e-9:
        raise ValueError("the line of sight must not be vertical")
    forward /= np.linalg.norm(forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    lens = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    matrix = lens @ np.concatenate([rotation, -(rotation @ eye)[:, None]], axis=1)
    return View(matrix, eye, height, width)

"""From light to a stored image: lens, sensor, tone curve, the camera's own compression. Partly compiled."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image

from pat.synthetic.people.camera import Film

LEAST_ROWS = 28


@dataclass(frozen=True)
class Shot:
    """What changes from image to image of one camera."""

    rows: int
    """Of the person's box in the camera's own image."""
    gains: tuple[float, float, float]
    smear: float
    """Length of the motion blur in pixels of the camera's image."""


def develop(light: NDArray[np.float32], film: Film, shot: Shot, generator: np.random.Generator) -> Image.Image:
    """The image of the size of `light` f32 [h, w, 3] that a detector cuts from the camera's stream."""
    height, width = light.shape[:2]
    rows = int(np.clip(shot.rows, LEAST_ROWS, height))
    columns = max(LEAST_ROWS // 2, round(rows * width / height))
    noise = generator.standard_normal((rows, columns, 4), np.float32)
    stored = expose(light, film, shot, noise)
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "JPEG", quality=film.quality)
    image = Image.open(buffer).convert("RGB")
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def expose(light: NDArray[np.float32], film: Film, shot: Shot, noise: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What the sensor stores, u8 [rows, columns, 3], of light f32 [h, w, 3]; `noise` f32 [rows, columns, 4]."""
    small = _shrink(light, *noise.shape[:2])
    small = _blurred(small, _kernel(film.blur, 0.0), _kernel(film.blur, shot.smear))
    gains = np.array(shot.gains, np.float32)
    toned = _toned(small, gains, film.noise, film.black, film.curve, film.saturation, noise)
    if film.sharpness > 0:
        soft = _blurred(toned, _kernel(1.0, 0.0), _kernel(1.0, 0.0))
        toned = toned + np.float32(film.sharpness) * (toned - soft)
    return (np.clip(toned, 0, 1) * 255 + 0.5).astype(np.uint8)


def _kernel(deviation: float, smear: float) -> NDArray[np.float32]:
    """A normal curve of a standard deviation, smeared over a length; pixels, sums to 1."""
    reach = max(1, math.ceil(2.5 * deviation + smear / 2))
    x = np.arange(-reach, reach + 1)[:, None] + np.linspace(-smear / 2, smear / 2, 5)[None]
    k = np.exp(-(x**2) / (2 * max(deviation, 0.2) ** 2)).sum(axis=1)
    return (k / k.sum()).astype(np.float32)


@njit(cache=True)
def _shrink(image, rows, columns):
    """The mean over the area of each pixel of a smaller image."""
    height, width = image.shape[:2]
    if rows == height and columns == width:
        return image.copy()
    middle = np.zeros((rows, width, 3), np.float32)
    step = height / rows
    for row in range(rows):
        begin, end = row * step, (row + 1) * step
        for i in range(int(begin), min(height, math.ceil(end - 1e-9))):
            w = np.float32((min(end, i + 1) - max(begin, i)) / step)
            for j in range(width):
                for c in range(3):
                    middle[row, j, c] += w * image[i, j, c]
    out = np.zeros((rows, columns, 3), np.float32)
    step = width / columns
    for column in range(columns):
        begin, end = column * step, (column + 1) * step
        for j in range(int(begin), min(width, math.ceil(end - 1e-9))):
            w = np.float32((min(end, j + 1) - max(begin, j)) / step)
            for row in range(rows):
                for c in range(3):
                    out[row, column, c] += w * middle[row, j, c]
    return out


@njit(cache=True)
def _blurred(image, down, across):
    """Blurred with one kernel down the columns and one along the rows; edges repeat."""
    rows, columns = image.shape[:2]
    middle, out = np.zeros_like(image), np.zeros_like(image)
    reach = len(down) // 2
    for row in range(rows):
        for k in range(len(down)):
            i = min(max(row + k - reach, 0), rows - 1)
            for j in range(columns):
                for c in range(3):
                    middle[row, j, c] += down[k] * image[i, j, c]
    reach = len(across) // 2
    for row in range(rows):
        for k in range(len(across)):
            for column in range(columns):
                j = min(max(column + k - reach, 0), columns - 1)
                for c in range(3):
                    out[row, column, c] += across[k] * middle[row, j, c]
    return out


@njit(cache=True)
def _toned(light, gains, noise, black, curve, saturation, drawn):
    """Exposed, noisy, through the tone curve; f32 in [0, 1] or a little beyond."""
    rows, columns = light.shape[:2]
    out = np.empty_like(light)
    rgb = np.empty(3, np.float32)
    for row in range(rows):
        for column in range(columns):
            for c in range(3):
                x = max(light[row, column, c] * gains[c], 0.0)
                grain = 0.75 * drawn[row, column, 3] + 0.45 * drawn[row, column, c]
                x = max(x + noise * math.sqrt(x / 0.18 + 0.04) * grain, 0.0)
                if x > 0.7:  # highlights roll off
                    x = 0.7 + 0.3 * math.tanh((x - 0.7) / 0.3)
                y = 1.055 * x ** (1 / 2.4) - 0.055 if x > 0.0031308 else 12.92 * x
                y += curve * 0.5 * (y * y * (3 - 2 * y) - y)
                rgb[c] = black + (1 - black) * y
            grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
            for c in range(3):
                out[row, column, c] = grey + saturation * (rgb[c] - grey)
    return out

"""From light to a stored image: lens, sensor, tone curve, the camera's own compression. Partly compiled."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image

from pat.synthetic.people.camera import Film
from pat.synthetic.randomness import stream

LEAST_ROWS = 40
GRAIN = 512
LEVELS = 4096
BRIGHTEST = 4.0
"""Light above which everything is white."""


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
    stored = expose(light, film, shot, (rows, columns), generator.integers(GRAIN, size=2))
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "JPEG", quality=film.quality)
    image = Image.open(buffer).convert("RGB")
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def expose(
    light: NDArray[np.float32], film: Film, shot: Shot, size: tuple[int, int], grain: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """What the sensor stores, u8 [rows, columns, 3], of light f32 [h, w, 3]; `grain` [2]: where noise begins."""
    small = _shrink(light, *size)
    small = _blurred(small, _kernel(film.blur, 0.0), _kernel(film.blur, shot.smear))
    gains = np.array(shot.gains, np.float32)
    noise, saturation = np.float32(film.noise), np.float32(film.saturation)
    toned = _toned(small, gains, noise, _tone_curve(film), saturation, _grain(), grain[0], grain[1])
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
    wide = columns * 3
    flat = image.reshape(rows, wide)
    out = np.zeros((rows, wide), np.float32)
    reach, side = len(down) // 2, len(across) // 2
    line = np.empty(wide + 6 * side, np.float32)  # a row with its edges repeated
    for row in range(rows):
        line[:] = 0
        for k in range(len(down)):
            i = min(max(row + k - reach, 0), rows - 1)
            for j in range(wide):
                line[3 * side + j] += down[k] * flat[i, j]
        for j in range(3 * side):
            line[j] = line[3 * side + j % 3]
            line[3 * side + wide + j] = line[3 * side + wide - 3 + j % 3]
        for k in range(len(across)):
            for j in range(wide):
                out[row, j] += across[k] * line[j + 3 * k]
    return out.reshape(rows, columns, 3)


@cache
def _grain() -> NDArray[np.float32]:
    """Standard normal noise f32 [GRAIN, GRAIN, 4], from which every image takes a part."""
    return stream("grain").standard_normal((GRAIN, GRAIN, 4), np.float32)


@lru_cache(maxsize=1024)
def _tone_curve(film: Film) -> NDArray[np.float32]:
    """The stored value of light from 0 to BRIGHTEST, f32 [LEVELS], at equal steps of its square root."""
    x = np.linspace(0, 1, LEVELS) ** 2 * BRIGHTEST
    x = np.where(x > 0.7, 0.7 + 0.3 * np.tanh((x - 0.7) / 0.3), x)  # highlights roll off
    y = np.where(x > 0.0031308, 1.055 * x ** (1 / 2.4) - 0.055, 12.92 * x)
    y += film.curve * 0.5 * (y * y * (3 - 2 * y) - y)
    return (film.black + (1 - film.black) * y).astype(np.float32)


@njit(cache=True)
def _toned(light, gains, noise, curve, saturation, grain, top, left):
    """Exposed, noisy, through the tone curve; f32 in [0, 1] or a little beyond."""
    rows, columns = light.shape[:2]
    out = np.empty_like(light)
    r, g, b = np.float32(0.299), np.float32(0.587), np.float32(0.114)
    last, steps = len(curve) - 1, np.float32((len(curve) - 1) / math.sqrt(BRIGHTEST))
    for row in range(rows):
        i = (top + row) % GRAIN
        for column in range(columns):
            j = (left + column) % GRAIN
            for c in range(3):
                x = max(light[row, column, c] * gains[c], np.float32(0.0))
                spread = noise * math.sqrt(x * np.float32(5.56) + np.float32(0.04))
                x += spread * (np.float32(0.75) * grain[i, j, 3] + np.float32(0.45) * grain[i, j, c])
                out[row, column, c] = curve[min(int(steps * math.sqrt(max(x, np.float32(0.0)))), last)]
            grey = r * out[row, column, 0] + g * out[row, column, 1] + b * out[row, column, 2]
            for c in range(3):
                out[row, column, c] = grey + saturation * (out[row, column, c] - grey)
    return out

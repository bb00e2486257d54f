"""Shifts of a growing strength: what another camera, the night or a lens does to an image, by itself.

Light is changed in linear light, as a camera would; strength 0 changes nothing. What is drawn at random (noise) is
the same for the same image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pat.evaluation.extract import Pixels

Light = NDArray[np.float32]
"""[n, H, W, 3], linear, 1 is white."""

GREY = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class Shift:
    """One kind of change, from nothing to extreme."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    """The first changes nothing."""
    apply: Callable[[Pixels, float], Pixels]


def darker(pixels: Pixels, stops: float) -> Pixels:
    """Exposed `stops` less."""
    return _stored(_light(pixels) * np.float32(2.0**-stops))


def brighter(pixels: Pixels, stops: float) -> Pixels:
    """Exposed `stops` more; what is above white is lost."""
    return _stored(_light(pixels) * np.float32(2.0**stops))


def cast(pixels: Pixels, change: float) -> Pixels:
    """Red stronger and blue weaker by a share: a white balance that is wrong."""
    return _stored(_light(pixels) * np.array([1 + change, 1, 1 - change], np.float32))


def response(pixels: Pixels, gamma: float) -> Pixels:
    """A camera that stores light by another curve: stored values to the power 1 + gamma."""
    return _rounded(255 * (pixels.astype(np.float32) / 255) ** np.float32(1 + gamma))


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """A Gaussian of a standard deviation of `sigma` 128ths of the height."""
    if not sigma:
        return pixels
    height, width = pixels.shape[1:3]
    rows, columns = (_gaussian(length, sigma * height / 128) for length in (height, width))
    return _stored(np.einsum("ij,njwc,kw->nikc", rows, _light(pixels), columns, optimize=True))


def low_resolution(pixels: Pixels, lost: float) -> Pixels:
    """Seen with a share `lost` fewer rows and columns: averaged over areas, and enlarged again."""
    height, width = pixels.shape[1:3]
    rows, columns = (_fewer(length, 1 - lost) for length in (height, width))
    return _stored(np.einsum("ij,njwc,kw->nikc", rows, _light(pixels), columns, optimize=True))


def occlusion(pixels: Pixels, share: float) -> Pixels:
    """The lowest `share` of the height behind something grey."""
    hidden = pixels.copy()
    hidden[:, pixels.shape[1] - round(share * pixels.shape[1]) :] = 118
    return hidden


def night(pixels: Pixels, stops: float) -> Pixels:
    """Less light by `stops`, half of them made up by gain with its noise; colours fade with the light."""
    if not stops:
        return pixels
    light = _light(pixels) * np.float32(2.0 ** (-stops / 2))
    grey = (light @ GREY)[..., None]
    light = grey + (light - grey) * np.float32(2.0 ** (-stops / 3))
    generators = [np.random.default_rng(_seed(image)) for image in pixels]
    noise = np.stack([each.standard_normal(pixels.shape[1:], np.float32) for each in generators])
    return _stored(light + noise * (np.float32(0.004 * 2.0**stops) * np.sqrt(light + np.float32(0.01))))


SHIFTS = (
    Shift("darker", "stops", (0, 1, 2, 3, 4), darker),
    Shift("brighter", "stops", (0, 0.5, 1, 1.5, 2), brighter),
    Shift("colour cast", "change of red and blue", (0, 0.15, 0.3, 0.45, 0.6), cast),
    Shift("camera response", "added to the exponent", (0, 0.3, 0.6, 1, 1.5), response),
    Shift("blur", "sigma, 128ths of the height", (0, 1, 2, 3, 4), blur),
    Shift("low resolution", "share of rows and columns lost", (0, 0.5, 0.7, 0.8, 0.9), low_resolution),
    Shift("occlusion", "share hidden from below", (0, 0.15, 0.3, 0.45, 0.6), occlusion),
    Shift("night", "stops less", (0, 1, 2, 3, 4), night),
)


def _light(pixels: Pixels) -> Light:
    """From sRGB to linear light."""
    stored = np.arange(256, dtype=np.float32) / 255
    table = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4).astype(np.float32)
    light: Light = table[pixels]
    return light


def _stored(light: NDArray[Any]) -> Pixels:
    """From linear light to sRGB, 8 bits."""
    light = np.clip(light, 0, 1)
    return _rounded(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def _rounded(values: NDArray[Any]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _gaussian(length: int, sigma: float) -> NDArray[np.float32]:
    distance = np.arange(length)[:, None] - np.arange(length)
    kernel = np.exp(-0.5 * (distance / sigma) ** 2)
    return (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)


def _fewer(length: int, share: float) -> NDArray[np.float32]:
    """[length, length]: averages over areas, then linear interpolation."""
    count = max(1, round(share * length))
    edges = np.linspace(0, length, count + 1)
    pixel = np.arange(length)
    cover = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)  # [count, length]
    averages = np.clip(cover, 0, None) / (length / count)
    place = np.clip((pixel + 0.5) * count / length - 0.5, 0, count - 1)
    low = np.minimum(place.astype(int), max(count - 2, 0))
    enlarged = np.zeros((length, count))
    enlarged[pixel, low] += 1 - (place - low)
    enlarged[pixel, np.minimum(low + 1, count - 1)] += place - low
    return (enlarged @ averages).astype(np.float32)


def _seed(image: Pixels) -> list[int]:
    return [int(image.sum()), int(image[0].sum()), int(image[-1].sum())]

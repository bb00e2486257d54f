"""Colours of cloth, skin and hair at a place on the body: (angle around the part, distance down it)."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np

from pat.synthetic.flat.canvas import Array, Labels
from pat.synthetic.flat.wardrobe import Colour, Item
from pat.synthetic.randomness import stream

GIRTH = 0.1
"""Radius of the trunk in person heights: turns angles around it into lengths."""


class PixelLabel(IntEnum):
    """What a pixel shows."""

    BACKGROUND = 0
    SKIN = 1
    TOP = 2
    BOTTOM = 3
    SHOES = 4
    BAG = 5
    HAT = 6
    HAIR = 7
    LOGO = 8
    OCCLUDER = 9


def labelled(label: PixelLabel, like: Array) -> Labels:
    """`label` everywhere, to be changed in places."""
    return np.full(like.shape, label, np.uint8)


def facing(angle: Array, yaw: float) -> Array:
    """Angle around the body, 0 in front, from the angle as the camera sees it."""
    result: Array = (angle - yaw + np.pi) % (2 * np.pi) - np.pi
    return result


def darker(colour: Colour) -> Colour:
    """The colour of seams and shade."""
    return colour[0] * 0.55, colour[1] * 0.55, colour[2] * 0.55


def flat(colour: Colour, like: Array) -> Array:
    """`colour` everywhere."""
    return np.broadcast_to(np.array(colour, np.float32), (*like.shape, 3))


def mixed(below: Array, colour: Colour, share: Array) -> Array:
    """`colour` laid over `below` [h, w, 3] with opacity `share` [h, w]."""
    result: Array = below + share[..., None] * (np.array(colour, np.float32) - below)
    return result


def inside(value: Array, low: float, high: float, softness: float) -> Array:
    """1 where low < value < high, falling to 0 over `softness` outside."""
    return np.clip(np.minimum(value - low, high - value) / softness + 0.5, 0, 1)


def cloth(item: Item, angle: Array, down: Array, girth: float = GIRTH) -> Array:
    """The pattern of a garment [h, w, 3]; `angle` is 0 at the front, `down` starts at the upper edge."""
    base = flat(item.colour, down)
    around = angle * girth
    if item.texture == "stripes":
        return mixed(base, item.second, _bars(down, 0.058, 0.42))
    if item.texture == "pinstripes":
        return mixed(base, item.second, 0.85 * _bars(around, 0.05, 0.3))
    if item.texture == "checks":
        return mixed(base, item.second, 0.5 * _bars(down, 0.075, 0.45) + 0.5 * _bars(around, 0.066, 0.45))
    if item.texture == "dots":
        row = np.floor(down / 0.045)
        x = (around / 0.052 + 0.5 * (row % 2)) % 1 - 0.5
        y = (down / 0.045) % 1 - 0.5
        return mixed(base, item.second, np.clip((0.34 - np.hypot(x, y)) * 6 + 0.5, 0, 1))
    if item.texture == "blocks":
        return mixed(base, item.second, inside(down, -1, 0.15, 0.008))
    if item.texture == "sidestripe":
        return mixed(base, item.second, inside(np.abs(np.abs(angle) - np.pi / 2), -1, 0.4, 0.2))
    return base


def chest_print(item: Item, below: Array, angle: Array, down: Array) -> tuple[Array, Array]:
    """A print on the chest over `below`, and its opacity [h, w]."""
    share = inside(angle * GIRTH, -0.05, 0.05, 0.008) * inside(down, 0.08, 0.18, 0.008)
    hole = inside(angle * GIRTH, -0.026, 0.026, 0.008) * inside(down, 0.115, 0.145, 0.008)
    return mixed(below, item.second, share * (1 - hole)), share


def _bars(position: Array, period: float, share: float) -> Array:
    """1 on a `share` of every period, with soft edges."""
    phase = np.abs((position / period) % 1 - 0.5) * 2
    return np.clip((share - phase) * 5 + 0.5, 0, 1)


@lru_cache(maxsize=1)
def _folds() -> Array:
    """A tile of smooth noise around 1, for folds of cloth."""
    noise = stream("folds").normal(size=(64, 64)).astype(np.float32)
    spectrum = np.fft.rfft2(noise)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None, :])
    smooth = np.fft.irfft2(spectrum * np.exp(-((frequency / 0.13) ** 2)), s=(64, 64))
    return (1 + 0.045 * smooth / smooth.std()).astype(np.float32)


def folded(colours: Array, angle: Array, down: Array, offset: float) -> Array:
    """`colours` with the light and shade of folds; another `offset` gives other folds."""
    row = (down * 140 + offset * 61).astype(np.int32) % 64
    column = (angle * 9 + offset * 37).astype(np.int32) % 64
    result: Array = colours * _folds()[row, column][..., None]
    return result

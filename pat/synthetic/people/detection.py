"""Boxes as detectors cut them: loose, tight, shifted, without feet or head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pat.synthetic.people.view import View
from pat.synthetic.randomness import chosen

KINDS = {"good": 0.62, "loose": 0.12, "shifted": 0.12, "no feet": 0.1, "no head": 0.04}
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Detection:
    """What a detector found."""

    kind: str
    box: Box


def detect(tight: Box, generator: np.random.Generator) -> Detection:
    """The box that a detector puts around someone whose outline fills the box `tight`."""
    g, kind = generator, chosen(generator, KINDS)
    left, top, right, bottom = tight
    tall = bottom - top
    over, under = g.normal(0.025, 0.025), g.normal(0.02, 0.025)
    slim, shift = g.uniform(0.36, 0.47), g.normal(0, 0.018)
    if kind == "loose":
        over, under = over + g.uniform(0.03, 0.13), under + g.uniform(0.03, 0.12)
        slim *= g.uniform(1.1, 1.35)
    elif kind == "shifted":
        shift += g.choice([-1.0, 1.0]) * g.uniform(0.05, 0.13)
        over += g.normal(0, 0.05)
    elif kind == "no feet":
        under = -g.uniform(0.06, 0.38)
    elif kind == "no head":
        over = -g.uniform(0.04, 0.12)
    top, bottom = top - over * tall, bottom + under * tall
    wide = max((right - left) * g.uniform(0.98, 1.12), slim * (bottom - top))
    wide = min(wide, 0.85 * (bottom - top))
    middle = (left + right) / 2 + shift * tall
    return Detection(kind, (float(middle - wide / 2), float(top), float(middle + wide / 2), float(bottom)))


def cut(view: View, box: Box, height: int, width: int, samples: int = 2) -> View:
    """The view of a camera through a box of its image, stretched to `height` x `width`."""
    left, top, right, bottom = box
    across, down = width / (right - left), height / (bottom - top)
    stretch = np.array([[across, 0.0, -left * across], [0.0, down, -top * down], [0.0, 0.0, 1.0]])
    return View(stretch @ view.matrix, view.eye, height, width, samples)

"""Things that stand between the camera and a person."""

from __future__ import annotations

import numpy as np

from pat.synthetic.flat.canvas import Array, Canvas, Paint
from pat.synthetic.flat.fabric import PixelLabel, flat
from pat.synthetic.flat.wardrobe import Colour


def draw_pole(canvas: Canvas, generator: np.random.Generator) -> None:
    """A lamp post beside or before the middle."""
    x, width = float(generator.uniform(-0.16, 0.16)), float(generator.uniform(0.018, 0.035))
    canvas.sweep((x, -0.3), (x, 1.2), (width,), _plain((0.42, 0.43, 0.45)))


def draw_bench(canvas: Canvas, generator: np.random.Generator) -> None:
    """The back of a bench across the legs."""
    top, x = float(generator.uniform(0.66, 0.8)), float(generator.uniform(-0.2, 0.2))
    for y in (top, top + 0.055, top + 0.11):
        canvas.sweep((-0.5, y), (0.5, y), (0.02,), _plain((0.45, 0.31, 0.19)))
    canvas.sweep((x, top), (x, 1.2), (0.014,), _plain((0.2, 0.2, 0.22)))


def draw_planter(canvas: Canvas, generator: np.random.Generator) -> None:
    """A tub with a shrub before the feet."""
    x, top = float(generator.uniform(-0.22, 0.22)), float(generator.uniform(0.72, 0.84))
    canvas.sweep((x, top), (x, 1.2), (0.15, 0.13), _plain((0.55, 0.52, 0.48)), round_ends=False)
    for _ in range(9):
        leaf = x + float(generator.uniform(-0.13, 0.13)), top - float(generator.uniform(-0.01, 0.09))
        green = (0.2, float(generator.uniform(0.3, 0.42)), 0.16)
        canvas.sweep(leaf, leaf, (float(generator.uniform(0.03, 0.055)),), _plain(green))


OBSTACLES = {"pole": draw_pole, "bench": draw_bench, "planter": draw_planter}


def _plain(colour: Colour) -> Paint:
    def paint(angle: Array, down: Array) -> tuple[Array, int]:
        return flat(colour, down), PixelLabel.OCCLUDER

    return paint

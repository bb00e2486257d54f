"""What stands about: cars, bicycles, trees, benches, bins, poles, counters, shelves."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np

from pat.synthetic.people.places.solids import Builder
from pat.synthetic.people.places.surfaces import Material

Generator = np.random.Generator
Colour = tuple[float, float, float]

PAINTS = ((0.75, 0.76, 0.77), (0.75, 0.76, 0.77), (0.02, 0.02, 0.022), (0.02, 0.02, 0.022),
          (0.18, 0.19, 0.2), (0.4, 0.41, 0.42), (0.02, 0.035, 0.1),
          (0.3, 0.02, 0.02), (0.03, 0.1, 0.2), (0.35, 0.3, 0.22))  # fmt: skip
RUBBER = (0.018, 0.018, 0.018)
METALS = ((0.3, 0.31, 0.32), (0.08, 0.09, 0.09), (0.5, 0.5, 0.5), (0.03, 0.07, 0.05), (0.25, 0.22, 0.1))
LEAVES = ((0.05, 0.1, 0.02), (0.035, 0.075, 0.02), (0.09, 0.13, 0.03), (0.12, 0.1, 0.03))


def _any(generator: Generator, colours: tuple[Colour, ...]) -> Colour:
    r, g, b = np.array(colours[int(generator.integers(len(colours)))]) * np.exp(generator.normal(0, 0.12))
    return float(r), float(g), float(b)


def _seed(generator: Generator) -> float:
    return float(generator.integers(1000))


def _from(x: float, y: float, yaw: float, along: float, across: float = 0.0) -> tuple[float, float]:
    """A place `along` and `across` metres from (x, y) in the axes of a thing turned by `yaw`."""
    return x + cos(yaw) * along - sin(yaw) * across, y + sin(yaw) * along + cos(yaw) * across


def car(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A car, estate or van of 4 to 5 metres."""
    paint = _any(generator, PAINTS)
    tall = float(generator.uniform(1.38, 1.5)) if generator.random() < 0.75 else float(generator.uniform(1.7, 2.1))
    half, side = float(generator.uniform(2.0, 2.35)), 0.88
    rear = half - (0.25 if generator.random() < 0.5 or tall > 1.6 else 0.9)
    place = (x, y, 0.0)
    body = [(-half, 0.3), (half - 0.1, 0.25), (half, 0.5), (half - 0.12, 0.78), (half - 1.2, 0.93), (-half, 0.95)]
    things.extrude(body, side, place, yaw, Material.PLAIN, paint)
    glass = [(-rear, 0.9), (half - 1.1, 0.9), (half - 1.9, tall - 0.08), (-rear + 0.35, tall - 0.08)]
    things.extrude(glass, side - 0.12, place, yaw, Material.PLAIN, (0.025, 0.03, 0.033))
    roof = [(-rear + 0.3, tall - 0.1), (half - 1.85, tall - 0.1), (half - 2.0, tall), (-rear + 0.45, tall)]
    things.extrude(roof, side - 0.13, place, yaw, Material.PLAIN, paint)
    for along in (-half + 0.8, half - 0.85):
        for across in (-side + 0.06, side - 0.06):
            centre = *_from(x, y, yaw, along, across), 0.32
            things.disc(centre, 0.33, 0.11, yaw, RUBBER)
            things.disc(centre, 0.19, 0.125, yaw, (0.35, 0.35, 0.36))
    for across in (-0.62, 0.62):
        lamp = *_from(x, y, yaw, half - 0.06, across), 0.66
        things.box(lamp, (0.07, 0.17, 0.07), yaw, Material.PLAIN, (0.8, 0.8, 0.78))
        back = *_from(x, y, yaw, -half, across), 0.75
        things.box(back, (0.03, 0.16, 0.09), yaw, Material.PLAIN, (0.3, 0.01, 0.01))


def bicycle(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A parked bicycle: thin, and one sees through it."""
    black = (0.02, 0.02, 0.02)
    colour = _any(generator, (black, (0.3, 0.3, 0.3), (0.3, 0.02, 0.02), (0.02, 0.06, 0.2), black))
    things.box((x, y, 0.5), (0.9, 0.018, 0.5), yaw, Material.BICYCLE, colour, seed=_seed(generator))


def tree(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A trunk and a crown of leaves."""
    stem, radius = float(generator.uniform(2.2, 3.6)), float(generator.uniform(1.0, 2.0))
    leaf, bark = _any(generator, LEAVES), (0.09, 0.065, 0.045)
    things.post((x, y, 0.0), float(generator.uniform(0.09, 0.2)), stem + 0.6, bark, Material.WOOD)
    for _ in range(4):
        a, r = generator.uniform(0, 2 * pi), radius * generator.uniform(0.1, 0.55)
        own = radius * float(generator.uniform(0.55, 0.85))
        centre = x + r * cos(a), y + r * sin(a), stem + radius * float(generator.uniform(0.4, 1.2))
        _leafy(things, generator, centre, own, leaf)


def bush(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A low bush."""
    leaf = _any(generator, LEAVES)
    for _ in range(3):
        r = float(generator.uniform(0.35, 0.6))
        dx, dy = generator.uniform(-0.5, 0.5, 2)
        _leafy(things, generator, (x + dx, y + dy, r * 0.8), r, leaf)


def _leafy(
    things: Builder, generator: Generator, centre: tuple[float, float, float], radius: float, leaf: Colour
) -> None:
    """A crown: an eight-sided ball with holes."""
    ring = [(radius * cos(pi * (k + 0.5) / 4), radius * sin(pi * (k + 0.5) / 4)) for k in range(8)]
    other = tuple(1.6 * c for c in leaf)
    for turn in (0.0, pi / 3, 2 * pi / 3):
        things.extrude(ring, radius * 0.55, centre, turn, Material.FOLIAGE, leaf, other, seed=_seed(generator))


def bench(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A bench with a back."""
    wood = _any(generator, ((0.25, 0.14, 0.07), (0.12, 0.08, 0.05), (0.3, 0.3, 0.3)))
    things.box((x, y, 0.44), (0.85, 0.2, 0.03), yaw, Material.WOOD, wood)
    things.box((*_from(x, y, yaw, 0.0, 0.2), 0.68), (0.85, 0.02, 0.16), yaw, Material.WOOD, wood)
    for along in (-0.7, 0.7):
        foot = *_from(x, y, yaw, along), 0.21
        things.box(foot, (0.03, 0.18, 0.21), yaw, Material.PLAIN, (0.05, 0.05, 0.05))


def bin_(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A litter bin."""
    colour = _any(generator, (*METALS, (0.02, 0.1, 0.04), (0.3, 0.25, 0.02)))
    things.post((x, y, 0.0), float(generator.uniform(0.2, 0.3)), float(generator.uniform(0.75, 1.05)), colour)
    things.post((x, y, 0.75), 0.21, 0.06, RUBBER)


def pole(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A lamp post or a road sign."""
    colour = _any(generator, METALS)
    things.post((x, y, 0.0), float(generator.uniform(0.04, 0.09)), 5.0, colour)
    if generator.random() < 0.5:
        sign = _any(generator, ((0.02, 0.08, 0.35), (0.5, 0.02, 0.02), (0.7, 0.7, 0.7), (0.02, 0.2, 0.08)))
        things.box((x, y, 2.5), (0.32, 0.02, 0.32), yaw, Material.POSTER, sign, (0.8, 0.8, 0.8), size=0.7)


def column(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A column that carries a roof."""
    colour = _any(generator, ((0.5, 0.5, 0.48), (0.35, 0.35, 0.34), (0.65, 0.64, 0.6)))
    things.post((x, y, 0.0), float(generator.uniform(0.18, 0.32)), 6.0, colour)


def planter(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A box of plants."""
    box = _any(generator, ((0.4, 0.39, 0.36), (0.15, 0.09, 0.05)))
    things.box((x, y, 0.3), (0.7, 0.35, 0.3), yaw, Material.PLASTER, box, size=0.0)
    for along in (-0.4, 0.0, 0.4):
        _leafy(things, generator, (*_from(x, y, yaw, along), 0.75), 0.3, _any(generator, LEAVES))


def bollard(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A row of three posts."""
    colour = _any(generator, METALS)
    for along in (-1.4, 0.0, 1.4):
        things.post((*_from(x, y, yaw, along), 0.0), 0.07, 0.9, colour)


def railing(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A railing of two metres and a half."""
    colour = _any(generator, METALS)
    things.box((x, y, 0.55), (1.25, 0.015, 0.45), yaw, Material.FENCE, colour, size=0.13)
    things.box((x, y, 1.02), (1.25, 0.03, 0.025), yaw, Material.PLAIN, colour)


def stall(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A market stall with a canopy, or a stand with boards."""
    dyes = (0.5, 0.03, 0.03), (0.03, 0.1, 0.3), (0.7, 0.7, 0.68), (0.03, 0.2, 0.08), (0.6, 0.4, 0.03)
    cloth = _any(generator, dyes)
    things.box((x, y, 0.45), (1.1, 0.4, 0.45), yaw, Material.SHELVES, cloth, seed=_seed(generator))
    things.extrude([(-0.9, 2.1), (0.9, 2.1), (0.0, 2.6)], 1.3, (x, y, 0.0), yaw + pi / 2, Material.PLAIN, cloth)
    for along in (-1.1, 1.1):
        things.post((*_from(x, y, yaw, along), 0.0), 0.025, 2.2, (0.4, 0.4, 0.4))


def board(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """An advertising board on its own feet."""
    first, second = _any(generator, PAINTS), (0.75, 0.75, 0.73)
    tall = float(generator.uniform(0.9, 2.0))
    half = 0.45, 0.03, tall / 2
    things.box((x, y, tall / 2 + 0.08), half, yaw, Material.POSTER, first, second, size=0.9, seed=_seed(generator))


def counter(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A counter with a top."""
    front = _any(generator, ((0.6, 0.58, 0.55), (0.2, 0.12, 0.07), (0.08, 0.08, 0.09), (0.5, 0.05, 0.05)))
    things.box(
        (x, y, 0.5), (1.0, 0.3, 0.5), yaw, Material.PANELS, front, size=0.66, seed=float(generator.integers(99))
    )
    things.box((x, y, 1.03), (1.08, 0.36, 0.03), yaw, Material.PLAIN, (0.3, 0.29, 0.27))


def shelf(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A shelf full of goods."""
    tall = float(generator.uniform(0.65, 1.05))
    half = float(generator.uniform(1.2, 2.4)), 0.35, tall
    things.box((x, y, tall), half, yaw, Material.SHELVES, (0.6, 0.6, 0.58), seed=_seed(generator))


def seats(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A row of waiting-room seats."""
    colour = _any(generator, ((0.05, 0.08, 0.2), (0.25, 0.25, 0.26), (0.03, 0.03, 0.03), (0.4, 0.2, 0.03)))
    for along in (-0.9, -0.3, 0.3, 0.9):
        seat, back = (*_from(x, y, yaw, along), 0.43), (*_from(x, y, yaw, along, 0.22), 0.65)
        things.box(seat, (0.25, 0.22, 0.03), yaw, Material.PLAIN, colour)
        things.box(back, (0.25, 0.02, 0.2), yaw, Material.PLAIN, colour)
    things.box((x, y, 0.2), (1.2, 0.04, 0.2), yaw, Material.PLAIN, (0.2, 0.2, 0.2))


def machine(things: Builder, generator: Generator, x: float, y: float, yaw: float) -> None:
    """A vending or ticket machine."""
    first = _any(generator, PAINTS)
    half, look = (0.42, 0.38, 0.92), (Material.POSTER, first, (0.5, 0.5, 0.5))
    things.box((x, y, 0.92), half, yaw, *look, size=0.5, seed=_seed(generator), glow=0.1)


Furniture = Callable[[Builder, Generator, float, float, float], None]

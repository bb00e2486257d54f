"""The place that a camera watches: a wall, a floor, and what is usual there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pat.synthetic.flat.canvas import Array
from pat.synthetic.flat.domains import DomainStyle
from pat.synthetic.randomness import chosen, stream

RESOLUTION = 96
"""Pixels of the panorama per person height."""
WIDE, TALL = 6.0, 2.2
FLOOR = 1.12
"""Where wall and ground meet, below the panorama's upper edge. All in person heights."""

Rgb = tuple[int, int, int]


def behind(place: Image.Image, size: tuple[int, int], scale: float, left: float, top: float) -> Array:
    """The part of a place behind an image [H, W, 3] in [0, 1] of `size` (H, W), `scale` pixels a person height.

    `left` and `top` say where the image is in the panorama, in person heights.
    """
    height, width = size
    x0, y0, x1, y1 = (RESOLUTION * value for value in (left, top, left + width / scale, top + height / scale))
    fitted = (max(x0, 0), max(y0, 0), min(x1, place.width), min(y1, place.height))
    view = place.resize((width, height), Image.Resampling.BILINEAR, box=fitted)
    return np.asarray(view, np.float32) / 255


@lru_cache(maxsize=16)
def place_of(style: DomainStyle, camera: int) -> Image.Image:
    """The surroundings of camera `camera` of a domain as a panorama, wider than any image; always the same."""
    generator = stream("place", style.seed, camera)
    kind = chosen(generator, style.places)
    size = round(WIDE * RESOLUTION), round(TALL * RESOLUTION)
    image = Image.new("RGB", size)
    painter = _Painter(ImageDraw.Draw(image), generator)
    PLACES[kind](painter)
    image = image.filter(ImageFilter.GaussianBlur(1.1))
    grain = generator.normal(0, 3.0, (size[1], size[0], 1))
    brightness = generator.uniform(*style.daylight)
    pixels = np.clip((np.asarray(image) + grain) * brightness, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


@dataclass(frozen=True)
class _Painter:
    draw: ImageDraw.ImageDraw
    generator: np.random.Generator

    def pick(self, *colours: Rgb) -> Rgb:
        """One of the colours, slightly changed."""
        colour = colours[int(self.generator.integers(len(colours)))]
        return self.near(colour, 10)

    def near(self, colour: Rgb, spread: float = 6) -> Rgb:
        shifted = np.clip(np.array(colour) + self.generator.normal(0, spread), 0, 255)
        red, green, blue = shifted.astype(int).tolist()
        return red, green, blue

    def between(self, low: float, high: float) -> float:
        return float(self.generator.uniform(low, high))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Rgb) -> None:
        """A rectangle; coordinates in person heights."""
        scaled = tuple(RESOLUTION * value for value in (left, top, right, bottom))
        self.draw.rectangle(scaled, fill=colour)

    def line(self, points: list[tuple[float, float]], colour: Rgb, width: float) -> None:
        scaled = [(RESOLUTION * x, RESOLUTION * y) for x, y in points]
        self.draw.line(scaled, fill=colour, width=max(1, round(width * RESOLUTION)))

    def blob(self, x: float, y: float, radius: float, colour: Rgb) -> None:
        scaled = tuple(RESOLUTION * v for v in (x - radius, y - radius * 0.8, x + radius, y + radius * 0.8))
        self.draw.ellipse(scaled, fill=colour)

    def ground(self, colour: Rgb, joints: Rgb | None, *, spacing: float = 0.35) -> None:
        """The floor, darker far away, with joints that run towards a vanishing point."""
        steps = 12
        for step in range(steps):
            top = FLOOR + (TALL - FLOOR) * step / steps
            shade = 0.86 + 0.14 * step / steps
            red, green, blue = (int(value * shade) for value in colour)
            self.box(0, top, WIDE, TALL, (red, green, blue))
        if joints is None:
            return
        for n in range(-10, int(WIDE / spacing) + 10):
            x = n * spacing
            self.line([(x, FLOOR), (x + (x - WIDE / 2) * 0.9, TALL)], joints, 0.008)
        depth, y = 0.05, FLOOR
        while y < TALL:
            self.line([(0, y), (WIDE, y)], joints, 0.008)
            y, depth = y + depth, depth * 1.35

    def across(self, low: float, high: float) -> list[tuple[float, float]]:
        """Intervals of random length that fill the width."""
        edges = [0.0]
        while edges[-1] < WIDE:
            edges.append(edges[-1] + self.between(low, high))
        return list(pairwise(edges))


def _door(p: _Painter, colour: Rgb) -> None:
    x = p.between(0.5, WIDE - 1.0)
    p.box(x - 0.04, FLOOR - 1.09, x + 0.56, FLOOR, p.near((60, 58, 55)))
    p.box(x, FLOOR - 1.05, x + 0.52, FLOOR, colour)
    p.box(x + 0.07, FLOOR - 0.95, x + 0.45, FLOOR - 0.55, p.near((120, 135, 145)))
    p.box(x + 0.43, FLOOR - 0.5, x + 0.47, FLOOR - 0.44, (210, 200, 150))


def _plaza(p: _Painter) -> None:
    """Concrete panels and large windows behind paving."""
    wall = p.pick((188, 182, 170), (165, 168, 172), (200, 190, 172))
    p.box(0, 0, WIDE, FLOOR, wall)
    for left, right in p.across(0.7, 1.1):
        p.line([(left, 0), (left, FLOOR)], p.near((130, 127, 120)), 0.012)
        if p.between(0, 1) < 0.55:
            p.box(left + 0.12, 0.1, right - 0.12, 0.75, p.near((92, 112, 128), 12))
            p.line([((left + right) / 2, 0.1), ((left + right) / 2, 0.75)], p.near((70, 75, 80)), 0.02)
    p.ground(p.pick((176, 170, 160), (160, 158, 156)), p.near((140, 135, 128)))
    _door(p, p.pick((90, 70, 55), (60, 85, 95)))


def _brick(p: _Painter) -> None:
    """A brick wall with a door and a pavement."""
    brick = p.pick((142, 78, 60), (156, 100, 76), (120, 84, 74))
    mortar = p.near((168, 155, 140))
    p.box(0, 0, WIDE, FLOOR, mortar)
    row, height, width = 0, 0.055, 0.15
    while row * height < FLOOR:
        for n in range(int(WIDE / width) + 2):
            x = n * width - (row % 2) * width / 2
            p.box(x, row * height, x + width - 0.014, (row + 1) * height - 0.014, p.near(brick, 9))
        row += 1
    for _ in range(2):
        x = p.between(0.2, WIDE - 0.9)
        p.box(x, 0.2, x + 0.6, 0.72, p.near((215, 210, 200)))
        p.box(x + 0.05, 0.25, x + 0.55, 0.67, p.near((60, 72, 84), 10))
    p.ground(p.pick((150, 146, 140), (128, 126, 124)), p.near((115, 110, 106)), spacing=0.5)
    _door(p, p.pick((40, 70, 55), (110, 45, 40), (45, 55, 85)))


def _shop(p: _Painter) -> None:
    """Shop windows with coloured displays."""
    p.box(0, 0, WIDE, FLOOR, p.pick((75, 72, 70), (110, 98, 86), (60, 68, 72)))
    for left, right in p.across(0.8, 1.5):
        sign = p.pick((150, 40, 40), (40, 90, 120), (190, 160, 70), (60, 110, 70), (90, 60, 110))
        p.box(left + 0.03, 0.0, right - 0.03, 0.2, sign)
        p.box(left + 0.06, 0.26, right - 0.06, FLOOR - 0.14, p.near((205, 198, 176), 12))
        for _ in range(5):
            x, y = p.between(left + 0.1, right - 0.3), p.between(0.4, 0.85)
            shown = p.pick((170, 80, 70), (80, 110, 150), (210, 190, 130), (90, 130, 95), (120, 100, 130))
            p.box(x, y, x + p.between(0.06, 0.2), FLOOR - 0.16, shown)
    p.ground(p.pick((158, 152, 146), (178, 165, 148)), p.near((128, 122, 116)), spacing=0.25)


def _road(p: _Painter) -> None:
    """Parked cars and houses across a road."""
    p.box(0, 0, WIDE, FLOOR, p.pick((150, 146, 140), (172, 160, 142)))
    for left, right in p.across(0.5, 0.9):
        p.box(left + 0.1, 0.08, right - 0.1, 0.5, p.near((84, 92, 100), 12))
    p.box(0, FLOOR - 0.12, WIDE, FLOOR, p.near((120, 118, 114)))
    for left, right in p.across(1.3, 2.4):
        if p.between(0, 1) < 0.75 and right - left > 1.25:
            paint = p.pick((150, 40, 38), (50, 70, 110), (190, 192, 195), (50, 52, 56), (120, 125, 120))
            _car(p, left, paint)
    p.ground(p.pick((96, 97, 100), (112, 110, 108)), None)
    p.box(0, FLOOR + 0.42, WIDE, FLOOR + 0.46, p.near((205, 205, 198)))
    p.box(0, FLOOR + 0.62, WIDE, FLOOR + 0.68, p.near((160, 158, 152)))
    p.box(0, FLOOR + 0.68, WIDE, TALL, p.near((142, 138, 132)))


def _car(p: _Painter, x: float, paint: Rgb) -> None:
    base = FLOOR + 0.03
    p.box(x + 0.05, base - 0.36, x + 1.2, base - 0.1, paint)
    p.box(x + 0.3, base - 0.58, x + 0.95, base - 0.34, paint)
    p.box(x + 0.35, base - 0.54, x + 0.6, base - 0.37, p.near((70, 84, 94)))
    p.box(x + 0.65, base - 0.54, x + 0.9, base - 0.37, p.near((70, 84, 94)))
    for wheel in (0.3, 0.95):
        p.blob(x + wheel, base - 0.09, 0.11, (28, 28, 30))
        p.blob(x + wheel, base - 0.09, 0.05, (130, 130, 132))


def _park(p: _Painter) -> None:
    """A hedge, trees and grass beside a path."""
    p.box(0, 0, WIDE, FLOOR, p.pick((170, 190, 205), (190, 198, 200)))
    for _ in range(200):
        x, y = p.between(-0.2, WIDE + 0.2), p.between(0.0, FLOOR - 0.1)
        green = p.pick((66, 96, 48), (88, 118, 60), (52, 80, 44), (104, 126, 70))
        p.blob(x, y, p.between(0.08, 0.26), green)
    for left, _ in p.across(0.9, 1.9):
        p.box(left, 0.1, left + p.between(0.07, 0.13), FLOOR + 0.05, p.near((84, 66, 50)))
    p.box(0, FLOOR - 0.32, WIDE, FLOOR, p.near((58, 84, 46)))
    p.ground(p.near((112, 136, 74)), None)
    p.box(0, FLOOR + 0.22, WIDE, TALL, p.pick((186, 170, 140), (170, 160, 146)))


def _station(p: _Painter) -> None:
    """Tiles, posters and a yellow line."""
    p.box(0, 0, WIDE, FLOOR, p.near((150, 148, 140)))
    tile = p.pick((205, 205, 192), (176, 190, 190), (196, 184, 160))
    for column in range(int(WIDE / 0.12) + 1):
        for row in range(int(FLOOR / 0.12) + 1):
            x, y = column * 0.12, row * 0.12
            p.box(x, y, x + 0.108, y + 0.108, p.near(tile, 5))
    for left, right in p.across(0.9, 1.6):
        if p.between(0, 1) < 0.6:
            frame = p.pick((160, 60, 50), (50, 80, 120), (200, 170, 80), (70, 110, 90))
            p.box(left + 0.15, 0.25, right - 0.15, 0.85, frame)
            p.box(left + 0.22, 0.45, right - 0.22, 0.6, p.near((220, 215, 205)))
    p.ground(p.pick((120, 118, 116), (98, 100, 104)), p.near((88, 86, 84)), spacing=0.3)
    p.box(0, FLOOR + 0.5, WIDE, FLOOR + 0.57, p.near((214, 178, 50)))


PLACES: dict[str, Callable[[_Painter], None]] = {
    "plaza": _plaza, "brick": _brick, "shop": _shop, "road": _road, "park": _park, "station": _station,
}  # fmt: skip

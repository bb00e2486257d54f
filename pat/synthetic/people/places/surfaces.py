"""What colour a surface has at a point: brick, windows, paving, grass. Compiled; linear RGB."""

from __future__ import annotations

import math
from enum import IntEnum

from numba import njit

from pat.synthetic.people.places.noise import cloudy, hashed, smooth


class Material(IntEnum):
    """How the surface of a solid is coloured."""

    PLAIN = 0
    BRICK = 1
    WINDOWS = 2
    PANELS = 3
    SHOP_FRONT = 4
    SHELVES = 5
    FOLIAGE = 6
    FENCE = 7
    BICYCLE = 8
    POSTER = 9
    LAMP = 10
    PLASTER = 11
    WOOD = 13
    DOOR_WALL = 14


class Ground(IntEnum):
    """What one walks on."""

    ASPHALT = 0
    SLABS = 1
    BRICKS = 2
    GRASS = 3
    TILES = 4
    POLISHED = 5
    GRAVEL = 6
    BAYS = 7


HOLED = (Material.FOLIAGE, Material.FENCE, Material.BICYCLE)
"""What one sees through in places; see `open_at`."""
OWN_DIRT = (Material.FOLIAGE, Material.POSTER, Material.LAMP, Material.PLASTER, Material.WOOD)
"""What is not dirty as everything else is."""


@njit(cache=True, error_model="numpy")
def open_at(solid, u, v):
    """True where one sees through a surface with holes; u and v in metres on it."""
    material = solid.material
    if material == Material.FOLIAGE:
        return cloudy(u * 4.0, v * 4.0, solid.seed) < 0.42
    if material == Material.FENCE:  # or a railing
        near = u / solid.size - math.floor(u / solid.size)
        return not (near < 0.14 or v - math.floor(v) < 0.05)
    if material == Material.BICYCLE:  # two rings and a frame; u from -0.9 to 0.9, v from -0.5
        w = v + 0.16
        for side in (-0.52, 0.52):
            r = math.sqrt((u - side) ** 2 + w * w)
            if 0.29 < r < 0.345 or r < 0.03:
                return False
        if -0.52 < u < 0.4 and abs(w - 0.35 * (u + 0.52) / 0.3) < 0.03 and w < 0.4:
            return False
        if abs(w - 0.36) < 0.022 and -0.25 < u < 0.33:
            return False
        if abs(u - 0.52 + (w * 0.32)) < 0.025 and 0 < w < 0.62:
            return False
        if abs(u + 0.05 + (w * 0.35)) < 0.022 and 0 < w < 0.5:
            return False
        if abs(w - 0.5) < 0.03 and -0.36 < u < -0.1:
            return False
        return not (abs(w - 0.6) < 0.025 and 0.2 < u < 0.42)
    return False


@njit(cache=True, error_model="numpy")
def albedo(solid, face_up, u, v):
    """Red, green and blue of a solid's surface at (u, v) metres, and the light it gives off."""
    material, size, seed = solid.material, solid.size, solid.seed
    share, dirt, glow = 0.0, 1.0, 0.0
    if not (material in OWN_DIRT or (material == Material.SHELVES and not face_up)):
        dirt = 0.88 + 0.24 * cloudy(u * 0.7, v * 0.7, seed)
    if material == Material.BRICK:
        row = math.floor(v / 0.075)
        x = u / 0.24 + 0.5 * (row - 2 * math.floor(row / 2))
        column = math.floor(x)
        joint = (x - column) < 0.06 or (v / 0.075 - row) < 0.14
        share = 0.85 if joint else 0.25 * hashed(int(column), int(row), seed)
    elif material == Material.WINDOWS and not face_up:
        x, y = u / (size * 1.6), v / (size * 2.0)
        i, j = math.floor(x), math.floor(y)
        a, b = x - i, y - j
        if 0.22 < a < 0.78 and 0.25 < b < 0.8:
            pane = abs(a - 0.5) < 0.02 or abs(b - 0.55) < 0.015
            share, dirt = (0.15, 1.0) if pane else (1.0, 0.55 + 0.9 * hashed(int(i), int(j), seed))
            if size > 2.4 and hashed(int(i), int(j), seed + 9) < 0.5:
                glow = 0.4
        elif 0.19 < a < 0.81 and 0.21 < b < 0.83:
            dirt *= 1.15
    elif material == Material.PANELS:
        x, y = u / size, v / size
        i, j = math.floor(x), math.floor(y)
        dirt *= 0.93 + 0.14 * hashed(int(i), int(j), seed)
        if (x - i) * size < 0.018 or (y - j) * size < 0.018:
            dirt *= 0.55
    elif material == Material.SHOP_FRONT and not face_up:  # glass with things behind it
        x = u / size
        i = math.floor(x)
        a = x - i
        if v > 2.6 and v < 3.3:
            share = 1.0 if smooth(u * 6.0, v * 2.4, seed + 3) > 0.62 and 2.75 < v < 3.15 else 0.0
            dirt = 1.0
            if hashed(int(i / 2), 7, seed) < 0.5:
                share = 1.0 - share
        elif v < 2.6 and v > 0.35 and 0.04 < a < 0.96:
            item = math.floor(u * 2.7 + 0.8 * smooth(0.0, v * 1.1, seed))
            tall = 0.5 + 1.9 * hashed(item, 1, seed + 2)
            grey = hashed(item, 2, seed + 1) if v < tall else 0.3 + 0.2 * smooth(u * 0.6, v, seed + 3)
            bright = 0.32 * grey * grey * (0.7 + 0.6 * smooth(u * 7.0, v * 5.0, seed))
            r, g, b = 0.5, 0.5, 0.5
            if v < tall:
                r, g, b = hashed(item, 3, seed + 4), hashed(item, 4, seed + 4), hashed(item, 5, seed + 4)
            return (
                0.03 + bright * (0.6 + 0.8 * r),
                0.03 + bright * (0.6 + 0.8 * g),
                0.03 + bright * (0.6 + 0.8 * b),
                0.15,
            )
    elif material == Material.SHELVES and not face_up:  # full of goods
        row = math.floor(v / 0.38)
        if (v / 0.38 - row) > 0.9:
            dirt = 0.8
        else:
            width = 0.08 + 0.1 * hashed(int(row), 3, seed)
            column = math.floor(u / width)
            kind = math.floor(column / 5.0)
            tall = 0.45 + 0.4 * hashed(int(kind), int(row), seed + 4)
            if (v / 0.38 - row) > tall or (u / width - column) < 0.08:
                return 0.03, 0.03, 0.03, 0.0
            r, g = hashed(int(kind), int(row), seed + 20), hashed(int(kind), int(row), seed + 21)
            b, grey = hashed(int(kind), int(row), seed + 22), hashed(int(kind), int(row), seed + 30)
            grey = 0.45 * grey * grey
            worn = 0.75 + 0.5 * hashed(int(column), int(row), seed + 5)
            return (
                0.05 + (0.12 * r * r + grey) * worn,
                0.05 + (0.12 * g * g + grey) * worn,
                0.05 + (0.12 * b * b + grey) * worn,
                0.0,
            )
    elif material == Material.FOLIAGE:
        n = cloudy(u * 2.6, v * 2.6, seed + 5)
        share, dirt = smooth(u * 9.0, v * 9.0, seed + 6), 0.35 + 1.25 * n * n
    elif material == Material.POSTER:
        block = hashed(math.floor(u / size * 3.0), math.floor(v / size * 4.0), seed)
        share, dirt = (1.0 if block > 0.55 else 0.0), 0.85 + 0.3 * smooth(u * 7.0, v * 7.0, seed)
        if smooth(u * 30.0, math.floor(v * 14.0) * 3.7, seed + 1) > 0.66:
            share = 1.0 - share
    elif material == Material.LAMP:
        dirt, glow = 1.0, 1.0
    elif material == Material.PLASTER:
        dirt = 0.8 + 0.28 * cloudy(u * 0.5, v * 0.25, seed) + 0.08 * smooth(u * 14.0, v * 14.0, seed)
        share = 1.0 if v < size else 0.0
    elif material == Material.WOOD:
        dirt = 0.65 + 0.55 * smooth(u * 2.0, v * 40.0, seed)
    elif material == Material.DOOR_WALL:
        x = u / size
        i = math.floor(x)
        door = abs((x - i) * size - 0.5 * size) < 0.46 and v < 2.05 and hashed(int(i), 1, seed) < 0.6
        share = 1.0 if door else 0.0
        if v < 0.1 or (not door and abs(v - 1.05) < 0.05):
            dirt *= 0.6
        if door and (abs((x - i) * size - 0.5 * size - 0.38) < 0.04 and abs(v - 1.0) < 0.05):
            dirt *= 0.3
    return (
        (solid.colours[0, 0] * (1 - share) + solid.colours[1, 0] * share) * dirt,
        (solid.colours[0, 1] * (1 - share) + solid.colours[1, 1] * share) * dirt,
        (solid.colours[0, 2] * (1 - share) + solid.colours[1, 2] * share) * dirt,
        glow,
    )


@njit(cache=True, error_model="numpy")
def ground_albedo(strip, u, v, seed, far):
    """Red, green and blue of a strip of the ground at (u, v) metres; `far` is the distance: patterns fade."""
    kind, size = strip.kind, strip.size
    share = cloudy(u * 0.35, v * 0.35, seed)
    shade = 0.82 + 0.36 * cloudy(u * 1.1, v * 1.1, seed + 4) if kind != Ground.GRASS else 1.0
    fade = 1.0 / (1.0 + (far / 22.0) ** 2)
    if kind in (Ground.ASPHALT, Ground.BAYS):
        shade *= 0.9 + 0.2 * fade * smooth(u * 26.0, v * 26.0, seed)
        crack = abs(smooth(u * 0.45, v * 0.45, seed + 8) - 0.5)
        if crack < 0.006:
            shade *= 0.75
        share *= 0.6
        if kind == Ground.BAYS:
            x = u / 2.5
            bay = (x - math.floor(x)) * 2.5
            row = v - 11.0 * math.floor(v / 11.0)
            if (bay < 0.1 and row < 4.8) or abs(row - 4.8) < 0.05:
                return 0.55 * shade, 0.55 * shade, 0.55 * shade
    elif kind in (Ground.SLABS, Ground.TILES, Ground.POLISHED):
        i, j = math.floor(u / size), math.floor(v / size)
        tone = hashed(int(i), int(j), seed)
        weak = 0.12 if kind == Ground.POLISHED else 0.25
        shade *= 1.0 - weak / 2 + weak * tone
        joint = 0.012 if kind != Ground.SLABS else 0.02
        if (u - i * size) < joint or (v - j * size) < joint:
            shade *= 1.0 - 0.4 * fade
        if kind == Ground.TILES and (int(i) + int(j)) % 2 == 0:
            share = 1.0
    elif kind == Ground.BRICKS:
        row = math.floor(v / 0.1)
        x = u / 0.2 + 0.5 * (row - 2 * math.floor(row / 2))
        column = math.floor(x)
        shade *= 0.85 + 0.3 * fade * hashed(int(column), int(row), seed)
        if (x - column) < 0.07 or (v / 0.1 - row) < 0.1:
            shade *= 1.0 - 0.35 * fade
        share = 1.0 if share > 0.6 else 0.3 * share
    elif kind == Ground.GRASS:
        blade = smooth(u * 34.0, v * 34.0, seed)
        shade = (0.55 + 0.7 * fade * blade + 0.35 * (1 - fade)) * (0.75 + 0.5 * cloudy(u * 2.2, v * 2.2, seed + 3))
    else:
        shade *= 0.7 + 0.6 * fade * smooth(u * 30.0, v * 30.0, seed) + 0.3 * (1 - fade)
    return (
        (strip.colours[0, 0] * (1 - share) + strip.colours[1, 0] * share) * shade,
        (strip.colours[0, 1] * (1 - share) + strip.colours[1, 1] * share) * shade,
        (strip.colours[0, 2] * (1 - share) + strip.colours[1, 2] * share) * shade,
    )

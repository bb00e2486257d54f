"""Places by kind. The camera stands at (0, 0) and looks along y; what it films happens at 3 to 25 m."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people.places import furniture as f
from pat.synthetic.people.places.floor import Floor, Strip, floor_of
from pat.synthetic.people.places.plate import Place
from pat.synthetic.people.places.solids import Builder
from pat.synthetic.people.places.surfaces import Ground, Material
from pat.synthetic.people.places.weather import indoors, outdoors

Generator = np.random.Generator
Tone = tuple[float, float, float]
Makers = dict[f.Furniture, float]

ASPHALTS = ((0.12, 0.12, 0.125), (0.19, 0.19, 0.19), (0.08, 0.08, 0.085), (0.24, 0.235, 0.23))
PAVINGS = ((0.36, 0.35, 0.33), (0.45, 0.43, 0.4), (0.28, 0.27, 0.27), (0.4, 0.33, 0.28), (0.33, 0.22, 0.18))
GRASSES = ((0.08, 0.13, 0.03), (0.06, 0.1, 0.025), (0.13, 0.14, 0.05))
WALLS = ((0.55, 0.53, 0.49), (0.65, 0.6, 0.5), (0.42, 0.41, 0.4), (0.7, 0.69, 0.67), (0.5, 0.4, 0.3),
         (0.3, 0.3, 0.31))  # fmt: skip
CLAYS = ((0.28, 0.12, 0.08), (0.36, 0.2, 0.13), (0.22, 0.13, 0.1), (0.42, 0.33, 0.24))
FLOORS = ((0.5, 0.49, 0.46), (0.62, 0.6, 0.56), (0.35, 0.34, 0.33), (0.45, 0.38, 0.3), (0.25, 0.25, 0.27))
DARK = (0.03, 0.035, 0.04)
LINE = (0.6, 0.6, 0.58)


def _tone(generator: Generator, tones: Sequence[Tone], spread: float = 0.14) -> Tone:
    r, g, b = np.array(tones[int(generator.integers(len(tones)))]) * np.exp(generator.normal(0, spread))
    return float(min(r, 0.8)), float(min(g, 0.8)), float(min(b, 0.8))


def _seed(generator: Generator) -> float:
    return float(generator.integers(1, 9000))


def _building(
    things: Builder, generator: Generator, x: float, y: float, yaw: float, along: float, deep: float
) -> None:
    """A house; its front faces the side that `yaw` turns away from."""
    tall = float(generator.uniform(3.5, 8))
    clay = generator.random() < 0.4
    wall = _tone(generator, CLAYS if clay else WALLS)
    material = Material.WINDOWS if generator.random() < 0.7 else Material.BRICK if clay else Material.PANELS
    size = float(generator.uniform(0.8, 2.2))
    other = DARK if material is Material.WINDOWS else (0.5, 0.49, 0.46)
    things.box((x, y, tall), (along, deep, tall), yaw, material, wall, other, size=size, seed=_seed(generator))
    base = generator.random()
    if base < 0.65:
        look = Material.SHOP_FRONT if base < 0.35 else Material.BRICK if clay else Material.PLASTER
        other = _tone(generator, f.PAINTS) if look is Material.SHOP_FRONT else _tone(generator, WALLS)
        wall, size = _tone(generator, (wall, (0.15, 0.15, 0.15))), float(generator.uniform(0.9, 2.6))
        half = along + 0.06, deep + 0.06, 1.7
        things.box((x, y, 1.7), half, yaw, look, wall, other, size=size, seed=_seed(generator))


def _row(things: Builder, generator: Generator, yaw: float, side: float, outward: float) -> None:
    """Houses in a row along the axis `yaw`, their fronts `side` metres to its left; outward: +1 or -1."""
    at, deep = -35.0, 6.0
    while at < 45:
        along = float(generator.uniform(3, 9))
        across = side + outward * (deep + float(generator.uniform(0, 0.5)))
        x, y = cos(yaw) * (at + along) - sin(yaw) * across, sin(yaw) * (at + along) + cos(yaw) * across
        _building(things, generator, x, y, yaw, along, deep)
        at += 2 * along + (float(generator.uniform(1, 5)) if generator.random() < 0.25 else 0.0)


def _scatter(
    things: Builder, generator: Generator, yaw: float, makers: Makers, far: float = 20.0
) -> None:
    """Furniture where the camera sees it; the number of each is drawn around what `makers` asks for."""
    for make, mean in makers.items():
        for _ in range(int(generator.poisson(mean))):
            y = float(generator.uniform(3.2, far))
            x = float(generator.uniform(-0.62, 0.62)) * (y + 2)
            turn = float(generator.integers(4)) * pi / 2
            make(things, generator, x, y, yaw + turn + float(generator.normal(0, 0.08)))


def _at(yaw: float, along: float, across: float) -> tuple[float, float]:
    return cos(yaw) * along - sin(yaw) * across, sin(yaw) * along + cos(yaw) * across


def _street(things: Builder, g: Generator) -> tuple[Floor, float]:
    yaw = float(g.uniform(-0.9, 0.9)) if g.random() < 0.5 else pi / 2 + float(g.uniform(-0.6, 0.6))
    middle = cos(yaw) * 8.0
    near, kerb = min(middle - 2.5, -1.2), middle + float(g.uniform(0.5, 3.5))
    road = kerb + float(g.uniform(5.5, 9))
    far = road + float(g.uniform(2, 4))
    paving = Ground.SLABS if g.random() < 0.5 else Ground.BRICKS
    stone, tar = _tone(g, PAVINGS), _tone(g, ASPHALTS)
    kerb_tone = _tone(g, ((0.42, 0.42, 0.41),))
    strips = [
        Strip(near, paving, stone, _tone(g, PAVINGS), float(g.uniform(0.3, 0.8))),
        Strip(kerb, Ground.SLABS, kerb_tone, kerb_tone, 1.0),
        Strip(kerb + 0.16, Ground.ASPHALT, tar, _tone(g, ASPHALTS)),
        Strip((kerb + road) / 2, Ground.ASPHALT, LINE, LINE, dash=6.0),
        Strip((kerb + road) / 2 + 0.13, Ground.ASPHALT, tar, _tone(g, ASPHALTS)),
        Strip(road - 0.16, Ground.SLABS, kerb_tone, kerb_tone, 1.0),
        Strip(road, paving, stone, _tone(g, PAVINGS), 0.5),
    ]
    _row(things, g, yaw, far, 1.0)
    if near > -9:
        _row(things, g, yaw, min(near - 1.0, -2.0), -1.0)
    for side, turn in ((kerb + 1.15, 0.0), (road - 1.15, pi)):
        at = -14.0
        while at < 26:
            if g.random() < 0.45:
                f.car(things, g, *_at(yaw, at, side), yaw + turn)
            at += 5.4
    for along in np.arange(-12, 24, float(g.uniform(5, 9))):
        make = (f.tree, f.pole, f.bollard)[int(g.integers(3))]
        make(things, g, *_at(yaw, float(along), kerb - 0.5), yaw)
    _scatter(things, g, yaw, {f.bicycle: 1.5, f.bin_: 0.7, f.board: 0.8, f.planter: 0.5, f.railing: 0.5}, 14)
    return floor_of(strips, yaw, int(_seed(g))), yaw


def _plaza(things: Builder, g: Generator) -> tuple[Floor, float]:
    yaw = float(g.uniform(-pi, pi))
    kind = (Ground.SLABS, Ground.BRICKS, Ground.SLABS, Ground.ASPHALT)[int(g.integers(4))]
    stone = _tone(g, PAVINGS)
    size = float(g.uniform(0.3, 1.2))
    strips = [Strip(-99, kind, stone, _tone(g, PAVINGS), size)]
    if g.random() < 0.6:
        edge = float(g.uniform(-6, 14))
        strips.append(Strip(edge, Ground.GRASS, _tone(g, GRASSES), _tone(g, GRASSES)))
        strips.append(Strip(edge + float(g.uniform(1.5, 7)), kind, stone, _tone(g, PAVINGS), size))
    _around(things, g, float(g.uniform(14, 32)))
    makers: Makers = {f.tree: 2.5, f.bench: 1.2, f.bicycle: 3.0, f.planter: 1.0, f.pole: 1.0, f.bin_: 0.8,
                      f.board: 0.8, f.bollard: 0.6}  # fmt: skip
    _scatter(things, g, yaw, makers)
    return floor_of(strips, yaw, int(_seed(g))), yaw


def _market(things: Builder, g: Generator) -> tuple[Floor, float]:
    floor, yaw = _plaza(things, g)
    _scatter(things, g, yaw, {f.stall: 3.0, f.bicycle: 3.0, f.board: 1.5}, 14)
    return floor, yaw


def _park(things: Builder, g: Generator) -> tuple[Floor, float]:
    yaw = pi / 2 + float(g.uniform(-1.2, 1.2))
    middle = cos(yaw) * 8.0
    wide = float(g.uniform(1.2, 2.6))
    path = (Ground.GRAVEL, Ground.ASPHALT, Ground.SLABS)[int(g.integers(3))]
    tones = ((0.38, 0.33, 0.26), (0.3, 0.29, 0.27)) if path is Ground.GRAVEL else PAVINGS
    grass, other, way = _tone(g, GRASSES), _tone(g, GRASSES), _tone(g, tones)
    strips = [
        Strip(-99, Ground.GRASS, grass, other),
        Strip(middle - wide, path, way, way),
        Strip(middle + wide, Ground.GRASS, grass, other),
    ]
    _around(things, g, float(g.uniform(22, 40)), trees=0.75)
    makers: Makers = {f.tree: 6.0, f.bush: 3.0, f.bench: 1.2, f.bin_: 0.6, f.pole: 0.6, f.bicycle: 0.6,
                      f.railing: 0.5}  # fmt: skip
    _scatter(things, g, yaw, makers, 24)
    return floor_of(strips, yaw, int(_seed(g)), float(g.uniform(0, 0.9))), yaw


def _car_park(things: Builder, g: Generator) -> tuple[Floor, float]:
    yaw = float(g.choice([0.0, pi / 2])) + float(g.uniform(-0.4, 0.4))
    tar = _tone(g, ASPHALTS)
    for row in (-11.0, 0.0, 11.0):
        for bay in range(-7, 10):
            if g.random() < 0.42:
                x, y = _at(yaw, bay * 2.5 + 1.3, row + 2.4)
                if y > 2.5 or abs(x) > 3:
                    f.car(things, g, x, y, yaw + pi / 2 * float(g.choice([-1, 1])))
    _around(things, g, float(g.uniform(20, 36)))
    _scatter(things, g, yaw, {f.pole: 1.5, f.bollard: 0.6, f.bush: 1.0, f.tree: 1.0, f.railing: 0.5})
    return floor_of([Strip(-99, Ground.BAYS, tar, _tone(g, ASPHALTS))], yaw, int(_seed(g))), yaw


def _campus(things: Builder, g: Generator) -> tuple[Floor, float]:
    yaw = float(g.uniform(-pi, pi))
    path, lawn = _tone(g, PAVINGS), _tone(g, GRASSES)
    edge = float(g.uniform(2, 9))
    strips = [Strip(-99, Ground.BRICKS, path, _tone(g, PAVINGS)), Strip(edge, Ground.GRASS, lawn, lawn),
              Strip(edge + 4, Ground.GRAVEL, path, path)]  # fmt: skip
    _row(things, g, float(g.uniform(-0.3, 0.3)), float(g.uniform(12, 24)), 1.0)
    makers: Makers = {f.bicycle: 5.0, f.tree: 2.0, f.railing: 1.2, f.bench: 1.0, f.column: 0.8, f.machine: 0.3}
    _scatter(things, g, yaw, makers)
    return floor_of(strips, yaw, int(_seed(g))), yaw


def _room(things: Builder, g: Generator, half: float, far: float, tall: float, walls: Sequence[Material]) -> None:
    """Walls, a ceiling and lamps around the camera; `half` metres to each side and `far` ahead."""
    wall = _tone(g, WALLS)
    other = _tone(g, (*WALLS, *CLAYS, (0.1, 0.15, 0.25)))
    for x, y, along, yaw in (
        (-half - 0.1, far / 2, far, pi / 2),
        (half + 0.1, far / 2, far, pi / 2),
        (0.0, far + 0.1, half + 1, 0.0),
    ):
        look, size = walls[int(g.integers(len(walls)))], float(g.uniform(1.0, 3.5))
        sides = along, 0.1, tall / 2
        things.box((x, y, tall / 2), sides, yaw, look, wall, other, size=size, seed=_seed(g))
    ceiling = half + 1, far, 0.15
    things.box((0.0, far / 2, tall + 0.15), ceiling, 0.0, Material.PANELS, (0.65, 0.65, 0.64), size=0.6)
    for y in np.arange(2.0, far, float(g.uniform(2.2, 4.0))):
        for x in np.arange(-half + 1, half, 3.0):
            things.box((float(x), float(y), tall - 0.01), (0.6, 0.3, 0.012), 0.0, Material.LAMP, (0.9, 0.9, 0.88))


def _inside(g: Generator, kinds: Sequence[Ground], yaw: float) -> Floor:
    first = _tone(g, FLOORS)
    other = _tone(g, (first, first, *FLOORS))
    strip = Strip(-99, kinds[int(g.integers(len(kinds)))], first, other, float(g.uniform(0.3, 0.9)))
    return floor_of([strip], yaw, int(_seed(g)))


def _shop(things: Builder, g: Generator) -> tuple[Floor, float]:
    yaw = float(g.choice([0.0, pi / 2])) + float(g.normal(0, 0.12))
    size = float(g.uniform(4, 9)), float(g.uniform(12, 22)), float(g.uniform(3.0, 4.0))
    _room(things, g, *size, (Material.SHELVES, Material.PLASTER, Material.PANELS))
    aisle = float(g.uniform(2.2, 3.4))
    for across in np.arange(-8 * aisle, 9 * aisle, aisle):
        for along in np.arange(-12, 20, 5.2):
            x, y = _at(yaw, float(along), float(across) + aisle / 2)
            if (y > 4 or abs(x) > 2.2) and y > 1.5 and g.random() < 0.55:
                f.shelf(things, g, x, y, yaw)
    _scatter(things, g, yaw, {f.counter: 0.8, f.board: 0.8, f.column: 0.4, f.stall: 0.2}, 12)
    return _inside(g, (Ground.TILES, Ground.POLISHED, Ground.SLABS), yaw), yaw


def _corridor(things: Builder, g: Generator) -> tuple[Floor, float]:
    half = float(g.uniform(1.3, 3.0))
    size = half, float(g.uniform(14, 30)), float(g.uniform(2.7, 3.4))
    _room(things, g, *size, (Material.DOOR_WALL, Material.DOOR_WALL, Material.PLASTER, Material.PANELS))
    for _ in range(int(g.poisson(2.0))):
        make = (f.bin_, f.board, f.machine, f.planter, f.seats)[int(g.integers(5))]
        make(things, g, float(g.choice([-1, 1])) * (half - 0.4), float(g.uniform(3.5, 12)), pi / 2)
    return _inside(g, (Ground.POLISHED, Ground.TILES, Ground.POLISHED), 0.0), pi / 2


def _station(things: Builder, g: Generator) -> tuple[Floor, float]:
    yaw = pi / 2 + float(g.uniform(-0.8, 0.8))
    edge = cos(yaw) * 8.0 + float(g.uniform(1, 4))
    tile = _tone(g, FLOORS)
    strips = [
        Strip(-99, Ground.SLABS, tile, _tone(g, FLOORS), 0.6),
        Strip(edge, Ground.SLABS, (0.6, 0.42, 0.05), (0.55, 0.4, 0.06), 0.3),
        Strip(edge + 0.4, Ground.SLABS, tile, tile, 0.6),
        Strip(edge + 1.2, Ground.GRAVEL, (0.1, 0.09, 0.08), (0.06, 0.05, 0.05)),
    ]
    wall = Material.PANELS if g.random() < 0.6 else Material.POSTER
    x, y = _at(yaw, 10.0, edge + 5.5)
    tones = _tone(g, WALLS), _tone(g, f.PAINTS)
    things.box((x, y, 2.2), (40, 0.2, 2.2), yaw, wall, *tones, size=1.5, seed=_seed(g))
    things.box((0, 12, 4.6), (40, 40, 0.15), yaw, Material.PANELS, (0.3, 0.3, 0.3), size=1.2)
    for along in np.arange(-10, 24, float(g.uniform(4, 7))):
        f.column(things, g, *_at(yaw, float(along), edge - 1.5), yaw)
    _scatter(things, g, yaw, {f.seats: 1.2, f.machine: 0.8, f.bin_: 0.8, f.board: 0.8, f.railing: 0.6}, 14)
    return floor_of(strips, yaw, int(_seed(g))), yaw


def _lobby(things: Builder, g: Generator) -> tuple[Floor, float]:
    yaw = float(g.uniform(-0.5, 0.5))
    size = float(g.uniform(7, 12)), float(g.uniform(16, 26)), float(g.uniform(4, 5))
    _room(things, g, *size, (Material.WINDOWS, Material.PANELS, Material.WOOD, Material.SHOP_FRONT))
    makers: Makers = {f.counter: 1.2, f.column: 2.0, f.planter: 1.2, f.seats: 1.2, f.board: 0.6, f.railing: 0.6}
    _scatter(things, g, yaw, makers, 14)
    return _inside(g, (Ground.POLISHED, Ground.POLISHED, Ground.SLABS), yaw), float(g.uniform(-pi, pi))


def _around(things: Builder, g: Generator, distance: float, trees: float = 0.35) -> None:
    """What ends the view of an open place: houses and trees."""
    for bearing in np.arange(-1.15, 1.2, 0.33):
        d = distance * float(g.uniform(0.85, 1.3))
        x, y = d * sin(bearing), d * cos(bearing)
        if g.random() < trees:
            for _ in range(3):
                f.tree(things, g, x + float(g.normal(0, 2)), y + float(g.normal(0, 2)), 0.0)
        else:
            _building(things, g, x, y + 4, -bearing + float(g.normal(0, 0.15)), float(g.uniform(4, 9)), 4.0)


_BUILDERS: dict[str, tuple[bool, Callable[[Builder, Generator], tuple[Floor, float]]]] = {
    "street": (False, _street),
    "plaza": (False, _plaza),
    "market": (False, _market),
    "park": (False, _park),
    "car park": (False, _car_park),
    "shop": (True, _shop),
    "corridor": (True, _corridor),
    "station": (True, _station),
    "campus": (False, _campus),
    "lobby": (True, _lobby),
}
"""Kind -> whether it is indoors, and what builds it."""

TRAIN_KINDS = {"street": 0.24, "plaza": 0.24, "market": 0.16, "park": 0.1, "car park": 0.1, "shop": 0.08,
               "corridor": 0.08}  # fmt: skip
TEST_KINDS = {"station": 0.34, "campus": 0.33, "lobby": 0.33}
"""Kinds and how common they are. No training sees a kind of the test domain."""


def build(kind: str, generator: Generator, weather: str | None = None) -> tuple[Place, str]:
    """A place of a kind, and its weather."""
    indoor, make = _BUILDERS[kind]
    things = Builder()
    floor, flow = make(things, generator)
    name, light, sky, lamps = indoors(generator) if indoor else outdoors(generator, weather)
    return Place(kind, indoor, things.things(), floor, light, sky, lamps, flow), name


def is_indoor(kind: str) -> bool:
    return _BUILDERS[kind][0]


def blocked(place: Place, spots: NDArray, margin: float = 0.3) -> NDArray[np.bool_]:
    """Whether someone who stands at each of the spots [N, 2] would touch something."""
    out = np.zeros(len(spots), bool)
    centres, reach = place.things["sphere"][:, :3], place.things["sphere"][:, 3] + margin
    for height in (0.25, 0.9, 1.5):
        points = np.concatenate([spots, np.full((len(spots), 1), height)], axis=1)
        low, high = points.min(axis=0, initial=np.inf), points.max(axis=0, initial=-np.inf)
        away = np.maximum(low - centres, centres - high).max(axis=1)  # from a box around all points
        for index in np.flatnonzero(away < reach):
            near = np.linalg.norm(points - centres[index], axis=1) < reach[index]
            if near.any():
                planes = place.things["planes"][index, : place.things["count"][index]]
                out |= near & (points @ planes[:, :3].T <= planes[:, 3] + margin).all(axis=1)
    return out

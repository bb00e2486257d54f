"""Whole frames of a camera with people in them, and where each is seen: what a detector of people learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, pi, radians, sin

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people.camera import COLUMNS, ROWS, Camera
from pat.synthetic.people.crop import facing, heading_on, light_at, tight_box
from pat.synthetic.people.developing import GRAIN, Shot, expose
from pat.synthetic.people.figure import Figure, figure
from pat.synthetic.people.person import Person
from pat.synthetic.people.places.kinds import TRAIN_KINDS, is_indoor
from pat.synthetic.people.pose import Pose
from pat.synthetic.people.site import Site
from pat.synthetic.people.street import scene, visible_box
from pat.synthetic.randomness import stream

EMPTY = 0.1
"""Share of frames without anybody."""
TOGETHER = 0.4
"""Share of people who keep company with the one before."""
NEAREST = 0.38
"""Metres between two people."""
LEAST_SEEN = 60
"""Pixels below which nobody can be asked to find someone."""


@dataclass(frozen=True)
class Frame:
    """An image u8 [ROWS, COLUMNS, 3] and the visible boxes f32 [n, 4] of its people (x0, y0, x1, y1), pixels.

    `seen` f32 [n]: area of the visible box as a share of that of the whole body inside the image.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    seen: NDArray[np.float32]


def surveillance_camera(seed: int, kinds: dict[str, float] = TRAIN_KINDS) -> Camera:
    """The camera of a seed; half of them hang higher, see farther or look down more steeply than for crops."""
    camera, g = Camera.sample(seed, kinds), stream("surveillance", seed)
    camera = replace(camera, film=replace(camera.film, detail=1.0))
    if g.random() < 0.5:
        return camera
    indoor = is_indoor(camera.kind)
    height = float(g.uniform(2.3, 3.4) if indoor else g.uniform(2.5, 9))
    distance = float(g.uniform(3, 9) if indoor else g.uniform(max(5, height), 24))
    opening = radians(float(g.uniform(30, 75)))
    pitch = float(np.arctan2(height - 0.9, distance)) + radians(float(g.normal(0, 3)))
    return replace(camera, height=height, pitch=pitch, opening=opening, roll=radians(float(g.normal(0, 2.0))))


def take_frame(site: Site, people: Sequence[Person], g: np.random.Generator) -> Frame:
    """A frame of a camera in which some of `people` stand and walk, alone and in company."""
    figures = _gathered(site, people, g)
    if figures:
        middle = np.mean([each.vertices[:, :2].mean(axis=0) for each in figures], axis=0)
        site = replace(site, light=light_at(site, middle)[0] if len(site.lamps) else site.light)
    light, owner = scene(site, figures)
    boxes, seen = [], []
    for index, each in enumerate(figures):
        box, pixels = visible_box(owner == index + 1)
        if pixels < LEAST_SEEN:
            continue
        left, top, right, bottom = tight_box(each, site)
        whole = (min(right, COLUMNS) - max(left, 0)) * (min(bottom, ROWS) - max(top, 0))
        boxes.append(box)
        seen.append(min((box[2] - box[0]) * (box[3] - box[1]) / max(whole, 1.0), 1.0))
    film = site.camera.film
    stops = site.exposure * 2.0 ** (film.stops + float(g.normal(0, 0.15)))
    gains = stops * np.array(site.balance) ** film.adapts * np.array(film.gains)
    shot = Shot(ROWS, (float(gains[0]), float(gains[1]), float(gains[2])), float(g.uniform(0, 2.5)))
    image = expose(light, film, shot, (ROWS, COLUMNS), g.integers(GRAIN, size=2))
    return Frame(image, np.array(boxes, np.float32).reshape(-1, 4), np.array(seen, np.float32))


def _gathered(site: Site, people: Sequence[Person], g: np.random.Generator) -> list[Figure]:
    """Up to all of `people`, where the place has room for them; most walk along its way."""
    if g.random() < EMPTY:
        return []
    count = 1 + int(g.integers(len(people)) * g.uniform(0.3, 1.0))
    spots = np.concatenate([site.clear, site.hidden])
    figures: list[Figure] = []
    taken = np.zeros((0, 2))
    heading = 0.0
    for person in g.permutation(np.arange(len(people)))[:count]:
        beside = len(taken) > 0 and g.random() < TOGETHER
        if beside:
            bearing, far = g.uniform(0, 2 * pi), g.uniform(0.45, 1.0)
            spot = taken[-1] + far * np.array([cos(bearing), sin(bearing)])
        else:
            spot = spots[int(g.integers(len(spots)))].astype(np.float64)
            heading = heading_on(site, g, steady=0.6)
        free = np.linalg.norm(spots - spot, axis=1).min() < 0.6
        if not free or (len(taken) and np.linalg.norm(taken - spot, axis=1).min() < NEAREST):
            continue
        towards = heading + float(g.normal(0, 0.2)) if beside else heading
        place = float(spot[0]), float(spot[1])
        figures.append(figure(people[person], Pose.sample(g), position=place, heading=facing(towards)))
        taken = np.concatenate([taken, spot[None]])
    return figures

"""One finished crop: a person in a pose, at a spot of a camera's place, as a detector cuts it from the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pat.synthetic.people.camera import COLUMNS, ROWS
from pat.synthetic.people.composing import background, extents, over, touching
from pat.synthetic.people.detection import Detection, cut, detect
from pat.synthetic.people.developing import Shot, develop
from pat.synthetic.people.figure import Figure, figure
from pat.synthetic.people.person import Person
from pat.synthetic.people.pose import Pose
from pat.synthetic.people.render import ground_shadow, render
from pat.synthetic.people.shadow import SIZE, Shadow, shadow_map
from pat.synthetic.people.site import Site
from pat.synthetic.people.view import Light
from pat.synthetic.people.wardrobe import PARTS

HIDDEN = 0.14
"""Share of crops in which a thing of the place may hide a part of the person."""
COMPANY = 0.2
"""Share of crops with other people near."""
STEADY = 0.7
"""Share of people who walk along the way that most take past a camera."""
MOST_HIDDEN = 0.65
"""Share of a person beyond which another moment is tried, at most ATTEMPTS times."""
ATTEMPTS = 4
SMALLEST_PART = 0.002
"""Share of the crop at which a part counts as visible."""


NO_SHADOW = Shadow(np.zeros((SIZE, SIZE), np.float32), np.zeros((3, 4)))


@dataclass(frozen=True)
class Crop:
    """An image, what is true about it, and the part of the person at each pixel u8 [h, w]: an index into PARTS."""

    image: Image.Image
    record: dict[str, Any]
    parts: NDArray[np.uint8]


def take(
    person: Person, site: Site, generator: np.random.Generator, *, size: tuple[int, int],
    others: Sequence[Person] = (),
) -> Crop:  # fmt: skip
    """A crop of `size` (height, width) of a person in a camera's place; `others` may walk by."""
    for _ in range(ATTEMPTS):
        crop = _take(person, site, generator, size, others)
        if crop.record["occlusion"] <= MOST_HIDDEN:  # a detector would not have found the others
            break
    return crop


def _take(
    person: Person, site: Site, g: np.random.Generator, size: tuple[int, int], others: Sequence[Person]
) -> Crop:
    spot, heading, pose = _spot(site, g), heading_on(site, g), Pose.sample(g)
    target = figure(person, pose, position=(float(spot[0]), float(spot[1])), heading=facing(heading))
    company = _company(others, spot, site, g)
    detection = detect(tight_box(target, site), g)
    view = cut(site.view, detection.box, *size)
    light, sunny = light_at(site, spot)

    figures = [target, *company]
    shadows = shadow_map(figures, light) if sun_matters(light) else NO_SHADOW
    shadow = ground_shadow(figures, view, light, shadow=shadows)
    colour, depth = np.empty((*size, 3), np.float32), np.empty(size, np.float32)
    feet = np.concatenate([touching(each.vertices) for each in figures])
    background(
        site.plate, site.depth, site.white, np.array(detection.box), np.linalg.inv(view.matrix[:, :3]), view.eye,
        shadow, sun_share(site), feet, colour, depth,
    )  # fmt: skip
    layer = render([target], view, light, shadow=shadows)
    crowd = render(company, view, light, shadow=shadows)
    seen = np.full(size, 2, np.uint8)
    over(colour, depth, crowd.colour, crowd.alpha, crowd.depth, layer.alpha, layer.depth, False, seen)
    over(colour, depth, layer.colour, layer.alpha, layer.depth, crowd.alpha, crowd.depth, True, seen)

    rows = (detection.box[3] - detection.box[1]) * site.camera.film.detail
    moving = pose.action == "walk"
    image = develop(colour, site.camera.film, _shot(site, rows, moving, abs(sin(heading)), g), g)
    parts = np.where(seen == 1, layer.part, 0).astype(np.uint8)
    record = {
        **_about_box(detection, rows, spot, heading, site),
        "pose": pose.action,
        "sunny": round(sunny, 2),
        "company": len(company),
        "occlusion": round(1 - float((seen == 1).sum()) / max(1, int((seen < 2).sum())), 3),
        "parts": part_boxes(parts),
    }
    return Crop(image, record, parts)


def facing(direction: float) -> float:
    """The heading of a figure that walks in a direction, radians from the x axis to the left."""
    return direction + pi / 2


def _spot(site: Site, g: np.random.Generator) -> NDArray:
    spots = site.hidden if len(site.hidden) and g.random() < HIDDEN else site.clear
    return np.asarray(spots[int(g.integers(len(spots)))], np.float64)


def heading_on(site: Site, g: np.random.Generator, steady: float = STEADY) -> float:
    """A direction to walk in, for a share `steady` of people along the way that most take."""
    if g.random() < steady:
        return float(site.flow + pi * g.integers(2) + g.normal(0, 0.4))
    return float(g.uniform(0, 2 * pi))


def _company(others: Sequence[Person], spot: NDArray, site: Site, g: np.random.Generator) -> list[Figure]:
    """At times one or two others beside, behind or in front."""
    if not others or g.random() >= COMPANY:
        return []
    figures = []
    for _ in range(1 + int(g.random() < 0.25)):
        bearing, far = g.uniform(0, 2 * pi), g.uniform(0.55, 2.2)
        place = float(spot[0] + far * cos(bearing)), float(spot[1] + far * sin(bearing))
        person = others[int(g.integers(len(others)))]
        if site.view.project(np.array([[*place, 0.9]]))[0, 2] > 1.5:
            figures.append(figure(person, Pose.sample(g), position=place, heading=facing(heading_on(site, g))))
    return figures


def tight_box(target: Figure, site: Site) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a figure in pixels of the camera's plate."""
    u, v, _ = site.view.project(target.vertices).T
    return float(u.min()), float(v.min()), float(u.max()), float(v.max())


def light_at(site: Site, spot: NDArray) -> tuple[Light, float]:
    """The light on someone at a spot, and which share of the sun reaches it."""
    light = site.light
    if len(site.lamps):  # at night the nearest lamp is the sun
        way = site.lamps[:, :3] - np.array([*spot, 1.2])
        r2 = (way**2).sum(axis=1)
        strength = site.lamps[:, 3:] / (r2[:, None] + 0.3)
        best = int(np.argmax(strength[:, 1]))
        rest = strength.sum(axis=0) - strength[best]
        colours = strength[best] + light.sun, light.sky + 0.35 * rest, light.ground + 0.15 * strength[best]
        return Light(way[best] / np.sqrt(r2[best]), *(each.astype(np.float32) for each in colours)), 1.0
    if site.camera.kind in ("shop", "corridor", "lobby", "station"):
        return light, 1.0
    u, v, _ = site.view.project(np.array([[*spot, 0.0]]))[0]
    row, column = int(np.clip(v, 0, ROWS - 1)), int(np.clip(u, 0, COLUMNS - 1))
    around = site.plate[max(0, row - 5) : row + 6, max(0, column - 8) : column + 9, 3]
    share = float(around.mean()) / 255
    return replace(light, sun=light.sun * np.float32(0.06 + 0.94 * share)), share


def sun_matters(light: Light) -> bool:
    """Whether the lamp is bright enough for its shadows to be seen."""
    return float(light.sun.max()) > 0.15 * float(light.sky.max())


def sun_share(site: Site) -> float:
    """Of the light on the ground where the sun shines, the share that is the sun's."""
    sun = float(site.light.sun.mean() * site.light.direction[2])
    return sun / (sun + float(site.light.sky.mean()) + 1e-6)


def _shot(site: Site, rows: float, moving: bool, across: float, g: np.random.Generator) -> Shot:
    film = site.camera.film
    exposure = site.exposure * 2.0 ** (film.stops + float(g.normal(0, 0.12)))
    drift = np.exp(g.normal(0, 0.012, 3))
    channels = zip(site.balance, film.gains, drift, strict=True)
    gains = [exposure * (b**film.adapts) * gain * d for b, gain, d in channels]
    metres = (1.3 * across if moving else 0.15) * film.shutter * float(g.uniform(0.3, 1.2))
    return Shot(round(rows), (float(gains[0]), float(gains[1]), float(gains[2])), metres * rows / 1.8)


def _about_box(detection: Detection, rows: float, spot: NDArray, heading: float, site: Site) -> dict[str, Any]:
    away = heading - float(np.arctan2(spot[1], spot[0]))
    view = ("back", "left", "front", "right")[int(((away + pi / 4) % (2 * pi)) // (pi / 2))]
    return {
        "place": site.camera.kind,
        "weather": site.weather,
        "box": detection.kind,
        "camera_rows": round(rows),
        "distance": round(float(np.hypot(*spot)), 2),
        "view": view,
    }


def part_boxes(parts: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Name, share of the crop and box (left, top, right, bottom) in pixels of every visible part."""
    found = []
    for name, (count, *box) in zip(PARTS[1:], extents(parts, len(PARTS))[1:].tolist(), strict=True):
        if count >= SMALLEST_PART * parts.size:
            found.append({"part": name, "share": round(count / parts.size, 4), "box": box})
    return found

"""A place seen by one camera: its image, its depth, and where on it the sun falls. Compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pat.synthetic.people.places.floor import Floor
from pat.synthetic.people.places.noise import cloudy
from pat.synthetic.people.places.solids import Things
from pat.synthetic.people.places.surfaces import albedo, ground_albedo, open_at
from pat.synthetic.people.view import Light, View

SAMPLES = 2
"""Samples a pixel and side."""
FAR = 1e6


@dataclass(frozen=True)
class Sky:
    """What is above the horizon: its colour there, overhead, and how much cloud; all zero indoors."""

    horizon: tuple[float, float, float]
    zenith: tuple[float, float, float]
    clouds: float
    haze: float
    """Share of the horizon's colour on what is 100 m away."""


@dataclass(frozen=True)
class Place:
    """A place without people. `lamps` f64 [L, 6]: position and strength (RGB) of lamps at night."""

    kind: str
    indoor: bool
    things: Things
    floor: Floor
    light: Light
    sky: Sky
    lamps: NDArray[np.float64]
    flow: float
    """Direction in which most people walk, radians."""


@dataclass(frozen=True)
class Plate:
    """What a camera sees of an empty place.

    `colour` f32 [H, W, 3] linear radiance; `sunlit` f32 [H, W] share of a pixel that is ground in the light of
    the sun; `depth` f32 [H, W] metres along the optical axis.
    """

    colour: NDArray[np.float32]
    sunlit: NDArray[np.float32]
    depth: NDArray[np.float32]


def render_plate(place: Place, view: View) -> Plate:
    """The plate of `place`, SAMPLES x SAMPLES a pixel."""
    rays = np.linalg.inv(view.matrix[:, :3])
    height, width = view.height * SAMPLES, view.width * SAMPLES
    depth = np.full((height, width), FAR, np.float32)
    hit = np.full((height, width), -1, np.int16)
    face = np.zeros((height, width), np.int8)
    things = place.things
    for index in range(len(things.counts)):
        rectangle = _rectangle(view, things.spheres[index], height, width)
        if rectangle is not None:
            _draw(
                index,
                things.planes[index],
                things.counts[index],
                things.materials[index],
                things.origins[index],
                things.yaws[index],
                things.values[index],
                view.eye,
                rays,
                rectangle,
                depth,
                hit,
                face,
            )
    colour = np.zeros((view.height, view.width, 3), np.float32)
    sunlit = np.zeros((view.height, view.width), np.float32)
    nearest = np.zeros((view.height, view.width), np.float32)
    light, floor, sky = place.light, place.floor, place.sky
    sun, above, below = (each.astype(np.float64) for each in (light.sun, light.sky, light.ground))
    _shade(
        depth, hit, face, view.eye, rays,
        things.planes, things.counts, things.spheres, things.origins, things.yaws, things.materials,
        things.colours, things.values,
        floor.yaw, floor.wobble, floor.seed, floor.begins, floor.kinds, floor.colours, floor.sizes, floor.dashes,
        light.direction, sun, above, below,
        np.array(sky.horizon), np.array(sky.zenith), sky.clouds, sky.haze, place.lamps, place.indoor,
        colour, sunlit, nearest,
    )  # fmt: skip
    return Plate(colour, sunlit, nearest)


def _rectangle(view: View, sphere: NDArray, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Rows and columns of samples that a sphere can cover: top, bottom, left, right."""
    centre, radius = sphere[:3], sphere[3]
    w = float(view.matrix[2, :3] @ centre + view.matrix[2, 3])
    if w < -radius:
        return None
    if w < 1.5 * radius + 0.3:
        return 0, height, 0, width
    u, v, _ = view.project(centre[None])[0] * SAMPLES
    reach = (
        SAMPLES * np.linalg.norm(view.matrix[0, :3] - view.matrix[2, :3] * u / SAMPLES) * radius / (w - radius) + 2
    )
    top, bottom = max(0, int(v - reach)), min(height, int(v + reach) + 1)
    left, right = max(0, int(u - reach)), min(width, int(u + reach) + 1)
    return (top, bottom, left, right) if top < bottom and left < right else None


@njit(cache=True)
def _surface(normal, point, origin, yaw):
    """Texture coordinates of a point of a solid: along the surface and up, or from above on a lying one."""
    x, y = point[0] - origin[0], point[1] - origin[1]
    c, s = math.cos(yaw), math.sin(yaw)
    along, side = c * x + s * y, c * y - s * x
    if abs(normal[2]) > 0.7:
        return along, side
    if abs(normal[0] * c + normal[1] * s) > 0.7:
        return side, point[2]
    return along, point[2]


@njit(cache=True)
def _draw(index, planes, count, material, origin, yaw, values, eye, rays, rectangle, depth, hit, face):
    """Draw one solid into the depth buffer."""
    top, bottom, left, right = rectangle
    offsets = np.empty(count)
    for p in range(count):
        offsets[p] = planes[p, 3] - planes[p, 0] * eye[0] - planes[p, 1] * eye[1] - planes[p, 2] * eye[2]
    point, d = np.empty(3), np.empty(3)
    see_through = material == 6 or material == 7 or material == 8
    for row in range(top, bottom):
        for column in range(left, right):
            u, v = (column + 0.5) / SAMPLES, (row + 0.5) / SAMPLES
            for c in range(3):
                d[c] = rays[c, 0] * u + rays[c, 1] * v + rays[c, 2]
            near, beyond, entered = 0.05, FAR, -1
            for p in range(count):
                slope = planes[p, 0] * d[0] + planes[p, 1] * d[1] + planes[p, 2] * d[2]
                if slope < -1e-12:
                    t = offsets[p] / slope
                    if t > near:
                        near, entered = t, p
                elif slope > 1e-12:
                    beyond = min(beyond, offsets[p] / slope)
                elif offsets[p] < 0:
                    beyond = -1.0
                if beyond < near:
                    break
            if entered < 0 or beyond < near or near >= depth[row, column]:
                continue
            if see_through:
                for c in range(3):
                    point[c] = eye[c] + near * d[c]
                a, b = _surface(planes[entered], point, origin, yaw)
                if material == 8:
                    b = point[2] - origin[2]
                if open_at(material, a, b, values[0], int(values[1])):
                    continue
            depth[row, column] = near
            hit[row, column] = index
            face[row, column] = entered


@njit(cache=True)
def _blocked(point, direction, planes, counts, spheres, materials, origins, yaws, values, indoor, skip):
    """True where something stands between a point and the sun."""
    where = np.empty(3)
    for i in range(len(counts)):
        if i == skip or (indoor and spheres[i, 2] > 2.3):
            continue
        x, y, z = spheres[i, 0] - point[0], spheres[i, 1] - point[1], spheres[i, 2] - point[2]
        along = x * direction[0] + y * direction[1] + z * direction[2]
        r2 = spheres[i, 3] ** 2
        if along < -spheres[i, 3] or x * x + y * y + z * z - along * along > r2:
            continue
        near, beyond, entered = 1e-3, FAR, -1
        for p in range(counts[i]):
            offset = (
                planes[i, p, 3]
                - planes[i, p, 0] * point[0]
                - planes[i, p, 1] * point[1]
                - planes[i, p, 2] * point[2]
            )
            slope = (
                planes[i, p, 0] * direction[0] + planes[i, p, 1] * direction[1] + planes[i, p, 2] * direction[2]
            )
            if slope < -1e-12:
                if offset / slope > near:
                    near, entered = offset / slope, p
            elif slope > 1e-12:
                beyond = min(beyond, offset / slope)
            elif offset < 0:
                beyond = -1.0
            if beyond < near:
                break
        if entered < 0 or beyond < near:
            continue
        if materials[i] == 6 or materials[i] == 7 or materials[i] == 8:
            for c in range(3):
                where[c] = point[c] + near * direction[c]
            a, b = _surface(planes[i, entered], where, origins[i], yaws[i])
            if materials[i] == 8:
                b = where[2] - origins[i, 2]
            if open_at(materials[i], a, b, values[i, 0], int(values[i, 1])):
                continue
        return True
    return False


@njit(cache=True)
def _strip(u, v, begins, dashes):
    """Which strip of the floor is at (u, v)."""
    k = 0
    while k + 1 < len(begins) and v >= begins[k + 1]:
        k += 1
    if k > 0 and dashes[k] > 0 and u / dashes[k] - math.floor(u / dashes[k]) > 0.5:
        k -= 1
    return k


@njit(cache=True)
def _shade(
    depth, hit, face, eye, rays, planes, counts, spheres, origins, yaws, materials, colours, values,
    floor_yaw, wobble, floor_seed, begins, kinds, floor_colours, sizes, dashes,
    direction, sun, sky_light, bounce, horizon, zenith, clouds, haze, lamps, indoor, colour, sunlit, nearest,
):  # fmt: skip
    """Light every sample and average them into pixels."""
    height, width = depth.shape
    c_floor, s_floor = math.cos(floor_yaw), math.sin(floor_yaw)
    point, d, own, normal = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    weight = 1.0 / (SAMPLES * SAMPLES)
    for row in range(height):
        for column in range(width):
            u, v = (column + 0.5) / SAMPLES, (row + 0.5) / SAMPLES
            for c in range(3):
                d[c] = rays[c, 0] * u + rays[c, 1] * v + rays[c, 2]
            i, t = hit[row, column], float(depth[row, column])
            ground = d[2] < -1e-9 and -eye[2] / d[2] < t
            if ground:
                t = -eye[2] / d[2]
            y, x = row // SAMPLES, column // SAMPLES
            if nearest[y, x] == 0 or t < nearest[y, x]:
                nearest[y, x] = min(t, 60000.0)
            if not ground and i < 0:  # the sky
                up = max(0.0, d[2] / math.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2))
                k = min(1.0, up * 2.2)
                puff = clouds * cloudy(d[0] / (up + 0.15) * 0.9, d[1] / (up + 0.15) * 0.9, floor_seed)
                for c in range(3):
                    colour[y, x, c] += weight * (
                        (horizon[c] * (1 - k) + zenith[c] * k) * (1 - puff) + puff * horizon[0] * 1.15
                    )
                continue
            for c in range(3):
                point[c] = eye[c] + t * d[c]
            glow, dim = 0.0, 1.0
            if ground:
                a, b = c_floor * point[0] + s_floor * point[1], c_floor * point[1] - s_floor * point[0]
                bend = b + wobble * math.sin(a * 0.23)
                k = _strip(a, bend, begins, dashes)
                ground_albedo(
                    kinds[k], a, b, floor_colours[k, 0], floor_colours[k, 1], sizes[k], floor_seed + k, t, own
                )
                normal[0], normal[1], normal[2] = 0.0, 0.0, 1.0
            else:
                f = face[row, column]
                for c in range(3):
                    normal[c] = planes[i, f, c]
                a, b = _surface(normal, point, origins[i], yaws[i])
                if materials[i] == 8:
                    b = point[2] - origins[i, 2]
                glow = values[i, 2] + albedo(
                    materials[i],
                    abs(normal[2]) > 0.7,
                    a,
                    b,
                    colours[i, 0],
                    colours[i, 1],
                    values[i, 0],
                    int(values[i, 1]),
                    own,
                )
                dim = 1.0 - 0.35 * math.exp(-point[2] / 0.35)
                if materials[i] == 6:  # leaves look every way
                    for c in range(3):
                        normal[c] = 0.5 * normal[c] + 0.5 * (point[c] - spheres[i, c]) / spheres[i, 3]
            facing = normal[0] * direction[0] + normal[1] * direction[1] + normal[2] * direction[2]
            lit = 0.0
            if facing > 0:
                for c in range(3):
                    point[c] += 2e-3 * normal[c]
                if not _blocked(
                    point,
                    direction,
                    planes,
                    counts,
                    spheres,
                    materials,
                    origins,
                    yaws,
                    values,
                    indoor,
                    -1 if ground else i,
                ):
                    lit = facing
            if ground and lit > 0:
                sunlit[y, x] += weight
            up = 0.5 + 0.5 * normal[2]
            fog = haze * (1.0 - math.exp(-t / 100.0))
            for c in range(3):
                light = lit * sun[c] + dim * (up * sky_light[c] + (1 - up) * bounce[c])
                for n in range(len(lamps)):
                    x0, y0, z0 = lamps[n, 0] - point[0], lamps[n, 1] - point[1], lamps[n, 2] - point[2]
                    r2 = x0 * x0 + y0 * y0 + z0 * z0 + 0.3
                    cosine = (x0 * normal[0] + y0 * normal[1] + z0 * normal[2]) / math.sqrt(r2)
                    light += lamps[n, 3 + c] * max(0.1, cosine) / r2
                shown = own[c] * light + glow * (0.4 + own[c]) * 1.5
                colour[y, x, c] += weight * (shown * (1 - fog) + fog * horizon[c])

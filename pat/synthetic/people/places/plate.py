"""A place seen by one camera: its image, its depth, and where on it the sun falls. Compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pat.synthetic.people.places.floor import Floor
from pat.synthetic.people.places.noise import cloudy
from pat.synthetic.people.places.outlines import CELLS, shadows, spans
from pat.synthetic.people.places.rays import FAR, entered, lets_through, stops, surface
from pat.synthetic.people.places.surfaces import Material, albedo, ground_albedo
from pat.synthetic.people.view import Light, View

SAMPLES = 2
"""Samples a pixel and side."""


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
    """A place without people. `things`: SOLID [N]; `lamps` f64 [L, 6]: position and strength (RGB) of lamps."""

    kind: str
    indoor: bool
    things: NDArray[np.void]
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
    _draw(place.things, view.eye, view.matrix * [[SAMPLES], [SAMPLES], [1]], rays, depth, hit, face)
    colour = np.zeros((view.height, view.width, 3), np.float32)
    sunlit = np.zeros((view.height, view.width), np.float32)
    nearest = np.zeros((view.height, view.width), np.float32)
    light, floor, sky = place.light, place.floor, place.sky
    sun, above, below = (each.astype(np.float64) for each in (light.sun, light.sky, light.ground))
    ceiling = place.indoor & (place.things["sphere"][:, 2] > 2.3)
    _shade(
        depth, hit, face, view.eye, rays, place.things, *shadows(place.things, light.direction, ceiling),
        floor.yaw, floor.wobble, floor.seed, floor.strips, light.direction, sun, above, below,
        np.array(sky.horizon), np.array(sky.zenith), sky.clouds, sky.haze, place.lamps, colour, sunlit, nearest,
    )  # fmt: skip
    return Plate(colour, sunlit, nearest)


@njit(cache=True, error_model="numpy")
def _draw(things, eye, matrix, rays, depth, hit, face):
    """Draw all solids. `matrix` f64 [3, 4]: world -> samples; `rays` f64 [3, 3]: pixel -> ray."""
    height, width = depth.shape
    x, y, z = eye[0], eye[1], eye[2]
    for i in range(len(things)):
        solid = things[i]
        columns = spans(solid.planes[: solid.count], matrix, 0.04, height, width)
        for row in range(height):
            v = (row + 0.5) / SAMPLES
            for column in range(columns[row, 0], columns[row, 1]):
                u = (column + 0.5) / SAMPLES
                dx = rays[0, 0] * u + rays[0, 1] * v + rays[0, 2]
                dy = rays[1, 0] * u + rays[1, 1] * v + rays[1, 2]
                dz = rays[2, 0] * u + rays[2, 1] * v + rays[2, 2]
                t, plane = entered(solid, x, y, z, dx, dy, dz, 0.05)
                if plane < 0 or t >= depth[row, column]:
                    continue
                if not lets_through(solid, plane, x + t * dx, y + t * dy, z + t * dz):
                    depth[row, column] = t
                    hit[row, column] = i
                    face[row, column] = plane


@njit(cache=True, error_model="numpy")
def _shade(
    depth, hit, face, eye, rays, things, frame, first, found, floor_yaw, wobble, floor_seed, strips,
    direction, sun, sky_light, bounce, horizon, zenith, clouds, haze, lamps, colour, sunlit, nearest,
):  # fmt: skip
    """Light every sample and average them into pixels."""
    height, width = depth.shape
    c_floor, s_floor = math.cos(floor_yaw), math.sin(floor_yaw)
    sx, sy, sz = direction[0], direction[1], direction[2]
    weight = 1.0 / (SAMPLES * SAMPLES)
    light = np.empty(3)
    for row in range(height):
        for column in range(width):
            u, v = (column + 0.5) / SAMPLES, (row + 0.5) / SAMPLES
            dx = rays[0, 0] * u + rays[0, 1] * v + rays[0, 2]
            dy = rays[1, 0] * u + rays[1, 1] * v + rays[1, 2]
            dz = rays[2, 0] * u + rays[2, 1] * v + rays[2, 2]
            i, t = hit[row, column], float(depth[row, column])
            ground = dz < -1e-9 and -eye[2] / dz < t
            if ground:
                t = -eye[2] / dz
            y, x = row // SAMPLES, column // SAMPLES
            if nearest[y, x] == 0 or t < nearest[y, x]:
                nearest[y, x] = min(t, 60000.0)
            if not ground and i < 0:  # the sky
                up = max(0.0, dz / math.sqrt(dx**2 + dy**2 + dz**2))
                k = min(1.0, up * 2.2)
                puff = clouds * cloudy(dx / (up + 0.15) * 0.9, dy / (up + 0.15) * 0.9, floor_seed)
                for c in range(3):
                    colour[y, x, c] += weight * (
                        (horizon[c] * (1 - k) + zenith[c] * k) * (1 - puff) + puff * horizon[0] * 1.15
                    )
                continue
            px, py, pz = eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz
            glow, dim = 0.0, 1.0
            if ground:
                a, b = c_floor * px + s_floor * py, c_floor * py - s_floor * px
                bend, k = b + wobble * math.sin(a * 0.23), 0
                while k + 1 < len(strips) and bend >= strips[k + 1].begins:
                    k += 1
                dash = strips[k].dash
                if k > 0 and dash > 0 and a / dash - math.floor(a / dash) > 0.5:
                    k -= 1
                red, green, blue = ground_albedo(strips[k], a, b, floor_seed + k, t)
                nx, ny, nz = 0.0, 0.0, 1.0
            else:
                solid, f = things[i], face[row, column]
                nx, ny, nz = solid.planes[f, 0], solid.planes[f, 1], solid.planes[f, 2]
                a, b = surface(solid, f, px, py, pz)
                red, green, blue, glow = albedo(solid, abs(nz) > 0.7, a, b)
                glow = solid.glow + glow
                dim = 1.0 - 0.35 * math.exp(-pz / 0.35)
                if solid.material == Material.FOLIAGE:  # leaves look every way
                    nx = 0.5 * nx + 0.5 * (px - solid.sphere[0]) / solid.sphere[3]
                    ny = 0.5 * ny + 0.5 * (py - solid.sphere[1]) / solid.sphere[3]
                    nz = 0.5 * nz + 0.5 * (pz - solid.sphere[2]) / solid.sphere[3]
            lit = max(0.0, nx * sx + ny * sy + nz * sz)
            if lit > 0:
                px, py, pz = px + 2e-3 * nx, py + 2e-3 * ny, pz + 2e-3 * nz
                j = math.floor(frame[0, 0] * px + frame[0, 1] * py + frame[0, 2] * pz + frame[0, 3])
                k = math.floor(frame[1, 0] * px + frame[1, 1] * py + frame[1, 2] * pz + frame[1, 3])
                cell = j * CELLS + k if 0 <= j < CELLS and 0 <= k < CELLS else CELLS * CELLS
                for n in range(first[cell], first[cell + 1]):
                    if (ground or found[n] != i) and stops(things[found[n]], px, py, pz, sx, sy, sz):
                        lit = 0.0
                        break
            if ground and lit > 0:
                sunlit[y, x] += weight
            up = 0.5 + 0.5 * nz
            for c in range(3):
                light[c] = lit * sun[c] + dim * (up * sky_light[c] + (1 - up) * bounce[c])
            for n in range(len(lamps)):
                lx, ly, lz = lamps[n, 0] - px, lamps[n, 1] - py, lamps[n, 2] - pz
                r2 = lx * lx + ly * ly + lz * lz + 0.3
                cosine = (lx * nx + ly * ny + lz * nz) / math.sqrt(r2)
                for c in range(3):
                    light[c] += lamps[n, 3 + c] * max(0.1, cosine) / r2
            fog = haze * (1.0 - math.exp(-t / 100.0))
            for c in range(3):
                own = red if c == 0 else (green if c == 1 else blue)
                shown = own * light[c] + glow * (0.4 + own) * 1.5
                colour[y, x, c] += weight * (shown * (1 - fog) + fog * horizon[c])

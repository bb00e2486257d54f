"""The light of a place: sun, clouds, dusk, night and lamps indoors. Linear RGB, a lit white card near 1."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people.places.plate import Sky
from pat.synthetic.people.view import Light
from pat.synthetic.randomness import chosen

OUTDOORS = {"sunny": 0.3, "hazy sun": 0.22, "overcast": 0.32, "dusk": 0.06, "night": 0.1}
NO_SKY = Sky((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.0)
NO_LAMPS: NDArray[np.float64] = np.zeros((0, 6))

_WHITE: NDArray = np.ones(3, np.float32)


def _light(direction: tuple[float, float], sun: NDArray, sky: NDArray, bounce: float) -> Light:
    """`direction` is azimuth and elevation in radians; the ground throws back `bounce` of what falls on it."""
    a, e = direction
    ray = np.array([cos(a) * cos(e), sin(a) * cos(e), sin(e)])
    ground = bounce * (np.asarray(sun) * ray[2] * 0.7 + sky) * (1.04, 1.0, 0.95)
    return Light(ray, *(np.asarray(each, np.float32) for each in (sun, sky, ground)))


def outdoors(generator: np.random.Generator, weather: str | None = None) -> tuple[str, Light, Sky, NDArray]:
    """Weather, light, sky and lamps of a place outdoors."""
    g, weather = generator, weather or chosen(generator, OUTDOORS)
    azimuth = float(g.uniform(0, 2 * pi))
    blue, warm = np.array([0.8, 0.95, 1.18], np.float32), np.array([1.08, 1.0, 0.86], np.float32)
    if weather == "night":
        return weather, *_night(g, azimuth)
    above: NDArray
    sun: NDArray
    if weather == "sunny":
        e = g.uniform(18, 65)
        above, sun, bounce = 0.42 * blue * float(g.uniform(0.8, 1.2)), 1.55 * warm, 0.28
        sky = Sky((0.85, 0.92, 1.0), (0.3, 0.5, 0.9), 0.4, 0.15)
    elif weather == "hazy sun":
        e = g.uniform(20, 65)
        above, bounce = 0.65 * (0.5 * blue + 0.5 * _WHITE), 0.28
        sun = float(g.uniform(0.5, 0.9)) * (0.6 * warm + 0.4 * _WHITE)
        sky = Sky((1.0, 1.0, 1.0), (0.7, 0.8, 0.95), 0.6, 0.35)
    elif weather == "overcast":
        tint = _WHITE + float(g.normal(0, 0.025)) * np.array([-1, 0, 1], np.float32)
        sun = float(g.uniform(0.0, 0.2)) * _WHITE
        above, bounce = 0.95 * tint, 0.25
        e = g.uniform(40, 80)
        sky = Sky((1.05, 1.05, 1.05), (0.9, 0.92, 0.95), 0.5, 0.4)
    else:  # dusk
        above, bounce = 0.5 * np.array([0.85, 0.95, 1.2], np.float32), 0.22
        sun = float(g.uniform(0.1, 0.5)) * np.array([1.25, 0.95, 0.65], np.float32)
        e = g.uniform(6, 16)
        sky = Sky((1.0, 0.85, 0.7), (0.35, 0.45, 0.7), 0.5, 0.3)
    return weather, _light((azimuth, float(np.radians(e))), sun, above, bounce), sky, NO_LAMPS


def _night(g: np.random.Generator, azimuth: float) -> tuple[Light, Sky, NDArray]:
    tone = np.array([1.12, 0.98, 0.78] if g.random() < 0.5 else [0.95, 1.0, 1.05], np.float32)
    count = int(g.integers(3, 7))
    lamps = np.zeros((count, 6))
    lamps[:, 0], lamps[:, 1] = g.uniform(-9, 9, count), g.uniform(1, 20, count)
    lamps[:, 2] = g.uniform(3.5, 5.5)
    lamps[:, 3:] = tone * g.uniform(6, 14)
    light = _light((azimuth, 1.1), 0.1 * tone, 0.13 * tone, 0.3)
    return light, Sky((0.03, 0.03, 0.04), (0.01, 0.01, 0.02), 0.2, 0.1), lamps


def indoors(generator: np.random.Generator) -> tuple[str, Light, Sky, NDArray]:
    """Weather "indoor", with soft light from the ceiling, at times with a window to one side."""
    azimuth = float(generator.uniform(0, 2 * pi))
    tone = _WHITE + float(generator.normal(0.02, 0.04)) * np.array([1, 0.1, -1.1], np.float32)
    window = generator.random() < 0.3
    e = float(np.radians(generator.uniform(15, 35) if window else generator.uniform(65, 88)))
    sun = float(generator.uniform(0.3, 0.6)) * (_WHITE if window else tone)
    return "indoor", _light((azimuth, e), sun, 0.7 * tone, 0.36), NO_SKY, NO_LAMPS

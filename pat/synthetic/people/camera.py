"""Cameras: where they hang, what lens they have, and how they turn light into an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import atan, cos, hypot, radians, tan

import numpy as np

from pat.synthetic.people.places.kinds import TRAIN_KINDS, is_indoor
from pat.synthetic.people.view import View, look_at
from pat.synthetic.randomness import chosen, stream

ROWS, COLUMNS = 540, 960
"""Pixels of a camera's whole image."""
CLOSEST = 0.7
"""Share of the image's height that a person at the middle of it may take; narrower lenses show nobody whole."""


@dataclass(frozen=True)
class Film:
    """How a camera stores light; all of it constant for a camera but for small changes from image to image."""

    stops: float
    """Exposure against a well exposed place, in stops."""
    gains: tuple[float, float, float]
    """Left over after its white balance."""
    adapts: float
    """Share of the light's own colour that the white balance takes away."""
    curve: float
    """Strength of the tone curve's S: 0 is plain sRGB."""
    black: float
    """Level of black, at times lifted by haze or stray light."""
    saturation: float
    sharpness: float
    """Of the unsharp mask; cheap cameras sharpen a lot."""
    blur: float
    """Standard deviation of the lens's blur in pixels of the camera."""
    noise: float
    """Standard deviation of the noise in the light of a mid grey."""
    quality: int
    """Of the camera's own JPEG stream."""
    detail: float
    """Pixels of the camera's image for each pixel of its plate: how many a person has."""
    shutter: float
    """Seconds that it is open."""


@dataclass(frozen=True)
class Camera:
    """A camera over a place. It stands at (0, 0, height) and looks along y; angles in radians."""

    seed: int
    kind: str
    weather: str | None
    """Asked for; None draws it with the place."""
    height: float
    pitch: float
    roll: float
    opening: float
    """Vertical angle of view."""
    film: Film

    @staticmethod
    def sample(seed: int, kinds: dict[str, float] = TRAIN_KINDS) -> Camera:
        """The camera of a seed in a place of one of `kinds`, drawn with their weights."""
        g = stream("camera", seed)
        kind = chosen(g, kinds)
        indoor = is_indoor(kind)
        if indoor:
            height = float(g.uniform(2.2, 3.0))
        else:
            height = float(g.choice([g.uniform(1.5, 2.6), g.uniform(2.4, 5.5)], p=[0.3, 0.7]))
        opening = radians(float(np.clip(g.normal(38, 9), 22, 62)))
        distance = float(g.uniform(5, 9)) if indoor else float(g.uniform(6.5, 14))
        pitch = float(np.arctan2(height - 0.9, distance)) + radians(float(g.normal(0, 2)))
        away = hypot(height - 0.9, (height - 0.9) / tan(pitch))
        opening = max(opening, 2 * atan(1.72 * cos(pitch) / away / CLOSEST / 2))
        return Camera(seed, kind, None, height, pitch, radians(float(g.normal(0, 1.0))), opening, _film(g))

    def view(self) -> View:
        """The whole image of the camera, ROWS x COLUMNS."""
        focal = ROWS / 2 / tan(self.opening / 2)
        eye = np.array([0.0, 0.0, self.height])
        ahead = np.array([0.0, 1.0, self.height - tan(self.pitch)])
        upright = look_at(eye, ahead, focal=focal, height=ROWS, width=COLUMNS)
        c, s, u, v = np.cos(self.roll), np.sin(self.roll), COLUMNS / 2, ROWS / 2
        turn = np.array([[c, -s, u - c * u + s * v], [s, c, v - s * u - c * v], [0.0, 0.0, 1.0]])
        return replace(upright, matrix=turn @ upright.matrix)


def _film(g: np.random.Generator) -> Film:
    cast = g.normal(0, 0.035, 3)
    cast -= cast.mean()
    return Film(
        stops=float(np.clip(g.normal(0.0, 0.38), -0.9, 0.9)),
        gains=(float(np.exp(cast[0])), float(np.exp(cast[1])), float(np.exp(cast[2]))),
        adapts=float(g.uniform(0.4, 1.0)),
        curve=float(g.uniform(0.0, 0.8)),
        black=float(g.choice([0.0, g.uniform(0.0, 0.07)], p=[0.55, 0.45])),
        saturation=float(np.clip(g.normal(1.0, 0.2), 0.45, 1.5)),
        sharpness=float(g.choice([0.0, g.uniform(0.2, 1.1)], p=[0.4, 0.6])),
        blur=float(g.uniform(0.25, 0.75)),
        noise=float(g.choice([g.uniform(0.001, 0.007), g.uniform(0.007, 0.018)], p=[0.75, 0.25])),
        quality=int(g.uniform(40, 93)),
        detail=float(np.exp(g.uniform(np.log(0.6), np.log(1.9)))),
        shutter=float(g.choice([g.uniform(0.001, 0.008), g.uniform(0.008, 0.03)], p=[0.7, 0.3])),
    )

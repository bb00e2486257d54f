"""One image: a person in a pose, in front of a place, behind an obstacle, through a camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pat.synthetic.flat.body import VIEWS, Body, Pose
from pat.synthetic.flat.camera import Camera
from pat.synthetic.flat.canvas import Array, Canvas, Labels, Light
from pat.synthetic.flat.domains import DomainStyle
from pat.synthetic.flat.fabric import PixelLabel
from pat.synthetic.flat.figure import draw_person
from pat.synthetic.flat.obstacle import OBSTACLES
from pat.synthetic.flat.scene import FLOOR, WIDE, behind, place_of
from pat.synthetic.flat.wardrobe import Identity

SUPERSAMPLING = 2
VISIBLE_SHARE = 0.002
"""Share of the image at which a part counts as visible: 16 pixels of 64 x 128."""
OCCLUDERS = (*OBSTACLES, "passer-by")


@dataclass(frozen=True)
class Framing:
    """Where the detector's box lies around the person, in person heights."""

    height: float
    width: float  # stretched to the width of the image, as detections are
    top: float  # of the box, relative to the crown
    shift: float  # of the person from the middle

    @staticmethod
    def drawn(generator: np.random.Generator, reach: float) -> Framing:
        """An ordinary detection of someone 2 `reach` wide: off centre, at times cut at head or feet."""
        height = float(np.clip(generator.normal(1.07, 0.035), 0.99, 1.18))
        top = float(generator.normal(-0.035, 0.015))
        width = float(np.clip(2 * reach + generator.normal(0.03, 0.02), 0.41, 0.56)) * height / 1.07
        if generator.random() < 0.12:
            height -= float(generator.uniform(0.08, 0.2))
            top += float(generator.uniform(0.0, 0.1))
        return Framing(height, width, top, float(np.clip(generator.normal(0, 0.02), -0.05, 0.05)))

    @staticmethod
    def bad(generator: np.random.Generator) -> Framing:
        """A bad detection: a fragment, or someone at the edge."""
        if generator.random() < 0.5:
            height, top = float(generator.uniform(0.4, 0.65)), float(generator.uniform(-0.1, 0.5))
            return Framing(height, height / 2, top, float(generator.uniform(-0.1, 0.1)))
        side = float(generator.choice([-1.0, 1.0]))
        return Framing(1.1, 0.5, -0.1, side * float(generator.uniform(0.18, 0.28)))


def take_photograph(
    style: DomainStyle,
    camera_number: int,
    identity: Identity,
    generator: np.random.Generator,
    *,
    size: tuple[int, int],
    passer_by: Identity,
    badly_framed: bool,
) -> tuple[Image.Image, dict[str, Any]]:
    """Draw one image of `size` (H, W), and what is true of it; everything random comes from `generator`."""
    camera = Camera.of(style, camera_number)
    view = list(VIEWS)[int(generator.integers(len(VIEWS)))]
    pose = Pose.drawn(generator, view, camera.elevation)
    body = Body.of(pose, identity.height, identity.width)
    framing = Framing.bad(generator) if badly_framed else Framing.drawn(generator, body.reach())

    canvas = _empty_canvas(style, camera_number, camera, framing, size[0], generator)
    cast_shadow(canvas, camera.light)
    draw_person(canvas, identity, body, float(generator.random()))
    unoccluded = _person(canvas.labels)
    occluder = _occlude(canvas, style, camera, passer_by, generator)
    share = 1 - _person(canvas.labels) / max(unoccluded, 1)

    image = camera.develop(_resized(canvas.pixels, size), generator)
    attributes = {
        "view": view,
        **identity.described(),
        "visible": _visible(canvas.labels),
        "occlusion": {"type": occluder, "share": round(share, 3)},
    }
    return image, attributes


def _empty_canvas(
    style: DomainStyle, camera_number: int, camera: Camera, framing: Framing, rows: int,
    generator: np.random.Generator,
) -> Canvas:  # fmt: skip
    """The place behind the person, at the spot where the feet meet the ground."""
    height = rows * SUPERSAMPLING
    scale = height / framing.height
    width = round(framing.width * scale)
    feet = FLOOR + float(generator.uniform(0.12, 0.5))  # further down is nearer to the camera
    left = float(generator.uniform(0.1, WIDE - 1.4))
    pixels = behind(place_of(style, camera_number), (height, width), scale, left, feet - 1.0 + framing.top)
    side = float(np.clip(camera.light + generator.normal(0, 0.2), -1, 1))
    light = Light(side, float(generator.uniform(0.45, 0.65)))
    origin = width / 2 + framing.shift * scale, -framing.top * scale
    return Canvas(np.array(pixels), np.zeros((height, width), np.uint8), scale, origin, light)


def cast_shadow(canvas: Canvas, light: float) -> None:
    """A soft dark ellipse on the ground, away from the light."""
    height, width = canvas.labels.shape
    x = (np.arange(width, dtype=np.float32) - canvas.origin[0])[None, :] / canvas.scale + 0.12 * light
    y = (np.arange(height, dtype=np.float32) - canvas.origin[1])[:, None] / canvas.scale - 0.985
    reach = (x / (0.17 + 0.12 * abs(light))) ** 2 + (y / 0.04) ** 2
    canvas.pixels *= (1 - 0.5 * np.exp(-reach))[..., None]


def _occlude(
    canvas: Canvas, style: DomainStyle, camera: Camera, passer_by: Identity, generator: np.random.Generator
) -> str:
    """Perhaps put something in front of the person; returns what."""
    if generator.random() >= style.occlusion:
        return "none"
    kind = OCCLUDERS[int(generator.integers(len(OCCLUDERS)))]
    if kind in OBSTACLES:
        OBSTACLES[kind](canvas, generator)
        return kind
    view = list(VIEWS)[int(generator.integers(len(VIEWS)))]
    body = Body.of(Pose.drawn(generator, view, camera.elevation), passer_by.height, passer_by.width)
    side = float(generator.choice([-1.0, 1.0])) * float(generator.uniform(0.2, 0.27))
    origin = canvas.origin[0] + side * canvas.scale, canvas.origin[1] + 0.06 * canvas.scale
    in_front = Canvas(canvas.pixels, np.zeros_like(canvas.labels), canvas.scale * 1.04, origin, canvas.light)
    draw_person(in_front, passer_by, body, 0.5)
    canvas.labels[in_front.labels > 0] = PixelLabel.OCCLUDER
    return kind


def _person(labels: Labels) -> int:
    """Number of pixels that show the person."""
    return int(((labels != PixelLabel.BACKGROUND) & (labels != PixelLabel.OCCLUDER)).sum())


def _visible(labels: Labels) -> list[str]:
    counts = np.bincount(labels.ravel(), minlength=len(PixelLabel))
    shown = [label for label in PixelLabel if label not in (PixelLabel.BACKGROUND, PixelLabel.OCCLUDER)]
    return [label.name.lower() for label in shown if counts[label] >= VISIBLE_SHARE * labels.size]


def _resized(pixels: Array, size: tuple[int, int]) -> Array:
    """The image at its final size (H, W), edges smoothed by averaging."""
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
    smaller = image.resize((size[1], size[0]), Image.Resampling.HAMMING)
    return np.asarray(smaller, np.float32) / 255

"""A street of flat people filmed by several cameras: in seconds, and without numba. For the camera process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import pi, sin
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pat.synthetic.flat.body import VIEWS, Body, Pose
from pat.synthetic.flat.camera import Camera
from pat.synthetic.flat.canvas import Canvas, Light
from pat.synthetic.flat.domains import DomainStyle, style_named
from pat.synthetic.flat.figure import draw_person
from pat.synthetic.flat.photograph import cast_shadow
from pat.synthetic.flat.scene import FLOOR, TALL, WIDE, behind, place_of
from pat.synthetic.flat.wardrobe import Identity, identities
from pat.synthetic.randomness import stream

RATE = 10
"""Frames per second."""
SCALE = 160
"""Pixels of a person height in the middle of the street, unless another number is asked for."""
GAP = 2.5
"""Seconds between two people who come into the image, on average."""
PACE = (0.55, 0.8)
"""Person heights walked in a second."""
MARGIN = 0.5
"""Person heights beyond the image at which people begin and end their way."""


@dataclass(frozen=True)
class Walk:
    """One person's way through the image of one camera."""

    person: int
    identity: Identity
    begins: float  # seconds
    pace: float
    yaw: float
    feet: float  # on the panorama, in person heights: further down is nearer
    phase: float

    @property
    def ends(self) -> float:
        return self.begins + (WIDE + 2 * MARGIN) / self.pace

    def at(self, time: float) -> float:
        """Where the person is, in person heights from the left edge."""
        way = (time - self.begins) * self.pace - MARGIN
        return way if sin(self.yaw) > 0 else WIDE - way

    def body(self, time: float, elevation: float) -> Body:
        """The walking person at a moment: two steps for each person height of the way, more or less."""
        phase = self.phase + 2 * pi * 1.25 * self.pace * time
        pose = Pose(self.yaw, self.yaw, elevation, phase, stride=0.45, swing=0.4, elbows=(0.3, 0.3))
        return Body.of(pose, self.identity.height, self.identity.width)


def film_street(out: Path, *, cameras: int, people: int, scale: int = SCALE) -> None:
    """Write OUT/camera-N.mp4 for each camera and OUT/truth.jsonl.

    Everyone walks past every camera once, in another order. A line of the truth holds camera, frame, person and
    the visible box (x0, y0, x1, y1) in pixels.
    """
    out.mkdir(parents=True)
    style = style_named("target")
    shown = list(islice(identities(style, 0), people))
    walks = [walks_of(style, number, shown, 0) for number in range(1, cameras + 1)]
    frames = 1 + round(RATE * max(walk.ends for each in walks for walk in each))
    truth: list[dict[str, object]] = []
    for number, each in enumerate(walks, 1):
        film = film_camera(style, number, each, frames, scale, truth.append)
        _encode(out / f"camera-{number}.mp4", film, _film_size(scale))
    (out / "truth.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in truth))


def walks_of(style: DomainStyle, camera: int, people: list[Identity], seed: int) -> list[Walk]:
    """The ways of all people past one camera, in random order."""
    generator = stream("street", style.seed, seed, camera)
    walks = []
    for place, person in enumerate(generator.permutation(len(people))):
        view = ("left", "right")[int(generator.integers(2))]
        walks.append(
            Walk(
                person=int(person) + 1,
                identity=people[person],
                begins=GAP * (place + float(generator.uniform(0, 0.6))),
                pace=float(generator.uniform(*PACE)),
                yaw=VIEWS[view] + float(generator.uniform(-0.6, 0.6)),
                feet=FLOOR + float(generator.uniform(0.25, 0.95)) * (TALL - FLOOR),
                phase=float(generator.uniform(0, 2 * pi)),
            )
        )
    return walks


def film_camera(
    style: DomainStyle,
    number: int,
    walks: list[Walk],
    frames: int,
    scale: int,
    tell: Callable[[dict[str, object]], None],
) -> Iterator[NDArray[np.uint8]]:
    """The frames [H, W, 3] of one camera; `tell` gets the truth of every visible person.

    What a lens and a sensor would make of them takes twice as long as they do, and no test looks for it.
    """
    height, width = _film_size(scale)
    camera = Camera.of(style, number)
    empty = behind(place_of(style, number), (height, width), scale, 0.0, 0.0)
    light = Light(camera.light, 0.55)
    for frame in range(frames):
        time = frame / RATE
        pixels = np.array(empty)
        for walk in sorted(walks, key=lambda walk: walk.feet):  # the far ones first
            if not walk.begins <= time <= walk.ends:
                continue
            tall = scale * (0.85 + 0.3 * (walk.feet - FLOOR) / (TALL - FLOOR))
            origin = walk.at(time) * scale, walk.feet * scale - tall
            canvas = Canvas(pixels, np.zeros((height, width), np.uint8), tall, origin, light)
            cast_shadow(canvas, camera.light)
            draw_person(canvas, walk.identity, walk.body(time, camera.elevation), 0.5)
            rows, columns = np.nonzero(canvas.labels)
            if len(rows) >= 100:
                box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
                who = {"camera": f"camera-{number}", "frame": frame, "time": time, "person": walk.person}
                tell(who | {"box": box})
        yield (pixels.clip(0, 1) * 255).astype(np.uint8)


def _film_size(scale: int) -> tuple[int, int]:
    """Height and width of the frames; even, for the codec."""
    return round(TALL * scale) // 2 * 2, round(WIDE * scale) // 2 * 2


def _encode(path: Path, frames: Iterator[NDArray[np.uint8]], size: tuple[int, int]) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        video = container.add_stream(codec, rate=RATE)
        (video.height, video.width), video.pix_fmt = size, "yuv420p"
        if codec == "mpeg4":
            video.codec_context.bit_rate = 3_000_000
        for pixels in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())

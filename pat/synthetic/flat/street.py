"""A street filmed by several cameras: the same people walk past each of them. For trying the camera process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from math import pi, sin
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import UserError
from pat.base.files import write_text, written_whole
from pat.synthetic.flat.body import VIEWS, Body, Pose
from pat.synthetic.flat.camera import Camera
from pat.synthetic.flat.canvas import Canvas, Light
from pat.synthetic.flat.domains import DomainStyle, style_named
from pat.synthetic.flat.figure import draw_person
from pat.synthetic.flat.photograph import cast_shadow
from pat.synthetic.flat.randomness import stream
from pat.synthetic.flat.scene import FLOOR, TALL, WIDE, place_of
from pat.synthetic.flat.wardrobe import Identity, identities

TRUTH = "truth.jsonl"
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

Progress = Callable[[int, int], None]


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

    @property
    def nearness(self) -> float:
        """Factor of the person's height: people further down are nearer."""
        return 0.85 + 0.3 * (self.feet - FLOOR) / (TALL - FLOOR)


def film_street(
    out: Path,
    *,
    style: DomainStyle | str = "target",
    cameras: int = 2,
    people: int = 10,
    scale: int = SCALE,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> int:
    """Write OUT/camera-N.mp4 for each camera and OUT/truth.jsonl; returns the number of frames of a video.

    Everyone walks past every camera once, in another order. A line of the truth holds camera, frame, person and
    the visible box (x0, y0, x1, y1) in pixels. Raises UserError when OUT exists or a number is below 1.
    """
    if out.exists():
        raise UserError(f"{out} already exists; give a folder that does not")
    if cameras < 1 or people < 1:
        raise UserError("a street needs at least one camera and one person")
    style = style_named(style) if isinstance(style, str) else style
    shown = list(islice(identities(style, seed), people))
    walks = [walks_of(style, number, shown, seed) for number in range(1, cameras + 1)]
    frames = 1 + round(RATE * max(walk.ends for each in walks for walk in each))
    truth: list[dict[str, object]] = []
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        progress(done, cameras * frames)

    for number, each in enumerate(walks, 1):
        with written_whole(out / f"camera-{number}.mp4") as temporary:
            film = film_camera(style, number, each, frames, scale, truth.append)
            _encode(temporary, film, film_size(scale), one_more)
    write_text(out / TRUTH, "".join(f"{json.dumps(line)}\n" for line in truth))
    return frames


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
    """The frames [H, W, 3] of one camera; `tell` gets the truth of every visible person."""
    height, width = film_size(scale)
    camera = replace(Camera.of(style, number), exposure_jitter=0.0)  # within a video the exposure stays
    empty = place_of(style, number).seen((height, width), scale, 0.0, 0.0)
    generator = stream("film", style.seed, number)
    light = Light(camera.light, 0.55)
    for frame in range(frames):
        time = frame / RATE
        pixels = np.array(empty)
        for walk in sorted(walks, key=lambda walk: walk.feet):  # the far ones first
            if not walk.begins <= time <= walk.ends:
                continue
            body = _body(walk, time, camera)
            tall = scale * walk.nearness
            origin = walk.at(time) * scale, walk.feet * scale - tall
            canvas = Canvas(pixels, np.zeros((height, width), np.uint8), tall, origin, light)
            cast_shadow(canvas, camera.light)
            draw_person(canvas, walk.identity, body, 0.5)
            rows, columns = np.nonzero(canvas.labels)
            if len(rows) >= 100:
                box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
                who = {"camera": f"camera-{number}", "frame": frame, "time": time, "person": walk.person}
                tell(who | {"box": box})
        yield np.asarray(camera.develop(pixels, generator))


def film_size(scale: int) -> tuple[int, int]:
    """Height and width of the frames; even, for the codec."""
    return round(TALL * scale) // 2 * 2, round(WIDE * scale) // 2 * 2


def _body(walk: Walk, time: float, camera: Camera) -> Body:
    """The walking person at a moment: two steps for each person height of the way, more or less."""
    pose = Pose(
        yaw=walk.yaw,
        head_yaw=walk.yaw,
        elevation=camera.elevation,
        phase=walk.phase + 2 * pi * 1.25 * walk.pace * time,
        stride=0.45,
        swing=0.4,
        elbows=(0.3, 0.3),
    )
    return Body.of(pose, walk.identity.height, walk.identity.width)


def _encode(
    path: Path, frames: Iterator[NDArray[np.uint8]], size: tuple[int, int], one_more: Callable[[], None]
) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        video = container.add_stream(codec, rate=RATE)
        assert isinstance(video, av.VideoStream)
        (video.height, video.width), video.pix_fmt = size, "yuv420p"
        if codec == "mpeg4":
            video.codec_context.bit_rate = 3_000_000
        for pixels in frames:
            for packet in video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
            one_more()
        for packet in video.encode():
            container.mux(packet)

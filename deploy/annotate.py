"""Images for people: boxes with names, into a video file or onto the screen."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deploy.frames import Frame, Pixels
from pat.base.errors import UserError

log = logging.getLogger(__name__)

PALETTE = ((230, 85, 13), (49, 130, 189), (49, 163, 84), (117, 107, 177), (222, 45, 120), (140, 109, 49))
UNKNOWN = (110, 110, 110)
_TICKS = Fraction(1, 1000)


@dataclass(frozen=True)
class Label:
    """A person in an image."""

    box: NDArray[np.float32]
    """[4] of (x0, y0, x1, y1) in pixels."""
    track: int
    identity: str | None
    score: float | None

    @property
    def text(self) -> str:
        name = printable(self.identity) if self.identity else f"track {self.track}"
        return name if self.score is None or self.identity is None else f"{name}  {self.score:.2f}"

    @property
    def colour(self) -> tuple[int, int, int]:
        """The same for a name wherever it appears."""
        return UNKNOWN if self.identity is None else PALETTE[sum(self.identity.encode()) % len(PALETTE)]


def draw(pixels: Pixels, labels: Sequence[Label]) -> Pixels:
    """A copy of the image [H, W, 3] with every label's box and text."""
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    line = max(2, round(image.height / 300))
    font = ImageFont.load_default(size=max(12, round(image.height / 42)))
    for label in labels:
        if not np.isfinite(label.box).all():
            continue
        left, top, right, bottom = (float(edge) for edge in label.box)
        if right <= left or bottom <= top:
            continue
        pen.rectangle((left, top, right, bottom), outline=label.colour, width=line)
        text = pen.textbbox((0, 0), label.text, font=font)
        width, height = text[2] + 6, text[3] + 4
        x = min(max(0.0, left), max(0.0, image.width - width))
        y = top - height if top >= height else top
        pen.rectangle((x, y, x + width, y + height), fill=label.colour)
        pen.text((x + 3, y + 1), label.text, fill="white", font=font)
    return np.asarray(image)


def printable(name: str) -> str:
    """A name without what would break a line or move a cursor."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)


Watcher = Callable[[Frame, Sequence[Label]], None]


class Sink(Protocol):
    """Somewhere that annotated images go."""

    def put(self, frame: Frame, pixels: Pixels) -> None: ...
    def close(self) -> None: ...


class View:
    """Draws a camera's frames and hands them to the sinks; a sink that fails is left out from then on.

    `watcher` is shown every frame as it came, with who is in it; it must not block.
    """

    def __init__(self, sinks: Sequence[Sink] = (), watcher: Watcher | None = None) -> None:
        self._sinks, self._watcher = list(sinks), watcher

    @property
    def wanted(self) -> bool:
        return bool(self._sinks) or self._watcher is not None

    def show(self, frame: Frame, labels: Sequence[Label]) -> None:
        if self._watcher is not None:
            self._watcher(frame, labels)
        if not self._sinks:
            return
        image = draw(frame.pixels, labels)
        for sink in list(self._sinks):
            try:
                sink.put(frame, image)
            except Exception as error:  # a full disk must not stop the recognition
                log.error("camera %s: no more annotated images: %s", frame.camera, error)
                self._sinks.remove(sink)

    def close(self) -> None:
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:
                log.error("an annotated video was not finished: %s", error)
        self._sinks = []


class VideoFile:
    """An MP4 of a camera, playable up to its last second also after the process was killed.

    It begins with the first image. A file that is there is kept: the new one gets a number. An image of another
    size than the first is brought to that size. Raises UserError when its folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        if path.parent.is_file():
            raise UserError(f"cannot write videos into {path.parent}, which is a file; give a folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write the video {path}: {error.strerror}") from error
        self._path = path
        self._output: tuple[av.container.OutputContainer, av.VideoStream] | None = None
        self._begun = 0.0
        self._tick = -1

    def put(self, frame: Frame, pixels: Pixels) -> None:
        if self._output is None:
            self._output = self._start(pixels)
            self._begun = frame.time
        container, stream = self._output
        image = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            stream.width, stream.height, "yuv420p"
        )
        self._tick = max(self._tick + 1, round((frame.time - self._begun) / _TICKS))
        image.pts, image.time_base = self._tick, _TICKS
        for packet in stream.encode(image):
            container.mux(packet)

    def close(self) -> None:
        if self._output is not None:
            container, stream = self._output
            for packet in stream.encode():
                container.mux(packet)
            container.close()

    def _start(self, pixels: Pixels) -> tuple[av.container.OutputContainer, av.VideoStream]:
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        container = av.open(str(_made(self._path)), "w", format="mp4", options=options)
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        # The codecs halve the colour both ways: even sides.
        stream.height, stream.width = (max(2, side // 2 * 2) for side in pixels.shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = _TICKS
        stream.codec_context.gop_size = 50
        if codec == "libx264":
            stream.options = {"preset": "veryfast", "crf": "26", "tune": "zerolatency"}
        else:
            stream.codec_context.bit_rate = 2_000_000
        return container, stream


def _made(path: Path) -> Path:
    """A new, empty file: at the path, or at the first of NAME-2, NAME-3, ... where nothing is."""
    wanted, numbers = path, itertools.count(2)
    while True:
        try:
            path.touch(exist_ok=False)
            return path
        except FileExistsError:  # in one step: another process may write here, too
            path = wanted.with_stem(f"{wanted.stem}-{next(numbers)}")

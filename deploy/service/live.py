"""What the cameras see now: the newest frame of each, who is in it, and the best crop of every track in view."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Sequence

import numpy as np
from PIL import Image

from deploy.annotate import Label, draw
from deploy.appearance import qualities
from deploy.frames import Boxes, Frame, Pixels, clipped

WIDEST = 1280
"""Columns of a live image at most."""
QUALITY = 75
CROP = (128, 256)
"""Columns and rows of a kept view at most."""
REMEMBERED = 512
"""Tracks whose best crop is held in memory at most."""


class Seen:
    """A camera's frame and who is in it."""

    def __init__(self, frame: Frame, labels: Sequence[Label]) -> None:
        self.frame, self.labels = frame, labels
        self._drawing = threading.Lock()
        self._jpeg = b""

    def jpeg(self) -> bytes:
        """The image with boxes and names; made when somebody looks, once."""
        with self._drawing:
            self._jpeg = self._jpeg or _jpeg(_drawn(self.frame.pixels, self.labels), QUALITY)
            return self._jpeg


class Live:
    """Takes every frame by reference; safe to use from threads.

    With `crops`, also the best crop of each track is kept until it is asked for.
    """

    def __init__(self, *, crops: bool) -> None:
        self._crops = crops
        self._seen: dict[str, Seen] = {}
        self._best: dict[int, tuple[float, bytes]] = {}  # quality and JPEG, by track
        self._lock = threading.Lock()  # of the best crops

    def see(self, frame: Frame, labels: Sequence[Label]) -> None:
        """A new frame; called on its camera's thread."""
        self._seen[frame.camera] = Seen(frame, labels)
        if self._crops and labels:
            self._keep_crops(frame, labels)

    def newest(self, camera: str) -> Seen | None:
        """The camera's newest frame; None before the first."""
        return self._seen.get(camera)

    def everywhere(self) -> list[Seen]:
        """The newest frame of each camera."""
        return list(self._seen.values())

    def at(self, camera: str, x: float, y: float) -> tuple[Seen, Label] | None:
        """The person at a place (0 to 1 each way) of the image: of several the nearest to the camera."""
        seen = self._seen.get(camera)
        if seen is None:
            return None
        height, width = seen.frame.pixels.shape[:2]
        column, row = x * width, y * height
        there = [
            label
            for label in seen.labels
            if label.box[0] <= column <= label.box[2] and label.box[1] <= row <= label.box[3]
        ]
        return (seen, max(there, key=lambda label: float(label.box[3]))) if there else None

    def best_crop(self, track: int, *, last: bool) -> tuple[float, bytes] | None:
        """Quality and JPEG of a track's best crop; with `last` it is let go of."""
        with self._lock:
            return self._best.pop(track, None) if last else self._best.get(track)

    def _keep_crops(self, frame: Frame, labels: Sequence[Label]) -> None:
        height, width = frame.pixels.shape[:2]
        boxes, usable = clipped(np.stack([label.box for label in labels]), height, width)
        quality = qualities(frame.pixels, boxes, np.ones(len(boxes), dtype=np.float32))
        for label, box, good, usable_box in zip(labels, boxes, quality, usable, strict=True):
            had = self._best.get(label.track)
            if not usable_box or (had is not None and good <= 1.1 * had[0]):
                continue
            jpeg = _jpeg(crop_of(frame.pixels, box), 85)
            with self._lock:
                self._best[label.track] = float(good), jpeg
                while len(self._best) > REMEMBERED:
                    del self._best[next(iter(self._best))]


def crop_of(pixels: np.ndarray, box: Boxes) -> Image.Image:
    """The box [4] of a frame, no larger than CROP."""
    left, top = (math.floor(edge) for edge in box[:2])
    right, bottom = (math.ceil(edge) for edge in box[2:])
    image = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    image.thumbnail(CROP, Image.Resampling.BICUBIC)
    return image


def _drawn(pixels: Pixels, labels: Sequence[Label]) -> Image.Image:
    if pixels.shape[1] > WIDEST:
        scale = WIDEST / pixels.shape[1]
        size = WIDEST, max(1, round(pixels.shape[0] * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        labels = [Label(each.box * scale, each.track, each.identity, each.score) for each in labels]
    return Image.fromarray(draw(pixels, labels) if labels else pixels)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()

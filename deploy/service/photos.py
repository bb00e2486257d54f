"""Who a photo shows, and where these people were seen before."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import TimeoutError as TooLong
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image, ImageOps

from deploy.appearance import qualities
from deploy.detect import Detector
from deploy.embedder import Embedder
from deploy.frames import Boxes, Pixels, clipped
from deploy.gallery import Gallery, Match
from pat.base.errors import Failure, UserError

FORMATS = ("JPEG", "PNG", "WEBP")
DETECTED_AT = 1280
"""Columns or rows at most of the image that people are looked for in; crops are cut out of the whole one."""
MOST_PEOPLE = 12
"""In one photo; the best views are looked up."""
ANSWER_WITHIN = 20.0
"""Seconds for the model."""


class TooLarge(UserError):
    """A photo beyond the limits."""


@dataclass(frozen=True, slots=True)
class InPhoto:
    """A person in a photo."""

    box: tuple[int, int, int, int]
    """(x0, y0, x1, y1) in pixels of the photo."""
    quality: float
    """From 0 (useless) to 1."""
    matches: Sequence[Match]
    """The best entry of each person who is like this one, best first."""
    vector: np.ndarray
    """[D]."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which entries a search may return; None asks for nothing."""

    count: int = 5
    camera: str | None = None
    since: float | None = None
    until: float | None = None


class Photos:
    """Looks people up in one photo at a time: whoever asks takes care of that."""

    def __init__(
        self, gallery: Gallery, detector: Detector, embedder: Embedder, *, most_bytes: int, most_pixels: int
    ) -> None:
        self._gallery, self._detector, self._embedder = gallery, detector, embedder
        self.most_bytes, self._most_pixels = most_bytes, most_pixels

    def decode(self, content: bytes) -> Pixels:
        """A photo as [H, W, 3], turned as its camera was held.

        Raises TooLarge, and UserError for what is no JPEG, PNG or WebP, or broken.
        """
        if len(content) > self.most_bytes:
            raise TooLarge(f"the photo has {len(content):,} bytes; {self.most_bytes:,} are the most")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here
                with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                    if image.width * image.height > self._most_pixels:
                        raise TooLarge(
                            f"the photo has {image.width} x {image.height} pixels; {self._most_pixels:,} are most"
                        )
                    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except UserError:
            raise
        except Exception as error:  # decoders raise many things for broken files
            raise UserError(f"this is no JPEG, PNG or WebP that can be read: {error}") from error

    def search(self, pixels: Pixels, limits: Limits, *, whole: bool = False) -> list[InPhoto]:
        """The people in a photo, best view first; with `whole` it is a crop of one."""
        height, width = pixels.shape[:2]
        if whole:
            boxes = np.array([[0, 0, width, height]], dtype=np.float32)
            quality = np.ones(1, dtype=np.float32)
        else:
            boxes, quality = self._people(pixels)
        return self._found(pixels, boxes, quality, limits) if len(boxes) else []

    def search_box(self, pixels: Pixels, box: Boxes, limits: Limits) -> list[InPhoto]:
        """Who one box [4] of a frame shows."""
        inside, usable = clipped(box[None], *pixels.shape[:2])
        return self._found(pixels, inside, np.ones(1, dtype=np.float32), limits) if usable[0] else []

    def _people(self, pixels: Pixels) -> tuple[Boxes, np.ndarray]:
        height, width = pixels.shape[:2]
        scale = min(1.0, DETECTED_AT / max(height, width))
        small = pixels
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        found = self._detector.detect(small)
        if not len(found):
            return np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=np.float32)
        boxes, usable = clipped(found.boxes / np.float32(scale), height, width)
        quality = qualities(pixels, boxes, found.scores)
        order = [row for row in np.argsort(-quality) if usable[row]][:MOST_PEOPLE]
        return boxes[order], quality[order]

    def _found(self, pixels: Pixels, boxes: Boxes, quality: np.ndarray, limits: Limits) -> list[InPhoto]:
        try:
            vectors = self._embedder.submit(pixels, boxes).result(timeout=ANSWER_WITHIN)
        except TooLong:
            raise Failure(f"the model did not answer within {ANSWER_WITHIN:.0f} s; try again") from None
        return [
            InPhoto(_whole(box), float(good), self._alike(vector, limits), vector)
            for box, good, vector in zip(boxes, quality, vectors, strict=True)
        ]

    def _alike(self, vector: np.ndarray, limits: Limits) -> list[Match]:
        return self._gallery.people(vector, **asdict(limits)) if np.isfinite(vector).all() else []


def _whole(box: Boxes) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    return left, top, right, bottom

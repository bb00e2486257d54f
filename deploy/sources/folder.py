"""A folder of images as a recording, or one image, read by Pillow."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from deploy.frames import Pixels
from deploy.sources.base import Source
from deploy.sources.names import IMAGES, shown
from deploy.sources.timing import ASSUMED_RATE, Thinner
from pat.base.errors import Failure, UserError

# What Pillow raises for damaged files of the formats in IMAGES.
BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


class Images(Source):
    """The images of one folder (not of folders in it) in natural order, ASSUMED_RATE per second."""

    def __init__(self, path: str, *, rate: float) -> None:
        super().__init__(shown(path), live=False)
        self._thinner = Thinner(rate)
        self._paths = [Path(path)] if Path(path).is_file() else self._listed(Path(path))
        if not self._paths:
            raise UserError(f"{self.name}: the folder has no images; wanted are {' '.join(sorted(IMAGES))}")

    def _listed(self, folder: Path) -> list[Path]:
        try:
            found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith(".")]
        except OSError as error:
            raise UserError(f"{self.name}: the folder cannot be read: {error.strerror}") from None
        return sorted(found, key=lambda path: natural(path.name))

    def __iter__(self) -> Iterator[tuple[Pixels, float]]:
        decoded = 0
        for count, path in enumerate(self._paths):
            if self.stopping:
                return
            self.heard = time.monotonic()
            seconds = count / ASSUMED_RATE
            if not self._thinner.keeps(seconds):
                continue
            try:
                pixels = read_image(path)
            except BROKEN:
                self.broken += 1
                continue
            decoded += 1
            yield pixels, seconds
        if self.broken and not decoded:
            raise Failure(f"{self.name}: none of {self.broken} images can be decoded; are they damaged?")

    def close(self) -> None:
        """Files are open only while they are read."""


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorting key under which frame9 comes before frame10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def read_image(path: Path) -> Pixels:
    """Upright RGB of any image; 16-bit grey is brought to 8, transparency dropped. Raises one of BROKEN."""
    if not path.is_file():
        raise OSError(f"{path} is no file")  # a pipe would be waited for
    with Image.open(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips at 255
            grey = np.clip(np.asarray(upright) >> 8, 0, 255).astype(np.uint8)  # [H, W]
            return np.repeat(grey[:, :, None], 3, axis=2)
        return np.array(upright.convert("RGB"))

"""Crops from a folder of the user's, to check and to calibrate with. No PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import UserError

Pixels = NDArray[np.uint8]
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def find_images(folder: str | Path) -> list[Path]:
    """The images in a folder and below, sorted. Raises UserError when there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name a folder of person crops")
    names = [Path(place, name) for place, _, files in os.walk(folder) for name in files]
    found = sorted(path for path in names if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if not found:
        raise UserError(f"the folder {folder} holds no images ({', '.join(SUFFIXES)})")
    return found


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """Up to `most` of the paths, spread evenly over the list."""
    return [paths[row] for row in np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)]


def unseen(paths: Sequence[Path], used: Sequence[Path]) -> list[Path]:
    """The paths whose content is that of none `used`: a copy under another name is no other image."""
    sizes = {path.stat().st_size for path in used}
    contents = {path.read_bytes() for path in used}
    return [path for path in paths if path.stat().st_size not in sizes or path.read_bytes() not in contents]


def check_images(paths: Sequence[Path]) -> None:
    """Raise UserError naming the first that cannot be read: for what takes long before it reads them."""
    read_images(paths, (1, 1))


def read_images(
    paths: Sequence[Path], size: tuple[int, int], done: Callable[[int], object] = lambda count: None
) -> Pixels:
    """RGB images, upright, bicubic at `size` (height, width): uint8 [n, H, W, 3].

    `done` is called with 1 after each. Raises UserError naming the first that cannot be read.
    """
    from pat.data.images import UnreadableImage, load_rgb, resize  # not at a camera, which reads no crops

    pixels = np.empty((len(paths), *size, 3), dtype=np.uint8)
    for row, path in zip(pixels, paths, strict=True):
        try:
            row[:] = resize(load_rgb(path), size)
        except UnreadableImage as error:
            raise UserError(f"{error}; mend or remove it") from error
        done(1)
    return pixels

"""Crops as the graph wants them: the manifest's size, layout and type. Shared by the backends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.manifest import Manifest

Pixels = NDArray[np.uint8]


def prepared(crops: Pixels, manifest: Manifest) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Crops uint8 [N, h, w, 3] RGB -> the graph's input: resized, uint8 [N, H, W, 3] or float32 [N, 3, H, W].

    Raises ValueError for another type or shape, or a crop without pixels.
    """
    crops = np.asarray(crops)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3 or 0 in crops.shape[1:]:
        raise ValueError(f"crops must be uint8 [N, h, w, 3] RGB, not {crops.dtype} {list(crops.shape)}")
    wanted = manifest.input
    if crops.shape[1:3] != (wanted.height, wanted.width):
        resized = np.empty((len(crops), wanted.height, wanted.width, 3), dtype=np.uint8)
        for row, crop in zip(resized, crops, strict=True):
            row[:] = resize(Image.fromarray(crop), manifest)
        crops = resized
    if wanted.dtype == "uint8":
        return np.ascontiguousarray(crops)
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2), dtype=np.float32)


def resize(image: Image.Image, manifest: Manifest) -> Pixels:
    """An RGB picture of any size at the size of the graph's input, uint8 [H, W, 3], by the manifest's rule."""
    size = (manifest.input.width, manifest.input.height)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))  # the one method that a manifest can name

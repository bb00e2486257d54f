"""Crops as the graph wants them: the manifest's size, layout and type, written where the graph reads them.

Resizing is Pillow's, by the manifest's rule. The filter reads pixels outside a box, but none outside its frame: so
does the GPU's `crop_resize`, with which this agrees to a level of 255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.frames import Boxes, Pixels
from export.manifest import Manifest

Rows = NDArray[np.uint8] | NDArray[np.float32]
"""The graph's input: uint8 [N, H, W, 3] or float32 [N, 3, H, W], values 0 to 255."""
FILTER = 2
"""Pixels of the coarser grid that the bicubic filter reaches to either side."""


def rows_shape(manifest: Manifest, count: int) -> tuple[int, int, int, int]:
    """The shape of `count` rows of the graph's input."""
    height, width = manifest.input.height, manifest.input.width
    return (count, 3, height, width) if manifest.input.layout == "NCHW" else (count, height, width, 3)


def prepared(crops: Pixels, manifest: Manifest) -> Rows:
    """Crops uint8 [N, h, w, 3] RGB -> the graph's input. Raises ValueError as `checked_crops`."""
    crops = checked_crops(crops)
    rows = np.empty(rows_shape(manifest, len(crops)), dtype=manifest.input.dtype)
    write_crops(crops, rows, manifest)
    return rows


def checked_crops(crops: Pixels) -> Pixels:
    """The crops. Raises ValueError for another type or shape, or a crop without pixels."""
    crops = np.asarray(crops)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3 or 0 in crops.shape[1:]:
        raise ValueError(f"crops must be uint8 [N, h, w, 3] RGB, not {crops.dtype} {list(crops.shape)}")
    return crops


def write_crops(crops: Pixels, rows: Rows, manifest: Manifest) -> None:
    """Write crops [N, h, w, 3] into N rows of the graph's input, resized where their size is another."""
    size = (manifest.input.width, manifest.input.height)
    for row, crop in zip(rows, crops, strict=True):
        if crop.shape[:2] != size[::-1]:
            crop = np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC))
        _put(row, crop)


def checked_boxes(frames: Sequence[Pixels], boxes: Sequence[Boxes]) -> list[Boxes]:
    """The boxes as float32 [n, 4], one array a frame.

    Raises ValueError for a frame that is none, and for a box that is not finite, leaves its frame or has no area.
    """
    if len(frames) != len(boxes):
        raise ValueError(f"there are {len(frames)} frames and boxes of {len(boxes)}")
    checked = []
    for place, (frame, given) in enumerate(zip(frames, boxes, strict=True)):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(f"frame {place} must be uint8 [H, W, 3] RGB, not {frame.dtype} {list(frame.shape)}")
        given = np.asarray(given, dtype=np.float32)
        if given.size == 0:
            given = given.reshape(0, 4)
        if given.ndim != 2 or given.shape[1] != 4:
            raise ValueError(f"boxes of frame {place} must be [n, 4], not {list(given.shape)}")
        height, width = frame.shape[:2]
        x0, y0, x1, y1 = given.T
        good = (x0 >= 0) & (y0 >= 0) & (x1 > x0) & (y1 > y0) & (x1 <= width) & (y1 <= height)  # NaN is never good
        if not good.all():
            first = int(np.argmin(good))
            raise ValueError(
                f"box {first} of frame {place} is {given[first].tolist()}; expected finite (x0, y0, x1, y1) with "
                f"some area inside the {width} x {height} frame (deploy.frames.clipped)"
            )
        checked.append(given)
    return checked


def write_boxes(frame: Pixels, boxes: Boxes, rows: Rows, manifest: Manifest) -> None:
    """Cut boxes [n, 4] out of a frame [H, W, 3] into n rows of the graph's input."""
    for row, box in zip(rows, boxes.tolist(), strict=True):
        _put(row, cut(frame, box, manifest.input.width, manifest.input.height))


def cut(frame: Pixels, box: Sequence[float], width: int, height: int) -> Pixels:
    """The box of a frame, bicubic and antialiased, as uint8 [height, width, 3]: across first, then down.

    Pillow does the same in one step on a large frame. Given a patch alone, its newer versions go down first where
    that is cheaper, and then other values are limited to bytes on the way.
    """
    x0, y0, x1, y1 = box
    left, right = _reach(x0, x1, width, frame.shape[1])
    top, bottom = _reach(y0, y1, height, frame.shape[0])
    # Pillow copies all it is given: a few per cent of a frame instead of a whole one.
    patch = Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right]))
    across, down = (x0 - left, 0, x1 - left, patch.height), (0, y0 - top, width, y1 - top)
    rows = patch.resize((width, patch.height), Image.Resampling.BICUBIC, box=across)
    return np.asarray(rows.resize((width, height), Image.Resampling.BICUBIC, box=down))


def _reach(start: float, stop: float, size: int, length: int) -> tuple[int, int]:
    """First and last + 1 of the pixels that the filter reads in one direction of a frame of `length` pixels."""
    margin = math.ceil(FILTER * max((stop - start) / size, 1.0)) + 1
    return max(math.floor(start) - margin, 0), min(math.ceil(stop) + margin, length)


def _put(row: Rows, crop: Pixels) -> None:
    """A crop [H, W, 3] into a row [H, W, 3] or [3, H, W]."""
    row[:] = crop if row.dtype == np.uint8 else crop.transpose(2, 0, 1)

"""Squares cut from frames and changed in every way in which a real camera may differ from a rendered one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.detector.data import Labelled
from deploy.detect.onnx import GREY
from pat.base.errors import Failure

SMALLEST, LARGEST = 20.0, 0.75
"""Of a person in a patch: pixels, and share of its side. Nearer people are found in a smaller frame (`SCALES`)."""
LEAST_LEFT = 0.35
"""Share of a box that must lie in the patch for its person to count as seen."""
GRAIN = np.random.default_rng(0).standard_normal((640, 640, 3), np.float32)
Generator = np.random.Generator
Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Patch:
    """u8 [side, side, 3] RGB; boxes [n, 4] and [m, 4] as in `Labelled`."""

    pixels: Pixels
    boxes: Boxes
    unclear: Boxes


@dataclass(frozen=True)
class Frame:
    """A frame that was read: u8 [H, W, 3] RGB and who is in it."""

    pixels: Pixels
    people: Labelled

    @staticmethod
    def read(people: Labelled) -> Frame:
        return Frame(_pixels(people.path), people)


@lru_cache(maxsize=1024)  # 1.6 MB each; to read one costs as much as to learn from a patch
def _pixels(path: Path) -> Pixels:
    found = cv2.imread(str(path))
    if found is None:
        raise Failure(f"{path} is no image; remove its folder, and run the same command again")
    return np.ascontiguousarray(found[..., ::-1])


def cut_patch(frame: Frame, clutter: Frame, side: int, g: Generator) -> Patch:
    """A patch of a frame; things from another frame, `clutter`, are laid where nobody is."""
    pixels, people = frame.pixels, frame.people
    rows, columns = pixels.shape[:2]
    zoom = float(np.exp(g.uniform(np.log(0.35), np.log(1.6))))
    middle = np.array([g.uniform(0, columns), g.uniform(0, rows)])
    if len(people.boxes) and g.random() < 0.7:
        box = people.boxes[int(g.integers(len(people.boxes)))]
        height = float(np.exp(g.uniform(np.log(SMALLEST), np.log(LARGEST * side))))
        zoom = float(np.clip(height / (box[3] - box[1]), 0.25, 3.0))
        middle = (box[:2] + box[2:]) / 2 + g.uniform(-0.45, 0.45, 2) * side / zoom
    stretch = np.array([zoom * np.exp(g.normal(0, 0.08)), zoom])
    if g.random() < 0.8:  # the patch lies inside the frame, if it is not larger
        half = np.minimum(side / 2 / stretch, [columns / 2, rows / 2])
        middle = np.clip(middle, half, [columns, rows] - half)
    patch, matrix = _cropped(pixels, middle, stretch, side, g)
    if g.random() < 0.5:
        patch = np.ascontiguousarray(patch[:, ::-1])
        matrix[0] *= -1
        matrix[0, 2] += side
    boxes, cut_off = _moved(people.boxes, matrix, side)
    unclear = np.concatenate((cut_off, *_moved(people.unclear, matrix, side)))
    if g.random() < 0.5:
        _lay(patch, np.concatenate((boxes, unclear)), clutter, g)
    return Patch(_as_filmed(patch, g), boxes, unclear)


def _cropped(
    pixels: Pixels, middle: NDArray[np.float64], stretch: NDArray[np.float64], side: int, g: Generator
) -> tuple[Pixels, NDArray[np.float64]]:
    """The square around `middle` and the matrix f64 [2, 3] from the frame to it; grey where the frame ends."""
    rows, columns = pixels.shape[:2]
    first = np.round(middle - side / 2 / stretch).astype(int)
    last = first + np.maximum(np.round(side / stretch).astype(int), 1)
    exact = side / (last - first)
    low, high = np.maximum(first, 0), np.minimum(last, [columns, rows])
    to, until = np.round((low - first) * exact).astype(int), np.round((high - first) * exact).astype(int)
    patch = np.full((side, side, 3), GREY, np.uint8)
    if (until > to).all():
        way = cv2.INTER_AREA if exact.max() < 1 and g.random() < 0.6 else cv2.INTER_LINEAR  # careful, or hasty
        size = int(until[0] - to[0]), int(until[1] - to[1])
        patch[to[1] : until[1], to[0] : until[0]] = cv2.resize(
            pixels[low[1] : high[1], low[0] : high[0]], size, interpolation=way
        )
    return patch, np.column_stack((np.diag(exact), -first * exact))


def _moved(boxes: Boxes, matrix: NDArray[np.float64], side: int) -> tuple[Boxes, Boxes]:
    """The boxes in the patch: those of which enough lies in it, and the others."""
    ends = np.stack((boxes[:, :2] @ matrix[:, :2].T + matrix[:, 2], boxes[:, 2:] @ matrix[:, :2].T + matrix[:, 2]))
    low, high = ends.min(axis=0), ends.max(axis=0)
    inner_low, inner_high = np.clip(low, 0, side), np.clip(high, 0, side)
    left = np.prod(inner_high - inner_low, axis=1) / np.prod(high - low, axis=1)
    inner = np.concatenate((inner_low, inner_high), axis=1).astype(np.float32)
    seen = (left >= LEAST_LEFT) & (high[:, 1] - low[:, 1] >= 0.7 * SMALLEST)
    return inner[seen], inner[~seen & (left > 0)]


def _lay(patch: Pixels, boxes: Boxes, clutter: Frame, g: Generator) -> None:
    """Lay up to four pieces of another frame without its people over the patch where nobody is, in place."""
    side, other = len(patch), clutter.pixels
    people = np.concatenate((clutter.people.boxes, clutter.people.unclear))
    for _ in range(1 + int(g.integers(4))):
        tall = int(side * g.uniform(0.1, 0.6))
        wide = max(int(tall * (g.uniform(0.25, 0.5) if g.random() < 0.6 else g.uniform(0.5, 2.0))), 4)
        if wide >= side:
            continue
        x, y = int(g.integers(side - wide)), int(g.integers(side - tall))
        u, v = int(g.integers(other.shape[1] - wide)), int(g.integers(other.shape[0] - tall))
        if _touches(boxes, x, y, wide, tall) or _touches(people, u, v, wide, tall):
            continue
        piece = other[v : v + tall, u : u + wide]
        if g.random() < 0.5:
            piece = piece[:, ::-1]
        if g.random() < 0.4:  # an ellipse: edges of things are not all straight
            mask = np.zeros((tall, wide), np.uint8)
            cv2.ellipse(mask, (wide // 2, tall // 2), (wide // 2, tall // 2), 0, 0, 360, 1, -1)
            np.copyto(patch[y : y + tall, x : x + wide], piece, where=mask[..., None] > 0)
        else:
            patch[y : y + tall, x : x + wide] = piece


def _touches(boxes: Boxes, x: int, y: int, wide: int, tall: int) -> bool:
    left, top, right, bottom = boxes.T
    return bool(((left < x + wide) & (right > x) & (top < y + tall) & (bottom > y)).any())


def _as_filmed(patch: Pixels, g: Generator) -> Pixels:
    """Other light, colours, sharpness, noise and compression."""
    if g.random() < 0.3:
        patch = _u8(cv2.GaussianBlur(patch, (0, 0), float(g.uniform(0.3, 1.4))))
    colour = 0.0 if g.random() < 0.08 else float(np.exp(g.normal(0, 0.4)))
    patch = _u8(cv2.transform(patch, colour * np.eye(3) + (1 - colour) / 3))
    middle, level = patch.mean() / 255, np.linspace(0, 1, 256)[:, None]
    level = level ** np.exp(g.normal(0, 0.3)) * np.exp(g.normal(0, 0.08, 3))  # gamma, cast: [256, 3]
    level = middle + (level - middle) * np.exp(g.normal(0, 0.25)) + g.normal(0, 0.08)  # contrast, brightness
    patch = _u8(cv2.LUT(patch, (np.clip(level, 0, 1) * 255).astype(np.uint8)[None].transpose(1, 0, 2)))
    if g.random() < 0.4:
        y, x = g.integers(GRAIN.shape[0] - len(patch), size=2)
        grain = GRAIN[y : y + len(patch), x : x + len(patch)] * np.float32(g.uniform(1, 15))
        patch = np.clip(patch + (grain if g.random() < 0.5 else grain[..., :1]), 0, 255).astype(np.uint8)
    if g.random() < 0.4:
        _, stored = cv2.imencode(".jpg", patch, [cv2.IMWRITE_JPEG_QUALITY, int(g.integers(20, 90))])
        patch = _u8(cv2.imdecode(stored, cv2.IMREAD_COLOR))
    return patch


def _u8(image: object) -> Pixels:
    """OpenCV does not say of what type its images are."""
    return np.asarray(image, np.uint8)

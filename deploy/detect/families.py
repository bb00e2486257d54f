"""The kinds of ONNX detector that are understood: how each wants its image, and what its outputs say.

Two, both with published weights under Apache-2.0: RF-DETR finds more (Nano: 48.4 AP on COCO, as published; YOLOX-S
40.5), the small YOLOX compute least (Nano: 1.1 GFLOP). Another family is one more entry in `FAMILIES`, with its
two functions and its name in `FamilyName`: no code outside this file knows one family from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploy.detect.boxes import Scores
from deploy.frames import Boxes
from pat.base.errors import UserError

if TYPE_CHECKING:
    from deploy.detect.manifest import DetectorManifest

FamilyName = Literal["rf-detr", "yolox"]
Colour = Literal["RGB", "BGR"]
Resize = Literal["squash", "letterbox"]
BoxCoding = Literal["raw", "decoded"]
Triple = tuple[float, float, float]
Array = NDArray[np.float32]
STRIDES = (8, 16, 32)
"""Pixels of a grid cell on each level of a YOLOX, in the order of its rows."""


@dataclass(frozen=True)
class Family:
    """What the models of one family have in common; `describe` writes it into their manifests."""

    outputs: Mapping[str, str]
    """Role -> the name that the family's own exporter gives."""
    colour: Colour
    resize: Resize
    divide_by: float
    mean: Triple
    std: Triple
    person: int
    """The class of people in the published COCO weights."""
    threshold: float
    overlap: float
    codings: tuple[BoxCoding, ...]
    """How its graphs may code their boxes."""
    inspect: Callable[[Mapping[str, Any], int, int], tuple[int, BoxCoding]]
    """Outputs by role for any image, height and width of the input -> number of classes, coding of the boxes."""
    decode: Callable[[Mapping[str, Array], DetectorManifest], tuple[Boxes, Scores]]
    """Outputs by role -> boxes [n, 4] in pixels of the model's input, scores [n] in 0 to 1."""


def inspect_rf_detr(outputs: Mapping[str, Any], height: int, width: int) -> tuple[int, BoxCoding]:
    queries = expected(outputs["boxes"], (1, None, 4), "boxes").shape[1]
    return expected(outputs["scores"], (1, queries, None), "scores").shape[2], "decoded"


def rf_detr(outputs: Mapping[str, Array], manifest: DetectorManifest) -> tuple[Boxes, Scores]:
    """`boxes` [1, Q, 4] (centre, size) as shares of the input; `scores` [1, Q, classes] before the sigmoid."""
    boxes = expected(outputs["boxes"], (1, None, 4), "boxes")[0]  # [Q, 4]
    logits = expected(outputs["scores"], (1, len(boxes), manifest.classes), "scores")[0]  # [Q, classes]
    sides = np.array([manifest.input.width, manifest.input.height] * 2, dtype=np.float32)
    with np.errstate(over="ignore"):
        scores = 1 / (1 + np.exp(-logits[:, manifest.person]))
    return corners(boxes * sides), scores


def inspect_yolox(outputs: Mapping[str, Any], height: int, width: int) -> tuple[int, BoxCoding]:
    grid = cells(height, width)
    rows = expected(outputs["predictions"], (1, len(grid), None), "predictions")[0]
    if rows.shape[1] < 6:
        raise UserError(f"its rows have {rows.shape[1]} numbers, expected 5 and one for each class")
    return rows.shape[1] - 5, box_coding(rows, grid)


def yolox(outputs: Mapping[str, Array], manifest: DetectorManifest) -> tuple[Boxes, Scores]:
    """`predictions` [1, cells, 5 + classes]: centre, size, how likely there is anything, how likely each class.

    Decoded boxes say themselves where they are: there may be any number of them.
    """
    grid = cells(manifest.input.height, manifest.input.width)  # [cells, 3]
    count = len(grid) if manifest.boxes == "raw" else None
    rows = expected(outputs["predictions"], (1, count, 5 + manifest.classes), "predictions")[0]
    centre, size = rows[:, :2], rows[:, 2:4]
    if manifest.boxes == "raw":
        with np.errstate(over="ignore"):
            centre, size = (centre + grid[:, :2]) * grid[:, 2:], np.exp(size) * grid[:, 2:]
    return corners(np.concatenate((centre, size), axis=1)), rows[:, 4] * rows[:, 5 + manifest.person]


def cells(height: int, width: int) -> Array:
    """The grid cells of a YOLOX [cells, 3]: column, row, pixels of a side; level by level, row by row."""
    levels = []
    for stride in STRIDES:
        rows, columns = np.indices((height // stride, width // stride), dtype=np.float32)
        levels.append(np.stack((columns, rows, np.full_like(rows, stride)), axis=2).reshape(-1, 3))
    return np.concatenate(levels)


def box_coding(predictions: Array, grid: Array) -> BoxCoding:
    """Whether the graph of a YOLOX decodes its boxes itself, seen from its answer [cells, n] to any image.

    A centre lies near its own cell: raw ones are near half a cell, decoded ones near the cell's place in pixels.
    """
    centres = np.where(np.isfinite(predictions[:, :2]), predictions[:, :2], 0)
    raw = np.median(np.abs(centres - 0.5))
    decoded = np.median(np.abs(centres / grid[:, 2:] - grid[:, :2] - 0.5))
    return "decoded" if decoded < raw else "raw"


def corners(boxes: Array) -> Boxes:
    """Centre and size [n, 4] -> edges [n, 4]."""
    half = boxes[:, 2:] / 2
    return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)


def expected(array: Any, shape: Sequence[int | None], role: str) -> Array:
    """The output as float32. Raises UserError unless it has the shape, where None stands for any number."""
    found = np.shape(array)
    if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found, strict=True)):
        wanted = ", ".join("n" if each is None else str(each) for each in shape)
        raise UserError(
            f"the detector's output for {role} has the shape {list(found)}, expected [{wanted}]; "
            "the model is of another family, or has another number of classes"
        )
    return np.asarray(array, dtype=np.float32)


FAMILIES: Mapping[FamilyName, Family] = {
    "rf-detr": Family(
        outputs={"boxes": "dets", "scores": "labels"},
        colour="RGB",
        resize="squash",
        divide_by=255.0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        person=1,
        threshold=0.5,
        overlap=1.0,
        codings=("decoded",),
        inspect=inspect_rf_detr,
        decode=rf_detr,
    ),
    "yolox": Family(
        outputs={"predictions": "output"},
        colour="BGR",
        resize="letterbox",
        divide_by=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        person=0,
        threshold=0.3,
        overlap=0.45,
        codings=("raw", "decoded"),
        inspect=inspect_yolox,
        decode=yolox,
    ),
}

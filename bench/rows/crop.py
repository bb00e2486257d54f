"""Cutting people out of a frame: one call against torchvision, crop by crop."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.measure import Work
from bench.rows.plan import Ready, RowPlan, checked, kernel_plan, relative_error, sizes
from kernels.cases import CROP_RESIZE_LARGE, CropResizeCase
from kernels.crop_resize import crop_resize
from kernels.timing import DEVICE, INTERPRETED, ON_GPU

CASES = sizes(
    CROP_RESIZE_LARGE, CROP_RESIZE_LARGE[:1], [CropResizeCase("tiny", people=1, frame=(100, 60), size=(16, 32))]
)
MEAN = STD = (0.5, 0.5, 0.5)
DTYPE = torch.float16 if ON_GPU or INTERPRETED else torch.float32
Crop = Callable[[], Tensor]


def scene(case: CropResizeCase) -> tuple[Tensor, Tensor]:
    """A frame uint8 [H, W, 3] and boxes float32 [n, 4] of whole pixels."""
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (*case.frame, 3), dtype=torch.uint8, generator=generator)
    height = torch.randint(80, max(81, case.frame[0] * 5 // 9), (case.people,), generator=generator)
    width = height * 2 // 5
    top = (torch.rand(case.people, generator=generator) * (case.frame[0] - height)).int()
    left = (torch.rand(case.people, generator=generator) * (case.frame[1] - width)).int()
    boxes = torch.stack((left, top, left + width, top + height), 1)
    return frame.to(DEVICE), boxes.float().to(DEVICE)


def ours(frame: Tensor, boxes: Tensor, size: tuple[int, int]) -> Crop:
    impl = "triton" if ON_GPU or INTERPRETED else "reference"
    return lambda: crop_resize(frame, boxes, size=size, mean=MEAN, std=STD, dtype=DTYPE, impl=impl)


def torchvision_per_crop(frame: Tensor, boxes: Tensor, size: tuple[int, int]) -> Crop:
    from torchvision.transforms.v2 import functional

    image = frame.permute(2, 0, 1)  # [3, H, W]
    edges = boxes.int().tolist()  # a detector's boxes are known to the host before the clock starts

    def crops() -> Tensor:
        return torch.stack([one(*box) for box in edges])

    def one(left: int, top: int, right: int, bottom: int) -> Tensor:
        crop = functional.resized_crop(
            image, top, left, bottom - top, right - left, size,
            interpolation=functional.InterpolationMode.BICUBIC, antialias=True,
        )  # fmt: skip
        return functional.normalize(functional.to_dtype(crop, DTYPE, scale=True), MEAN, STD)

    return crops


IMPLEMENTATIONS = {"ours": ours, "torchvision per crop": torchvision_per_crop}


def plans() -> list[RowPlan]:
    found = []
    for (number, case), way in itertools.product(enumerate(CASES, 1), IMPLEMENTATIONS):
        shape = f"n={case.people} {case.frame[1]}x{case.frame[0]} -> {case.size[1]}x{case.size[0]}"
        run = functools.partial(prepare, case, way)
        found.append(kernel_plan(number, "crop-resize bicubic", shape, DTYPE, way, run))
    return found


def prepare(case: CropResizeCase, implementation: str) -> Ready:
    frame, boxes = scene(case)
    crops = IMPLEMENTATIONS[implementation](frame, boxes, case.size)
    expected = crop_resize(frame, boxes[:2], size=case.size, dtype=torch.float64, impl="reference")
    # torchvision does not look beyond the box and rounds to levels: only the middle of a crop can be compared.
    inner: Any = (..., *(slice(side // 4, -side // 4) for side in case.size))
    error = relative_error(crops()[:2][inner], expected[inner])
    source = int(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()) * 3
    written = case.people * 3 * case.size[0] * case.size[1] * DTYPE.itemsize
    # Pixels of the boxes are read once, crops written once.
    return Ready(crops, Work(bytes=source + written), checked(torch.bfloat16, error))

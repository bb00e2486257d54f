"""Cutting people out of a frame: one call against torchvision, crop by crop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.measure import Work
from kernels.cases import CROP_RESIZE_LARGE, CropResizeCase
from kernels.crop_resize import crop_resize
from kernels.timing import CLOCK, DEVICE, ON_GPU

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

CASES = CROP_RESIZE_LARGE if ON_GPU else CROP_RESIZE_LARGE[:1]
MEAN = STD = (0.5, 0.5, 0.5)
DTYPE = torch.float16 if ON_GPU else torch.float32


def scene(case: CropResizeCase) -> tuple[Tensor, Tensor]:
    """A frame uint8 [H, W, 3] and boxes float32 [n, 4] of whole pixels."""
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (*case.frame, 3), dtype=torch.uint8, generator=generator)
    height = torch.randint(80, 600, (case.people,), generator=generator)
    width = height * 2 // 5
    top = (torch.rand(case.people, generator=generator) * (case.frame[0] - height)).int()
    left = (torch.rand(case.people, generator=generator) * (case.frame[1] - width)).int()
    boxes = torch.stack((left, top, left + width, top + height), 1)
    return frame.to(DEVICE), boxes.float().to(DEVICE)


def ours(frame: Tensor, boxes: Tensor, size: tuple[int, int]) -> Callable[[], Tensor]:
    impl = "triton" if ON_GPU else "reference"
    return lambda: crop_resize(frame, boxes, size=size, mean=MEAN, std=STD, dtype=DTYPE, impl=impl)


def torchvision_per_crop(frame: Tensor, boxes: Tensor, size: tuple[int, int]) -> Callable[[], Tensor]:
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
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


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_crop_resize(case, implementation, measure):
    frame, boxes = scene(case)
    make = IMPLEMENTATIONS[implementation](frame, boxes, case.size)
    expected = crop_resize(frame, boxes[:2], size=case.size, dtype=torch.float64, impl="reference")
    # torchvision does not look beyond the box, so that only the middle of a crop can be compared.
    inner = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(make()[:2][inner].double(), expected[inner], rtol=0.01, atol=3 / 127.5)

    source = int(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()) * 3
    written = case.people * 3 * case.size[0] * case.size[1] * DTYPE.itemsize
    measure(
        make,
        Work(bytes=source + written),  # pixels of the boxes read once, crops written once
        operation="crop-resize bicubic",
        implementation=implementation,
        shape=f"n={case.people} {case.frame[1]}x{case.frame[0]} -> {case.size[1]}x{case.size[0]}",
        dtype=str(DTYPE).removeprefix("torch."),
    )

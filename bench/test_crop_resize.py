"""Cutting people out of a frame: one call against torchvision, crop by crop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.measure import CLOCK, DEVICE, ON_GPU, Work
from kernels.crop_resize import crop_resize

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

FRAME = (1080, 1920)
PEOPLE = [8, 32, 128] if ON_GPU else [8]
SIZE, MEAN, STD = (256, 128), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
DTYPE = torch.float16 if ON_GPU else torch.float32


def scene(people: int) -> tuple[Tensor, Tensor]:
    """A frame uint8 [H, W, 3] and boxes float32 [n, 4] of whole pixels: people 80 to 600 pixels tall."""
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (*FRAME, 3), dtype=torch.uint8, generator=generator)
    height = torch.randint(80, 600, (people,), generator=generator)
    width = height * 2 // 5
    top = (torch.rand(people, generator=generator) * (FRAME[0] - height)).int()
    left = (torch.rand(people, generator=generator) * (FRAME[1] - width)).int()
    boxes = torch.stack((left, top, left + width, top + height), 1)
    return frame.to(DEVICE), boxes.float().to(DEVICE)


def ours(frame: Tensor, boxes: Tensor) -> Callable[[], Tensor]:
    impl = "triton" if ON_GPU else "reference"
    return lambda: crop_resize(frame, boxes, size=SIZE, mean=MEAN, std=STD, dtype=DTYPE, impl=impl)


def torchvision_per_crop(frame: Tensor, boxes: Tensor) -> Callable[[], Tensor]:
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    picture = frame.permute(2, 0, 1)  # [3, H, W]
    edges = boxes.int().tolist()  # a detector's boxes are known to the host before the clock starts

    def crops() -> Tensor:
        return torch.stack([one(*box) for box in edges])

    def one(left: int, top: int, right: int, bottom: int) -> Tensor:
        crop = functional.resized_crop(
            picture, top, left, bottom - top, right - left, SIZE,
            interpolation=functional.InterpolationMode.BICUBIC, antialias=True,
        )  # fmt: skip
        return functional.normalize(functional.to_dtype(crop, DTYPE, scale=True), MEAN, STD)

    return crops


IMPLEMENTATIONS = {"ours": ours, "torchvision per crop": torchvision_per_crop}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("people", PEOPLE)
def test_crop_resize(people, implementation, measure):
    frame, boxes = scene(people)
    make = IMPLEMENTATIONS[implementation](frame, boxes)
    expected = crop_resize(frame, boxes[:2], size=SIZE, dtype=torch.float64, impl="reference")
    # torchvision does not look beyond the box, so that only the middle of a crop can be compared.
    inner = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(make()[:2][inner].double(), expected[inner], rtol=0.01, atol=3 / 127.5)

    source = int(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()) * 3
    written = people * 3 * SIZE[0] * SIZE[1] * DTYPE.itemsize
    measure(
        make,
        Work(bytes=source + written),  # pixels of the boxes read once, crops written once
        operation="crop-resize bicubic",
        implementation=implementation,
        shape=f"n={people} {FRAME[1]}x{FRAME[0]} -> {SIZE[1]}x{SIZE[0]}",
        dtype=str(DTYPE).removeprefix("torch."),
    )

"""Boxes out of frames on the CPU: Pillow's own result, and the same image as the GPU's kernel makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bundles import described, noise
from deploy.frames import clipped
from deploy.runtime.crops import checked_boxes, cut, prepared, rows_shape, write_boxes
from export.manifest import Manifest
from kernels.crop_resize import crop_resize

HEIGHT, WIDTH = 46, 60
BOXES = np.array(
    [
        [3.3, 5.7, 28.2, 40.4],  # fractions everywhere
        [0, 0, 60, 46],  # the whole frame
        [10, 10, 12, 13.5],  # a few pixels, strongly enlarged
        [20, 10, 36, 42],  # as many pixels as the crop: copied
        [59, 45, 60, 46],  # the last pixel
    ],
    dtype=np.float32,
)


def manifest(dtype: str, height: int = 32, width: int = 16) -> Manifest:
    return described((height, width), 8, dtype)


@pytest.mark.parametrize("size", [(32, 16), (7, 5), (256, 128)])
def test_a_patch_of_the_frame_gives_what_the_whole_frame_would(size):
    frame, random = noise(240, 320, 3), np.random.default_rng(1)
    corners = random.uniform(0, [320, 240], (60, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)  # [60, 4]
    boxes[:4] = [[0, 0, 320, 240], [0, 0, 1, 1], [319, 239, 320, 240], [0, 100, 320, 101]]
    whole = Image.fromarray(frame)
    for box in boxes.tolist():
        expected = np.asarray(whole.resize(size[::-1], Image.Resampling.BICUBIC, box=box))
        np.testing.assert_array_equal(cut(frame, box, size[1], size[0]), expected)


@pytest.mark.parametrize("impl", ["reference", "triton"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_cpu_and_the_gpu_kernel_cut_the_same_image(dtype, impl):
    frame, described = noise(HEIGHT, WIDTH, 3), manifest(dtype)
    rows = np.full(rows_shape(described, len(BOXES)), 77, dtype=dtype)
    write_boxes(frame, BOXES, rows, described)
    plain = {} if dtype == "uint8" else {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kernel = crop_resize(
        torch.from_numpy(frame).to(device), torch.from_numpy(BOXES).to(device), size=(32, 16),
        dtype=getattr(torch, dtype), impl=impl, **plain,
    )  # fmt: skip
    difference = np.abs(rows.astype(float) - kernel.cpu().numpy())
    assert rows.shape == tuple(kernel.shape)
    assert difference.max() <= (1 if dtype == "uint8" else 1.2)
    assert difference.mean() <= 0.4


def test_a_frame_of_any_strides_will_do():
    frame = noise(HEIGHT, WIDTH, 3)
    for view in (frame[:, ::-1], frame[5:40, 3:50], np.asfortranarray(frame), frame[..., ::-1]):
        height, width = view.shape[:2]
        whole = Image.fromarray(np.ascontiguousarray(view))
        boxes, _ = clipped(BOXES[:3], height, width)
        for box in boxes.tolist():
            expected = np.asarray(whole.resize((16, 32), Image.Resampling.BICUBIC, box=box))
            np.testing.assert_array_equal(cut(view, box, 16, 32), expected)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_prepared_crops_are_the_graphs_input(dtype):
    described = manifest(dtype)
    for crops in (noise(2, 32, 16, 3), noise(2, 9, 40, 3)):
        rows = prepared(crops, described)
        pixels = rows if dtype == "uint8" else rows.transpose(0, 2, 3, 1)
        expected = [Image.fromarray(crop).resize((16, 32), Image.Resampling.BICUBIC) for crop in crops]
        np.testing.assert_array_equal(pixels, np.stack([np.asarray(each) for each in expected]))
        assert (rows.dtype, rows.shape) == (dtype, rows_shape(described, 2))


@pytest.mark.parametrize(
    ("frames", "boxes", "message"),
    [
        ([noise(8, 8, 3)], [], "there are 1 frames and boxes of 0"),
        ([noise(8, 8)], [BOXES], r"frame 0 must be uint8 \[H, W, 3\] RGB, not uint8 \[8, 8\]"),
        ([noise(8, 8, 3).astype(float)], [BOXES], "frame 0 must be uint8 .* not float64"),
        ([noise(0, 8, 3)], [BOXES], "frame 0 must be uint8"),
        ([noise(8, 8, 3)], [[0, 0, 4, 4]], r"boxes of frame 0 must be \[n, 4\], not \[4\]"),
        ([noise(8, 8, 3)] * 2, [[[0, 0, 4, 4]], [[0, 0, 8, 8], [2, 2, 2, 6]]], "box 1 of frame 1 is .* some area"),
        ([noise(8, 8, 3)], [[[0, 0, 9, 4]]], "inside the 8 x 8 frame"),
        ([noise(8, 8, 3)], [[[-1, 0, 4, 4]]], "inside the 8 x 8 frame"),
        ([noise(8, 8, 3)], [[[0, np.nan, 4, 4]]], "expected finite"),
        ([noise(8, 8, 3)], [[[0, 0, np.inf, 4]]], "expected finite"),
        ([noise(8, 8, 3)], [[[4, 4, 0, 0]]], "some area"),
    ],
)
def test_boxes_that_cannot_be_cut_are_named(frames, boxes, message):
    with pytest.raises(ValueError, match=message):
        checked_boxes(frames, boxes)


def test_no_boxes_are_no_mistake():
    (boxes,) = checked_boxes([noise(8, 8, 3)], [[]])
    assert boxes.shape == (0, 4)
    assert checked_boxes([], []) == []

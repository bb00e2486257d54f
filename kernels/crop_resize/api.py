"""The door to crop-resize: checks the arguments and calls the implementation asked for."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.crop_resize import reference
from kernels.crop_resize.reference import crops_shape

IMPLEMENTATIONS = ("reference", "triton")
INTERPOLATIONS = ("bilinear", "bicubic")
LAYOUTS = ("rgb", "bgr", "nv12")
MATRICES = ("bt601", "bt709")


def crop_resize(
    frame: Tensor,
    boxes: Tensor,
    *,
    size: tuple[int, int] = (256, 128),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str = "bicubic",
    layout: str = "rgb",
    matrix: str = "bt601",
    dtype: torch.dtype = torch.float16,
    impl: str,
) -> Tensor:
    """Cut boxes out of a frame, resize each with antialiasing and normalise: `(value / 255 - mean) / std`.

    With `dtype=torch.uint8` pixels are rounded instead, for networks that normalise by themselves.

    The resampling is that of Pillow's `Image.resize(size, resample, box=box)`: the filter widens when the box
    shrinks, and reads pixels outside the box, but never outside the frame. Between the two passes values are
    limited to [0, 255] as Pillow does; they are not rounded, so a value differs from Pillow's 8-bit result by
    less than 1.0 (bilinear) or 1.2 (bicubic) of 255 levels.

    Args:
        frame: uint8, [H, W, 3] for "rgb" and "bgr" (strides are free); [H * 3 / 2, W] for "nv12": H rows of
            luma, then H / 2 rows of interleaved chroma (rows may be padded, H and W even).
        boxes: float32 [n, 4] of (x0, y0, x1, y1) in pixels, edges not centres; limited to the frame first.
        size: (height, width) of every crop.
        mean: of each colour, for values in [0, 1]; 0.5 unless given.
        std: of each colour, for values in [0, 1]; 0.5 unless given.
        interpolation: "bilinear" or "bicubic" (a = -0.5).
        layout: "rgb", "bgr" or "nv12"; crops are RGB whatever the frame is.
        matrix: "bt601" or "bt709", the colour matrix of an NV12 frame (video range).
        dtype: torch.float16, torch.float32 or, without mean and std, torch.uint8; the reference also takes
            torch.float64 and computes in it.
        impl: "reference" (plain torch) or "triton" (one kernel; CUDA, or Triton's interpreter).

    Returns:
        [n, 3, height, width] RGB, contiguous; in torch.uint8 [n, height, width, 3], as images are stored.

    Raises:
        ValueError: naming the argument and what was expected. A box that is not finite or that has no area
            inside the frame is refused; on a GPU that look at the boxes waits for the device.
    """
    _check_tensors(frame, boxes, layout)
    _check_options(size, mean, std, interpolation, matrix, dtype, impl)
    shift, spread = ([0.5] * 3 if given is None else list(given) for given in (mean, std))
    return _crop_resize(frame, boxes, list(size), shift, spread, interpolation, layout, matrix, dtype, impl)


@torch.library.custom_op("pat_kernels::crop_resize", mutates_args=())
def _crop_resize(
    frame: Tensor, boxes: Tensor, size: Sequence[int], mean: Sequence[float], std: Sequence[float],
    interpolation: str, layout: str, matrix: str, dtype: torch.dtype, impl: str,
) -> Tensor:  # fmt: skip
    """The operator behind `crop_resize`. Box values are checked here: a traced graph has none."""
    boxes = _inside_frame(boxes, *_frame_size(frame, layout))
    if impl == "triton":
        from kernels.crop_resize import triton as implementation  # only here: the rest works without Triton

        crop = implementation.crop_resize
    else:
        crop = reference.crop_resize
    return crop(frame, boxes, (size[0], size[1]), mean, std, interpolation, layout, matrix, dtype)


@_crop_resize.register_fake
def _(frame, boxes, size, mean, std, interpolation, layout, matrix, dtype, impl):  # type: ignore[no-untyped-def]
    return frame.new_empty(crops_shape(boxes.shape[0], size, dtype), dtype=dtype)


def _frame_size(frame: Tensor, layout: str) -> tuple[int, int]:
    """(height, width) of the image that the frame holds."""
    return (frame.shape[0] // 3 * 2 if layout == "nv12" else frame.shape[0]), frame.shape[1]


def _inside_frame(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes limited to the frame, [n, 4], contiguous. Raises ValueError for one without area there."""
    limits = boxes.new_tensor([width, height, width, height])
    inside = torch.minimum(boxes.clamp(min=0), limits)  # [n, 4]
    good = boxes.isfinite().all(-1) & (inside[:, 2:] > inside[:, :2]).all(-1)  # [n]
    if not good.all():
        first = int((~good).nonzero()[0])
        raise ValueError(
            f"boxes[{first}] is {boxes[first].tolist()}; expected finite (x0, y0, x1, y1) with some "
            f"area inside the {width} x {height} frame"
        )
    return inside.contiguous()


def _check_tensors(frame: Tensor, boxes: Tensor, layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    shape = list(frame.shape)
    if frame.dtype != torch.uint8:
        raise ValueError(f"frame has dtype {frame.dtype}; expected torch.uint8")
    if layout == "nv12":
        if len(shape) != 2 or 0 in shape or shape[0] % 3 or shape[1] % 2:
            raise ValueError(f"frame has shape {shape}; expected [H * 3 / 2, W], H and W even, for layout nv12")
    elif len(shape) != 3 or 0 in shape or shape[2] != 3:
        raise ValueError(f"frame has shape {shape}; expected [H, W, 3] for layout {layout}")
    if boxes.dtype != torch.float32:
        raise ValueError(f"boxes has dtype {boxes.dtype}; expected torch.float32")
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes has shape {list(boxes.shape)}; expected [n, 4] of (x0, y0, x1, y1)")
    if boxes.device != frame.device:
        raise ValueError(f"boxes is on {boxes.device}; expected {frame.device}, the device of frame")


def _check_options(
    size: tuple[int, int], mean: Sequence[float] | None, std: Sequence[float] | None, interpolation: str,
    matrix: str, dtype: torch.dtype, impl: str,
) -> None:  # fmt: skip
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"size is {tuple(size)}; expected (height, width), each at least 1")
    if dtype == torch.uint8 and (mean is not None or std is not None):
        raise ValueError("mean and std are given; expected neither for dtype torch.uint8, which is not normalised")
    if mean is not None and (len(mean) != 3 or not all(map(math.isfinite, mean))):
        raise ValueError(f"mean is {list(mean)}; expected 3 finite numbers")
    if std is not None and (len(std) != 3 or not all(0 < value < math.inf for value in std)):
        raise ValueError(f"std is {list(std)}; expected 3 positive finite numbers")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation is {interpolation!r}; expected one of {', '.join(INTERPOLATIONS)}")
    if matrix not in MATRICES:
        raise ValueError(f"matrix is {matrix!r}; expected one of {', '.join(MATRICES)}")
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}; expected one of {', '.join(IMPLEMENTATIONS)}")
    dtypes = [torch.float16, torch.float32, torch.uint8] + [torch.float64] * (impl == "reference")
    if dtype not in dtypes:
        raise ValueError(f"dtype is {dtype}; expected one of {', '.join(map(str, dtypes))} for impl {impl}")

"""Crop-resize as one kernel: both passes of the separable filter stay in registers.

A program makes one tile of one crop. It walks down the source rows that the tile needs, sixteen at a time:
resamples them across (gathering pixels, weights computed on the spot), limits them to [0, 255], and
multiplies them by the weights of the vertical pass. Nothing but the finished crops is written.
"""

from collections.abc import Sequence
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.configuration import Configuration
from kernels.crop_resize.reference import crops_shape, video_matrix

TILE_HEIGHT, TILE_WIDTH, ROWS = 16, 32, 16  # see README.md for the tiles that were weighed
WARPS, STAGES = 4, 1


@triton.jit
def _filter(distance, BICUBIC: tl.constexpr):
    """The resampling filter at a distance >= 0; zero from its support on."""
    if BICUBIC:
        near = (1.5 * distance - 2.5) * distance * distance + 1.0
        far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
        return tl.where(distance < 1.0, near, tl.where(distance < 2.0, far, 0.0))
    return tl.maximum(1.0 - distance, 0.0)


@triton.jit
def _limit(value):
    return tl.minimum(tl.maximum(value, 0.0), 255.0)


@triton.jit
def _load_rgb(frame, y, x, mask, height, stride_y, stride_x, red, stride_c, gain, red_v, green_u, green_v,
              blue_u, NV12: tl.constexpr):  # fmt: skip
    """Red, green and blue in [0, 255] at pixels (y, x)."""
    if NV12:
        luma = tl.load(frame + y * stride_y + x, mask, other=0).to(tl.float32)
        chroma = frame + (height + y // 2) * stride_y + x // 2 * 2
        u = tl.load(chroma, mask, other=0).to(tl.float32) - 128.0
        v = tl.load(chroma + 1, mask, other=0).to(tl.float32) - 128.0
        luma = (luma - 16.0) * gain
        return _limit(luma + red_v * v), _limit(luma + green_u * u + green_v * v), _limit(luma + blue_u * u)
    p_pixel = frame + y * stride_y + x * stride_x + red
    b_red = tl.load(p_pixel, mask, other=0).to(tl.float32)
    b_green = tl.load(p_pixel + stride_c, mask, other=0).to(tl.float32)
    b_blue = tl.load(p_pixel + 2 * stride_c, mask, other=0).to(tl.float32)
    return b_red, b_green, b_blue


@triton.jit
def _axis(start, stop, SIZE: tl.constexpr, SUPPORT: tl.constexpr):
    """One direction: whole pixel to count from, offset of the box in it, step, filter stretch, filter radius.

    Everything is counted from the box's own first pixel: at x = 4000 a float has steps of 1/4096 of a pixel.
    """
    origin = tl.floor(start)
    step = (stop - start) / SIZE
    stretch = tl.maximum(step, 1.0)
    return origin.to(tl.int32), start - origin, step, stretch, SUPPORT * stretch


@triton.jit
def crop_resize_kernel(
    frame, boxes, crops,
    height, width, stride_y, stride_x, red, stride_c,
    scale_r, scale_g, scale_b, shift_r, shift_g, shift_b,
    gain, red_v, green_u, green_v, blue_u,
    OUT_HEIGHT: tl.constexpr, OUT_WIDTH: tl.constexpr,
    BICUBIC: tl.constexpr, NV12: tl.constexpr,
    TILE_HEIGHT: tl.constexpr, TILE_WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Grid: (boxes * tiles down * tiles across,).

    `crops` is contiguous: numbers [n, 3, OUT_HEIGHT, OUT_WIDTH], or bytes [n, OUT_HEIGHT, OUT_WIDTH, 3], to which
    scale and shift do not apply.
    """
    TILES_ACROSS: tl.constexpr = (OUT_WIDTH + TILE_WIDTH - 1) // TILE_WIDTH
    TILES: tl.constexpr = (OUT_HEIGHT + TILE_HEIGHT - 1) // TILE_HEIGHT * TILES_ACROSS
    PLANE: tl.constexpr = OUT_HEIGHT * OUT_WIDTH
    SUPPORT: tl.constexpr = 2.0 if BICUBIC else 1.0
    box = tl.program_id(0) // TILES
    tile = tl.program_id(0) % TILES
    p_box = boxes + box * 4
    left, offset_x, step_x, stretch_x, radius_x = _axis(tl.load(p_box), tl.load(p_box + 2), OUT_WIDTH, SUPPORT)
    top, offset_y, step_y, stretch_y, radius_y = _axis(tl.load(p_box + 1), tl.load(p_box + 3), OUT_HEIGHT, SUPPORT)

    first_out = tile // TILES_ACROSS * TILE_HEIGHT
    out_y = first_out + tl.arange(0, TILE_HEIGHT)
    out_x = tile % TILES_ACROSS * TILE_WIDTH + tl.arange(0, TILE_WIDTH)
    # What hangs over the crop repeats its last row and column, and is not stored.
    centre_y = offset_y + (tl.minimum(out_y, OUT_HEIGHT - 1) + 0.5) * step_y  # [TILE_HEIGHT]
    centre_x = offset_x + (tl.minimum(out_x, OUT_WIDTH - 1) + 0.5) * step_x  # [TILE_WIDTH]

    first_x = tl.floor(centre_x - radius_x + 0.5).to(tl.int32)
    taps = tl.floor(2.0 * radius_x).to(tl.int32) + 1
    total_x = tl.zeros([TILE_WIDTH], tl.float32)
    for tap in range(taps):
        x = first_x + tap
        weight = _filter(tl.abs(x + 0.5 - centre_x) / stretch_x, BICUBIC)
        total_x += tl.where((x + left >= 0) & (x + left < width), weight, 0.0)

    last_out = tl.minimum(first_out + TILE_HEIGHT, OUT_HEIGHT) - 1
    first_y = tl.floor(offset_y + (first_out + 0.5) * step_y - radius_y + 0.5).to(tl.int32)
    stop_y = tl.floor(offset_y + (last_out + 0.5) * step_y + radius_y + 0.5).to(tl.int32)
    first_y = tl.maximum(first_y, -top)
    stop_y = tl.minimum(stop_y, height - top)

    b_red = tl.zeros([TILE_HEIGHT, TILE_WIDTH], tl.float32)
    b_green = tl.zeros([TILE_HEIGHT, TILE_WIDTH], tl.float32)
    b_blue = tl.zeros([TILE_HEIGHT, TILE_WIDTH], tl.float32)
    total_y = tl.zeros([TILE_HEIGHT], tl.float32)
    for block in range(first_y, stop_y, ROWS):
        y = block + tl.arange(0, ROWS)
        row_red = tl.zeros([ROWS, TILE_WIDTH], tl.float32)
        row_green = tl.zeros([ROWS, TILE_WIDTH], tl.float32)
        row_blue = tl.zeros([ROWS, TILE_WIDTH], tl.float32)
        for tap in range(taps):
            x = first_x + tap
            inside = (x + left >= 0) & (x + left < width)
            weight = _filter(tl.abs(x + 0.5 - centre_x) / stretch_x, BICUBIC)
            red_, green_, blue_ = _load_rgb(
                frame, (y + top)[:, None], (x + left)[None, :], (y < stop_y)[:, None] & inside[None, :],
                height, stride_y, stride_x, red, stride_c, gain, red_v, green_u, green_v, blue_u, NV12,
            )  # fmt: skip
            weight = tl.where(inside, weight, 0.0)[None, :]  # a masked NV12 pixel is not black
            row_red += weight * red_
            row_green += weight * green_
            row_blue += weight * blue_

        weight_y = _filter(tl.abs(y[None, :] + 0.5 - centre_y[:, None]) / stretch_y, BICUBIC)
        weight_y = tl.where((y < stop_y)[None, :], weight_y, 0.0)  # [TILE_HEIGHT, ROWS]
        total_y += tl.sum(weight_y, 1)
        # Three tf32 products keep fp32 accuracy; one would cost 1/8 of a level.
        b_red = tl.dot(weight_y, _limit(row_red / total_x[None, :]), b_red, input_precision="tf32x3")
        b_green = tl.dot(weight_y, _limit(row_green / total_x[None, :]), b_green, input_precision="tf32x3")
        b_blue = tl.dot(weight_y, _limit(row_blue / total_x[None, :]), b_blue, input_precision="tf32x3")

    mask = (out_y < OUT_HEIGHT)[:, None] & (out_x < OUT_WIDTH)[None, :]
    p_crop = crops + box.to(tl.int64) * (3 * PLANE)
    pixel = out_y[:, None] * OUT_WIDTH + out_x[None, :]
    total_y = total_y[:, None]
    b_red, b_green, b_blue = _limit(b_red / total_y), _limit(b_green / total_y), _limit(b_blue / total_y)
    dtype = crops.dtype.element_ty
    if dtype == tl.uint8:
        tl.store(p_crop + 3 * pixel, (b_red + 0.5).to(dtype), mask)
        tl.store(p_crop + 3 * pixel + 1, (b_green + 0.5).to(dtype), mask)
        tl.store(p_crop + 3 * pixel + 2, (b_blue + 0.5).to(dtype), mask)
    else:
        tl.store(p_crop + pixel, (b_red * scale_r + shift_r).to(dtype), mask)
        tl.store(p_crop + PLANE + pixel, (b_green * scale_g + shift_g).to(dtype), mask)
        tl.store(p_crop + 2 * PLANE + pixel, (b_blue * scale_b + shift_b).to(dtype), mask)


def crop_resize(
    frame: Tensor, boxes: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float],
    interpolation: str, layout: str, matrix: str, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """As `kernels.crop_resize.crop_resize`, for boxes inside the frame. Returns `crops_shape`."""
    if not frame.is_cuda and isinstance(crop_resize_kernel, triton.runtime.JITFunction):
        raise ValueError(
            f"frame is on {frame.device}; expected a CUDA device for impl triton, or TRITON_INTERPRET=1 set "
            "before Triton is imported"
        )
    if layout == "nv12" and frame.stride(1) != 1:
        raise ValueError(f"frame has strides {frame.stride()}; expected (any, 1) for layout nv12")
    crops = torch.empty(crops_shape(len(boxes), size, dtype), dtype=dtype, device=frame.device)
    if len(boxes) == 0:
        return crops
    nv12 = layout == "nv12"
    height = frame.shape[0] // 3 * 2 if nv12 else frame.shape[0]
    stride_c = 1 if nv12 else frame.stride(2)
    red, stride_c = (2 * stride_c, -stride_c) if layout == "bgr" else (0, stride_c)
    grid = (len(boxes) * triton.cdiv(size[0], TILE_HEIGHT) * triton.cdiv(size[1], TILE_WIDTH),)
    with torch.cuda.device_of(frame):
        crop_resize_kernel[grid](
            frame, boxes, crops,
            height, frame.shape[1], frame.stride(0), frame.stride(1), red, stride_c,
            *(1 / (255 * value) for value in std), *(-m / s for m, s in zip(mean, std, strict=True)),
            *video_matrix(matrix),
            OUT_HEIGHT=size[0], OUT_WIDTH=size[1],
            BICUBIC=interpolation == "bicubic", NV12=nv12,
            TILE_HEIGHT=TILE_HEIGHT, TILE_WIDTH=TILE_WIDTH, ROWS=ROWS,
            num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
    return crops


def configuration(layout: str, dtype: str, size: tuple[int, int] = (256, 128)) -> Configuration:
    """The bicubic kernel for "rgb" (BGR too, by strides) or "nv12", and crops of `size` in Triton's `dtype`."""
    signature = {"frame": "*u8", "boxes": "*fp32", "crops": f"*{dtype}"}
    signature |= dict.fromkeys(("height", "width", "stride_y", "stride_x", "red", "stride_c"), "i32")
    signature |= dict.fromkeys(("scale_r", "scale_g", "scale_b", "shift_r", "shift_g", "shift_b"), "fp32")
    signature |= dict.fromkeys(("gain", "red_v", "green_u", "green_v", "blue_u"), "fp32")
    constexprs: dict[str, object] = {
        "OUT_HEIGHT": size[0], "OUT_WIDTH": size[1], "BICUBIC": True, "NV12": layout == "nv12",
        "TILE_HEIGHT": TILE_HEIGHT, "TILE_WIDTH": TILE_WIDTH, "ROWS": ROWS,
    }  # fmt: skip
    crop_bytes = 3 * size[0] * size[1] * {"u8": 1, "fp16": 2, "fp32": 4}[dtype]
    aligned = {"boxes", "crops"} if crop_bytes % 16 == 0 else {"boxes"}  # wherever in a batch the crops begin
    return Configuration(
        name=f"crop_resize_{layout}_{dtype}",
        kernel=crop_resize_kernel,
        signature=signature | dict.fromkeys(constexprs, "constexpr"),
        constexprs=constexprs,
        num_warps=WARPS,
        num_stages=STAGES,
        aligned=frozenset(aligned),
    )


def aot_configurations() -> list[Configuration]:
    """What a camera process may launch without Triton, at the size of the default model."""
    return [configuration(layout, dtype) for layout, dtype in product(("rgb", "nv12"), ("fp16", "fp32", "u8"))]

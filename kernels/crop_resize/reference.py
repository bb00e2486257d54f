"""Crop-resize in plain torch: one weight matrix per direction and box. This is the definition of correct."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # half width of the filter, in pixels of the coarser grid

# Video range: Y' 16 .. 235 and chroma 16 .. 240 to R'G'B' 0 .. 255. Rec. ITU-R BT.601 and BT.709 give the
# luma weights (Kr, Kb); everything else follows from them.
LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def crop_resize(
    frame: Tensor, boxes: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float],
    interpolation: str, layout: str, matrix: str, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """As `kernels.crop_resize.crop_resize`, for boxes inside the frame. Returns `crops_shape`."""
    precision = torch.float64 if dtype == torch.float64 else torch.float32
    image = to_rgb(frame, layout, matrix, precision)  # [3, H, W]; bytes stay bytes, most are not needed
    crops = torch.empty((len(boxes), 3, *size), dtype=precision, device=frame.device)
    for crop, (x0, y0, x1, y1) in zip(crops, boxes.tolist(), strict=True):
        left, across = resampling_weights(x0, x1, image.shape[2], size[1], interpolation)
        top, down = resampling_weights(y0, y1, image.shape[1], size[0], interpolation)
        source = image[:, top : top + down.shape[1], left : left + across.shape[1]].to(precision)
        rows = (source @ across.to(source).T).clamp(0, 255)  # [3, h, width]: as Pillow's 8 bits do
        crop.copy_((down.to(source) @ rows).clamp(0, 255))  # [3, height, width]
    if dtype == torch.uint8:
        return (crops + 0.5).to(dtype).permute(0, 2, 3, 1).contiguous()  # halves go up, as in Pillow
    shift = torch.tensor(mean, dtype=precision, device=frame.device).view(3, 1, 1)
    spread = torch.tensor(std, dtype=precision, device=frame.device).view(3, 1, 1)
    return ((crops / 255 - shift) / spread).to(dtype)


def crops_shape(count: int, size: Sequence[int], dtype: torch.dtype) -> tuple[int, int, int, int]:
    """Of `count` crops: [n, height, width, 3] for bytes, [n, 3, height, width] for numbers."""
    return (count, size[0], size[1], 3) if dtype == torch.uint8 else (count, 3, size[0], size[1])


def resampling_weights(
    start: float, stop: float, length: int, size: int, interpolation: str
) -> tuple[int, Tensor]:
    """How `size` output pixels weigh the input pixels between two edges.

    Args:
        start, stop: edges of the box in this direction, 0 <= start < stop <= length.
        length: of the frame in this direction; pixels beyond it weigh nothing.
        size: number of output pixels.
        interpolation: "bilinear" or "bicubic".

    Returns:
        (first, weights): float64 [size, span], rows sum to 1; column j weighs input pixel `first + j`.
    """
    step = (stop - start) / size  # input pixels per output pixel
    stretch = max(step, 1.0)  # shrinking widens the filter: that is the antialiasing
    radius = SUPPORT[interpolation] * stretch
    centres = start + (torch.arange(size, dtype=torch.float64) + 0.5) * step  # [size]
    first = max(math.floor(float(centres[0]) - radius + 0.5), 0)
    last = min(math.floor(float(centres[-1]) + radius + 0.5), length)
    pixels = torch.arange(first, last, dtype=torch.float64) + 0.5  # [span]
    weights = _filter((pixels - centres[:, None]).abs() / stretch, interpolation)  # [size, span]
    return first, weights / weights.sum(1, keepdim=True)


def _filter(distance: Tensor, interpolation: str) -> Tensor:
    """The filter's value at a distance >= 0; zero from its support on."""
    if interpolation == "bilinear":
        return (1 - distance).clamp(min=0)
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def to_rgb(frame: Tensor, layout: str, matrix: str, dtype: torch.dtype) -> Tensor:
    """The whole frame as RGB in [0, 255], [3, H, W]: uint8, or `dtype` (not rounded) from NV12."""
    if layout != "nv12":
        return (frame.flip(2) if layout == "bgr" else frame).permute(2, 0, 1)
    height = frame.shape[0] // 3 * 2
    luma = frame[:height].to(dtype)  # [H, W]
    chroma = frame[height:].to(dtype).view(height // 2, -1, 2) - 128  # [H/2, W/2, 2]
    chroma = chroma.repeat_interleave(2, 0).repeat_interleave(2, 1)  # [H, W, 2], nearest as decoders do
    gain, red_v, green_u, green_v, blue_u = video_matrix(matrix)
    luma = (luma - 16) * gain
    u, v = chroma.unbind(-1)
    return torch.stack((luma + red_v * v, luma + green_u * u + green_v * v, luma + blue_u * u)).clamp(0, 255)


def video_matrix(matrix: str) -> tuple[float, float, float, float, float]:
    """(gain of Y, V to R, U to G, V to G, U to B) for 8-bit video range."""
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    red_v, blue_u = 2 * (1 - red) * 255 / 224, 2 * (1 - blue) * 255 / 224
    return 255 / 219, red_v, -blue_u * blue / green, -red_v * red / green, blue_u

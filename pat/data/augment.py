"""Random changes of training images: drawn for each image, applied to the whole batch on its device.

Order: mirror image, black border and crop, lower resolution or blur, colour (brightness, colour cast, contrast,
saturation, in this order), erasing.
The crop moves whole pixels, so it equals flip, pad and crop of each image by itself, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pat.config import AugmentConfig

_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 1 / 0.3)
_ERASE_ATTEMPTS = 10
_FILL = 0.5
"""Of erased rectangles, in each colour: the mean that the paper's input subtracts."""
_LOW_RESOLUTIONS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Shares of the rows and columns that are left."""
_BLURS = (0.5, 1.0, 1.5, 2.0)
"""Standard deviations, in 128ths of the height: pixels of an image of 128 x 64."""
_GREY = (0.2989, 0.587, 0.114)
"""ITU-R 601-2 luma, as torchvision rounds it."""


@dataclass(frozen=True)
class AugmentDraw:
    """The random numbers of a batch, a row for each image."""

    flip: Tensor
    """bool [B]"""
    corner: Tensor
    """i64 [B, 2]: top and left of the crop in the image with its border."""
    jitter: Tensor
    """f32 [B, 3]: factors of brightness, contrast and saturation."""
    softness: Tensor
    """i64 [B]: 0, or which of the low resolutions and blurs."""
    cast: Tensor
    """f32 [B, 3]: factors of the colour channels."""
    erased: Tensor
    """i64 [B, 4]: top, bottom, left, right of the erased rectangle, half open; empty where nothing is erased."""

    def to(self, device: torch.device | str) -> AugmentDraw:
        return AugmentDraw(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def moved_alone(self) -> AugmentDraw:
        """The same without what changes colours and sharpness or erases."""
        plain = {"jitter": torch.ones_like(self.jitter), "cast": torch.ones_like(self.cast)}
        nothing = {"softness": torch.zeros_like(self.softness), "erased": torch.zeros_like(self.erased)}
        return replace(self, **plain, **nothing)

    def __add__(self, other: AugmentDraw) -> AugmentDraw:
        """The numbers of two batches, one after the other."""
        return AugmentDraw(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def __getitem__(self, rows: slice | Tensor) -> AugmentDraw:
        """The numbers of some images: a rank takes its rows of the global batch."""
        return AugmentDraw(*(getattr(self, f.name)[rows] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.flip)


class Augmentation:
    """Random changes as `config` sets them, for images of `image_size` (height, width)."""

    def __init__(self, config: AugmentConfig, image_size: tuple[int, int]) -> None:
        self.config = config
        self.height, self.width = image_size
        self.softening = _softening(self.height), _softening(self.width, self.height)

    def draw(self, batch: int, generator: torch.Generator) -> AugmentDraw:
        """Random numbers for `batch` images, on the CPU.

        Everything is drawn whether it is used or not: turning one change on leaves the others as they were.
        """
        config = self.config
        flip = torch.rand(batch, generator=generator) < config.flip
        corner = torch.randint(0, 2 * config.pad + 1, (batch, 2), generator=generator)
        low, high = max(0.0, 1 - config.color_jitter), 1 + config.color_jitter
        jitter = low + (high - low) * torch.rand(batch, 3, generator=generator)
        erased = self._draw_erased(batch, generator)
        cast = 1 + config.color_cast * (2 * torch.rand(batch, 3, generator=generator) - 1)
        return AugmentDraw(flip, corner, jitter, self._draw_softness(batch, generator), cast, erased)

    def _draw_softness(self, batch: int, generator: torch.Generator) -> Tensor:
        """i64 [B]: 0 for images that stay as they are, then the low resolutions, then the blurs."""
        which, level = torch.rand(2, batch, generator=generator)
        low = (level * len(_LOW_RESOLUTIONS)).long()
        blur = (level * len(_BLURS)).long() + len(_LOW_RESOLUTIONS)
        config = self.config
        softness = torch.where(which < config.low_resolution, low, blur) + 1
        return softness * (which < config.low_resolution + config.blur)

    def _draw_erased(self, batch: int, generator: torch.Generator) -> Tensor:
        """Rectangles i64 [B, 4], of area and aspect ratio (log-uniform) in the usual ranges.

        As in torchvision: the first of ten tries that is smaller than the image; none, and nothing is erased.
        """
        chosen = torch.rand(batch, generator=generator) < self.config.erasing
        random = torch.rand(4, batch, _ERASE_ATTEMPTS, generator=generator)
        low, high = _ERASED_AREA
        area = self.height * self.width * (low + (high - low) * random[0])  # [B, tries]
        low, high = (math.log(aspect) for aspect in _ERASED_ASPECT)
        aspect = torch.exp(low + (high - low) * random[1])
        height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (height < self.height) & (width < self.width)
        top = (random[2] * (self.height - height + 1)).floor()
        left = (random[3] * (self.width - width + 1)).floor()
        boxes = torch.stack((top, top + height, left, left + width), dim=-1)  # [B, tries, 4]
        box = boxes[torch.arange(batch), fits.int().argmax(dim=1)].long()
        return box * (chosen & fits.any(dim=1))[:, None]

    def apply(self, pixels: Tensor, draw: AugmentDraw) -> Tensor:
        """Change images uint8 [B, H, W, 3] as drawn; f32 [B, 3, H, W] in [0, 1], not normalised.

        pixels and draw are on one device. Raises ValueError for pixels of another type, shape or number.
        """
        expected = (len(draw), self.height, self.width, 3)
        if pixels.dtype != torch.uint8 or tuple(pixels.shape) != expected:
            raise ValueError(f"pixels must be uint8 {expected}, not {pixels.dtype} {tuple(pixels.shape)}")
        moved = _moved(pixels, draw, self.config.pad).permute(0, 3, 1, 2)  # [B, 3, H, W]
        images = moved.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        if self.config.low_resolution or self.config.blur:
            # [B, H, H] and [B, W, W]
            rows, columns = (each.to(images.device)[draw.softness] for each in self.softening)
            images = rows[:, None] @ images @ columns[:, None].mT
        if self.config.color_jitter > 0 or self.config.color_cast > 0:
            images = _jittered(images, draw.jitter, draw.cast)
        if self.config.erasing > 0:
            images = _erased(images, draw.erased)
        return images


def _moved(pixels: Tensor, draw: AugmentDraw, pad: int) -> Tensor:
    """Mirror, border and crop: uint8 [B, H, W, 3], not contiguous.

    In memory a crop is one run of whole rows that starts at its corner, so each image is a single copy: ten
    times as fast on a CPU as gathering its pixels.
    """
    batch, height, width, _ = pixels.shape
    full_height, full_width = height + 2 * pad, width + 2 * pad
    # Images as they are, then mirrored, then room for the end of the last run.
    framed = pixels.new_zeros(2 * batch + 1, full_height, full_width, 3)
    inner = framed[: 2 * batch, pad : pad + height, pad : pad + width]
    inner[:batch] = pixels
    inner[batch:] = pixels.flip(2)
    runs = framed.as_strided((2 * batch * full_height * full_width, height * full_width * 3), (3, 1))
    image = torch.arange(batch, device=pixels.device) + batch * draw.flip
    top, left = draw.corner.unbind(1)
    first = (image * full_height + top) * full_width + left  # [B], in pixels
    return runs.index_select(0, first).view(batch, height, full_width, 3)[:, :, :width]


def _softening(length: int, of_height: int | None = None) -> Tensor:
    """What each softness does to a column of `length` pixels, as matrices f32 [1 + levels, length, length].

    Low resolutions are averages over areas, then linear interpolation; both axes take the same shares.
    """
    unit = torch.eye(length)
    levels = [unit]
    for share in _LOW_RESOLUTIONS:
        small = F.adaptive_avg_pool1d(unit[None], max(1, round(share * length)))
        levels.append(F.interpolate(small, length, mode="linear")[0].T)
    distance = torch.arange(length)[:, None] - torch.arange(length)
    for sigma in _BLURS:
        kernel = torch.exp(-0.5 * (distance / (sigma / 128 * (of_height or length))) ** 2)
        levels.append(kernel / kernel.sum(1, keepdim=True))
    return torch.stack(levels)


def _jittered(images: Tensor, factors: Tensor, cast: Tensor) -> Tensor:
    """Brightness, contrast and saturation in torchvision's sense, for float images in [0, 1]; `cast` is a
    brightness of each channel."""
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)  # [B, 1, 1, 1] each
    images = (images * (brightness * cast[:, :, None, None])).clamp_(0, 1)
    images = _blended(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), contrast)
    return _blended(images, _grey(images), saturation)


def _blended(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * other).clamp_(0, 1)


def _grey(images: Tensor) -> Tensor:
    weights = images.new_tensor(_GREY)[:, None, None]
    return (images * weights).sum(dim=1, keepdim=True)  # [B, 1, H, W]


def _erased(images: Tensor, boxes: Tensor) -> Tensor:
    row = torch.arange(images.shape[2], device=images.device)
    column = torch.arange(images.shape[3], device=images.device)
    top, bottom, left, right = boxes[:, :, None].unbind(1)  # [B, 1] each
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    inside = rows[:, None, :, None] & columns[:, None, None, :]  # [B, 1, H, W]
    return torch.where(inside, _FILL, images)

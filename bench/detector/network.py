"""A small person detector, fully convolutional and free of anchors: three levels, one head for all of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from deploy.detect.families import STRIDES

MEAN, STD = 0.45, 0.25
"""What a pixel in [0, 1] is normalised by, in every channel."""
WIDTH = 48
"""Channels of what the head sees."""
FARTHEST = 5.0
"""The largest exponent of a distance, in strides."""
SCALES = (1, 2, 4)
"""How many times smaller each look at a frame is. Sides of a frame are multiples of 32 times the last."""


class Unit(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Half as many channels and back again (Darknet-53), added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Unit(channels, channels // 2, 1), Unit(channels // 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PersonDetector(nn.Module):
    """Images f32 [B, 3, H, W], normalised, -> scores [B, N] before the sigmoid and boxes [B, N, 4].

    H and W are multiples of 32. Boxes (x0, y0, x1, y1) in pixels, one for each cell of `grid(H, W)`, in its order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Unit(3, 16, 3, 2), Unit(16, 32, 3, 2), Residual(32))
        self.fine = nn.Sequential(Unit(32, 48, 3, 2), Residual(48), Residual(48))  # stride 8
        self.middle = nn.Sequential(Unit(48, 96, 3, 2), Residual(96), Residual(96))  # stride 16
        self.coarse = nn.Sequential(Unit(96, 128, 3, 2), Residual(128))  # stride 32
        self.lateral = nn.ModuleList(nn.Conv2d(channels, WIDTH, 1) for channels in (48, 96, 128))
        shared, last = Unit(WIDTH, WIDTH), nn.Conv2d(WIDTH, 5, 1)
        self.head = nn.Sequential(shared, last)
        with torch.no_grad():
            # At the start: hardly anybody anywhere, and who is there stands upright.
            last.weight.mul_(0.1)
            last.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.9, 0.0, 0.9]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        top = self.lateral[2](coarse)
        centre = self.lateral[1](middle) + nn.functional.interpolate(top, scale_factor=2.0)
        bottom = self.lateral[0](fine) + nn.functional.interpolate(centre, scale_factor=2.0)
        levels = [self.head(level).flatten(2).transpose(1, 2) for level in (bottom, centre, top)]
        rows = torch.cat(levels, dim=1)  # [B, N, 5]
        cells = grid(images.shape[2], images.shape[3])
        middle_of, stride = cells[:, :2], cells[:, 2:]
        away = rows[..., 1:].clamp(max=FARTHEST).exp() * stride
        boxes = torch.cat((middle_of - away[..., :2], middle_of + away[..., 2:]), dim=2)
        return rows[..., 0], boxes


class AsYolox(nn.Module):
    """The detector with the output of the family "yolox", boxes decoded: [B, N, 6] centre, size, score, 1.

    It looks once at each of `SCALES`: it learned from patches, in which people are small, and whoever is near is
    small in a frame made smaller, by averages, as careful resizing does.
    """

    def __init__(self, detector: PersonDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        looks = [self.detector(nn.functional.avg_pool2d(images, scale)) for scale in SCALES]
        score = torch.cat([scores for scores, _ in looks], dim=1).sigmoid()[..., None]
        boxes = torch.cat([boxes * scale for (_, boxes), scale in zip(looks, SCALES, strict=True)], dim=1)
        low, high = boxes[..., :2], boxes[..., 2:]
        return torch.cat(((low + high) / 2, high - low, score, torch.ones_like(score)), dim=2)


def grid(height: int, width: int) -> Tensor:
    """The cells f32 [N, 3] of all levels: middle x, middle y, stride, in pixels; level by level, row by row."""
    levels = []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        middles = (torch.stack((x, y), dim=2).reshape(-1, 2) + 0.5) * stride
        levels.append(torch.cat((middles, torch.full((len(middles), 1), float(stride))), dim=1))
    return torch.cat(levels)


def fused(detector: PersonDetector) -> PersonDetector:
    """A copy whose convolutions hold their batch normalisations, with weights that float16 holds exactly."""
    detector = copy.deepcopy(detector).eval()
    for unit in [each for each in detector.modules() if isinstance(each, Unit)]:
        convolution, norm = unit[0], unit[1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        unit[0] = nn.utils.fuse_conv_bn_eval(convolution, norm)
        unit[1] = nn.Identity()
    for tensor in detector.parameters():
        tensor.data = tensor.data.half().float()
    return detector

"""Which cells answer for whom, and how wrong they are: focal loss of the score, generalised IoU of the box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

HEIGHTS = {8: (0.0, 80.0), 16: (56.0, 176.0), 32: (128.0, float("inf"))}
"""Pixels of a person for which the cells of a stride answer; some people belong to two levels."""
NEAR = 1.25
"""Strides from a person's middle within which cells answer for them."""
BOX_WEIGHT = 2.0


def detection_loss(
    scores: Tensor, boxes: Tensor, cells: Tensor, people: Sequence[Tensor], unclear: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The two losses, per answering cell, of scores [B, N] before the sigmoid and boxes [B, N, 4].

    `people` and `unclear` hold boxes f32 [n, 4] for each image; cells inside an unclear one answer for nothing.
    A cell that answers should score the IoU that its box has (quality focal loss, arXiv 2006.04388); its box is
    pulled by the generalised IoU (arXiv 1902.09630).
    """
    target, weight = torch.zeros_like(scores), torch.ones_like(scores)
    found, wanted = [], []
    for image, (there, hidden) in enumerate(zip(people, unclear, strict=True)):
        if len(hidden):
            weight[image, inside(cells, hidden).any(dim=1)] = 0
        if len(there):
            cell, person = answering(cells, there)
            overlap, generalised = ious(boxes[image, cell], there[person])
            target[image, cell] = overlap.detach().clamp(min=0.05)
            weight[image, cell] = 1
            found.append(overlap)
            wanted.append(1 - generalised)
    count = max(sum(map(len, found)), 1)
    chance = scores.sigmoid()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
    score_loss = ((target - chance).abs() ** 2 * entropy * weight).sum() / count
    box_loss = torch.cat(wanted).sum() / count if wanted else boxes.sum() * 0
    return score_loss, BOX_WEIGHT * box_loss


def answering(cells: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """Cells [K] and the person [K] each of them answers for: of several the smallest."""
    middle, height = (people[:, :2] + people[:, 2:]) / 2, people[:, 3] - people[:, 1]
    away = (cells[:, None, :2] - middle).abs().amax(dim=2) / cells[:, None, 2]  # [N, n] strides
    answers = torch.zeros_like(away, dtype=torch.bool)
    for stride, (low, high) in HEIGHTS.items():
        answers |= (cells[:, 2] == stride)[:, None] & (height >= low) & (height < high)
    answers &= away < NEAR
    answers &= inside(cells, people) | (away <= 0.5)
    area = (people[:, 2:] - people[:, :2]).prod(dim=1)
    person = torch.where(answers, area, torch.inf).argmin(dim=1)
    cell = answers.any(dim=1).nonzero()[:, 0]
    return cell, person[cell]


def inside(cells: Tensor, boxes: Tensor) -> Tensor:
    """Whether the middle of each cell lies in each box, [N, n]."""
    low, high = cells[:, None, :2] - boxes[:, :2], boxes[:, 2:] - cells[:, None, :2]
    return torch.minimum(low, high).amin(dim=2) > 0


def ious(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU [K] of boxes [K, 4] in pairs."""
    common = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0)
    around = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    both = common.prod(dim=1)
    union = (first[:, 2:] - first[:, :2]).prod(dim=1) + (second[:, 2:] - second[:, :2]).prod(dim=1) - both
    overlap = both / union
    return overlap, overlap - 1 + union / around.prod(dim=1)

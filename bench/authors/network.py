"""The network with a mask in memory: N x N for each image, and every token through every block."""

from __future__ import annotations

import torch
from torch import Tensor

from pat.model import PartAwareTransformer
from pat.model.attention import PartBlock


def masked_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """Attention with a mask in memory.

    q [B, n, H, D]; k, v [B, N, H, D]; visible bool [B, n, N]. Returns [B, n, H*D].
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))  # [B, H, ., D]
    scores = (q @ k.transpose(-2, -1)) * scale  # [B, H, n, N]
    scores = scores.masked_fill(~visible[:, None], float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def masks(regions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which token sees which, bool [B, N, N] on the host, drawn image by image. regions: [B, P, 4]."""
    rows, columns = grid
    parts = regions.shape[1]
    tokens = 1 + parts + rows * columns
    visible = torch.ones(len(regions), tokens, tokens, dtype=torch.bool)
    for mask, image in zip(visible, regions.tolist(), strict=True):
        mask[1 : 1 + parts, 1:] = mask[1:, 1 : 1 + parts] = False
        for part, (top, bottom, left, right) in enumerate(image, 1):
            seen = torch.zeros(rows, columns, dtype=torch.bool)
            seen[top:bottom, left:right] = True
            mask[part, part] = True
            mask[part, 1 + parts :] = mask[1 + parts :, part] = seen.flatten()
    return visible


def features(
    model: PartAwareTransformer, images: Tensor, regions: Tensor, drop_path: Tensor | None
) -> tuple[Tensor, Tensor]:
    """cls [B, D] and part tokens [B, P, D] of our model's weights. The mask is made once, not in every block."""
    tokens = model.tokens(images)
    visible = masks(regions, model.grid).to(tokens.device)
    kept = torch.ones(len(model.blocks), 2, len(tokens)) if drop_path is None else drop_path
    kept = kept.to(tokens.device)[..., None, None]  # [depth, 2, B, 1, 1]
    for block, (first, second) in zip(model.blocks, kept, strict=True):
        assert isinstance(block, PartBlock)
        tokens = tokens + first * block.ls1(attention(block, block.norm1(tokens), visible))
        tokens = tokens + second * block.ls2(block.mlp(block.norm2(tokens)))
    tokens = model.norm(tokens)
    return tokens[:, 0], tokens[:, 1 : 1 + model.parts]


def attention(block: PartBlock, tokens: Tensor, visible: Tensor) -> Tensor:
    """[B, N, D] -> [B, N, D]"""
    heads = block.attn.heads
    q, k, v = block.attn.qkv(tokens).unflatten(2, (3, heads, -1)).unbind(2)  # [B, N, H, d] each
    scale = block.attn.scale or q.shape[-1] ** -0.5
    return block.attn.proj(masked_attention(q, k, v, visible, scale))

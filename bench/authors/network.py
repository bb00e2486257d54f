"""The network with a mask in memory, N x N, and every token through every block."""

from __future__ import annotations

import torch
from torch import Tensor

from pat.model import PartAwareTransformer
from pat.model.attention import PartBlock


def masked_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """Attention with a mask in memory.

    q [B, n, H, D]; k, v [B, N, H, D]; visible bool [n, N], or [B, 1, n, N]. Returns [B, n, H*D].
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))  # [B, H, ., D]
    scores = (q @ k.transpose(-2, -1)) * scale  # [B, H, n, N]
    scores = scores.masked_fill(~visible, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def mask(regions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which token sees which, bool [N, N] on the host. regions: [P, 4], the same for all images of a batch."""
    rows, columns = grid
    parts = len(regions)
    tokens = 1 + parts + rows * columns
    visible = torch.ones(tokens, tokens, dtype=torch.bool)
    visible[1 : 1 + parts, 1:] = visible[1:, 1 : 1 + parts] = False
    for part, (top, bottom, left, right) in enumerate(regions.tolist(), 1):
        seen = torch.zeros(rows, columns, dtype=torch.bool)
        seen[top:bottom, left:right] = True
        visible[part, part] = True
        visible[part, 1 + parts :] = visible[1 + parts :, part] = seen.flatten()
    return visible


def features(
    model: PartAwareTransformer, images: Tensor, regions: Tensor, drop_path: Tensor | None
) -> tuple[Tensor, Tensor]:
    """cls [B, D] and part tokens [B, P, D] of our model's weights.

    regions: int32 [P, 4] on the host, one draw for the batch. The mask is made once, not in every block.
    """
    tokens = model.tokens(images)
    visible = mask(regions, model.grid).to(tokens.device)
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

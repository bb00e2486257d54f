"""Where the tokens that leave the network look: attention of the last block over the patch grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from kernels.part_attention.reference import visibility
from pat.model.attention import PartBlock
from pat.model.transformer import PartAwareTransformer


@torch.no_grad()
def attention_maps(model: PartAwareTransformer, images: Tensor) -> Tensor:
    """images float [B, 3, H, W] in [0, 1] -> float32 [B, 1 + P, R, C]: cls, then each part, mean over heads.

    The probabilities are those of the full bands, as in evaluation.
    """
    outputs, special = 1 + model.parts, 1 + model.parts + model.registers
    tokens = model.tokens(images)
    *earlier, last = cast(Sequence[PartBlock], model.blocks)
    for block in earlier:
        tokens = block(tokens, model.bands, tokens.shape[1], None)
    batch, count = tokens.shape[:2]
    heads = last.attn.heads
    packed = last.attn.qkv(last.norm1(tokens)).view(batch, count, 3, heads, -1)
    query, key = packed[:, :outputs, 0].transpose(1, 2), packed[:, :, 1].transpose(1, 2)  # [B, heads, ., head]
    scale = last.attn.scale or query.shape[-1] ** -0.5
    logits = (query @ key.transpose(-1, -2)).float() * scale
    visible = visibility(model.bands, model.grid, outputs, registers=model.registers)  # [1, outputs, N]
    weights = logits.masked_fill(~visible[:, None], -torch.inf).softmax(-1).mean(1)  # [B, outputs, N]
    return weights[..., special:].unflatten(-1, model.grid)

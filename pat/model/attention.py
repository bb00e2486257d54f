"""Part-masked self-attention and the transformer block around it."""

from __future__ import annotations

from typing import Literal

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.part_attention import part_attention

Implementation = Literal["reference", "sdpa", "triton"]


class PartAttention(nn.Module):
    """Multi-head attention in which each part token sees its region alone (DESIGN: visibility)."""

    def __init__(
        self,
        qkv: nn.Linear,
        proj: nn.Linear,
        *,
        heads: int,
        grid: tuple[int, int],
        registers: int,
        scale: float | None,
        implementation: Implementation,
    ) -> None:
        super().__init__()
        self.qkv, self.proj = qkv, proj
        self.heads, self.grid, self.registers = heads, grid, registers
        self.scale, self.implementation = scale, implementation

    def forward(self, tokens: Tensor, regions: Tensor, asking: int) -> Tensor:
        """tokens [B, N, D], regions int32 [B or 1, P, 4] -> [B, asking, D] for the first `asking` tokens."""
        query, key_value = self.project(tokens, asking)
        seen = part_attention(
            query,
            key_value,
            regions,
            self.grid,
            registers=self.registers,
            scale=self.scale,
            impl=self.implementation,
        )  # [B, asking, D]
        return self.proj(seen)

    def project(self, tokens: Tensor, asking: int) -> tuple[Tensor, Tensor]:
        """Queries [B, asking, H, d] of the first tokens; keys and values [B, N, 2, H, d] of all."""
        batch, count = tokens.shape[:2]
        attended = self.qkv.out_features // 3
        head = attended // self.heads
        if asking == count:
            qkv = self.qkv(tokens).view(batch, count, 3, self.heads, head)
            # Split, not sliced: the gradients of slices would each fill a packed tensor and then be added.
            query, key_value = qkv.split((1, 2), dim=2)
            query = query.squeeze(2)
        else:
            # Keys and values are needed for every token, queries for those that leave the network alone.
            weight, bias = self.qkv.weight, self.qkv.bias
            query_bias, kv_bias = (None, None) if bias is None else (bias[:attended], bias[attended:])
            query = F.linear(tokens[:, :asking], weight[:attended], query_bias)
            query = query.view(batch, asking, self.heads, head)
            key_value = F.linear(tokens, weight[attended:], kv_bias)
            key_value = key_value.view(batch, count, 2, self.heads, head)
        return query, key_value


class PartBlock(nn.Module):
    """A pre-norm transformer block whose parameters keep timm's names.

    Stochastic depth comes in as factors drawn by the caller, so that they belong to an image and not to the
    device it happens to run on.
    """

    def __init__(self, block: Block, attention: PartAttention) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = block.norm1, attention, block.ls1
        self.norm2, self.mlp, self.ls2 = block.norm2, block.mlp, block.ls2

    def forward(self, tokens: Tensor, regions: Tensor, asking: int, keep: Tensor | None) -> Tensor:
        """tokens [B, N, D], keep [2, B] or None -> [B, asking, D]."""
        change = self.ls1(self.attn(self.norm1(tokens), regions, asking))
        tokens = tokens[:, :asking] + kept(change, keep, 0)
        change = self.ls2(self.mlp(self.norm2(tokens)))
        return tokens + kept(change, keep, 1)


def kept(change: Tensor, keep: Tensor | None, branch: int) -> Tensor:
    """A branch's change of the tokens [B, N, D], times its factors of stochastic depth, keep [2, B]."""
    return change if keep is None else change * keep[branch].to(change.dtype)[:, None, None]


def drop_path_factors(
    rate: float, depth: int, images: int, generator: torch.Generator | None = None
) -> Tensor | None:
    """Stochastic-depth factors float32 [depth, 2, images] on the CPU: 0, or 1/(probability of being kept).

    The rate grows linearly from 0 in the first block to `rate` in the last. None when the rate is 0.
    """
    if rate == 0.0:
        return None
    kept = 1.0 - torch.linspace(0, rate, depth)[:, None, None]
    return (torch.rand(depth, 2, images, generator=generator) < kept) / kept

"""Fewer patch tokens on the way through the network: after its attention a block merges those most alike.

Bipartite soft matching of ToMe (Bolya et al., arXiv 2210.09461), without training: every second patch token looks
for the one most like it, by keys, among the others, and the pairs most alike become one token each, their mean.
Cls, part and register tokens are left alone. How many are merged is fixed, so every shape is static, and the
pairing is a product with zeros and ones: ONNX and TensorRT see TopK, Equal and MatMul, and no scatter.

A merged token stands for all its patches: with proportional attention its key counts as often as it has patches.
To a part token it counts as often as it has patches *in that part's region*; where it has none, it is hidden, and
where all are inside, nothing changes. In the other direction it sees the part token with the share of its patches
that do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.part_attention.reference import attend, attend_sdpa, part_sees_rest
from pat.model.attention import PartBlock, kept


@dataclass(frozen=True)
class Merging:
    """Which blocks merge how much."""

    per_block: int
    """Patch tokens that go in each block, but never more than half of those there are."""
    first: int = 1
    """The first block that merges, counted from 1."""

    def left(self, patches: int, depth: int, pooled: bool) -> list[int]:
        """Patch tokens after each of `depth` blocks that `patches` enter; the last merges them where `pooled`."""
        counts = []
        for block in range(1, depth + 1):
            if block >= self.first and (pooled or block < depth):
                patches -= min(self.per_block, patches // 2)
            counts.append(patches)
        return counts


def patch_counts(regions: Tensor, grid: tuple[int, int]) -> Tensor:
    """How many patches each patch token stands for, in all and in each part's region: float [B, R*C, 1 + P].

    regions int32 [B or 1, P, 4], as `part_attention` takes them.
    """
    inside = part_sees_rest(regions, grid, 0).transpose(1, 2)  # [B, R*C, P]
    return torch.cat([inside.new_ones(*inside.shape[:2], 1), inside], 2).float()


def run_block(
    block: PartBlock, tokens: Tensor, counts: Tensor, asking: int, left: int, drop: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A block that leaves `left` of its M patch tokens.

    tokens [B, N, D]; counts [B or 1, M, 1 + P], see `patch_counts`; drop [2, B] or None. Returns the first
    `asking` tokens, or all that are left where all ask, and the counts of the patch tokens left. Where not all
    ask, all are left.
    """
    attention, patches = block.attn, counts.shape[1]
    query, key_value = attention.project(block.norm1(tokens), asking)
    run = attend if attention.implementation == "reference" else attend_sdpa
    scale = attention.scale or query.shape[-1] ** -0.5
    seen = run(query, key_value, _bias(counts, tokens.shape[1], query.shape[1]), scale)
    tokens = tokens[:, :asking] + kept(block.ls1(attention.proj(seen)), drop, 0)
    if left < patches:
        special = tokens.shape[1] - patches
        keys = key_value[:, special:, 0].mean(2)  # [B, M, D / H]
        merged, counts = merge(tokens[:, special:], counts, keys, patches - left)
        tokens = torch.cat([tokens[:, :special], merged], 1)
    return tokens + kept(block.ls2(block.mlp(block.norm2(tokens))), drop, 1), counts


def merge(tokens: Tensor, counts: Tensor, keys: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Make `pairs` tokens fewer: the means of those most alike, and what they stand for.

    tokens [B, M, D], counts [B or 1, M, 1 + P], keys [B, M, d] -> [B, M - pairs, D] and [B, M - pairs, 1 + P].
    """
    keys = F.normalize(keys, dim=-1)
    likeness = keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)  # [B, a, b]
    best, partner = likeness.max(-1)  # [B, a]
    order = best.topk(best.shape[1]).indices
    ranked = _one_hot(order, best.shape[1])  # [B, a, a]: row i picks the token of rank i
    goes, stays = ranked[:, :pairs].sum(1, keepdim=True), ranked[:, pairs:]
    joins = goes * _one_hot(partner, likeness.shape[2]).transpose(1, 2)  # [B, b, a]

    sums = torch.cat([tokens * counts[:, :, :1], counts.expand(tokens.shape[0], -1, -1)], 2)  # over patches
    first, second = sums[:, ::2], sums[:, 1::2]
    sums = torch.cat([stays @ first, second + joins @ first], 1)
    sums, counts = sums.split((tokens.shape[2], counts.shape[2]), 2)
    return sums / counts[:, :, :1], counts


def mean_of_patches(tokens: Tensor, counts: Tensor) -> Tensor:
    """The mean over patches of the tokens [B, M, D] that stand for them: [B, 1, D]."""
    sizes = counts[:, :, :1]
    return (tokens * sizes).sum(1, keepdim=True) / sizes.sum(1, keepdim=True)


def _one_hot(indices: Tensor, size: int) -> Tensor:
    """int64 [B, n] -> float32 [B, n, size]. Compared, not scattered."""
    return (indices.unsqueeze(2) == torch.arange(size, device=indices.device)).float()


def _bias(counts: Tensor, tokens: int, asking: int) -> Tensor:
    """What is added to the scores of the first `asking` tokens: [B or 1, 1, asking, N]. -inf hides."""
    batch, patches, rows = counts.shape
    parts, registers = rows - 1, tokens - rows - patches
    logs = counts.log()
    size, inside = logs[:, :, :1], logs[:, :, 1:]  # [B, M, 1], [B, M, P]
    one = torch.arange(parts, device=counts.device).unsqueeze(0)
    itself = _one_hot(one, parts + registers).log()  # [1, P, P + G]: a part sees itself, no register
    zeros = counts.new_zeros(batch, tokens, 1)
    lines = [
        torch.cat([zeros[:, : tokens - patches], size], 1).transpose(1, 2),
        torch.cat([zeros[:, :parts], itself.expand(batch, -1, -1), inside.transpose(1, 2)], 2),
    ]
    if asking > rows:
        hidden = counts.new_full((batch, registers, parts), -torch.inf)
        share = torch.cat([hidden, inside - size], 1)  # [B, G + M, P]
        others = torch.cat([zeros[:, :registers], size], 1).transpose(1, 2).expand(-1, registers + patches, -1)
        lines.append(torch.cat([zeros[:, : registers + patches], share, others], 2))
    return torch.cat(lines, 1)[:, :asking].unsqueeze(1)

"""Part-masked attention in plain torch: the definition of correct, and the fast way on a CPU.

Tokens are ordered `[cls, part_1 .. part_P, register_1 .. register_G, patch_0 ..]`. cls sees and is seen
by all; registers and patches see each other; a part token sees itself, cls and, both ways, the patches in
its region; two part tokens, or a part token and a register, do not see each other.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def visibility(regions: Tensor, grid: tuple[int, int], n: int, *, registers: int = 0) -> Tensor:
    """Which token may look at which: bool [B, n, N], True where query i sees key j.

    `regions` int [B, P, 4] holds (top, bottom, left, right) in patches, half open, for each part; `grid` is
    (rows, columns) of patches; the first `n` tokens ask. The full matrix (n = N) is symmetric.
    """
    batch, parts, _ = regions.shape
    rest = registers + grid[0] * grid[1]
    inside = part_sees_rest(regions, grid, registers)  # [B, P, G + R*C]
    itself = torch.eye(parts, dtype=torch.bool, device=regions.device).expand(batch, parts, parts)
    rows = [
        regions.new_ones(batch, 1, 1 + parts + rest, dtype=torch.bool),
        torch.cat([regions.new_ones(batch, parts, 1, dtype=torch.bool), itself, inside], 2),
    ]
    if n > 1 + parts:  # the last block asks for cls and parts only: spare it the big part of the matrix
        asking = n - 1 - parts
        cls = regions.new_ones(batch, asking, 1, dtype=torch.bool)
        others = regions.new_ones(batch, asking, rest, dtype=torch.bool)
        rows.append(torch.cat([cls, inside[:, :, :asking].transpose(1, 2), others], 2))
    return torch.cat(rows, 1)[:, :n]


def part_sees_rest(regions: Tensor, grid: tuple[int, int], registers: int) -> Tensor:
    """Which registers (none) and patches (those in its region) a part sees: bool [B, P, G + R*C]."""
    top, bottom, left, right = regions.unsqueeze(2).unbind(-1)  # each [B, P, 1]
    row = torch.arange(grid[0], device=regions.device)
    column = torch.arange(grid[1], device=regions.device)
    in_rows = (row >= top) & (row < bottom)  # [B, P, R]
    in_columns = (column >= left) & (column < right)  # [B, P, C]
    patches = (in_rows.unsqueeze(3) & in_columns.unsqueeze(2)).flatten(2)  # [B, P, R*C]
    return torch.cat([patches.new_zeros(*patches.shape[:2], registers), patches], 2)


def additive_mask(
    regions: Tensor, grid: tuple[int, int], n: int, registers: int, dtype: torch.dtype
) -> Tensor | None:
    """0 where a pair sees each other, -inf where not: [B or 1, 1, n, N]; None where nothing is hidden.

    Added rather than selected: a boolean mask makes SDPA guard against rows that see nothing (there are
    none here), which becomes IsNaN and Where nodes in every layer of an exported graph.
    """
    if regions.shape[1] == 0 or n == 1:  # a plain ViT, or only cls asks, which sees everything
        return None
    visible = visibility(regions, grid, n, registers=registers)
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, float("-inf")).unsqueeze(1)


def attend(q: Tensor, kv: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Scores, mask, softmax and average one after the other, each materialised. Any floating dtype.

    q [B, n, H, D], kv [B, N, 2, H, D]; mask [B or 1, 1, n, N] is added to the scores -> [B, n, H*D].
    """
    q = q.transpose(1, 2)  # [B, H, n, D]
    k, v = kv.permute(2, 0, 3, 1, 4)  # each [B, H, N, D]
    scores = (q * scale) @ k.transpose(-2, -1)  # [B, H, n, N]
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)  # [B, n, H*D]


def attend_sdpa(q: Tensor, kv: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """The same through `torch.nn.functional.scaled_dot_product_attention`."""
    q = q.transpose(1, 2)  # [B, H, n, D]
    k, v = kv.permute(2, 0, 3, 1, 4)  # each [B, H, N, D]
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale).transpose(1, 2).flatten(2)


def eager(
    q: Tensor, kv: Tensor, regions: Tensor, grid: tuple[int, int], *, registers: int, scale: float
) -> Tensor:
    """Part attention by `attend`."""
    return attend(q, kv, additive_mask(regions, grid, q.shape[1], registers, q.dtype), scale)


def sdpa(q: Tensor, kv: Tensor, regions: Tensor, grid: tuple[int, int], *, registers: int, scale: float) -> Tensor:
    """Part attention by `attend_sdpa`; without a mask where P = 0."""
    return attend_sdpa(q, kv, additive_mask(regions, grid, q.shape[1], registers, q.dtype), scale)

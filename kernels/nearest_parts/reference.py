"""Memory-bank similarity in plain torch: the definition of correct, and fast on a CPU.

With d = |query - slot|^2 by the expansion |q|^2 + |m|^2 - 2 q.m, clamped at 0. The query is rounded to the bank's
dtype (a half-precision bank has lost as much); all else is float32, or float64 for a float64 bank. No row of the
bank is sorted as a whole, the bank is not copied, and memory is bounded: the bank is read in chunks whose results
are merged as the shards of several ranks are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 23
"""Largest temporary of one chunk, in elements (32 MiB in float32)."""

GROUP = 64
"""Slots whose minimum stands for them in the first round of `smallest`."""


class NearestParts(NamedTuple):
    """What one search returns; B queries of each of P parts.

    log_sum: [P, B], logsumexp over all allowed slots of -scale * d; -inf where no slot is allowed.
    distances: [P, B, k], squared L2 distances, ascending; +inf where fewer than k slots are allowed.
    indices: int64 [P, B, k], their slots, equal distances in ascending order of slot; -1 where missing.
    """

    log_sum: Tensor
    distances: Tensor
    indices: Tensor


class Saved(NamedTuple):
    """What the backward needs of the bank, taken in the forward: the bank may change in between.

    average: [P, B, D], slots averaged with softmax over the allowed ones of -scale * d; 0 where none is allowed.
    neighbours: [P, B, k, D], the nearest slots in the bank's dtype; any slot where one is missing.
    """

    average: Tensor
    neighbours: Tensor


def merge_nearest(parts: Sequence[NearestParts]) -> NearestParts:
    """Join results over disjoint slots (shards of several ranks, chunks of one bank) into the result over all.

    Each part must hold the same queries and k, and indices of the whole bank (`offset`). Differentiable: the
    gradient reaches each part's `log_sum` and `distances`, so ranks need not exchange bank vectors. Raises
    ValueError for no parts or parts of different shapes.
    """
    if not parts:
        raise ValueError("parts: expected at least one result to merge, got none")
    for i, part in enumerate(parts):
        if part.distances.shape != parts[0].distances.shape:
            raise ValueError(
                f"parts[{i}]: distances have shape {tuple(part.distances.shape)}, "
                f"expected that of parts[0], {tuple(parts[0].distances.shape)}"
            )
    k = parts[0].distances.shape[-1]
    log_sums = torch.stack([part.log_sum for part in parts])  # [S, P, B]
    distances = torch.cat([part.distances for part in parts], dim=-1)  # [P, B, S*k]
    indices = torch.cat([part.indices for part in parts], dim=-1)
    by_index = indices.argsort(dim=-1)
    by_distance = distances.detach().gather(-1, by_index).sort(dim=-1, stable=True).indices[..., :k]
    order = by_index.gather(-1, by_distance)  # [P, B, k], ascending (distance, index)
    return NearestParts(_log_sum_exp(log_sums), distances.gather(-1, order), indices.gather(-1, order))


def nearest_parts_reference(
    query: Tensor,
    bank: Tensor,
    exclude: Tensor,
    *,
    k: int,
    scale: float,
    squared_norms: Tensor | None,
    query_identity: Tensor | None,
    bank_identity: Tensor | None,
    offset: int,
    save: bool,
) -> tuple[NearestParts, Saved | None]:
    """Search the bank; see `kernels.nearest_parts.nearest_parts` for the arguments, which are valid here.

    `save` asks for what the backward needs. Outputs are float32, or float64 for a float64 bank.
    """
    dtype = statistics_dtype(bank)
    parts, dim = bank.shape[0], bank.shape[2]
    row = max(query.shape[1], dim if bank.dtype != dtype else 1)
    chunk = max(GROUP, CHUNK_ELEMENTS // (parts * row))
    q = query.to(bank.dtype).to(dtype)
    found, average = None, None
    for start in range(0, bank.shape[1], chunk):
        slots = slice(start, start + chunk)
        m = bank[:, slots].to(dtype)  # [P, c, D]
        norms = torch.einsum("pmd,pmd->pm", m, m) if squared_norms is None else squared_norms[:, slots].to(dtype)
        d = q.square().sum(-1)[:, :, None] + norms[:, None, :]  # [P, B, c]
        d.baddbmm_(q, m.mT, alpha=-2).clamp_min_(0)
        _exclude_own(d, exclude - (offset + start))
        if query_identity is not None and bank_identity is not None:
            d.masked_fill_(query_identity[:, None] == bank_identity[slots], torch.inf)
        part, weight = _nearest_of_chunk(d, k, scale, offset + start)
        mean = torch.bmm(d, m).div_(weight) if save else None  # d holds the weights by now
        if found is not None:
            total = merge_nearest([found, part])
            if average is not None and mean is not None:
                average.mul_(_share(found, total)).add_(mean.mul_(_share(part, total)))
            found = total
        else:
            found, average = part, mean
    assert found is not None, "a bank holds at least one slot"
    if average is None:
        return found, None
    local = (found.indices - offset).clamp_min(0)
    return found, Saved(average, bank[torch.arange(parts, device=bank.device)[:, None, None], local])


def nearest_parts_backward(
    grad_log_sum: Tensor,
    grad_distances: Tensor,
    query: Tensor,
    indices: Tensor,
    average: Tensor,
    neighbours: Tensor,
    scale: float,
) -> Tensor:
    """Gradient to the query in closed form: -2 scale (q - E_S[m]) per log_sum, 2 (q - m_k) per distance.

    Missing neighbours and queries without any allowed slot get exactly 0, whatever gradient arrives for them.
    """
    q = query.to(neighbours.dtype).to(average.dtype)
    present = indices >= 0  # [P, B, k]
    g_sum = torch.where(present[..., 0], grad_log_sum, 0.0)[..., None] * (-2 * scale)  # [P, B, 1]
    g_near = torch.where(present, grad_distances, 0.0)[..., None, :] * 2  # [P, B, 1, k]
    pull = torch.matmul(g_near, neighbours.to(q.dtype))[..., 0, :]  # [P, B, D]
    grad = g_sum * (q - average) + g_near.sum(-1) * q - pull
    return grad.to(query.dtype)


def statistics_dtype(bank: Tensor) -> torch.dtype:
    """Type of distances and sums: float32, or float64 for a float64 bank."""
    return torch.promote_types(bank.dtype, torch.float32)


def smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of the last dimension in order of (value, index), which `torch.topk` does not promise.

    The k groups of consecutive entries with the smallest minima hold all of them, ties included: an entry
    outside has k minima before it. Only these groups are searched further.
    """
    size = values.shape[-1]
    if size <= max(4 * GROUP, 2 * k * GROUP):
        ordered = values.sort(dim=-1, stable=True)
        return ordered.values[..., :k], ordered.indices[..., :k]
    whole = size // GROUP * GROUP
    minima = values[..., :whole].unflatten(-1, (-1, GROUP)).amin(-1)
    if whole < size:
        minima = torch.cat([minima, values[..., whole:].amin(-1, keepdim=True)], dim=-1)
    groups = smallest(minima, k)[1].sort(dim=-1).values  # [..., k]
    entries = (groups[..., None] * GROUP + torch.arange(GROUP, device=values.device)).flatten(-2)  # ascending
    candidates = values.gather(-1, entries.clamp_max(size - 1)).masked_fill_(entries >= size, torch.inf)
    nearest, position = smallest(candidates, k)
    return nearest, entries.gather(-1, position)


def _nearest_of_chunk(d: Tensor, k: int, scale: float, first: int) -> tuple[NearestParts, Tensor]:
    """Result over distances [P, B, c] of the slots from `first` on, and the sum [P, B, 1] of the softmax weights.

    Turns `d` into these weights in place, not yet divided by their sum (which is 1, not 0, where all are 0).
    """
    distances, indices = smallest(d, k)
    missing = k - distances.shape[-1]
    distances = torch.nn.functional.pad(distances, (0, missing), value=torch.inf)
    indices = torch.nn.functional.pad(indices, (0, missing)) + first
    indices.masked_fill_(distances == torch.inf, -1)
    shift = torch.where(indices[..., 0] < 0, 0.0, distances[..., 0] * scale)  # [P, B]
    weights = torch.add(shift[..., None], d, alpha=-scale, out=d).exp_()
    total = weights.sum(-1)
    found = NearestParts(total.log() - shift, distances, indices)
    return found, total.masked_fill(total == 0, 1.0)[..., None]


def _exclude_own(d: Tensor, own: Tensor) -> None:
    """Put +inf where the slot is the query's own; `own` [B] counts within this chunk and may lie outside."""
    inside = (own >= 0) & (own < d.shape[-1])
    column = torch.where(inside, own, 0).expand(d.shape[0], -1)[..., None]  # [P, B, 1]
    d.scatter_(-1, column, torch.where(inside[:, None], torch.inf, d.gather(-1, column)))


def _share(part: NearestParts, total: NearestParts) -> Tensor:
    """Part of the total softmax mass that falls on `part`, [P, B, 1]; 0 where nothing is allowed."""
    return torch.where(part.log_sum == -torch.inf, 0.0, (part.log_sum - total.log_sum).exp())[..., None]


def _log_sum_exp(values: Tensor) -> Tensor:
    """logsumexp over dimension 0 whose gradient is 0, not NaN, where all are -inf."""
    empty = (values == -torch.inf).all(0)
    return torch.where(empty, 0.0, values).logsumexp(0).masked_fill(empty, -torch.inf)

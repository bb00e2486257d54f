"""Memory-bank similarity in plain torch: the definition of correct, and fast on a CPU.

With d = |query - slot|^2 by the expansion |q|^2 + |m|^2 - 2 q.m, clamped at 0. The query is rounded to the bank's
dtype (a half-precision bank has lost as much); all else is float32, or float64 for a float64 bank. No row of the
bank is sorted as a whole, the bank is not copied, and memory is bounded: the bank is read in chunks whose results
are merged as the shards of several ranks are.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

CHUNK_ELEMENTS = 1 << 23
"""Distances that are held at a time by all threads together (32 MiB in float32)."""

BLOCK = 1024
"""Slots multiplied at a time: 3 MiB at D = 768 in float32, which a core's share of the cache holds."""

CANDIDATES = 32
"""Slots at least that a half-precision bank finds nearest, to be ranked again by the vectors it is a copy of."""

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
    query: Tensor, bank: Tensor, exclude: Tensor, *, k: int, scale: float, squared_norms: Tensor | None,
    master: Tensor | None, query_identity: Tensor | None, bank_identity: Tensor | None, offset: int, save: bool,
) -> tuple[NearestParts, Saved | None]:  # fmt: skip
    """Search the bank; see `kernels.nearest_parts.nearest_parts` for the arguments, which are valid here.

    `save` asks for what the backward needs. Outputs are float32, or float64 for a float64 bank.
    """
    (parts, batch, _), slots = query.shape, bank.shape[1]
    q = query.to(bank.dtype).to(statistics_dtype(bank))
    wanted, k = k, k if master is None else candidates(k)

    def search(part: int, held: slice) -> tuple[NearestParts, Tensor | None]:
        own = exclude - (offset + held.start)
        same = None
        if query_identity is not None and bank_identity is not None:
            same = query_identity[:, None] == bank_identity[held]  # [B, c]
        norms = None if squared_norms is None else squared_norms[part, held].to(q.dtype)
        d, log_sum, mean = _walk(q[part], bank[part, held], norms, own, same, scale, save)
        return NearestParts(log_sum, *_nearest(d, k, offset + held.start)), mean

    threads = torch.get_num_threads() if bank.device.type == "cpu" and slots >= 4 * BLOCK else 1
    ranges = _ranges(slots, max(GROUP, CHUNK_ELEMENTS // (batch * threads)), 1 if threads == 1 else 2 * threads)
    jobs = [functools.partial(search, part, held) for part in range(parts) for held in ranges]
    done = _in_threads(threads, jobs)
    pieces = [joined(done[first : first + len(ranges)]) for first in range(0, len(done), len(ranges))]
    found = NearestParts(*map(torch.stack, zip(*(piece for piece, _ in pieces), strict=True)))
    if master is not None:
        found = _ranked_again(found, query, master, wanted, offset)
    if not save:
        return found, None
    average = torch.stack([mean for _, mean in pieces if mean is not None])  # [P, B, D]
    return found, Saved(average, vectors_of(bank if master is None else master, found.indices, offset))


def _ranges(slots: int, most: int, wanted: int) -> list[slice]:
    """Slots in at least `wanted` ranges, where each then has several blocks, of at most `most` slots."""
    count = max(-(-slots // most), min(wanted, slots // (4 * BLOCK)), 1)
    size = -(-slots // count)
    return [slice(start, min(start + size, slots)) for start in range(0, slots, size)]


def _in_threads(threads: int, jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Results of jobs that run one after another in each of some threads.

    Each job then has one thread for itself: threads that share a product wait for each other after each of
    hundreds of small ones, which is dear where one of them is late.
    """
    if threads == 1 or len(jobs) == 1:
        return [job() for job in jobs]
    return list(_workers(os.getpid(), threads).map(_without_graph, jobs))


def _without_graph(job: Callable[[], T]) -> T:
    with torch.no_grad():  # a thread has its own mode
        return job()


@functools.cache
def _workers(_process: int, threads: int) -> ThreadPoolExecutor:
    """Threads whose operations take no others to help; those of another process do not survive its fork."""
    ready = threading.Barrier(threads + 1)

    def alone() -> None:
        torch.set_num_threads(1)  # of this thread, and of those yet to start
        torch.get_num_threads()  # begins with it: a thread's first operation takes the number that is set by then
        ready.wait()

    pool = ThreadPoolExecutor(threads, "nearest_parts")
    for _ in range(threads):
        pool.submit(alone)
    ready.wait()
    torch.set_num_threads(threads)  # as it was, for those yet to start
    return pool


def joined(pieces: Sequence[tuple[NearestParts, Tensor | None]]) -> tuple[NearestParts, Tensor | None]:
    """Results over disjoint slots as those over all of them: [B], [B, k], [B, k]; averages [B, D]."""
    if len(pieces) == 1:
        return pieces[0]
    found = merge_nearest([piece for piece, _ in pieces])
    means = [mean.mul_(_share(piece, found)) for piece, mean in pieces if mean is not None]
    return found, torch.stack(means).sum(0) if means else None


def vectors_of(bank: Tensor, indices: Tensor, offset: int) -> Tensor:
    """The vectors of some slots, [P, B, k, D]; any where the index is -1."""
    parts = torch.arange(bank.shape[0], device=bank.device)
    return bank[parts[:, None, None], (indices - offset).clamp_min(0)]


def candidates(k: int) -> int:
    """Slots of a rounded bank among which its master's `k` nearest are: as many to spare as are wanted."""
    return max(CANDIDATES, 2 * k)


def _ranked_again(found: NearestParts, query: Tensor, master: Tensor, k: int, offset: int) -> NearestParts:
    """The k nearest of the candidates, by squared distances to `master`; ties in ascending order of slot."""
    away = query.float()[:, :, None] - vectors_of(master, found.indices, offset)  # [P, B, candidates, D]
    exact = away.square().sum(-1)
    by_slot = found.indices.argsort(dim=-1)
    exact = exact.masked_fill(found.indices < 0, torch.inf).gather(-1, by_slot)
    distances, order = exact.sort(dim=-1, stable=True)
    indices = found.indices.gather(-1, by_slot).gather(-1, order)
    return NearestParts(found.log_sum, distances[..., :k], indices[..., :k])


def nearest_parts_backward(
    grad_log_sum: Tensor | None, grad_distances: Tensor | None, query: Tensor, indices: Tensor, average: Tensor,
    neighbours: Tensor, scale: float,
) -> Tensor:  # fmt: skip
    """Gradient to the query in closed form: -2 scale (q - E_S[m]) per log_sum, 2 (q - m_k) per distance.

    Missing neighbours and queries without any allowed slot get exactly 0, whatever gradient arrives for them. None
    for an output that nothing depends on.
    """
    q = query.to(neighbours.dtype).to(average.dtype)
    present = indices >= 0  # [P, B, k]
    grad = torch.zeros_like(q)
    if grad_log_sum is not None:
        g_sum = torch.where(present[..., 0], grad_log_sum, 0.0)[..., None] * (-2 * scale)  # [P, B, 1]
        grad += g_sum * (q - average)
    if grad_distances is not None:
        g_near = torch.where(present, grad_distances, 0.0)[..., None, :] * 2  # [P, B, 1, k]
        pull = torch.matmul(g_near, neighbours.to(q.dtype))[..., 0, :]  # [P, B, D]
        grad += g_near.sum(-1) * q - pull
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


def _walk(
    q: Tensor, bank: Tensor, squared_norms: Tensor | None, own: Tensor, same: Tensor | None, scale: float,
    average: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Of q [B, D] and slots [c, D] of one part: distances [B, c] (+inf where not allowed), log-sum-exp [B], and
    softmax average [B, D].

    In blocks of slots, with a running maximum as the kernel has: a block is multiplied the second time while it
    still lies in the cache, and no array of all weights is made.
    """
    (batch, dim), slots = q.shape, bank.shape[0]
    d = q.new_empty(batch, slots)
    total, lowest = q.new_zeros(batch), q.new_full((batch,), torch.inf)
    mean = q.new_zeros(batch, dim)
    q_norms = q.square().sum(-1)
    for start in range(0, slots, BLOCK):
        block = slice(start, start + BLOCK)
        m = bank[block].to(q.dtype)  # [c', D]
        norms = torch.einsum("md,md->m", m, m) if squared_norms is None else squared_norms[block]
        near = d[:, block]  # [B, c']
        torch.addmm(norms, q, m.T, alpha=-2, out=near)
        near.add_(q_norms[:, None]).clamp_min_(0)
        _exclude_own(near, own - start)
        if same is not None:
            near.masked_fill_(same[:, block], torch.inf)
        below = torch.minimum(lowest, near.amin(-1))
        base = below.masked_fill(below == torch.inf, 0)  # inf - inf is no number
        fade = torch.exp(scale * (base - lowest))  # 0 before the first allowed slot
        weights = torch.sub(base[:, None], near).mul_(scale).exp_()  # [B, c']
        total = total * fade + weights.sum(-1)
        if average:
            mean.mul_(fade[:, None]).addmm_(weights, m)
        lowest = below
    nothing = total == 0
    log_sum = total.log() - scale * lowest.masked_fill(nothing, 0)
    return d, log_sum, mean.div_(total.masked_fill(nothing, 1)[:, None]) if average else None


def _nearest(d: Tensor, k: int, first: int) -> tuple[Tensor, Tensor]:
    """The k smallest of `d` [B, c] and their slots, counted from `first`; +inf and -1 where there are fewer."""
    distances, indices = smallest(d, k)
    missing = k - distances.shape[-1]
    distances = torch.nn.functional.pad(distances, (0, missing), value=torch.inf)
    indices = torch.nn.functional.pad(indices, (0, missing)) + first
    return distances, indices.masked_fill_(distances == torch.inf, -1)


def _exclude_own(d: Tensor, own: Tensor) -> None:
    """Put +inf where the slot is the query's own; `d` [B, c], `own` [B] counts in it and may lie outside."""
    inside = (own >= 0) & (own < d.shape[-1])
    column = torch.where(inside, own, 0)[:, None]
    d.scatter_(-1, column, torch.where(inside[:, None], torch.inf, d.gather(-1, column)))


def _share(part: NearestParts, total: NearestParts) -> Tensor:
    """Part of the total softmax mass that falls on `part`, [..., B, 1]; 0 where nothing is allowed."""
    return torch.where(part.log_sum == -torch.inf, 0.0, (part.log_sum - total.log_sum).exp())[..., None]


def _log_sum_exp(values: Tensor) -> Tensor:
    """logsumexp over dimension 0 whose gradient is 0, not NaN, where all are -inf."""
    empty = (values == -torch.inf).all(0)
    return torch.where(empty, 0.0, values).logsumexp(0).masked_fill(empty, -torch.inf)

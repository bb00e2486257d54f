"""Memory-bank similarity as one streaming pass on a GPU, and the merge of its splits.

One program holds BLOCK_B queries of one part and walks over its split of the bank. Each tile of slots is read once and
used twice while it is in shared memory: for the distances, then for the average that the backward needs. Sums follow
the online softmax; the k nearest are a sorted list of int64 keys, distance above slot, so that equal distances stay in
ascending order of slot. Tiles are transposed (slots x queries, D x queries): few queries then fill a matrix instruction.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.nearest_parts.reference import NearestParts, Saved

INFINITE = tl.constexpr(0x7F800000 << 32)
"""Smallest key of an infinite distance: a key is the bits of a distance above 32 bits that tell equal ones apart."""


@triton.jit
def _key(distance, low):
    """int64 key ordered by (distance, low), for distances >= 0 (and no -0)."""
    return ((distance + 0.0).to(tl.int32, bitcast=True).to(tl.int64) << 32) | low.to(tl.int64)


@triton.jit
def _load_rows(p_rows, stride_row, stride_dim, mask, dim, chunk: tl.constexpr, CHUNK: tl.constexpr):
    """One chunk of dimensions of some rows, [rows, CHUNK]; 0 outside."""
    d = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = mask[:, None] & (d < dim)[None, :]
    return tl.load(p_rows[:, None] + d[None, :] * stride_dim, mask=inside, other=0.0)


@triton.jit
def nearest_parts_fwd_kernel(
    p_query,  # [P, B, D] contiguous, in the bank's dtype
    p_bank,  # [P, M, D], any strides
    p_norms,  # [P, M] float32
    p_exclude,  # int64 [B], counted from the first slot of this bank
    p_query_identity,  # int64 [B]
    p_bank_identity,  # int64 [M]
    p_log_sum,  # out: float32 [S, P, B]
    p_keys,  # out: int64 [S, P, B, K], the K tiles with the smallest minima: (minimum, first slot)
    p_distances,  # out: float32 [S, P, B, K, BLOCK_M], all distances of these tiles
    p_average,  # out: float32 [S, P, B, D]
    batch,
    slots,
    dim,
    slots_per_split,
    scale_log2,  # scale / ln 2: exponentials to base 2
    stride_part,
    stride_slot,
    stride_dim,
    K: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_M: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNKS: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    HAS_IDENTITY: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Result of one split for BLOCK_B queries of one part."""
    part = tl.program_id(2).to(tl.int64)
    parts = tl.num_programs(2)
    split = tl.program_id(1)
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    b_inside = b < batch
    p_q = p_query + (part * batch + b) * dim
    queries = ()
    row = (split * parts + part) * batch + b  # [BLOCK_B]
    b_norm = tl.zeros([BLOCK_B], tl.float32)
    for c in tl.static_range(CHUNKS):
        b_q = _load_rows(p_q, dim, 1, b_inside, dim, c, CHUNK)  # [BLOCK_B, CHUNK]
        b_norm += tl.sum(b_q.to(tl.float32) * b_q.to(tl.float32), axis=1)
        queries = queries + (b_q,)
    b_own = tl.load(p_exclude + b, mask=b_inside, other=-1)
    if HAS_IDENTITY:
        b_identity = tl.load(p_query_identity + b, mask=b_inside, other=0)

    sums = ()
    if AVERAGE:
        for _ in tl.static_range(CHUNKS):
            sums = sums + (tl.zeros([CHUNK, BLOCK_B], tl.float32),)
    b_max = tl.full([BLOCK_B], float("-inf"), tl.float32)
    b_total = tl.zeros([BLOCK_B], tl.float32)
    lane = tl.arange(0, K)
    b_keys = INFINITE + tl.zeros([BLOCK_B, K], tl.int64) + lane[None, :]  # all different
    first = split * slots_per_split
    last = tl.minimum(first + slots_per_split, slots)
    for start in range(first, last, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        m_inside = m < last
        p_m = p_bank + part * stride_part + m.to(tl.int64) * stride_slot
        b_dot = tl.zeros([BLOCK_M, BLOCK_B], tl.float32)
        tiles = ()
        m_norm = tl.zeros([BLOCK_M], tl.float32)
        for c in tl.static_range(CHUNKS):
            b_m = _load_rows(p_m, stride_slot, stride_dim, m_inside, dim, c, CHUNK)  # [BLOCK_M, CHUNK]
            b_dot = tl.dot(b_m, tl.trans(queries[c]), b_dot, input_precision=PRECISION)
            if not HAS_NORMS:
                m_norm += tl.sum(b_m.to(tl.float32) * b_m.to(tl.float32), axis=1)
            tiles = tiles + (b_m,)
        if HAS_NORMS:
            m_norm = tl.load(p_norms + part * slots + m, mask=m_inside, other=0.0)
        allowed = m_inside[:, None] & (m.to(tl.int64)[:, None] != b_own[None, :])
        if HAS_IDENTITY:
            m_identity = tl.load(p_bank_identity + m, mask=m_inside, other=0)
            allowed = allowed & (m_identity[:, None] != b_identity[None, :])
        distance = tl.maximum(b_norm[None, :] + m_norm[:, None] - 2.0 * b_dot, 0.0)
        distance = tl.where(allowed, distance, float("inf"))  # [BLOCK_M, BLOCK_B]

        nearest = tl.min(distance, axis=0)  # [BLOCK_B]
        new_max = tl.maximum(b_max, nearest * -scale_log2)
        safe_max = tl.where(new_max == float("-inf"), 0.0, new_max)
        weight = tl.exp2(distance * -scale_log2 - safe_max[None, :])
        rescale = tl.exp2(b_max - safe_max)
        b_total = b_total * rescale + tl.sum(weight, axis=0)
        b_max = new_max
        if AVERAGE:
            new_sums = ()
            for c in tl.static_range(CHUNKS):
                b_sum = sums[c] * rescale[None, :]
                b_weight = weight.to(tiles[c].dtype)
                new_sums = new_sums + (
                    tl.dot(tl.trans(tiles[c]), b_weight, b_sum, input_precision=PRECISION),
                )
            sums = new_sums

        farthest = tl.max(b_keys, axis=1)  # the tile to give way
        key = _key(nearest, start + tl.zeros([BLOCK_B], tl.int32))
        better = (key < farthest) & (nearest < float("inf"))
        giving_way = (b_keys == farthest[:, None]) & better[:, None]
        place = tl.sum(tl.where(giving_way, lane[None, :], 0), axis=1)
        p_tile = p_distances + ((row * K + place) * BLOCK_M)[None, :] + tl.arange(0, BLOCK_M)[:, None]
        tl.store(p_tile, distance, mask=better[None, :] & b_inside[None, :])
        b_keys = tl.where(giving_way, key[:, None], b_keys)

    safe_total = tl.where(b_total > 0.0, b_total, 1.0)
    b_log_sum = tl.where(b_total > 0.0, (b_max + tl.log2(safe_total)) * 0.6931471805599453, float("-inf"))
    tl.store(p_log_sum + row, b_log_sum, mask=b_inside)
    tl.store(p_keys + row[:, None] * K + lane[None, :], b_keys, mask=b_inside[:, None])
    if AVERAGE:
        for c in tl.static_range(CHUNKS):
            d = c * CHUNK + tl.arange(0, CHUNK)
            inside = (d < dim)[:, None] & b_inside[None, :]
            tl.store(p_average + row[None, :] * dim + d[:, None], sums[c] / safe_total[None, :], mask=inside)

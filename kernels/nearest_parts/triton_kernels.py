# Triton's language has no (*a, b): tuples grow by a + (b,).
# ruff: noqa: RUF005
# mypy: disable-error-code=assignment
"""Memory-bank similarity as one streaming pass on a GPU, and the merge of its splits.

A program of the forward holds BLOCK_B queries of one part and walks over its split of the bank. Each tile of
BLOCK_M slots is read once and used twice: for the distances, and for the average that the backward needs. Sums
follow the online softmax. Distances are written as they come, and the smallest of each tile. The merge joins the
splits, takes the tiles with the smallest minima, which hold the k nearest, ties included (`reference.smallest`
says why), selects among their slots and fetches the neighbours.
"""

import triton
import triton.language as tl

INFINITE = tl.constexpr(0x7F800000 << 32)
"""Smallest key of an infinite distance; see `_key`."""

LOW = tl.constexpr((1 << 32) - 1)

_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def _dot(a, b, accumulator):
    """Product in b's dtype, summed in float32. The interpreter multiplies the bits of bfloat16: float32 there."""
    if _INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), accumulator, input_precision="ieee")
    else:
        return tl.dot(a.to(b.dtype), b, accumulator, input_precision="ieee")


@triton.jit
def _key(distance, low):
    """int64 key ordered by (distance, low) for distances >= 0; adding 0.0 rids it of -0.0."""
    return ((distance + 0.0).to(tl.int32, bitcast=True).to(tl.int64) << 32) | low.to(tl.int64)


@triton.jit
def _load_rows(p_rows, stride_dim, mask, chunk: tl.constexpr, DIM: tl.constexpr, CHUNK: tl.constexpr):
    """One chunk of dimensions of the rows at `p_rows`, [rows, CHUNK]; 0 outside."""
    d = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = mask[:, None] & (d < DIM)[None, :]
    return tl.load(p_rows[:, None] + d[None, :].to(tl.int64) * stride_dim, mask=inside, other=0.0)


@triton.jit
def _squared_length(b_rows):
    wide = b_rows.to(tl.float32)
    return tl.sum(wide * wide, axis=1)


@triton.jit
def nearest_parts_fwd_kernel(
    p_query,  # [P, B, D] contiguous, in the bank's dtype
    p_bank,  # [P, M, D], any strides
    p_norms,  # float32 [P, M]
    p_exclude,  # int64 [B], counted from the first slot of this bank
    p_query_identity,  # int64 [B]
    p_bank_identity,  # int64 [M]
    p_log_sum,  # out: float32 [S, P, B]
    p_distances,  # out: float32 [P, B, T, BLOCK_M], +inf where not allowed, in whole tiles
    p_minima,  # out: float32 [P, B, T], of each tile
    p_average,  # out: float32 [S, P, B, D]
    batch,
    slots,
    tiles,  # T, of all splits
    tiles_per_split,
    scale_log2,  # scale / ln 2, for exponentials to base 2
    stride_part,
    stride_slot,
    stride_dim,
    DIM: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_M: tl.constexpr,
    CHUNK: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    HAS_IDENTITY: tl.constexpr,
):
    """Search one split for BLOCK_B queries of one part; programs that share tiles are neighbours in the grid."""
    CHUNKS: tl.constexpr = (DIM + CHUNK - 1) // CHUNK
    # Hopper's matrix units multiply 64 rows at a time: the queries, where a tile has that many. Else a tile of the
    # bank comes first, as it lies in memory.
    QUERIES_FIRST: tl.constexpr = BLOCK_B >= 64
    part = tl.program_id(2).to(tl.int64)
    split = tl.program_id(1)
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    b_inside = b < batch
    query = part * batch + b  # [BLOCK_B], among those of all parts
    row = split * tl.num_programs(2) * batch + query
    p_q = p_query + query * DIM
    queries = ()
    sums = ()
    b_norm = tl.zeros([BLOCK_B], tl.float32)
    for c in tl.static_range(CHUNKS):
        b_q = _load_rows(p_q, 1, b_inside, c, DIM, CHUNK)
        b_norm += _squared_length(b_q)
        queries = queries + (b_q,)
        sums = sums + (tl.zeros([BLOCK_B, CHUNK], tl.float32),)
    b_own = tl.load(p_exclude + b, mask=b_inside, other=-1)
    if HAS_IDENTITY:
        b_identity = tl.load(p_query_identity + b, mask=b_inside, other=0)
    b_max = tl.full([BLOCK_B], float("-inf"), tl.float32)
    b_total = tl.zeros([BLOCK_B], tl.float32)
    first = split * tiles_per_split
    for tile in range(first, tl.minimum(first + tiles_per_split, tiles)):
        m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        m_inside = m < slots
        p_m = p_bank + part * stride_part + m.to(tl.int64) * stride_slot
        b_dot = tl.zeros([BLOCK_B, BLOCK_M] if QUERIES_FIRST else [BLOCK_M, BLOCK_B], tl.float32)
        m_norm = tl.zeros([BLOCK_M], tl.float32)
        chunks = ()
        for c in tl.static_range(CHUNKS):
            b_m = _load_rows(p_m, stride_dim, m_inside, c, DIM, CHUNK)
            if QUERIES_FIRST:
                b_dot = _dot(queries[c], tl.trans(b_m), b_dot)
            else:
                b_dot = _dot(b_m, tl.trans(queries[c]), b_dot)
            if not HAS_NORMS:
                m_norm += _squared_length(b_m)
            chunks = chunks + (b_m,)
        if HAS_NORMS:
            m_norm = tl.load(p_norms + part * slots + m, mask=m_inside, other=0.0)
        if not QUERIES_FIRST:
            b_dot = tl.trans(b_dot)
        allowed = m_inside[None, :] & (m[None, :] != b_own[:, None])
        if HAS_IDENTITY:
            m_identity = tl.load(p_bank_identity + m, mask=m_inside, other=0)
            allowed = allowed & (m_identity[None, :] != b_identity[:, None])
        distance = b_norm[:, None] + m_norm[None, :] - 2.0 * b_dot
        distance = tl.maximum(distance, 0.0, propagate_nan=tl.PropagateNan.ALL)
        distance = tl.where(allowed, distance, float("inf"))  # [BLOCK_B, BLOCK_M]

        nearest = tl.min(distance, axis=1)  # [BLOCK_B]
        new_max = tl.maximum(b_max, nearest * -scale_log2)
        shift = tl.where(new_max == float("-inf"), 0.0, new_max)
        rescale = tl.exp2(b_max - shift)
        weight = tl.exp2(distance * -scale_log2 - shift[:, None])
        b_total = b_total * rescale + tl.sum(weight, axis=1)
        b_max = new_max
        if AVERAGE:
            new_sums = ()
            for c in tl.static_range(CHUNKS):
                new_sums = new_sums + (_dot(weight, chunks[c], sums[c] * rescale[:, None]),)
            sums = new_sums

        tl.store(p_minima + query * tiles + tile, nearest, mask=b_inside)
        p_tile = p_distances + (query * tiles + tile)[:, None] * BLOCK_M + tl.arange(0, BLOCK_M)[None, :]
        tl.store(p_tile, distance, mask=b_inside[:, None])

    nothing = b_total == 0.0  # no slot is allowed; a sum that is no number stays one that shows
    total = tl.where(nothing, 1.0, b_total)
    log_sum = tl.where(nothing, float("-inf"), (b_max + tl.log2(total)) * 0.6931471805599453)
    tl.store(p_log_sum + row, log_sum, mask=b_inside)
    if AVERAGE:
        share = 1.0 / total
        for c in tl.static_range(CHUNKS):
            d = c * CHUNK + tl.arange(0, CHUNK)[None, :]
            inside = b_inside[:, None] & (d < DIM)
            tl.store(p_average + row[:, None] * DIM + d, sums[c] * share[:, None], mask=inside)


@triton.jit
def nearest_parts_merge_kernel(
    p_log_sums,  # the four results of the forward kernel
    p_tile_distances,
    p_minima,
    p_averages,
    p_bank,  # [P, M, D], any strides: the bank, or the master of which it is a rounded copy
    p_query,  # float32 [P, B, D], read where there is a master
    p_log_sum,  # out: float32 [P, B]
    p_distances,  # out: float32 [P, B, k]
    p_indices,  # out: int64 [P, B, k]
    p_average,  # out: float32 [P, B, D]
    p_neighbours,  # out: [P, B, k, D], in the dtype of `p_bank`
    batch,
    tiles,
    splits,
    k,
    candidates,  # k, or as many as are ranked again
    offset,
    stride_part,
    stride_slot,
    stride_dim,
    DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    LIST: tl.constexpr,  # a power of two, at least `candidates`
    BLOCK_M: tl.constexpr,
    TILES: tl.constexpr,  # a power of two, at least `tiles`
    SPLITS: tl.constexpr,  # a power of two, at least `splits`
    AVERAGE: tl.constexpr,
    MASTER: tl.constexpr,
):
    """Join the splits for one query of one part, and fetch what the backward needs."""
    rows = tl.num_programs(0) * batch
    part = tl.program_id(0).to(tl.int64)
    row = part * batch + tl.program_id(1)
    split = tl.arange(0, SPLITS)
    log_sums = tl.load(p_log_sums + split * rows + row, mask=split < splits, other=float("-inf"))
    top = tl.max(log_sums, axis=0)
    shift = tl.where(top == float("-inf"), 0.0, top)
    share = tl.exp(log_sums - shift)
    total = tl.sum(share, axis=0)  # NaN where one split's is
    total = tl.where(total == 0.0, 1.0, total)
    tl.store(p_log_sum + row, top + tl.log(total))

    tile = tl.arange(0, TILES)
    keys = _key(tl.load(p_minima + row * tiles + tile, mask=tile < tiles, other=float("inf")), tile)
    lane = tl.arange(0, LIST)
    b_key = tl.full([LIST], INFINITE, tl.int64)
    for i in range(candidates):  # the tiles with the smallest minima
        best = tl.min(keys, axis=0)
        b_key = tl.where(lane == i, best, b_key)
        keys = tl.where(keys == best, INFINITE, keys)

    position = tl.arange(0, BLOCK_M)[None, :]
    slot = (b_key & LOW)[:, None] * BLOCK_M + position  # [LIST, BLOCK_M]
    found = (b_key < INFINITE)[:, None] & (position >= 0)
    distance = tl.load(p_tile_distances + row * tiles * BLOCK_M + slot, mask=found, other=float("inf"))
    slots = _key(distance, slot)
    slots = tl.reshape(slots, [LIST * BLOCK_M])
    d = tl.arange(0, BLOCK_D)
    if MASTER:  # the nearest slots again, by their exact distances
        b_query = tl.load(p_query + row * DIM + d, mask=d < DIM, other=0.0)
        exact = tl.full([LIST], INFINITE, tl.int64)
        for i in range(candidates):
            best = tl.min(slots, axis=0)
            slots = tl.where(slots == best, INFINITE, slots)
            p_slot = p_bank + part * stride_part + (best & LOW) * stride_slot + d.to(tl.int64) * stride_dim
            vector = tl.load(p_slot, mask=d < tl.where(best < INFINITE, DIM, 0), other=0.0)
            difference = tl.where(d < DIM, b_query - vector, 0.0)
            key = _key(tl.sum(difference * difference, axis=0), best & LOW)
            exact = tl.where((lane == i) & (best < INFINITE), key, exact)
        nearest = exact
    else:
        nearest = slots
    for i in range(k):  # the k nearest slots
        best = tl.min(nearest, axis=0)
        nearest = tl.where(nearest == best, INFINITE, nearest)
        present = best < INFINITE
        index = best & LOW
        b_distance = tl.where(present, (best >> 32).to(tl.int32).to(tl.float32, bitcast=True), float("inf"))
        tl.store(p_distances + row * k + i, b_distance)
        tl.store(p_indices + row * k + i, tl.where(present, index + offset, -1))
        if AVERAGE:
            p_slot = p_bank + part * stride_part + index * stride_slot + d.to(tl.int64) * stride_dim
            vector = tl.load(p_slot, mask=d < tl.where(present, DIM, 0), other=0.0)
            tl.store(p_neighbours + (row * k + i) * DIM + d, vector, mask=d < DIM)

    if AVERAGE:
        average = tl.zeros([BLOCK_D], tl.float32)
        for start in range(0, splits, 4):
            s = start + tl.arange(0, 4)
            weight = tl.load(p_log_sums + s * rows + row, mask=s < splits, other=float("-inf"))
            weight = tl.exp(weight - shift) / total
            p_some = p_averages + (s * rows + row)[:, None] * DIM + d[None, :]
            some = tl.load(p_some, mask=(s < splits)[:, None] & (d < DIM)[None, :], other=0.0)  # [4, BLOCK_D]
            average += tl.sum(weight[:, None] * some, axis=0)
        tl.store(p_average + row * DIM + d, average, mask=d < DIM)


@triton.jit
def nearest_parts_bwd_kernel(
    p_grad_log_sum,  # [P, B]
    p_grad_distances,  # [P, B, k]
    p_query,  # [P, B, D]
    p_indices,  # [P, B, k]
    p_average,  # [P, B, D]
    p_neighbours,  # [P, B, k, D]
    p_grad,  # out: [P, B, D], in the query's dtype
    k,
    scale,
    DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    FOR_SUM: tl.constexpr,  # whether there is a gradient of the sum, and of the distances
    FOR_DISTANCES: tl.constexpr,
):
    """-2 scale (q - E_S[m]) for the sum and 2 (q - m_k) for each distance, for one query of one part."""
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    inside = d < DIM
    b_q = tl.load(p_query + row * DIM + d, mask=inside, other=0.0).to(p_neighbours.dtype.element_ty)
    b_q = b_q.to(tl.float32)
    b_grad = tl.zeros([BLOCK_D], tl.float32)
    if FOR_SUM:
        b_average = tl.load(p_average + row * DIM + d, mask=inside, other=0.0)
        any_allowed = tl.load(p_indices + row * k) >= 0
        factor = tl.where(any_allowed, tl.load(p_grad_log_sum + row), 0.0) * (-2.0 * scale)
        b_grad += factor * (b_q - b_average)
    if FOR_DISTANCES:
        for i in range(k):
            present = tl.load(p_indices + row * k + i) >= 0
            factor = tl.where(present, tl.load(p_grad_distances + row * k + i), 0.0) * 2.0
            b_m = tl.load(p_neighbours + (row * k + i) * DIM + d, mask=inside, other=0.0).to(tl.float32)
            b_grad += factor * (b_q - b_m)
    tl.store(p_grad + row * DIM + d, b_grad, mask=inside)

"""The kernels of part-masked attention, forward and backward. README.md draws how the tokens are cut.

The first `head` tokens (cls, parts, registers, and the few patches by which the grid misses a whole number of
tiles) make one small tile; all others, the body, make full tiles of patches that see each other. So only
products with the head need a mask, and that is arithmetic on token indices and the regions of the parts.

A program owns one tile of one image and attention head, and walks over all tokens in steps: queries over keys
in the forward pass and for the gradient of q, keys over queries for the gradient of kv. Nothing is shared
between programs, so no atomics: results are the same in every run.

Arguments common to all: `q [B, n, H, D]` and `kv [B, N, 2, H, D]` with any strides; `regions` int32
`[B, P, 4]`; `log_sum` fp32 `[B, H, n]`, the logsumexp of each row of scores, in base 2 as all exponents here;
HEAD, BLOCK and STEP, the rows of the head tile, of an owned body tile and of a step over the body;
DIM, which is D, and DIM_PAD, the power of two that holds it.
"""

import triton
import triton.language as tl

# Triton's interpreter multiplies the bit patterns of bfloat16 numbers, so there products are taken in fp32,
# which holds the product of two bfloat16 or float16 numbers exactly.
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
_LOG2_E = tl.constexpr(1.4426950408889634)
# Stands for "nothing seen yet" in a running maximum. Not -inf: where a part's region holds no patch of a step
# its scores are all -inf, and -inf - -inf is not a number.
_LOWEST = tl.constexpr(-3.4028234e38)


@triton.jit
def _part_sees(token, other, regions, parts, special, columns):
    """False where `token` is a part and `other` neither cls, nor the same part, nor a patch in its region."""
    is_part = (token >= 1) & (token <= parts)
    region = regions + (token - 1) * 4
    top = tl.load(region, mask=is_part, other=0)
    bottom = tl.load(region + 1, mask=is_part, other=0)
    left = tl.load(region + 2, mask=is_part, other=0)
    right = tl.load(region + 3, mask=is_part, other=0)
    row = (other - special) // columns
    column = (other - special) % columns
    inside = (other >= special) & (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return (is_part == 0) | (other == 0) | (other == token) | inside


@triton.jit
def _visible(own, other, regions, parts, special, columns, OWN_HEAD: tl.constexpr, OTHER_HEAD: tl.constexpr):
    """Which of `own` [M] and `other` [N] see each other: [M, N]. Parts are found in the head only."""
    own = own[:, None]
    other = other[None, :]
    if OWN_HEAD and OTHER_HEAD:
        there = _part_sees(own, other, regions, parts, special, columns)
        return there & _part_sees(other, own, regions, parts, special, columns)
    elif OWN_HEAD:
        return _part_sees(own, other, regions, parts, special, columns)
    else:
        return _part_sees(other, own, regions, parts, special, columns)


@triton.jit
def _load(base, token, limit, token_stride, dim_stride, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """Rows `token` [M] as [M, DIM_PAD]; 0 from `limit` and DIM on. Addresses are counted in 64 bits."""
    dim = tl.arange(0, DIM_PAD)
    mask = (token < limit)[:, None] & (dim < DIM)[None, :]
    pointer = base + token[:, None].to(tl.int64) * token_stride + dim[None, :].to(tl.int64) * dim_stride
    return tl.load(pointer, mask=mask, other=0.0)


@triton.jit
def _store(base, value, token, limit, token_stride, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """The opposite of `_load`, into memory whose last stride is 1."""
    dim = tl.arange(0, DIM_PAD)
    mask = (token < limit)[:, None] & (dim < DIM)[None, :]
    pointer = base + token[:, None].to(tl.int64) * token_stride + dim[None, :]
    tl.store(pointer, value.to(base.dtype.element_ty), mask=mask)


@triton.jit
def _dot(a, b, total):
    """total + a @ b in fp32."""
    if _INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@triton.jit
def _dot_t(a, b):
    """a @ b^T in fp32."""
    return _dot(a, tl.trans(b), None)


@triton.jit
def _take_in(scores, v, highest, total, average):
    """One step of the online softmax: scores [M, N] and the values [N, D] that they weigh."""
    higher = tl.maximum(highest, tl.max(scores, 1))
    fade = tl.exp2(highest - higher)
    weight = tl.exp2(scores - higher[:, None])  # [M, N]
    average = _dot(weight.to(v.dtype), v, average * fade[:, None])  # [M, D]
    return higher, total * fade + tl.sum(weight, 1), average


@triton.jit
def _forward_tile(
    q, k, v, out, log_sum, regions, scale, own, own_limit, key_steps, tokens, head, parts, special, columns,
    q_token, q_dim, kv_token, kv_dim, out_token,
    OWN_HEAD: tl.constexpr, OWN: tl.constexpr, HEAD: tl.constexpr, STEP: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """The queries `own` [OWN] over all keys."""
    exponent = scale * _LOG2_E
    q_own = _load(q, own, own_limit, q_token, q_dim, DIM, DIM_PAD)
    key = tl.arange(0, HEAD)
    k_head = _load(k, key, head, kv_token, kv_dim, DIM, DIM_PAD)
    v_head = _load(v, key, head, kv_token, kv_dim, DIM, DIM_PAD)
    highest = tl.full([OWN], _LOWEST, tl.float32)
    total = tl.zeros([OWN], tl.float32)
    average = tl.zeros([OWN, DIM_PAD], tl.float32)

    for step in range(key_steps):
        body = head + step * STEP + tl.arange(0, STEP)
        k_step = _load(k, body, tokens, kv_token, kv_dim, DIM, DIM_PAD)
        v_step = _load(v, body, tokens, kv_token, kv_dim, DIM, DIM_PAD)
        scores = _dot_t(q_own, k_step) * exponent  # [OWN, STEP]
        if OWN_HEAD:
            visible = _visible(own, body, regions, parts, special, columns, True, False)
            scores = tl.where(visible, scores, float("-inf"))
        highest, total, average = _take_in(scores, v_step, highest, total, average)

    # The head comes last: everybody sees cls, so `total` is above 0 from here on.
    visible = _visible(own, key, regions, parts, special, columns, OWN_HEAD, True)
    scores = _dot_t(q_own, k_head) * exponent  # [OWN, HEAD]
    scores = tl.where(visible & (key < head)[None, :], scores, float("-inf"))
    highest, total, average = _take_in(scores, v_head, highest, total, average)
    _store(out, average / total[:, None], own, own_limit, out_token, DIM, DIM_PAD)
    tl.store(log_sum + own, highest + tl.log2(total), mask=own < own_limit)


@triton.jit
def part_attention_fwd_kernel(
    q, kv, out, log_sum, regions, scale, heads, queries, tokens, head, parts, special, columns,
    q_batch, q_token, q_head, q_dim, kv_batch, kv_token, kv_pair, kv_head, kv_dim, regions_batch,
    query_tiles, key_steps,
    HEAD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """out [B, n, H*D] and log_sum [B, H, n]. For each image and attention head query_tiles + 1 programs: one
    for each body tile of queries, then one for the head."""
    tile = tl.program_id(0) % (query_tiles + 1)
    pair = tl.program_id(0) // (query_tiles + 1)
    image = (pair // heads).to(tl.int64)
    number = (pair % heads).to(tl.int64)  # of the attention head
    q += image * q_batch + number * q_head
    k = kv + image * kv_batch + number * kv_head
    v = k + kv_pair
    out += (image * queries * heads + number) * DIM
    log_sum += pair.to(tl.int64) * queries
    regions += image * regions_batch
    if tile < query_tiles:
        _forward_tile(
            q, k, v, out, log_sum, regions, scale,
            head + tile * BLOCK + tl.arange(0, BLOCK), queries, key_steps,
            tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, heads * DIM,
            False, BLOCK, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip
    else:
        _forward_tile(
            q, k, v, out, log_sum, regions, scale, tl.arange(0, HEAD), tl.minimum(head, queries), key_steps,
            tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, heads * DIM,
            True, HEAD, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip


@triton.jit
def _weights(scores, value_products, log_sum, delta):
    """Softmax weights again, and the gradient of the scores; all [M, N] or broadcast to it."""
    weight = tl.exp2(scores - log_sum)
    return weight, weight * (value_products - delta)


@triton.jit
def _delta(out, grad, token, limit, out_token, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """What each row's softmax takes off the gradients of its scores: the sum of out * out_grad, [M]."""
    return tl.sum(grad.to(tl.float32) * _load(out, token, limit, out_token, 1, DIM, DIM_PAD), 1)


@triton.jit
def _query_gradient_tile(
    q, k, v, out, log_sum, out_grad, q_grad, regions, scale, own, own_limit, key_steps,
    tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, out_token,
    OWN_HEAD: tl.constexpr, OWN: tl.constexpr, HEAD: tl.constexpr, STEP: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """The gradient of the queries `own` [OWN], from all keys."""
    exponent = scale * _LOG2_E
    q_own = _load(q, own, own_limit, q_token, q_dim, DIM, DIM_PAD)
    grad = _load(out_grad, own, own_limit, out_token, 1, DIM, DIM_PAD)
    delta = _delta(out, grad, own, own_limit, out_token, DIM, DIM_PAD)[:, None]
    total = tl.load(log_sum + own, mask=own < own_limit, other=float("inf"))[:, None]
    result = tl.zeros([OWN, DIM_PAD], tl.float32)

    for step in range(key_steps):
        body = head + step * STEP + tl.arange(0, STEP)
        k_step = _load(k, body, tokens, kv_token, kv_dim, DIM, DIM_PAD)
        v_step = _load(v, body, tokens, kv_token, kv_dim, DIM, DIM_PAD)
        scores = _dot_t(q_own, k_step) * exponent  # [OWN, STEP]
        if OWN_HEAD:
            visible = _visible(own, body, regions, parts, special, columns, True, False)
            scores = tl.where(visible, scores, float("-inf"))
        _, score_grad = _weights(scores, _dot_t(grad, v_step), total, delta)
        result = _dot(score_grad.to(k_step.dtype), k_step, result)

    key = tl.arange(0, HEAD)
    k_head = _load(k, key, head, kv_token, kv_dim, DIM, DIM_PAD)
    v_head = _load(v, key, head, kv_token, kv_dim, DIM, DIM_PAD)
    visible = _visible(own, key, regions, parts, special, columns, OWN_HEAD, True)
    scores = _dot_t(q_own, k_head) * exponent  # [OWN, HEAD]
    scores = tl.where(visible & (key < head)[None, :], scores, float("-inf"))
    _, score_grad = _weights(scores, _dot_t(grad, v_head), total, delta)
    result = _dot(score_grad.to(k_head.dtype), k_head, result)
    _store(q_grad, result * scale, own, own_limit, out_token, DIM, DIM_PAD)


@triton.jit
def _add_key_gradient(
    q, out, log_sum, out_grad, k_own, v_own, k_grad, v_grad, regions, exponent, own, asking, asking_limit,
    parts, special, columns, q_token, q_dim, out_token,
    OWN_HEAD: tl.constexpr, ASKING_HEAD: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """Adds to k_grad and v_grad [M, D] of the keys `own` [M] what the queries `asking` [N] contribute.

    Scores are kept transposed, [M, N], so that they enter the products as they are."""
    q_step = _load(q, asking, asking_limit, q_token, q_dim, DIM, DIM_PAD)
    grad = _load(out_grad, asking, asking_limit, out_token, 1, DIM, DIM_PAD)
    delta = _delta(out, grad, asking, asking_limit, out_token, DIM, DIM_PAD)
    total = tl.load(log_sum + asking, mask=asking < asking_limit, other=float("inf"))
    scores = _dot_t(k_own, q_step) * exponent  # [M, N]
    if OWN_HEAD or ASKING_HEAD:
        visible = _visible(own, asking, regions, parts, special, columns, OWN_HEAD, ASKING_HEAD)
        scores = tl.where(visible, scores, float("-inf"))
    weight, score_grad = _weights(scores, _dot_t(v_own, grad), total[None, :], delta[None, :])
    v_grad = _dot(weight.to(grad.dtype), grad, v_grad)
    k_grad = _dot(score_grad.to(q_step.dtype), q_step, k_grad)
    return k_grad, v_grad


@triton.jit
def _key_gradient_tile(
    q, k, v, out, log_sum, out_grad, k_grad, v_grad, regions, scale, own, own_limit, query_steps,
    queries, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, out_token, grad_token,
    OWN_HEAD: tl.constexpr, OWN: tl.constexpr, HEAD: tl.constexpr, STEP: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """The gradients of the keys and values `own` [OWN], from all queries."""
    exponent = scale * _LOG2_E
    k_own = _load(k, own, own_limit, kv_token, kv_dim, DIM, DIM_PAD)
    v_own = _load(v, own, own_limit, kv_token, kv_dim, DIM, DIM_PAD)
    k_result = tl.zeros([OWN, DIM_PAD], tl.float32)
    v_result = tl.zeros([OWN, DIM_PAD], tl.float32)
    for step in range(query_steps):
        k_result, v_result = _add_key_gradient(
            q, out, log_sum, out_grad, k_own, v_own, k_result, v_result, regions, exponent,
            own, head + step * STEP + tl.arange(0, STEP), queries, parts, special, columns,
            q_token, q_dim, out_token, OWN_HEAD, False, DIM, DIM_PAD,
        )  # fmt: skip
    k_result, v_result = _add_key_gradient(
        q, out, log_sum, out_grad, k_own, v_own, k_result, v_result, regions, exponent,
        own, tl.arange(0, HEAD), tl.minimum(head, queries), parts, special, columns,
        q_token, q_dim, out_token, OWN_HEAD, True, DIM, DIM_PAD,
    )  # fmt: skip
    _store(k_grad, k_result * scale, own, own_limit, grad_token, DIM, DIM_PAD)
    _store(v_grad, v_result, own, own_limit, grad_token, DIM, DIM_PAD)


@triton.jit
def part_attention_bwd_kernel(
    q, kv, out, log_sum, out_grad, q_grad, kv_grad, regions, scale,
    heads, queries, tokens, head, parts, special, columns,
    q_batch, q_token, q_head, q_dim, kv_batch, kv_token, kv_pair, kv_head, kv_dim, regions_batch,
    query_tiles, key_tiles, query_steps, key_steps,
    HEAD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """q_grad [B, n, H, D] and kv_grad [B, N, 2, H, D], both contiguous.

    For each image and attention head query_tiles + 1 programs for q (as in the forward pass), then
    key_tiles + 1 for kv. They stand next to each other in one launch to find each other's tiles in the cache.
    """
    programs = query_tiles + key_tiles + 2
    tile = tl.program_id(0) % programs
    pair = tl.program_id(0) // programs
    image = (pair // heads).to(tl.int64)
    number = (pair % heads).to(tl.int64)  # of the attention head
    q += image * q_batch + number * q_head
    k = kv + image * kv_batch + number * kv_head
    v = k + kv_pair
    row = heads * DIM
    offset = image * queries * row + number * DIM
    out += offset
    out_grad += offset
    q_grad += offset
    k_grad = kv_grad + image * tokens * row * 2 + number * DIM
    v_grad = k_grad + row
    log_sum += pair.to(tl.int64) * queries
    regions += image * regions_batch
    if tile < query_tiles:
        _query_gradient_tile(
            q, k, v, out, log_sum, out_grad, q_grad, regions, scale,
            head + tile * BLOCK + tl.arange(0, BLOCK), queries, key_steps,
            tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, row,
            False, BLOCK, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip
    elif tile == query_tiles:
        _query_gradient_tile(
            q, k, v, out, log_sum, out_grad, q_grad, regions, scale,
            tl.arange(0, HEAD), tl.minimum(head, queries), key_steps,
            tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, row,
            True, HEAD, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip
    elif tile < query_tiles + 1 + key_tiles:
        _key_gradient_tile(
            q, k, v, out, log_sum, out_grad, k_grad, v_grad, regions, scale,
            head + (tile - query_tiles - 1) * BLOCK + tl.arange(0, BLOCK), tokens, query_steps,
            queries, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, row, row * 2,
            False, BLOCK, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip
    else:
        _key_gradient_tile(
            q, k, v, out, log_sum, out_grad, k_grad, v_grad, regions, scale,
            tl.arange(0, HEAD), head, query_steps,
            queries, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, row, row * 2,
            True, HEAD, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip

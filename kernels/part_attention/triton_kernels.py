"""The kernels of part-masked attention, forward and backward. README.md draws how the tokens are cut.

The first `head` tokens (cls, parts, registers, and the few patches by which the grid misses a whole number of
tiles) make one small tile; all others, the body, make full tiles of patches that see each other. So only
products with the head need a mask, and that is arithmetic on token indices and the regions of the parts.

A program owns one tile of one image and attention head, and walks over all tokens in steps: queries over keys
in the forward pass and for the gradient of q, keys over queries for the gradient of kv. Nothing is shared
between programs, so no atomics: results are the same in every run.

Arguments common to all: `q [B, n, H, D]` and `kv [B, N, 2, H, D]` with any strides; `regions` int32
`[B, P, 4]`; `sums` fp32 `[B, H, 2, n]`, what makes a row's weights again: its largest score, in base 2 as all
exponents here, and one over the sum of the weights;
HEAD, BLOCK and STEP, the rows of the head tile, of an owned body tile and of a step over the body;
DIM, which is D, and DIM_PAD, the power of two that holds it.
"""

import triton
import triton.language as tl

from kernels.part_attention.triton_blocks import LOG2_E, delta, dot, dot_t, load, load_sums, sees, store, weigh

# Stands for "nothing seen yet" in a running maximum. Not -inf: where a part's region holds no patch of a step
# its scores are all -inf, and -inf - -inf is not a number.
_LOWEST = tl.constexpr(-3.4028234e38)


@triton.jit
def _take_in(products, v, exponent, shift, total, average):
    """One step of the online softmax: products [M, N] of queries and keys, and the values [N, D] to be weighed."""
    higher = tl.maximum(shift, tl.max(products, 1) * exponent)
    fade = tl.exp2(shift - higher)
    weight = weigh(products, exponent, higher[:, None])  # [M, N]
    average = dot(weight.to(v.dtype), v, average * fade[:, None])  # [M, D]
    return higher, total * fade + tl.sum(weight, 1), average


@triton.jit
def _forward_tile(
    q, k, v, out, sums, regions, scale, own, own_limit, key_steps, queries, tokens, head, parts, special, columns,
    q_token, q_dim, kv_token, kv_dim, out_token,
    OWN_HEAD: tl.constexpr, OWN: tl.constexpr, HEAD: tl.constexpr, STEP: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """The queries `own` [OWN] over all keys."""
    exponent = scale * LOG2_E
    q_own = load(q, own, own_limit, q_token, q_dim, DIM, DIM_PAD)
    key = tl.arange(0, HEAD)
    k_head = load(k, key, head, kv_token, kv_dim, DIM, DIM_PAD)
    v_head = load(v, key, head, kv_token, kv_dim, DIM, DIM_PAD)
    shift = tl.full([OWN], _LOWEST, tl.float32)
    total = tl.zeros([OWN], tl.float32)
    average = tl.zeros([OWN, DIM_PAD], tl.float32)

    for step in range(key_steps):
        body = head + step * STEP + tl.arange(0, STEP)
        k_step = load(k, body, tokens, kv_token, kv_dim, DIM, DIM_PAD)
        v_step = load(v, body, tokens, kv_token, kv_dim, DIM, DIM_PAD)
        products = dot_t(q_own, k_step)  # [OWN, STEP]
        if OWN_HEAD:
            visible = sees(own, body, regions, parts, special, columns, True, False)
            products = tl.where(visible, products, float("-inf"))
        shift, total, average = _take_in(products, v_step, exponent, shift, total, average)

    # The head comes last: everybody sees cls, so `total` is above 0 from here on.
    visible = sees(own, key, regions, parts, special, columns, OWN_HEAD, True)
    products = dot_t(q_own, k_head)  # [OWN, HEAD]
    products = tl.where(visible & (key < head)[None, :], products, float("-inf"))
    shift, total, average = _take_in(products, v_head, exponent, shift, total, average)
    store(out, average / total[:, None], own, own_limit, out_token, DIM, DIM_PAD)
    tl.store(sums + own, shift, mask=own < own_limit)
    tl.store(sums + queries + own, 1.0 / total, mask=own < own_limit)


@triton.jit
def part_attention_fwd_kernel(
    q, kv, out, sums, regions, scale, heads, queries, tokens, head, parts, special, columns,
    q_batch, q_token, q_head, q_dim, kv_batch, kv_token, kv_pair, kv_head, kv_dim, regions_batch,
    query_tiles, key_steps,
    HEAD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """out [B, n, H*D] and sums [B, H, 2, n]. For each image and attention head query_tiles + 1 programs: one
    for each body tile of queries, then one for the head."""
    tile = tl.program_id(0) % (query_tiles + 1)
    pair = tl.program_id(0) // (query_tiles + 1)
    image = (pair // heads).to(tl.int64)
    number = (pair % heads).to(tl.int64)  # of the attention head
    q += image * q_batch + number * q_head
    k = kv + image * kv_batch + number * kv_head
    v = k + kv_pair
    out += (image * queries * heads + number) * DIM
    sums += pair.to(tl.int64) * queries * 2
    regions += image * regions_batch
    if tile < query_tiles:
        _forward_tile(
            q, k, v, out, sums, regions, scale,
            head + tile * BLOCK + tl.arange(0, BLOCK), queries, key_steps,
            queries, tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, heads * DIM,
            False, BLOCK, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip
    else:
        _forward_tile(
            q, k, v, out, sums, regions, scale, tl.arange(0, HEAD), tl.minimum(head, queries), key_steps,
            queries, tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, heads * DIM,
            True, HEAD, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip


@triton.jit
def _query_gradient_tile(
    q, k, v, out, sums, out_grad, q_grad, regions, scale, own, own_limit, key_steps,
    queries, tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, out_token,
    OWN_HEAD: tl.constexpr, OWN: tl.constexpr, HEAD: tl.constexpr, STEP: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """The gradient of the queries `own` [OWN], from all keys."""
    exponent = scale * LOG2_E
    q_own = load(q, own, own_limit, q_token, q_dim, DIM, DIM_PAD)
    grad = load(out_grad, own, own_limit, out_token, 1, DIM, DIM_PAD)
    row_delta = delta(out, grad, own, own_limit, out_token, DIM, DIM_PAD)[:, None]
    shift, share = load_sums(sums, own, own_limit, queries)
    shift, share = shift[:, None], share[:, None]
    result = tl.zeros([OWN, DIM_PAD], tl.float32)

    for step in range(key_steps):
        body = head + step * STEP + tl.arange(0, STEP)
        k_step = load(k, body, tokens, kv_token, kv_dim, DIM, DIM_PAD)
        v_step = load(v, body, tokens, kv_token, kv_dim, DIM, DIM_PAD)
        products = dot_t(q_own, k_step)  # [OWN, STEP]
        if OWN_HEAD:
            visible = sees(own, body, regions, parts, special, columns, True, False)
            products = tl.where(visible, products, float("-inf"))
        score_grad = weigh(products, exponent, shift) * share * (dot_t(grad, v_step) - row_delta)
        result = dot(score_grad.to(k_step.dtype), k_step, result)

    key = tl.arange(0, HEAD)
    k_head = load(k, key, head, kv_token, kv_dim, DIM, DIM_PAD)
    v_head = load(v, key, head, kv_token, kv_dim, DIM, DIM_PAD)
    visible = sees(own, key, regions, parts, special, columns, OWN_HEAD, True)
    products = dot_t(q_own, k_head)  # [OWN, HEAD]
    products = tl.where(visible & (key < head)[None, :], products, float("-inf"))
    score_grad = weigh(products, exponent, shift) * share * (dot_t(grad, v_head) - row_delta)
    result = dot(score_grad.to(k_head.dtype), k_head, result)
    store(q_grad, result * scale, own, own_limit, out_token, DIM, DIM_PAD)


@triton.jit
def _add_key_gradient(
    q, out, sums, out_grad, k_own, v_own, k_grad, v_grad, regions, exponent, own, asking, asking_limit,
    queries, parts, special, columns, q_token, q_dim, out_token,
    OWN_HEAD: tl.constexpr, ASKING_HEAD: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """Adds to k_grad and v_grad [M, D] of the keys `own` [M] what the queries `asking` [N] contribute.

    Scores are kept transposed, [M, N], so that they enter the products as they are."""
    q_step = load(q, asking, asking_limit, q_token, q_dim, DIM, DIM_PAD)
    grad = load(out_grad, asking, asking_limit, out_token, 1, DIM, DIM_PAD)
    row_delta = delta(out, grad, asking, asking_limit, out_token, DIM, DIM_PAD)
    shift, share = load_sums(sums, asking, asking_limit, queries)
    products = dot_t(k_own, q_step)  # [M, N]
    if OWN_HEAD or ASKING_HEAD:
        visible = sees(own, asking, regions, parts, special, columns, OWN_HEAD, ASKING_HEAD)
        products = tl.where(visible, products, float("-inf"))
    weight = weigh(products, exponent, shift[None, :]) * share[None, :]
    score_grad = weight * (dot_t(v_own, grad) - row_delta[None, :])
    v_grad = dot(weight.to(grad.dtype), grad, v_grad)
    k_grad = dot(score_grad.to(q_step.dtype), q_step, k_grad)
    return k_grad, v_grad


@triton.jit
def _key_gradient_tile(
    q, k, v, out, sums, out_grad, k_grad, v_grad, regions, scale, own, own_limit, query_steps,
    queries, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, out_token, grad_token,
    OWN_HEAD: tl.constexpr, OWN: tl.constexpr, HEAD: tl.constexpr, STEP: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """The gradients of the keys and values `own` [OWN], from all queries."""
    exponent = scale * LOG2_E
    k_own = load(k, own, own_limit, kv_token, kv_dim, DIM, DIM_PAD)
    v_own = load(v, own, own_limit, kv_token, kv_dim, DIM, DIM_PAD)
    k_result = tl.zeros([OWN, DIM_PAD], tl.float32)
    v_result = tl.zeros([OWN, DIM_PAD], tl.float32)
    for step in range(query_steps):
        k_result, v_result = _add_key_gradient(
            q, out, sums, out_grad, k_own, v_own, k_result, v_result, regions, exponent,
            own, head + step * STEP + tl.arange(0, STEP), queries, queries, parts, special, columns,
            q_token, q_dim, out_token, OWN_HEAD, False, DIM, DIM_PAD,
        )  # fmt: skip
    k_result, v_result = _add_key_gradient(
        q, out, sums, out_grad, k_own, v_own, k_result, v_result, regions, exponent,
        own, tl.arange(0, HEAD), tl.minimum(head, queries), queries, parts, special, columns,
        q_token, q_dim, out_token, OWN_HEAD, True, DIM, DIM_PAD,
    )  # fmt: skip
    store(k_grad, k_result * scale, own, own_limit, grad_token, DIM, DIM_PAD)
    store(v_grad, v_result, own, own_limit, grad_token, DIM, DIM_PAD)


@triton.jit
def part_attention_bwd_kernel(
    q, kv, out, sums, out_grad, q_grad, kv_grad, regions, scale,
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
    sums += pair.to(tl.int64) * queries * 2
    regions += image * regions_batch
    if tile < query_tiles:
        _query_gradient_tile(
            q, k, v, out, sums, out_grad, q_grad, regions, scale,
            head + tile * BLOCK + tl.arange(0, BLOCK), queries, key_steps,
            queries, tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, row,
            False, BLOCK, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip
    elif tile == query_tiles:
        _query_gradient_tile(
            q, k, v, out, sums, out_grad, q_grad, regions, scale,
            tl.arange(0, HEAD), tl.minimum(head, queries), key_steps,
            queries, tokens, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, row,
            True, HEAD, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip
    elif tile < query_tiles + 1 + key_tiles:
        _key_gradient_tile(
            q, k, v, out, sums, out_grad, k_grad, v_grad, regions, scale,
            head + (tile - query_tiles - 1) * BLOCK + tl.arange(0, BLOCK), tokens, query_steps,
            queries, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, row, row * 2,
            False, BLOCK, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip
    else:
        _key_gradient_tile(
            q, k, v, out, sums, out_grad, k_grad, v_grad, regions, scale,
            tl.arange(0, HEAD), head, query_steps,
            queries, head, parts, special, columns, q_token, q_dim, kv_token, kv_dim, row, row * 2,
            True, HEAD, HEAD, STEP, DIM, DIM_PAD,
        )  # fmt: skip

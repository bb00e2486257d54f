"""Part-masked attention with one program for a whole image and attention head, forward and backward.

For up to 144 tokens, a head of 16 rows and a body of 32, 64 or 128: keys and values stay in the program, each
number is read once, and the backward pass takes five products where programs that own tiles take seven. No sums
are shared between programs either, so results are the same in every run. Arguments as in `triton_kernels`; BODY is
all patches of the body.

With the head asking, scores are kept transposed, [keys, queries]: the matrix units multiply 64 rows at a time,
which are 128 keys without padding and 16 queries with.
"""

import triton
import triton.language as tl

from kernels.part_attention.triton_blocks import (
    LOG2_E,
    delta,
    dot,
    dot_t,
    load,
    load_sums,
    load_whole,
    sees,
    store,
    weigh,
)


@triton.jit
def _head_asks(
    q, k_many, k_few, v_many, v_few, out, sums, regions, exponent, few, many, queries, head, parts, special,
    columns, q_token, q_dim, out_token, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """The queries of the head, `few`, over all keys."""
    asking = tl.minimum(head, queries)
    q_own = load(q, few, asking, q_token, q_dim, DIM, DIM_PAD)
    visible = sees(many, few, regions, parts, special, columns, False, True)
    to_many = tl.where(visible, dot_t(k_many, q_own), float("-inf"))  # [BODY, HEAD]
    visible = sees(few, few, regions, parts, special, columns, True, True) & (few < head)[:, None]
    to_few = tl.where(visible, dot_t(k_few, q_own), float("-inf"))  # [HEAD, HEAD]
    shift = tl.maximum(tl.max(to_many, 0), tl.max(to_few, 0)) * exponent
    of_many = weigh(to_many, exponent, shift[None, :])
    of_few = weigh(to_few, exponent, shift[None, :])
    total = tl.sum(of_many, 0) + tl.sum(of_few, 0)
    average = dot(tl.trans(v_few), of_few.to(v_few.dtype), None)  # [DIM_PAD, HEAD]
    average = dot(tl.trans(v_many), of_many.to(v_many.dtype), average)
    store(out, tl.trans(average / total[None, :]), few, asking, out_token, DIM, DIM_PAD)
    tl.store(sums + few, shift, mask=few < asking)
    tl.store(sums + queries + few, 1.0 / total, mask=few < asking)


@triton.jit
def _body_asks(
    q, k_many, k_few, v_many, v_few, out, sums, regions, exponent, few, own, queries, head, parts, special,
    columns, q_token, q_dim, out_token, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """Some queries of the body, `own`, over all keys."""
    q_own = load(q, own, queries, q_token, q_dim, DIM, DIM_PAD)
    to_many = dot_t(q_own, k_many)  # [STEP, BODY]
    visible = sees(own, few, regions, parts, special, columns, False, True) & (few < head)[None, :]
    to_few = tl.where(visible, dot_t(q_own, k_few), float("-inf"))  # [STEP, HEAD]
    shift = tl.maximum(tl.max(to_many, 1), tl.max(to_few, 1)) * exponent
    of_many = weigh(to_many, exponent, shift[:, None])
    of_few = weigh(to_few, exponent, shift[:, None])
    total = tl.sum(of_many, 1) + tl.sum(of_few, 1)
    average = dot(of_few.to(v_few.dtype), v_few, None)  # [STEP, DIM_PAD]
    average = dot(of_many.to(v_many.dtype), v_many, average)
    store(out, average / total[:, None], own, queries, out_token, DIM, DIM_PAD)
    tl.store(sums + own, shift, mask=own < queries)
    tl.store(sums + queries + own, 1.0 / total, mask=own < queries)


@triton.jit
def part_attention_whole_fwd_kernel(
    q, kv, out, sums, regions, scale, heads, queries, tokens, head, parts, special, columns,
    q_batch, q_token, q_head, q_dim, kv_batch, kv_token, kv_pair, kv_head, kv_dim, regions_batch,
    HEAD: tl.constexpr, BODY: tl.constexpr, STEP: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """out [B, n, H*D] and sums [B, H, 2, n]; the body asks in steps of STEP rows."""
    pair = tl.program_id(0)
    image = (pair // heads).to(tl.int64)
    number = (pair % heads).to(tl.int64)  # of the attention head
    q += image * q_batch + number * q_head
    k = kv + image * kv_batch + number * kv_head
    v = k + kv_pair
    row = heads * DIM
    out += image * queries * row + number * DIM
    sums += pair.to(tl.int64) * queries * 2
    regions += image * regions_batch
    exponent = scale * LOG2_E

    few = tl.arange(0, HEAD)
    many = head + tl.arange(0, BODY)
    k_many = load_whole(k, many, kv_token, kv_dim, DIM, DIM_PAD)
    k_few = load(k, few, head, kv_token, kv_dim, DIM, DIM_PAD)
    v_many = load_whole(v, many, kv_token, kv_dim, DIM, DIM_PAD)
    v_few = load(v, few, head, kv_token, kv_dim, DIM, DIM_PAD)
    _head_asks(
        q, k_many, k_few, v_many, v_few, out, sums, regions, exponent, few, many, queries, head, parts, special,
        columns, q_token, q_dim, row, DIM, DIM_PAD,
    )  # fmt: skip
    for first in range(head, queries, STEP):  # in the last block none
        _body_asks(
            q, k_many, k_few, v_many, v_few, out, sums, regions, exponent, few, first + tl.arange(0, STEP),
            queries, head, parts, special, columns, q_token, q_dim, row, DIM, DIM_PAD,
        )  # fmt: skip


@triton.jit
def _asking_rows(q, out, sums, out_grad, own, limit, queries, q_token, q_dim, out_token,
                 DIM: tl.constexpr, DIM_PAD: tl.constexpr):  # fmt: skip
    """Of the rows `own` [M] that ask: q, the output's gradient [M, DIM_PAD], delta, shift, share [1, M]."""
    grad = load(out_grad, own, limit, out_token, 1, DIM, DIM_PAD)
    row_delta = delta(out, grad, own, limit, out_token, DIM, DIM_PAD)
    shift, share = load_sums(sums, own, limit, queries)
    return (
        load(q, own, limit, q_token, q_dim, DIM, DIM_PAD),
        grad,
        row_delta[None, :],
        shift[None, :],
        share[None, :],
    )


@triton.jit
def _gradients(products, value_products, exponent, shift, share, row_delta, like):
    """The weights [keys, queries] and the gradients of the scores, in the dtype in which they are multiplied."""
    weight = weigh(products, exponent, shift) * share
    return weight.to(like.dtype), (weight * (value_products - row_delta)).to(like.dtype)


@triton.jit
def _head_asks_back(
    q, k_many, k_few, v_many, v_few, out, sums, out_grad, q_grad, regions, scale, few, many, queries, head,
    parts, special, columns, q_token, q_dim, out_token, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """Stores the gradient of the head's queries; returns what they add to those of all keys and values."""
    asking = tl.minimum(head, queries)
    q_own, grad, row_delta, shift, share = _asking_rows(
        q, out, sums, out_grad, few, asking, queries, q_token, q_dim, out_token, DIM, DIM_PAD
    )
    exponent = scale * LOG2_E
    visible = sees(many, few, regions, parts, special, columns, False, True)
    products = tl.where(visible, dot_t(k_many, q_own), float("-inf"))  # [BODY, HEAD]
    weight, score = _gradients(products, dot_t(v_many, grad), exponent, shift, share, row_delta, q_own)
    v_many_grad = dot(weight, grad, None)  # [BODY, DIM_PAD]
    k_many_grad = dot(score, q_own, None)
    visible = sees(few, few, regions, parts, special, columns, True, True) & (few < head)[:, None]
    products_few = tl.where(visible, dot_t(k_few, q_own), float("-inf"))  # [HEAD, HEAD]
    weight_few, score_few = _gradients(products_few, dot_t(v_few, grad), exponent, shift, share, row_delta, q_own)
    q_own_grad = dot(tl.trans(k_few), score_few, None)  # [DIM_PAD, HEAD]
    q_own_grad = dot(tl.trans(k_many), score, q_own_grad)
    store(q_grad, tl.trans(q_own_grad) * scale, few, asking, out_token, DIM, DIM_PAD)
    return k_many_grad, v_many_grad, dot(score_few, q_own, None), dot(weight_few, grad, None)


@triton.jit
def part_attention_whole_bwd_kernel(
    q, kv, out, sums, out_grad, q_grad, kv_grad, regions, scale,
    heads, queries, tokens, head, parts, special, columns,
    q_batch, q_token, q_head, q_dim, kv_batch, kv_token, kv_pair, kv_head, kv_dim, regions_batch,
    HEAD: tl.constexpr, BODY: tl.constexpr, STEP: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """q_grad [B, n, H, D] and kv_grad [B, N, 2, H, D], both contiguous; the body asks in steps of STEP rows."""
    pair = tl.program_id(0)
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
    exponent = scale * LOG2_E

    few = tl.arange(0, HEAD)
    many = head + tl.arange(0, BODY)
    k_many = load_whole(k, many, kv_token, kv_dim, DIM, DIM_PAD)
    v_many = load_whole(v, many, kv_token, kv_dim, DIM, DIM_PAD)
    k_few = load(k, few, head, kv_token, kv_dim, DIM, DIM_PAD)
    v_few = load(v, few, head, kv_token, kv_dim, DIM, DIM_PAD)

    k_many_grad, v_many_grad, k_few_grad, v_few_grad = _head_asks_back(
        q, k_many, k_few, v_many, v_few, out, sums, out_grad, q_grad, regions, scale, few, many, queries, head,
        parts, special, columns, q_token, q_dim, row, DIM, DIM_PAD,
    )  # fmt: skip

    # The body asks; in the last block none of it. Scores are [keys, queries] here too.
    for first in range(head, queries, STEP):
        own = first + tl.arange(0, STEP)
        q_own, grad, row_delta, shift, share = _asking_rows(
            q, out, sums, out_grad, own, queries, queries, q_token, q_dim, row, DIM, DIM_PAD
        )
        products = dot_t(k_many, q_own)  # [BODY, STEP]
        weight, score = _gradients(products, dot_t(v_many, grad), exponent, shift, share, row_delta, q_own)
        v_many_grad = dot(weight, grad, v_many_grad)
        k_many_grad = dot(score, q_own, k_many_grad)
        q_own_grad = dot(tl.trans(score), k_many, None)  # [STEP, DIM_PAD]

        visible = sees(few, own, regions, parts, special, columns, True, False) & (few < head)[:, None]
        products_few = tl.where(visible, dot_t(k_few, q_own), float("-inf"))  # [HEAD, STEP]
        weight_few, score_few = _gradients(
            products_few, dot_t(v_few, grad), exponent, shift, share, row_delta, q_own
        )
        v_few_grad = dot(weight_few, grad, v_few_grad)
        k_few_grad = dot(score_few, q_own, k_few_grad)
        q_own_grad = dot(tl.trans(score_few), k_few, q_own_grad)
        store(q_grad, q_own_grad * scale, own, queries, row, DIM, DIM_PAD)

    store(k_grad, k_many_grad * scale, many, tokens, row * 2, DIM, DIM_PAD)
    store(v_grad, v_many_grad, many, tokens, row * 2, DIM, DIM_PAD)
    store(k_grad, k_few_grad * scale, few, head, row * 2, DIM, DIM_PAD)
    store(v_grad, v_few_grad, few, head, row * 2, DIM, DIM_PAD)

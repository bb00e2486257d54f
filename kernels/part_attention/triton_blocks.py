"""What the kernels of part-masked attention are made of: who sees whom, loads and stores, products, weights."""

import triton
import triton.language as tl

# Triton's interpreter multiplies the bit patterns of bfloat16 numbers, so there products are taken in fp32,
# which holds the product of two bfloat16 or float16 numbers exactly.
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def part_sees(token, other, regions, parts, special, columns):
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
def sees(own, other, regions, parts, special, columns, OWN_HEAD: tl.constexpr, OTHER_HEAD: tl.constexpr):
    """Which of `own` [M] and `other` [N] see each other: [M, N]. Parts are found in the head only."""
    own = own[:, None]
    other = other[None, :]
    if OWN_HEAD and OTHER_HEAD:
        there = part_sees(own, other, regions, parts, special, columns)
        return there & part_sees(other, own, regions, parts, special, columns)
    elif OWN_HEAD:
        return part_sees(own, other, regions, parts, special, columns)
    else:
        return part_sees(other, own, regions, parts, special, columns)


@triton.jit
def load(base, token, limit, token_stride, dim_stride, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """Rows `token` [M] as [M, DIM_PAD]; 0 from `limit` and DIM on. Addresses are counted in 64 bits."""
    dim = tl.arange(0, DIM_PAD)
    mask = (token < limit)[:, None] & (dim < DIM)[None, :]
    pointer = base + token[:, None].to(tl.int64) * token_stride + dim[None, :].to(tl.int64) * dim_stride
    return tl.load(pointer, mask=mask, other=0.0)


@triton.jit
def store(base, value, token, limit, token_stride, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """The opposite of `load`, into memory whose last stride is 1."""
    dim = tl.arange(0, DIM_PAD)
    mask = (token < limit)[:, None] & (dim < DIM)[None, :]
    pointer = base + token[:, None].to(tl.int64) * token_stride + dim[None, :]
    tl.store(pointer, value.to(base.dtype.element_ty), mask=mask)


@triton.jit
def dot(a, b, total):
    """total + a @ b in fp32."""
    if _INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@triton.jit
def dot_t(a, b):
    """a @ b^T in fp32."""
    return dot(a, tl.trans(b), None)


@triton.jit
def load_whole(base, token, token_stride, dim_stride, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """As `load`, for rows that are all there."""
    dim = tl.arange(0, DIM_PAD)
    pointer = base + token[:, None].to(tl.int64) * token_stride + dim[None, :].to(tl.int64) * dim_stride
    if DIM == DIM_PAD:
        return tl.load(pointer)
    return tl.load(pointer, mask=(dim < DIM)[None, :], other=0.0)


@triton.jit
def weigh(product, exponent, shift):
    """exp2(product * exponent - shift) for `q k` [M, N]: the softmax's weights, but for their sum.

    `shift` is a row's largest product times `exponent`, broadcast. Its rounding is the same for a whole row, which
    the sum takes out again, and the rest is one multiply-add: logits of 1e4 cost no accuracy. The interpreter
    rounds between the two and takes more digits instead.
    """
    if _INTERPRETED:
        return tl.exp2((product.to(tl.float64) * exponent - shift).to(tl.float32))
    return tl.exp2(tl.fma(product, tl.zeros_like(product) + exponent, tl.zeros_like(product) - shift))


@triton.jit
def load_sums(sums, token, limit, queries):
    """What makes the weights of the rows `token` [M] again: shift and share. From `limit` on, weights of 0."""
    shift = tl.load(sums + token, mask=token < limit, other=float("inf"))
    return shift, tl.load(sums + queries + token, mask=token < limit, other=0.0)


@triton.jit
def delta(out, grad, token, limit, out_token, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """What each row's softmax takes off the gradients of its scores: the sum of out * out_grad, [M]."""
    return tl.sum(grad.to(tl.float32) * load(out, token, limit, out_token, 1, DIM, DIM_PAD), 1)

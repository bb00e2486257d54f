"""Part-masked attention against what PyTorch offers for it, forward and forward + backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.authors import masked_attention
from bench.measure import CLOCK, DEVICE, ON_GPU, Work
from kernels.part_attention import part_attention, visibility

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

PARTS, GRID = 3, (16, 8)
TOKENS = 1 + PARTS + GRID[0] * GRID[1]
SHAPES = [(64, 12, 64), (256, 12, 64)] if ON_GPU else [(4, 6, 64)]  # batch, heads, head size
DTYPES = [torch.bfloat16, torch.float16] if ON_GPU else [torch.float32]
Attention = Callable[[Tensor], Tensor]  # the packed projection [B, N, 3, H, D] -> [B, N, H*D]


def regions(batch: int) -> Tensor:
    """Random rectangles inside the parts' bands, one set for each image: int32 [B, P, 4]."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = GRID
    drawn = []
    for first, last in ((0, rows // 2), (rows // 4, 3 * rows // 4), (rows // 2, rows)):
        top, left = (torch.randint(0, length, (batch,), generator=generator) for length in (last - first, columns))
        bottom = first + top + 1 + (torch.rand(batch, generator=generator) * (last - first - top)).int()
        right = left + 1 + (torch.rand(batch, generator=generator) * (columns - left)).int()
        drawn.append(torch.stack((first + top, bottom, left, right), 1))
    return torch.stack(drawn, 1).int().to(DEVICE)


def ours(where: Tensor) -> Attention:
    impl = "triton" if ON_GPU else "sdpa"

    def attend(qkv: Tensor) -> Tensor:
        q, kv = qkv.split((1, 2), dim=2)  # its backward is one concatenation, as unbind's is
        return part_attention(q.squeeze(2), kv, where, GRID, impl=impl)

    return attend


def sdpa(where: Tensor | None) -> Attention:
    """PyTorch's fused attention; with a mask it leaves flash attention for a slower kernel."""
    mask = None if where is None else visibility(where, GRID, TOKENS)[:, None]  # [B, 1, N, N]

    def attend(qkv: Tensor) -> Tensor:
        q, k, v = (tensor.transpose(1, 2) for tensor in qkv.unbind(2))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    return attend


def eager(where: Tensor) -> Attention:
    visible = visibility(where, GRID, TOKENS)

    def attend(qkv: Tensor) -> Tensor:
        q, k, v = qkv.unbind(2)
        return masked_attention(q, k, v, visible, qkv.shape[-1] ** -0.5)

    return attend


def flex(where: Tensor) -> Attention:
    """FlexAttention, compiled, with the same rule as a block mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    columns = GRID[1]

    def sees(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        allowed = j >= 0
        for part in range(PARTS):
            top, bottom, left, right = (where[batch, part, edge] for edge in range(4))
            for asking, asked in ((i, j), (j, i)):
                row, column = (asked - 1 - PARTS) // columns, (asked - 1 - PARTS) % columns
                inside = (asked > PARTS) & (row >= top) & (row < bottom) & (column >= left) & (column < right)
                allowed = allowed & ((asking != 1 + part) | (asked == 0) | (asked == asking) | inside)
        return allowed

    mask = create_block_mask(sees, len(where), None, TOKENS, TOKENS, device=DEVICE)
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(qkv: Tensor) -> Tensor:
        q, k, v = (tensor.transpose(1, 2) for tensor in qkv.unbind(2))
        return compiled(q, k, v, block_mask=mask).transpose(1, 2).flatten(2)

    return attend


# Masks are made outside the timing: one draw of regions serves all blocks of a model.
IMPLEMENTATIONS: dict[str, Callable[[Tensor], Attention]] = {
    "ours": ours,
    "SDPA, boolean mask": sdpa,
    "SDPA, no mask (ceiling)": lambda where: sdpa(None),
    "FlexAttention, compiled": flex,
    "authors, eager": eager,
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_part_attention(shape, dtype, backward, implementation, measure):
    if implementation.startswith("Flex") and not ON_GPU:
        pytest.skip("FlexAttention is compared on a GPU only")
    batch, heads, dim = shape
    where = regions(batch)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(batch, TOKENS, 3, heads, dim, generator=generator).to(DEVICE, dtype)
    attend = IMPLEMENTATIONS[implementation](where)
    if "ceiling" not in implementation:
        check(attend, qkv, where)

    elements = batch * TOKENS * heads * dim
    products = 4 * batch * heads * TOKENS**2 * dim  # operations of QK and PV
    if backward:
        qkv.requires_grad_()
        grad = torch.randn(batch, TOKENS, heads * dim, generator=generator).to(DEVICE, dtype)
        # Read q, k, v, write the output; read these four and the gradient, write three gradients.
        work = Work(bytes=(4 + 8) * elements * dtype.itemsize, flops=products * 7 // 2)

        def function() -> object:
            return torch.autograd.grad(attend(qkv), qkv, grad)
    else:
        work = Work(bytes=4 * elements * dtype.itemsize, flops=products)

        def function() -> object:
            return attend(qkv)

    measure(
        function,
        work,
        operation="part attention " + ("forward+backward" if backward else "forward"),
        implementation=implementation,
        shape=f"B={batch} H={heads} N={TOKENS} D={dim}",
        dtype=str(dtype).removeprefix("torch."),
    )


def check(attend: Attention, qkv: Tensor, where: Tensor) -> None:
    """What is about to be timed computes the right thing."""
    some = qkv[:2]
    expected = part_attention(some[:, :, 0].double(), some[:, :, 1:].double(), where[:2], GRID, impl="reference")
    actual = attend(qkv)[:2]
    torch.testing.assert_close(actual.double(), expected, rtol=0.02, atol=0.02)

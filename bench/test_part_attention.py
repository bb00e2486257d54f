"""Part-masked attention against what PyTorch offers for it, forward and forward + backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.authors.network import masked_attention
from bench.measure import Work
from kernels.cases import PART_ATTENTION_LARGE, PartAttentionCase
from kernels.part_attention import part_attention, visibility
from kernels.timing import CLOCK, DEVICE, ON_GPU

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

CASES = PART_ATTENTION_LARGE if ON_GPU else [replace(PART_ATTENTION_LARGE[0], batch=4, heads=6)]
DTYPES = [torch.bfloat16, torch.float16] if ON_GPU else [torch.float32]
Attention = Callable[[Tensor], Tensor]  # the packed projection [B, N, 3, H, D] -> [B, n, H*D]


def draw_regions(case: PartAttentionCase) -> Tensor:
    """Random rectangles inside the parts' bands, one set for each image: int32 [B, P, 4]."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = case.grid
    drawn = []
    for first, last in ((0, rows // 2), (rows // 4, 3 * rows // 4), (rows // 2, rows)):
        height = last - first
        top, left = (torch.randint(0, length, (case.batch,), generator=generator) for length in (height, columns))
        bottom = top + 1 + (torch.rand(case.batch, generator=generator) * (height - top)).int()
        right = left + 1 + (torch.rand(case.batch, generator=generator) * (columns - left)).int()
        drawn.append(torch.stack((first + top, first + bottom, left, right), 1))
    return torch.stack(drawn, 1).int().to(DEVICE)


def ours(case: PartAttentionCase, regions: Tensor) -> Attention:
    impl = "triton" if ON_GPU else "sdpa"

    def attend(qkv: Tensor) -> Tensor:
        q, kv = qkv.split((1, 2), dim=2)  # its backward is one concatenation, as unbind's is
        return part_attention(q[:, : case.queries, 0], kv, regions, case.grid, impl=impl)

    return attend


def heads_first(qkv: Tensor, case: PartAttentionCase) -> tuple[Tensor, Tensor, Tensor]:
    """q [B, H, n, D], k and v [B, H, N, D], as PyTorch's attention wants them."""
    q, k, v = (tensor.transpose(1, 2) for tensor in qkv.unbind(2))
    return q[:, :, : case.queries], k, v


def sdpa(case: PartAttentionCase, regions: Tensor | None) -> Attention:
    """PyTorch's fused attention; with a mask it leaves flash attention for a slower kernel."""
    mask = None if regions is None else visibility(regions, case.grid, case.queries or case.tokens)[:, None]

    def attend(qkv: Tensor) -> Tensor:
        seen = F.scaled_dot_product_attention(*heads_first(qkv, case), attn_mask=mask)
        return seen.transpose(1, 2).flatten(2)

    return attend


def eager(case: PartAttentionCase, regions: Tensor) -> Attention:
    visible = visibility(regions, case.grid, case.queries or case.tokens)[:, None]

    def attend(qkv: Tensor) -> Tensor:
        q, k, v = qkv.unbind(2)
        return masked_attention(q[:, : case.queries], k, v, visible, case.dim**-0.5)

    return attend


def flex(case: PartAttentionCase, regions: Tensor) -> Attention:
    """FlexAttention, compiled, with the same rule as a block mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    special, columns = 1 + case.parts, case.grid[1]

    def sees(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        allowed = j >= 0
        for part in range(case.parts):
            top, bottom, left, right = (regions[batch, part, edge] for edge in range(4))
            for asking, asked in ((i, j), (j, i)):
                row, column = (asked - special) // columns, (asked - special) % columns
                inside = (asked >= special) & (row >= top) & (row < bottom) & (column >= left) & (column < right)
                allowed = allowed & ((asking != 1 + part) | (asked == 0) | (asked == asking) | inside)
        return allowed

    queries = case.queries or case.tokens
    mask = create_block_mask(sees, case.batch, None, queries, case.tokens, device=DEVICE)
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(qkv: Tensor) -> Tensor:
        return compiled(*heads_first(qkv, case), block_mask=mask).transpose(1, 2).flatten(2)

    return attend


# Masks are made outside the timing: one draw of regions serves all blocks of a model.
IMPLEMENTATIONS: dict[str, Callable[[PartAttentionCase, Tensor], Attention]] = {
    "ours": ours,
    "SDPA, boolean mask": sdpa,
    "SDPA, no mask (ceiling)": lambda case, regions: sdpa(case, None),
    "FlexAttention, compiled": flex,
    "authors, eager": eager,
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_part_attention(case, dtype, backward, implementation, measure):
    if implementation.startswith("Flex") and not ON_GPU:
        pytest.skip("FlexAttention is compared on a GPU only")
    regions = draw_regions(case)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(case.batch, case.tokens, 3, case.heads, case.dim, generator=generator).to(DEVICE, dtype)
    attend = IMPLEMENTATIONS[implementation](case, regions)
    if "ceiling" not in implementation:
        check(case, attend, qkv, regions)

    work = least_work(case, dtype, backward=backward)
    function: Callable[[], object] = lambda: attend(qkv)  # noqa: E731
    if backward:
        qkv.requires_grad_()
        grad = torch.randn_like(attend(qkv))
        function = lambda: torch.autograd.grad(attend(qkv), qkv, grad)  # noqa: E731
    measure(
        function,
        work,
        operation="part attention " + ("forward+backward" if backward else "forward"),
        implementation=implementation,
        shape=f"B={case.batch} H={case.heads} n={case.queries or case.tokens} N={case.tokens} D={case.dim}",
        dtype=str(dtype).removeprefix("torch."),
    )


def least_work(case: PartAttentionCase, dtype: torch.dtype, *, backward: bool) -> Work:
    """Forward: read q, k, v, write the output. Backward: read these and the output's gradient, write three."""
    token = case.batch * case.heads * case.dim * dtype.itemsize  # bytes of one token of q, k, v or the output
    asking, asked = token * (case.queries or case.tokens), token * case.tokens
    products = 4 * case.batch * case.heads * (case.queries or case.tokens) * case.tokens * case.dim
    if not backward:
        return Work(bytes=2 * asking + 2 * asked, flops=products)
    return Work(bytes=(2 + 4) * asking + (2 + 4) * asked, flops=products * 7 // 2)


def check(case: PartAttentionCase, attend: Attention, qkv: Tensor, regions: Tensor) -> None:
    """What is about to be timed computes the right thing."""
    q, kv = qkv[:2].double().split((1, 2), dim=2)
    expected = part_attention(q[:, : case.queries, 0], kv, regions[:2], case.grid, impl="reference")
    torch.testing.assert_close(attend(qkv)[:2].double(), expected, rtol=0.02, atol=0.02)

"""Part-masked attention against what PyTorch offers for it, forward and forward + backward."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.authors.network import masked_attention
from bench.measure import Work
from bench.rows.plan import Errors, Ready, RowPlan, checked, kernel_plan, relative_error, sizes
from kernels.cases import PART_ATTENTION_LARGE, PART_ATTENTION_SMALL, PartAttentionCase
from kernels.part_attention import part_attention, visibility
from kernels.timing import DEVICE, INTERPRETED, ON_GPU

CASES = sizes(
    PART_ATTENTION_LARGE,
    [replace(PART_ATTENTION_LARGE[0], batch=4, heads=6)],
    [PartAttentionCase("tiny", batch=1, heads=1, dim=32, grid=(8, 4), parts=1)],
)
DTYPES = sizes([torch.bfloat16, torch.float16], [torch.float32], [torch.float16])
OF_A_GPU = ("SDPA cuDNN", "SDPA memory")
ONLY_FORWARD_ON_A_CPU = "flex.<locals>.attend"
CHECKED = 4
"""Images whose results are compared with float64."""

Attention = Callable[[Tensor], Tensor]  # the packed projection [B, N, 3, H, D] -> [B, n, H*D]


def draw_regions(case: PartAttentionCase) -> Tensor:
    """Random rectangles inside the parts' bands, one set for each image: int32 [B, P, 4]."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = case.grid
    drawn = []
    for part in range(case.parts):
        first = rows * part // (case.parts + 1)
        height = max(1, rows * 2 // (case.parts + 1))
        height = min(height, rows - first)
        top, left = (torch.randint(0, length, (case.batch,), generator=generator) for length in (height, columns))
        bottom = top + 1 + (torch.rand(case.batch, generator=generator) * (height - top)).int()
        right = left + 1 + (torch.rand(case.batch, generator=generator) * (columns - left)).int()
        drawn.append(torch.stack((first + top, first + bottom, left, right), 1))
    if not drawn:
        return torch.zeros(case.batch, 0, 4, dtype=torch.int32, device=DEVICE)
    return torch.stack(drawn, 1).int().to(DEVICE)


def ours(case: PartAttentionCase, regions: Tensor) -> Attention:
    impl = "triton" if ON_GPU or INTERPRETED else "sdpa"

    def attend(qkv: Tensor) -> Tensor:
        q, kv = qkv.split((1, 2), dim=2)  # its backward is one concatenation, as unbind's is
        return part_attention(q[:, : case.queries, 0], kv, regions, case.grid, registers=case.registers, impl=impl)

    return attend


def heads_first(qkv: Tensor, case: PartAttentionCase) -> tuple[Tensor, Tensor, Tensor]:
    """q [B, H, n, D], k and v [B, H, N, D], as PyTorch's attention wants them."""
    q, k, v = (tensor.transpose(1, 2) for tensor in qkv.unbind(2))
    return q[:, :, : case.queries], k, v


def mask(case: PartAttentionCase, regions: Tensor) -> Tensor:
    """bool [B, 1, n, N]; made outside the timing, for one draw of regions serves all blocks of a model."""
    return visibility(regions, case.grid, case.queries or case.tokens, registers=case.registers)[:, None]


def sdpa(backend: SDPBackend, case: PartAttentionCase, regions: Tensor, *, masked: bool = True) -> Attention:
    """One backend of PyTorch's fused attention, and no other; it raises where that one does not take the case."""
    visible = mask(case, regions) if masked else None

    def attend(qkv: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            seen = F.scaled_dot_product_attention(*heads_first(qkv, case), attn_mask=visible)
        return seen.transpose(1, 2).flatten(2)

    return attend


def eager(case: PartAttentionCase, regions: Tensor) -> Attention:
    visible = mask(case, regions)

    def attend(qkv: Tensor) -> Tensor:
        q, k, v = qkv.unbind(2)
        return masked_attention(q[:, : case.queries], k, v, visible, case.dim**-0.5)

    return attend


def flex(case: PartAttentionCase, regions: Tensor) -> Attention:
    """FlexAttention with the same rule as a block mask, compiled anew for this case and as one graph.

    Without the reset the compiler's limit of 8 variants is reached, and what follows silently runs unfused.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch._dynamo.reset()
    special, columns = 1 + case.parts + case.registers, case.grid[1]

    def sees(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        allowed = j >= 0
        for part in range(case.parts):
            top, bottom, left, right = (regions[batch, part, edge] for edge in range(4))
            for asking, asked in ((i, j), (j, i)):
                row, column = (asked - special) // columns, (asked - special) % columns
                inside = (asked >= special) & (row >= top) & (row < bottom) & (column >= left) & (column < right)
                allowed = allowed & ((asking != 1 + part) | (asked == 0) | (asked == asking) | inside)
        return allowed

    block_mask = create_block_mask(sees, case.batch, None, case.queries or case.tokens, case.tokens, device=DEVICE)
    # On a CPU FlexAttention compiles a forward pass alone.
    backend = "inductor" if ON_GPU else "aot_eager"
    compiled = torch.compile(flex_attention, fullgraph=True, dynamic=False, backend=backend)

    def attend(qkv: Tensor) -> Tensor:
        return compiled(*heads_first(qkv, case), block_mask=block_mask).transpose(1, 2).flatten(2)

    return attend


IMPLEMENTATIONS: dict[str, Callable[[PartAttentionCase, Tensor], Attention]] = {
    "ours": ours,
    "SDPA cuDNN, boolean mask": functools.partial(sdpa, SDPBackend.CUDNN_ATTENTION),
    "SDPA memory-efficient, boolean mask": functools.partial(sdpa, SDPBackend.EFFICIENT_ATTENTION),
    "SDPA flash, no mask (ceiling)": functools.partial(sdpa, SDPBackend.FLASH_ATTENTION, masked=False),
    "SDPA cuDNN, no mask (ceiling)": functools.partial(sdpa, SDPBackend.CUDNN_ATTENTION, masked=False),
    "FlexAttention, compiled": flex,
    "authors, eager": eager,
}


def plans() -> list[RowPlan]:
    ways = [name for name in IMPLEMENTATIONS if ON_GPU or INTERPRETED or not name.startswith(OF_A_GPU)]
    everything = itertools.product(enumerate(CASES), DTYPES, (False, True), ways)
    found = [
        plan(min(number, 2) + 2 * (dtype != DTYPES[0]), case, dtype, way, backward=backward)
        for (number, case), dtype, backward, way in everything
    ]
    odd = sizes(PART_ATTENTION_SMALL, [], [])
    return found + [plan(1, case, torch.bfloat16, "ours", backward=True) for case in odd]


def plan(
    priority: int, case: PartAttentionCase, dtype: torch.dtype, implementation: str, *, backward: bool
) -> RowPlan:
    operation = "part attention " + ("forward+backward" if backward else "forward")
    grid = f"{case.grid[0]}x{case.grid[1]}+{1 + case.parts + case.registers}"
    shape = f"B={case.batch} H={case.heads} n={case.queries or case.tokens} N={grid} D={case.dim}"
    run = functools.partial(prepare, case, dtype, implementation, backward=backward)
    return kernel_plan(priority, operation, shape, dtype, implementation, run)


def prepare(case: PartAttentionCase, dtype: torch.dtype, implementation: str, *, backward: bool) -> Ready:
    """Random numbers, the implementation's output and gradient compared with float64, and what is to be timed."""
    regions = draw_regions(case)
    generator = torch.Generator(DEVICE).manual_seed(0)
    shape = (case.batch, case.tokens, 3, case.heads, case.dim)
    qkv = torch.randn(shape, generator=generator, device=DEVICE).to(dtype)
    attend = IMPLEMENTATIONS[implementation](case, regions)
    errors = compare(case, attend, qkv, regions, masked="no mask" not in implementation)

    if not backward:
        return Ready(lambda: attend(qkv), least_work(case, dtype, backward=False), errors)
    qkv.requires_grad_()
    grad = torch.randn_like(attend(qkv))

    def function() -> object:
        return torch.autograd.grad(attend(qkv), qkv, grad)

    return Ready(function, least_work(case, dtype, backward=True), errors)


def compare(case: PartAttentionCase, attend: Attention, qkv: Tensor, regions: Tensor, *, masked: bool) -> Errors:
    """Relative errors of the first images. Raises ValueError where one is too large."""
    with_gradient = ON_GPU or attend.__qualname__ != ONLY_FORWARD_ON_A_CPU
    leaf = qkv.clone().requires_grad_(with_gradient)
    out = attend(leaf)
    upstream = torch.randn(out.shape, generator=torch.Generator(DEVICE).manual_seed(1), device=DEVICE)
    upstream = upstream.to(out.dtype)

    some = slice(0, CHECKED)
    exact = qkv[some].double().requires_grad_()
    q, k, v = exact.unbind(2)
    few = replace(case, batch=len(exact))
    visible = mask(few, regions[some]) if masked else torch.ones((), dtype=torch.bool, device=DEVICE)
    truth = masked_attention(q[:, : case.queries], k, v, visible, case.dim**-0.5)
    error, gradient_error = relative_error(out[some], truth), None
    if with_gradient:
        (gradient,) = torch.autograd.grad(out, leaf, upstream)
        (true_gradient,) = torch.autograd.grad(truth, exact, upstream[some].double())
        gradient_error = relative_error(gradient[some], true_gradient)
    return checked(qkv.dtype, error, gradient_error)


def least_work(case: PartAttentionCase, dtype: torch.dtype, *, backward: bool) -> Work:
    """Forward: read q, k, v, write the output. Backward: read these and the output's gradient, write three."""
    token = case.batch * case.heads * case.dim * dtype.itemsize  # bytes of one token of q, k, v or the output
    asking, asked = token * (case.queries or case.tokens), token * case.tokens
    products = 4 * case.batch * case.heads * (case.queries or case.tokens) * case.tokens * case.dim
    if not backward:
        return Work(bytes=2 * asking + 2 * asked, flops=products)
    return Work(bytes=(2 + 4) * asking + (2 + 4) * asked, flops=products * 7 // 2)

"""Part-masked attention on a GPU: picks tiles, launches the kernels, and makes them an operator of torch.

`pat_kernels::part_attention_forward` and `..._backward` are custom operators with fake implementations, so
that torch.compile and torch.export take them as they are.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from kernels.configuration import Configuration
from kernels.part_attention.triton_kernels import backward_kernel, forward_kernel

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
DIMS = (32, 48, 64, 80, 96, 128)
MOST_PARTS = 8


@dataclass(frozen=True)
class Cut:
    """How N tokens become one head tile and body tiles that are full."""

    head: int  # tokens in the head
    rows: int  # rows of the head tile, a power of two
    multiple: int  # the body is a whole number of these

    def padded(self, tokens: int) -> int:
        """Rows that are computed for `tokens` tokens."""
        return tokens - self.head + self.rows


@dataclass(frozen=True)
class Tiles:
    """Sizes of one launch: rows a program owns, rows of a step of its walk, and Triton's options."""

    block: int
    step: int
    num_warps: int
    num_stages: int


def cut(tokens: int, special: int) -> Cut:
    """The cut with the fewest padded rows; larger tiles where that is equal.

    `special` tokens (cls, parts, registers) must lie in the head. 132 tokens: 4 + 128; 200: 8 + 3 x 64.
    """
    cuts = []
    for multiple in (128, 64, 32):
        head = special + (tokens - special) % multiple
        cuts.append(Cut(head, max(16, triton.next_power_of_2(head)), multiple))
    return min(cuts, key=lambda one: one.padded(tokens))


def forward_tiles(dim: int, dtype: torch.dtype, multiple: int) -> Tiles:
    if dtype == torch.float32:
        return Tiles(min(multiple, 32), 32, 4, 1)
    if multiple >= 128 and dim <= 64:
        return Tiles(128, 64, 8, 2)
    return Tiles(min(multiple, 64), min(multiple, 64 if dim <= 64 else 32), 4, 2)


def backward_tiles(dim: int, dtype: torch.dtype, multiple: int) -> Tiles:
    if dtype == torch.float32:
        return Tiles(32, 32, 4, 1)
    return Tiles(min(multiple, 64), 32, 4, 2)


def part_attention(
    q: Tensor, kv: Tensor, regions: Tensor, grid: tuple[int, int], *, registers: int, scale: float
) -> Tensor:
    """`kernels.part_attention.part_attention` for arguments that `api` has checked. [B, n, H*D]."""
    _check(q, regions)
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, kv = q.to(dtype), kv.to(dtype)
    return _forward(q, kv, regions, grid[1], registers, scale)[0]


def _check(q: Tensor, regions: Tensor) -> None:
    if q.shape[-1] not in DIMS:
        raise ValueError(f"q has head size {q.shape[-1]}; expected one of {DIMS} for impl='triton'")
    if q.dtype not in DTYPES:
        raise ValueError(f"q has dtype {q.dtype}; expected float16, bfloat16 or float32 for impl='triton'")
    if regions.shape[1] > MOST_PARTS:
        raise ValueError(
            f"regions has {regions.shape[1]} parts; expected at most {MOST_PARTS} for impl='triton'"
        )
    if q.device.type != "cuda" and isinstance(forward_kernel, triton.runtime.JITFunction):
        raise ValueError(
            f"q is on {q.device}; expected a CUDA tensor for impl='triton' (on a CPU it runs only in Triton's "
            "interpreter, with TRITON_INTERPRET=1 set before Triton is imported)"
        )


@dataclass(frozen=True)
class _Launch:
    """What both kernels are told about the shapes."""

    scalars: tuple[int | float, ...]
    strides: tuple[int, ...]
    constants: dict[str, int]
    programs: int
    options: dict[str, int]


def _launch_shape(
    q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float, *, backward: bool
) -> _Launch:
    batch, queries, heads, dim = q.shape
    tokens, parts = kv.shape[1], regions.shape[1]
    special = 1 + parts + registers
    where = cut(tokens, special)
    tiles = (backward_tiles if backward else forward_tiles)(dim, q.dtype, where.multiple)
    body = tokens - where.head
    asking = max(0, queries - where.head)
    constants = {
        "QUERY_TILES": triton.cdiv(asking, tiles.block),
        "KEY_STEPS": body // tiles.step,
        "HEAD": where.rows,
        "BLOCK": tiles.block,
        "STEP": tiles.step,
        "DIM": dim,
        "DIM_PAD": triton.next_power_of_2(dim),
    }
    programs = constants["QUERY_TILES"] + 1
    if backward:
        constants |= {"KEY_TILES": body // tiles.block, "QUERY_STEPS": triton.cdiv(asking, tiles.step)}
        programs += constants["KEY_TILES"] + 1
    return _Launch(
        scalars=(scale, heads, queries, tokens, where.head, parts, special, columns),
        strides=(*q.stride(), *kv.stride(), 0 if regions.shape[0] == 1 else regions.stride(0)),
        constants=constants,
        programs=batch * heads * programs,
        options={"num_warps": tiles.num_warps, "num_stages": tiles.num_stages},
    )


@torch.library.custom_op("pat_kernels::part_attention_forward", mutates_args=())
def _forward(
    q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Output [B, n, H*D], and the logsumexp of the scores in base 2, fp32 [B, H, n]."""
    regions = regions.contiguous()
    out, log_sum = _forward_buffers(q)
    launch = _launch_shape(q, kv, regions, columns, registers, scale, backward=False)
    with torch.cuda.device_of(q):
        forward_kernel[(launch.programs,)](
            q, kv, out, log_sum, regions, *launch.scalars, *launch.strides, **launch.constants, **launch.options
        )
    return out, log_sum


def _forward_buffers(q: Tensor) -> tuple[Tensor, Tensor]:
    batch, queries, heads, dim = q.shape
    return q.new_empty(batch, queries, heads * dim), q.new_empty(batch, heads, queries, dtype=torch.float32)


@_forward.register_fake
def _(q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float):
    return _forward_buffers(q)


@torch.library.custom_op("pat_kernels::part_attention_backward", mutates_args=())
def _backward(
    out_grad: Tensor, q: Tensor, kv: Tensor, regions: Tensor, out: Tensor, log_sum: Tensor,
    columns: int, registers: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of q [B, n, H, D] and of kv [B, N, 2, H, D], contiguous."""
    out_grad, regions = out_grad.contiguous(), regions.contiguous()
    q_grad, kv_grad = _backward_buffers(q, kv)
    launch = _launch_shape(q, kv, regions, columns, registers, scale, backward=True)
    with torch.cuda.device_of(q):
        backward_kernel[(launch.programs,)](
            q, kv, out, log_sum, out_grad, q_grad, kv_grad, regions,
            *launch.scalars, *launch.strides, **launch.constants, **launch.options,
        )  # fmt: skip
    return q_grad, kv_grad


def _backward_buffers(q: Tensor, kv: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), kv.new_empty(kv.shape)


@_backward.register_fake
def _(out_grad, q, kv, regions, out, log_sum, columns, registers, scale):
    return _backward_buffers(q, kv)


def _save(ctx, inputs, output) -> None:
    q, kv, regions, *ctx.numbers = inputs
    ctx.save_for_backward(q, kv, regions, *output)


def _gradient(ctx, out_grad: Tensor, _log_sum_grad: Tensor):
    q_grad, kv_grad = _backward(out_grad, *ctx.saved_tensors, *ctx.numbers)
    return q_grad, kv_grad, None, None, None, None


_forward.register_autograd(_gradient, setup_context=_save)

"""The door to part-masked attention: checks the arguments, calls what is asked for, registers operators.

`pat_kernels::part_attention_forward` and `..._backward` are custom operators with fake implementations, so that
torch.compile and torch.export take them as they are. Eager mode launches the same kernels from a plain autograd
function: an operator costs the host more than the kernel costs the GPU.
"""

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kernels.part_attention import reference

IMPLEMENTATIONS = ("reference", "sdpa", "triton")


def part_attention(
    q: Tensor,
    kv: Tensor,
    regions: Tensor,
    grid: tuple[int, int],
    *,
    registers: int = 0,
    scale: float | None = None,
    impl: str,
) -> Tensor:
    """Self-attention over `[cls, part_1 .. part_P, register_1 .. register_G, patch_0 ..]`.

    A part token sees itself, cls and, both ways, the patches in its region. Everything else sees
    everything but part tokens; cls sees and is seen by all. A hidden pair has probability exactly 0.

    Args:
        q: [B, n, H, D], queries of the first n <= N tokens; may be a strided view.
        kv: [B, N, 2, H, D], keys and values of all tokens; may be a strided view.
        regions: int32 [B, P, 4] of (top, bottom, left, right) in patches, half open; [1, P, 4] is shared by
            the whole batch. P = 0 is a plain ViT. A part with an empty region sees itself and cls.
        grid: (R, C), rows and columns of patches; N = 1 + P + registers + R*C.
        registers: number of register tokens.
        scale: what the dot products are multiplied by; D ** -0.5 unless given.
        impl: "reference" (eager, any floating dtype), "sdpa" (torch's fused attention with a mask) or
            "triton" (one kernel without a mask; CUDA, or Triton's interpreter).

    Returns:
        [B, n, H*D], in the dtype of q.

    Raises:
        ValueError: naming the argument and what was expected. The values of `regions` are checked only
            where that is free: on a CPU and not while compiling or exporting.
    """
    grid = _checked_grid(grid)
    _check_tensors(q, kv, regions)
    _check_tokens(q, kv, regions, grid, registers)
    _check_region_values(regions, grid)
    if scale is None:
        scale = q.shape[-1] ** -0.5
    elif not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale}; expected a positive finite number")

    if impl == "reference":
        return reference.eager(q, kv, regions, grid, registers=registers, scale=scale)
    if impl == "sdpa":
        return reference.sdpa(q, kv, regions, grid, registers=registers, scale=scale)
    if impl == "triton":
        return _on_gpu(q, kv, regions, grid[1], registers, scale)
    raise ValueError(f"impl is {impl!r}; expected one of {', '.join(IMPLEMENTATIONS)}")


def _on_gpu(q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float) -> Tensor:
    _kernels().check(q, regions)
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, kv = q.to(dtype), kv.to(dtype)
    if torch.compiler.is_compiling() or not is_plain(q):
        return _forward(q, kv, regions, columns, registers, scale)[0]
    if torch.is_grad_enabled() and (q.requires_grad or kv.requires_grad):
        return _Attention.apply(q, kv, regions, columns, registers, scale)  # type: ignore[no-any-return]
    return _kernels().launch_forward(q, kv, regions, columns, registers, scale)[0]  # type: ignore[no-any-return]


def is_plain(tensor: Tensor) -> bool:
    """Whether it has numbers: a fake tensor, or one that traces, needs an operator."""
    return type(tensor) in (Tensor, torch.nn.Parameter)


def _kernels() -> ModuleType:
    """Imported only here: the rest works where Triton is absent."""
    try:
        from kernels.part_attention import triton
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        message = "impl is 'triton', but Triton is not installed; expected 'reference' or 'sdpa' here"
        raise ValueError(message) from None
    return triton


class _Attention(torch.autograd.Function):
    """The kernels without the cost of an operator; what makes the weights again is saved and no output."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, regions: Tensor, *numbers: Any) -> Tensor:
        out, sums = _kernels().launch_forward(q, kv, regions, *numbers)
        ctx.save_for_backward(q, kv, regions, out, sums)
        ctx.numbers = numbers
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, out_grad: Tensor) -> tuple[Tensor | None, ...]:
        # Where a graph is asked for, the operator is put into it, whose own derivative fails loudly.
        launch = _backward if torch.is_grad_enabled() else _kernels().launch_backward
        return *launch(out_grad, *ctx.saved_tensors, *ctx.numbers), *[None] * 4


@torch.library.custom_op("pat_kernels::part_attention_forward", mutates_args=())
def _forward(
    q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Output [B, n, H*D], and what makes the weights again in the backward pass, fp32 [B, H, 2, n]."""
    return _kernels().launch_forward(q, kv, regions, columns, registers, scale)  # type: ignore[no-any-return]


@_forward.register_fake
def _(q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float):
    return _kernels().forward_buffers(q)


@torch.library.custom_op("pat_kernels::part_attention_backward", mutates_args=())
def _backward(
    out_grad: Tensor, q: Tensor, kv: Tensor, regions: Tensor, out: Tensor, sums: Tensor,
    columns: int, registers: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of q and kv, contiguous."""
    return _kernels().launch_backward(  # type: ignore[no-any-return]
        out_grad, q, kv, regions, out, sums, columns, registers, scale
    )


@_backward.register_fake
def _(out_grad, q, kv, regions, out, sums, columns, registers, scale):
    return _kernels().backward_buffers(q, kv)


def _save(ctx, inputs, output) -> None:
    q, kv, regions, *ctx.numbers = inputs
    ctx.save_for_backward(q, kv, regions, *output)
    ctx.set_materialize_grads(False)  # no zeros for sums, which nobody outside sees


def _gradient(ctx, out_grad: Tensor | None, _sums_grad: None):
    assert out_grad is not None, "only the output has a gradient"
    q_grad, kv_grad = _backward(out_grad, *ctx.saved_tensors, *ctx.numbers)
    return q_grad, kv_grad, None, None, None, None


_forward.register_autograd(_gradient, setup_context=_save)


def _checked_grid(grid: tuple[int, int]) -> tuple[int, int]:
    if len(grid) != 2 or not all(isinstance(side, int) and side > 0 for side in grid):
        raise ValueError(f"grid is {grid}; expected (rows, columns), two positive integers")
    return grid[0], grid[1]


def _check_tensors(q: Tensor, kv: Tensor, regions: Tensor) -> None:
    """Rank, dtype and device of each tensor, and the sizes they share."""
    if q.dim() != 4:
        raise ValueError(f"q has shape {_shape(q)}; expected [B, n, H, D]")
    if kv.dim() != 5 or kv.shape[2] != 2:
        raise ValueError(f"kv has shape {_shape(kv)}; expected [B, N, 2, H, D]")
    if regions.dim() != 3 or regions.shape[2] != 4:
        raise ValueError(f"regions has shape {_shape(regions)}; expected [B, P, 4] or [1, P, 4]")
    batch, _, heads, dim = q.shape
    if kv.shape[0] != batch or kv.shape[3] != heads or kv.shape[4] != dim:
        raise ValueError(
            f"kv has shape {_shape(kv)}; expected [{batch}, N, 2, {heads}, {dim}] to go with q {_shape(q)}"
        )
    if regions.shape[0] != 1 and regions.shape[0] != batch:
        raise ValueError(f"regions has shape {_shape(regions)}; expected [{batch}, P, 4] or [1, P, 4]")
    if not q.is_floating_point():
        raise ValueError(f"q has dtype {q.dtype}; expected a floating-point dtype")
    if kv.dtype != q.dtype:
        raise ValueError(f"kv has dtype {kv.dtype}; expected {q.dtype}, the dtype of q")
    if regions.dtype != torch.int32:
        raise ValueError(f"regions has dtype {regions.dtype}; expected torch.int32")
    for name, tensor in (("kv", kv), ("regions", regions)):
        if tensor.device != q.device:
            raise ValueError(f"{name} is on {tensor.device}; expected {q.device}, the device of q")


def _check_tokens(q: Tensor, kv: Tensor, regions: Tensor, grid: tuple[int, int], registers: int) -> None:
    """Token counts: N as the layout says, n between 1 and N."""
    if not isinstance(registers, int) or registers < 0:
        raise ValueError(f"registers is {registers}; expected an integer of at least 0")
    tokens, parts = kv.shape[1], regions.shape[1]
    expected = 1 + parts + registers + grid[0] * grid[1]
    if tokens != expected:
        raise ValueError(
            f"kv holds {tokens} tokens; expected {expected}: 1 cls + {parts} parts + {registers} registers "
            f"+ grid {grid[0]} x {grid[1]}"
        )
    if not 1 <= q.shape[1] <= tokens:
        raise ValueError(f"q asks for {q.shape[1]} tokens; expected between 1 and the {tokens} of kv")


def _check_region_values(regions: Tensor, grid: tuple[int, int]) -> None:
    """Regions inside the grid, where looking costs no synchronisation and does not cut a traced graph."""
    if (
        regions.device.type != "cpu"
        or type(regions) is not torch.Tensor  # a fake tensor has no values
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
    ):
        return
    top, bottom, left, right = regions.unbind(-1)  # each [B, P]
    wrong = (top < 0) | (top > bottom) | (bottom > grid[0])
    wrong |= (left < 0) | (left > right) | (right > grid[1])
    if wrong.any():
        image, part = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"regions[{image}, {part}] is {regions[image, part].tolist()}; expected (top, bottom, left, "
            f"right) with 0 <= top <= bottom <= {grid[0]} and 0 <= left <= right <= {grid[1]}"
        )


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)

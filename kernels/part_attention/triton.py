"""Part-masked attention on a GPU: picks tiles, launches the kernels, and makes them an operator of torch.

`pat_kernels::part_attention_forward` and `..._backward` are custom operators with fake implementations, so
that torch.compile and torch.export take them as they are.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from kernels.configuration import Configuration
from kernels.part_attention.tiles import Tiles, backward_tiles, cut, forward_tiles, power_of_two
from kernels.part_attention.triton_kernels import part_attention_bwd_kernel, part_attention_fwd_kernel
from kernels.tuning import architecture

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
DIMS = (32, 48, 64, 80, 96, 128)
MOST_PARTS = 8


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
        raise ValueError(f"regions has {regions.shape[1]} parts; expected at most {MOST_PARTS} for impl='triton'")
    if q.device.type != "cuda" and isinstance(part_attention_fwd_kernel, triton.runtime.JITFunction):
        raise ValueError(
            f"q is on {q.device}; expected a CUDA tensor for impl='triton' (a CPU has only Triton's interpreter: "
            "TRITON_INTERPRET=1, set before Triton is imported)"
        )


@dataclass(frozen=True)
class _Launch:
    """What a kernel is told about the shapes, and how many programs it takes."""

    numbers: tuple[float | int, ...]  # in the order of the kernel's arguments
    options: dict[str, int]
    programs: int


def _launch(
    q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float,
    tiles: Tiles | None, *, backward: bool,
) -> _Launch:  # fmt: skip
    batch, queries, heads, dim = q.shape
    tokens, parts = kv.shape[1], regions.shape[1]
    special = 1 + parts + registers
    where = cut(tokens, special)
    if tiles is None:
        choose = backward_tiles if backward else forward_tiles
        tiles = choose(dim, 8 * q.element_size(), where.multiple, architecture(q.device))
    asking = max(0, queries - where.head)  # queries in the body
    query_tiles, query_steps = triton.cdiv(asking, tiles.block), triton.cdiv(asking, tiles.step)
    key_tiles, key_steps = where.body // tiles.block, where.body // tiles.step
    counts = (query_tiles, key_tiles, query_steps, key_steps) if backward else (query_tiles, key_steps)
    return _Launch(
        numbers=(
            scale, heads, queries, tokens, where.head, parts, special, columns,
            *q.stride(), *kv.stride(), 0 if regions.shape[0] == 1 else regions.stride(0), *counts,
        ),
        options=_constants(where.rows, tiles.block, tiles.step, dim)
        | {"num_warps": tiles.warps, "num_stages": tiles.stages},
        programs=batch * heads * (query_tiles + 1 + (key_tiles + 1 if backward else 0)),
    )  # fmt: skip


def _constants(rows: int, block: int, step: int, dim: int) -> dict[str, int]:
    return {"HEAD": rows, "BLOCK": block, "STEP": step, "DIM": dim, "DIM_PAD": power_of_two(dim)}


def launch_forward(
    q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float, tiles: Tiles | None = None
) -> tuple[Tensor, Tensor]:
    """Output [B, n, H*D], and the logsumexp of the scores in base 2, fp32 [B, H, n].

    `tiles` replaces the choice of `forward_tiles`: one of `forward_candidates`.
    """
    regions = regions.contiguous()
    out, log_sum = _forward_buffers(q)
    launch = _launch(q, kv, regions, columns, registers, scale, tiles, backward=False)
    if launch.programs:  # none where the batch is empty
        with torch.cuda.device_of(q):
            part_attention_fwd_kernel[(launch.programs,)](
                q, kv, out, log_sum, regions, *launch.numbers, **launch.options
            )
    return out, log_sum


@torch.library.custom_op("pat_kernels::part_attention_forward", mutates_args=())
def _forward(
    q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float
) -> tuple[Tensor, Tensor]:
    """`launch_forward` as an operator of torch."""
    return launch_forward(q, kv, regions, columns, registers, scale)


def _forward_buffers(q: Tensor) -> tuple[Tensor, Tensor]:
    batch, queries, heads, dim = q.shape
    return q.new_empty(batch, queries, heads * dim), q.new_empty(batch, heads, queries, dtype=torch.float32)


@_forward.register_fake
def _(q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float):
    return _forward_buffers(q)


def launch_backward(
    out_grad: Tensor, q: Tensor, kv: Tensor, regions: Tensor, out: Tensor, log_sum: Tensor,
    columns: int, registers: int, scale: float, tiles: Tiles | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of q [B, n, H, D] and of kv [B, N, 2, H, D], contiguous. `tiles` as in `launch_forward`."""
    out_grad, regions = out_grad.contiguous(), regions.contiguous()
    q_grad, kv_grad = _backward_buffers(q, kv)
    launch = _launch(q, kv, regions, columns, registers, scale, tiles, backward=True)
    if launch.programs:
        with torch.cuda.device_of(q):
            part_attention_bwd_kernel[(launch.programs,)](
                q, kv, out, log_sum, out_grad, q_grad, kv_grad, regions, *launch.numbers, **launch.options
            )
    return q_grad, kv_grad


@torch.library.custom_op("pat_kernels::part_attention_backward", mutates_args=())
def _backward(
    out_grad: Tensor, q: Tensor, kv: Tensor, regions: Tensor, out: Tensor, log_sum: Tensor,
    columns: int, registers: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`launch_backward` as an operator of torch."""
    return launch_backward(out_grad, q, kv, regions, out, log_sum, columns, registers, scale)


def _backward_buffers(q: Tensor, kv: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), kv.new_empty(kv.shape)


@_backward.register_fake
def _(out_grad, q, kv, regions, out, log_sum, columns, registers, scale):
    return _backward_buffers(q, kv)


def _save(ctx, inputs, output) -> None:
    q, kv, regions, *ctx.numbers = inputs
    ctx.save_for_backward(q, kv, regions, *output)
    ctx.set_materialize_grads(False)  # no zeros for log_sum, which nobody outside sees


def _gradient(ctx, out_grad: Tensor | None, _log_sum_grad: None):
    assert out_grad is not None, "only the output has a gradient"
    q_grad, kv_grad = _backward(out_grad, *ctx.saved_tensors, *ctx.numbers)
    return q_grad, kv_grad, None, None, None, None


_forward.register_autograd(_gradient, setup_context=_save)


def aot_configurations() -> list[Configuration]:
    """What ViT of the usual head sizes need, at 132 or 260 tokens ("d64") and at 196 or 200 ("d64_tile64").

    Counts and strides are arguments, so one kernel serves the full blocks and the last one, which asks for a
    few tokens, and any number of tokens that is cut into the same tiles. D = 96 stands for sizes that are no
    power of two. 132 and 260 tokens take the same backward kernel as 196 and 200.
    """
    cases = [
        ("forward", "bf16", 64, 128), ("forward", "fp16", 64, 128), ("forward", "fp32", 64, 128),
        ("forward", "bf16", 64, 64), ("forward", "bf16", 32, 128),
        ("forward", "bf16", 96, 128), ("forward", "bf16", 128, 128),
        ("backward", "bf16", 64, 128), ("backward", "fp16", 64, 128), ("backward", "fp32", 64, 128),
        ("backward", "bf16", 96, 128), ("backward", "bf16", 128, 128),
    ]  # fmt: skip
    return [configuration(*case) for case in cases]


def configuration(
    direction: str, dtype: str, dim: int, multiple: int, tiles: Tiles | None = None
) -> Configuration:
    """One kernel for contiguous last dimensions and strides and pointers that are divisible by 16.

    The tiles are the default ones unless given: what is compiled ahead must not depend on what was measured.
    """
    backward = direction == "backward"
    kernel = part_attention_bwd_kernel if backward else part_attention_fwd_kernel
    if tiles is None:
        tiles = (backward_tiles if backward else forward_tiles)(dim, 32 if dtype == "fp32" else 16, multiple)
    constexprs = _constants(16, tiles.block, tiles.step, dim) | {"q_dim": 1, "kv_dim": 1}
    special_types = {"log_sum": "*fp32", "regions": "*i32", "scale": "fp32"}
    tensors = ("q", "kv", "out", "out_grad", "q_grad", "kv_grad")
    strides = ("q_batch", "q_token", "q_head", "kv_batch", "kv_token", "kv_pair", "kv_head")
    signature = {
        name: "constexpr" if name in constexprs
        else special_types.get(name, f"*{dtype}" if name in tensors else "i32")
        for name in kernel.arg_names
    }  # fmt: skip
    return Configuration(
        name=f"part_attention_{direction}_{dtype}_d{dim}" + (f"_tile{multiple}" if multiple < 128 else ""),
        kernel=kernel,
        signature=signature,
        constexprs={name: constexprs[name] for name in signature if name in constexprs},
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        aligned=frozenset(signature) & {*tensors, *strides, "log_sum", "regions"},
    )
